#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* For src/gpu/abi.h: the kernel's header in the place of the C library's. */

#include <linux/stddef.h>
