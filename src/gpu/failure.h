#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The reason why a GPU could not be opened, closed or registered: the errno, the driver's NV_STATUS, and one sentence
 * for people that says what failed, why, and what to do.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

enum { GPU_FAILURE_TEXT_SIZE = 256 };

struct gpu_failure {
        int error;          /* negative errno; 0: no failure */
        uint32_t nv_status; /* NV_STATUS, or 0 if the driver gave none */
        bool numa;          /* of a close: the GPU's NUMA memory could not go offline */
        char text[GPU_FAILURE_TEXT_SIZE];
};

/*
 * Fills failure from error (negative errno), nv_status (or 0) and what failed ("cannot open /dev/nvidia3"), and adds
 * what this error of an open means and what to do. Returns error.
 */
int gpu_failure_set(struct gpu_failure *failure, int error, uint32_t nv_status, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/*
 * The same for calls other than open, whose errors have other meanings. cure says what to do, or is NULL. The text is
 * "<what>: <text of error>, <NV_STATUS>; <cure>".
 */
int gpu_failure_explain(struct gpu_failure *failure, int error, uint32_t nv_status, const char *cure,
                        const char *format, ...) __attribute__((format(printf, 5, 6)));

/*
 * Whether an error of an open is temporary while a driver loads or a node is created, so that a retry may follow soon.
 */
bool gpu_failure_is_transient(int error);

/* For example "NV_ERR_NVLINK_FABRIC_NOT_READY"; NULL for a status without a name here. */
const char *nv_status_name(uint32_t status);
