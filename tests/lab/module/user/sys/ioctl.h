#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See ../stddef.h. */

#include <linux/ioctl.h>
