#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * rpcgen's and libtirpc's codec behind plain C types, so a test can compare it with ours: the headers of the two cannot
 * be included together. Encoders return the size, decoders whether they succeeded.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t reference_encode_call(uint32_t xid, uint32_t program, uint32_t version, uint32_t procedure, void *buffer,
                             size_t size);
/* ret_words: denied, accept status, low, high; 0 if the reply lacks the word. */
bool reference_decode_reply(const void *bytes, size_t size, uint32_t *ret_xid, uint32_t ret_words[static 4]);

/* domain, bus, slot, function, value */
size_t reference_encode_setting(const int32_t values[static 5], void *buffer, size_t size);
bool reference_decode_setting(const void *bytes, size_t size, int32_t ret_values[static 5]);
size_t reference_encode_mode(uint32_t status, uint32_t mode, void *buffer, size_t size);
bool reference_decode_mode(const void *bytes, size_t size, uint32_t *ret_status, uint32_t *ret_mode);

/* Decodes Stats, prints them, and encodes them again, as reference_recode_list() does with a List. */
size_t reference_recode_stats(const void *bytes, size_t size, void *buffer, size_t buffer_size, char **ret_text);

/* The same for Configured. */
size_t reference_recode_configured(const void *bytes, size_t size, void *buffer, size_t buffer_size, char **ret_text);

/* Decodes Release's arguments and encodes them again. ret_words: all, how many GPUs, and the last one's address. */
size_t reference_recode_release(const void *bytes, size_t size, void *buffer, size_t buffer_size,
                                uint32_t ret_words[static 6]);
/* Encodes Watch's arguments. */
size_t reference_encode_watch(uint64_t serial, void *buffer, size_t size);

/* Decodes a List, prints it (holdfast_print.h; the caller frees *ret_text), and encodes it again. */
size_t reference_recode_list(const void *bytes, size_t size, void *buffer, size_t buffer_size, char **ret_text);
