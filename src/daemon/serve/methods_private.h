#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The methods' inside, for their own files:
 *
 *      methods.c           the table, rejections, who may call
 *      methods_nvpd.c      program 35006
 *      methods_holdfast.c  Holdfast's own program
 */

#include "daemon/serve/methods.h"
#include "rpc/nvpd.h"

enum { REPLY_MAX = 160 }; /* every reply but a list */

/* One call, while its method decodes and answers it. */
struct call {
        struct methods *methods;
        struct session *session;
        struct rpc_call header;
        struct xdr_reader arguments;
};

/* Replies that are no more than an accept status, or a status word. */
void reply_accepted(struct session *session, uint32_t xid, enum rpc_accept_status status);
void reply_status(struct session *session, uint32_t xid, enum nvpd_status status);
void reply_answer(struct session *session, uint32_t xid, enum registry_answer answer);
/* Whether the arguments decoded; otherwise GARBAGE_ARGS is answered. */
bool call_check_arguments(struct call *call);
/* The GPU that a call names. NULL: there is none, as for numbers that no PCI address has. */
const struct gpu *call_find_gpu(const struct call *call, uint32_t domain, uint32_t bus, uint32_t slot);
/* False for numbers that no PCI address has. */
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
