/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/sandbox/sandbox.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/sandbox/filters.h" /* made by filters.c: what is forbidden and what permitted is there */
#include "daemon/sandbox/paths.h"

enum { SANDBOX_NO_FILTERS = 1 };

/*
 * Returns 0, SANDBOX_NO_FILTERS, or negative errno. There are three attempts: kernels before 4.14 cannot log, and a
 * filter of the service manager may forbid seccomp(), but not prctl().
 */
static int load(struct sock_filter *instructions, size_t n, unsigned flags) {
        const struct sock_fprog program = {.len = (unsigned short)n, .filter = instructions};

        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0 ||
            syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
                return 0;
        return errno == EINVAL ? SANDBOX_NO_FILTERS : -errno;
}

/* Puts our pid into the rules that permit signals to ourselves (tgkill() and kill()). */
static void put_own_pid(struct sock_filter *instructions, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (BPF_CLASS(instructions[i].code) == BPF_JMP && instructions[i].k == OWN_PID)
                        instructions[i].k = (uint32_t)getpid();
}

static int load_filters(const struct sandbox_config *config) {
        int r;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        sandbox_limit_paths(config); /* before the filter, which refuses its calls */
        if (config->closed_library)
                return load(not_forbidden, ARRAY_SIZE(not_forbidden), SECCOMP_FILTER_FLAG_LOG);
        put_own_pid(only_permitted, ARRAY_SIZE(only_permitted));
        r = load(without_clone3, ARRAY_SIZE(without_clone3), 0);
        return r != 0 ? r : load(only_permitted, ARRAY_SIZE(only_permitted), SECCOMP_FILTER_FLAG_LOG);
}

static int report(int r, const char *how) {
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot filter system calls; --no-sandbox starts without the filter");
        if (r == SANDBOX_NO_FILTERS) /* CONFIG_SECCOMP_FILTER is off: hold the GPUs without a filter */
                log_write(LOG_WARNING, "this kernel has no system call filters: running without one");
        else
                log_write(LOG_INFO, "System calls are filtered%s", how);
        return 0;
}

int sandbox_enter_keeper(const char *runtime_directory) {
        int r;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return report(-errno, "");
        sandbox_limit_keeper_paths(runtime_directory);
        put_own_pid(keeper_permitted_only, ARRAY_SIZE(keeper_permitted_only));
        r = load(without_clone3, ARRAY_SIZE(without_clone3), 0);
        if (r == 0)
                r = load(keeper_permitted_only, ARRAY_SIZE(keeper_permitted_only), SECCOMP_FILTER_FLAG_LOG);
        return report(r, "");
}

int sandbox_enter(const struct sandbox_config *config) {
        return report(load_filters(config),
                      config->closed_library
                              ? " with a list of forbidden calls only, because a closed library is loaded"
                              : "");
}
