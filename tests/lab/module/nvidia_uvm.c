// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

/* A stand-in for the driver's UVM module: a device that can be opened and whose number the kernel chooses. */

#include <linux/fs.h>
#include <linux/module.h>

static const struct file_operations operations = {.owner = THIS_MODULE};
static int major;

static int __init uvm_init(void) {
        major = register_chrdev(0, "nvidia-uvm", &operations);
        return major < 0 ? major : 0;
}

static void __exit uvm_exit(void) {
        unregister_chrdev(major, "nvidia-uvm");
}

module_init(uvm_init);
module_exit(uvm_exit);
MODULE_DESCRIPTION("A stand-in for the NVIDIA driver's UVM module, for tests");
MODULE_LICENSE("Dual MIT/GPL");
