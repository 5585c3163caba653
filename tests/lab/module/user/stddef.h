#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The C library's header as far as src/gpu/abi.h needs it, from the kernel's. */

#include <linux/stddef.h>
