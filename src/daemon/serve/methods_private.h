#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Internals of the methods, for these files only:
 *
 *      methods.c           the table, rejections, permissions
 *      methods_nvpd.c      program 35006
 *      methods_holdfast.c  Holdfast's own program
 */

#include "daemon/serve/methods.h"
#include "rpc/nvpd.h"

enum { REPLY_MAX = 160 }; /* bytes of any reply except a list */

/* One call, while its method decodes and answers it. */
struct call {
        struct methods *methods;
        struct session *session;
        struct rpc_call header;
        struct xdr_reader arguments;
};

/* Replies that contain only an accept status, or only a status word. */
void reply_accepted(struct session *session, uint32_t xid, enum rpc_accept_status status);
void reply_status(struct session *session, uint32_t xid, enum nvpd_status status);
void reply_answer(struct session *session, uint32_t xid, enum registry_answer answer);
/* Whether the arguments could be decoded. If not, it replies GARBAGE_ARGS. */
bool call_check_arguments(struct call *call);
/* The GPU that a call names. NULL: there is none, or the numbers are not a valid PCI address. */
const struct gpu *call_find_gpu(const struct call *call, uint32_t domain, uint32_t bus, uint32_t slot);
/* False if the numbers are not a valid PCI address. */
bool call_read_address(uint32_t domain, uint32_t bus, uint32_t slot, struct pci_address *ret_address);

void method_get_mode(struct call *call);
void method_set_mode(struct call *call);
void method_set_mode_only(struct call *call);
void method_set_numa(struct call *call);

void method_list(struct call *call);
void method_watch(struct call *call);
void method_configured(struct call *call);
void method_stats(struct call *call);
void method_release(struct call *call);
