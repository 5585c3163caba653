/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Recognising containers by the names of their control groups. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/node/container.h"

#define ID "3f2a9b0c4d5e6f708192a3b4c5d6e7f80123456789abcdef0123456789abcdef"
#define OTHER "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static const struct {
        const char *cgroup;
        const char *runtime;
        const char *name;
} contained[] = {
        {"0::/system.slice/docker-" ID ".scope\n", "docker", "3f2a9b0c4d5e"},
        {"12:cpuset:/docker/" ID "\n11:memory:/docker/" ID "\n0::/system.slice/containerd.service\n", "docker",
         "3f2a9b0c4d5e"},
        {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-" ID ".scope\n",
         "containerd", "3f2a9b0c4d5e"},
        {"0::/kubepods-besteffort-pod1.slice:cri-containerd:" ID "\n", "containerd", "3f2a9b0c4d5e"},
        {"0::/kubepods.slice/kubepods-pod1.slice/crio-" ID ".scope/container\n", "cri-o", "3f2a9b0c4d5e"},
        {"0::/kubepods/burstable/pod8f7e-11/" ID "\n", "kubernetes", "3f2a9b0c4d5e"},
        {"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope/container\n", "podman",
         "3f2a9b0c4d5e"},
        {"0::/machine.slice/systemd-nspawn@build.service/payload/init.scope\n", "nspawn", "build"},
        {"0::/machine.slice/machine-qemu\\x2d1.scope\n", "machine", "qemu\\x2d1"},
        {"0::/lxc.payload.web/system.slice/x.service\n", "lxc", "web"},
        /* nested: the innermost container counts */
        {"0::/docker/" OTHER "/docker/" ID "\n", "docker", "3f2a9b0c4d5e"},
        {"0::/machine.slice/machine-web.scope/docker-" ID ".scope\n", "docker", "3f2a9b0c4d5e"},
};

static const char *const free_ones[] = {
        "",
        "\n",
        "0::/\n",
        "0::/user.slice/user-0.slice/session-3.scope\n",
        "0::/system.slice/docker.service\n",
        "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n",
        "0::/kubepods.slice/crio-conmon-" ID ".scope\n",
        "0::/machine.slice/libpod-conmon-" ID ".scope\n",
        "0::/docker-.scope\n",
        "0::/docker-notanid.scope\n",
        "0::/somewhere/" ID "\n",
        "no slash\n",
};

static void control_groups_of_each_runtime_are_recognised(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(contained); i++) {
                struct container container;
                char text[512];

                assert_true(text_copy(text, sizeof(text), contained[i].cgroup));
                assert_true(container_of_cgroup(text, &container));
                assert_string_equal(container.runtime, contained[i].runtime);
                assert_string_equal(container.name, contained[i].name);
        }
}

static void other_control_groups_are_not_taken_for_containers(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(free_ones); i++) {
                struct container container;
                char text[512];

                assert_true(text_copy(text, sizeof(text), free_ones[i]));
                assert_false(container_of_cgroup(text, &container));
        }
}

static void long_names_are_cut_and_control_characters_replaced(void **state) {
        static char text[600] = "0::/machine.slice/machine-\033[2J";
        size_t length = strlen(text);
        struct container container;

        memset(text + length, 'x', 500);
        memcpy(text + length + 500, ".scope\n", sizeof(".scope\n"));
        assert_true(container_of_cgroup(text, &container));
        assert_int_equal(strlen(container.name), CONTAINER_NAME_SIZE - 1);
        assert_memory_equal(container.name, "?[2Jxxx", 7);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(control_groups_of_each_runtime_are_recognised),
                cmocka_unit_test(other_control_groups_are_not_taken_for_containers),
                cmocka_unit_test(long_names_are_cut_and_control_characters_replaced),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
