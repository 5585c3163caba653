#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Replaces the C library's header for src/gpu/abi.h, with the kernel's. */

#include <linux/stddef.h>
