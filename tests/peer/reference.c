/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "tests/peer/reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast.h"
#include "nvpd.h"
#include "tests/peer/holdfast_print.h"

/* The reader takes its bytes as char *, and does not write to them. */
static XDR stream_of(const void *bytes, size_t size, enum xdr_op operation) {
        XDR stream;

        xdrmem_create(&stream, (char *)(uintptr_t)bytes, (u_int)size, operation);
        return stream;
}

size_t reference_encode_call(uint32_t xid, uint32_t program, uint32_t version, uint32_t procedure, void *buffer,
                             size_t size) {
        XDR stream = stream_of(buffer, size, XDR_ENCODE);
        struct rpc_msg message = {.rm_xid = xid, .rm_direction = CALL};

        message.rm_call.cb_rpcvers = RPC_MSG_VERSION;
        message.rm_call.cb_prog = program;
        message.rm_call.cb_vers = version;
        message.rm_call.cb_proc = procedure;
        message.rm_call.cb_cred = _null_auth;
        message.rm_call.cb_verf = _null_auth;
        return xdr_callmsg(&stream, &message) ? xdr_getpos(&stream) : 0;
}

bool reference_decode_reply(const void *bytes, size_t size, uint32_t *ret_xid, uint32_t ret_words[static 4]) {
        XDR stream = stream_of(bytes, size, XDR_DECODE);
        char verifier[MAX_AUTH_BYTES];
        struct rpc_msg message = {0};

        memset(ret_words, 0, 4 * sizeof(*ret_words));
        message.acpted_rply.ar_verf.oa_base = verifier;
        message.acpted_rply.ar_results.proc =
                (xdrproc_t)(void (*)(void))xdr_void; /* it is declared with no arguments */
        if (!xdr_replymsg(&stream, &message))
                return false;
        *ret_xid = message.rm_xid;
        ret_words[0] = message.rm_reply.rp_stat == MSG_DENIED;
        if (ret_words[0]) {
                ret_words[2] = message.rjcted_rply.rj_vers.low;
                ret_words[3] = message.rjcted_rply.rj_vers.high;
                return true;
        }
        ret_words[1] = message.acpted_rply.ar_stat;
        if (ret_words[1] == PROG_MISMATCH) {
                ret_words[2] = message.acpted_rply.ar_vers.low;
                ret_words[3] = message.acpted_rply.ar_vers.high;
        }
        return true;
}

size_t reference_encode_setting(const int32_t values[static 5], void *buffer, size_t size) {
        nvpd_setting setting = {.device = {values[0], values[1], values[2], values[3]}, .value = values[4]};
        XDR stream = stream_of(buffer, size, XDR_ENCODE);

        return xdr_nvpd_setting(&stream, &setting) ? xdr_getpos(&stream) : 0;
}

bool reference_decode_setting(const void *bytes, size_t size, int32_t ret_values[static 5]) {
        XDR stream = stream_of(bytes, size, XDR_DECODE);
        nvpd_setting setting = {0};

        if (!xdr_nvpd_setting(&stream, &setting))
                return false;
        ret_values[0] = setting.device.domain;
        ret_values[1] = setting.device.bus;
        ret_values[2] = setting.device.slot;
        ret_values[3] = setting.device.function;
        ret_values[4] = setting.value;
        return true;
}

size_t reference_encode_mode(uint32_t status, uint32_t mode, void *buffer, size_t size) {
        nvpd_mode result = {.status = (nvpd_status)status};
        XDR stream = stream_of(buffer, size, XDR_ENCODE);

        result.nvpd_mode_u.mode = (nvpd_value)mode;
        return xdr_nvpd_mode(&stream, &result) ? xdr_getpos(&stream) : 0;
}

bool reference_decode_mode(const void *bytes, size_t size, uint32_t *ret_status, uint32_t *ret_mode) {
        XDR stream = stream_of(bytes, size, XDR_DECODE);
        nvpd_mode result = {0};

        if (!xdr_nvpd_mode(&stream, &result))
                return false;
        *ret_status = result.status;
        *ret_mode = result.status == NVPD_SUCCESS ? (uint32_t)result.nvpd_mode_u.mode : 0;
        return true;
}

static char *text_of(const hf_list *list) {
        char *text = NULL;
        size_t length = 0;
        FILE *output = open_memstream(&text, &length);

        if (!output)
                return NULL;
        holdfast_print(output, list);
        fclose(output);
        return text;
}

size_t reference_recode_list(const void *bytes, size_t size, void *buffer, size_t buffer_size, char **ret_text) {
        XDR input = stream_of(bytes, size, XDR_DECODE);
        XDR output = stream_of(buffer, buffer_size, XDR_ENCODE);
        size_t recoded_size = 0;
        hf_list list = {0};

        if (xdr_hf_list(&input, &list) && xdr_hf_list(&output, &list)) {
                recoded_size = xdr_getpos(&output);
                *ret_text = text_of(&list);
        }
        xdr_free((xdrproc_t)xdr_hf_list, (char *)&list);
        return recoded_size;
}

size_t reference_recode_stats(const void *bytes, size_t size, void *buffer, size_t buffer_size, char **ret_text) {
        XDR input = stream_of(bytes, size, XDR_DECODE);
        XDR output = stream_of(buffer, buffer_size, XDR_ENCODE);
        size_t length = 0;
        hf_stats stats = {0};
        FILE *text;

        if (!xdr_hf_stats(&input, &stats) || !xdr_hf_stats(&output, &stats))
                return 0;
        text = open_memstream(ret_text, &length);
        if (!text)
                return 0;
        holdfast_print_stats(text, &stats);
        fclose(text);
        return xdr_getpos(&output);
}

size_t reference_recode_configured(const void *bytes, size_t size, void *buffer, size_t buffer_size, char **ret_text) {
        XDR input = stream_of(bytes, size, XDR_DECODE);
        XDR output = stream_of(buffer, buffer_size, XDR_ENCODE);
        size_t recoded_size = 0, length = 0;
        hf_configured configured = {0};
        FILE *text;

        if (xdr_hf_configured(&input, &configured) && xdr_hf_configured(&output, &configured)) {
                recoded_size = xdr_getpos(&output);
                text = open_memstream(ret_text, &length);
                if (text) {
                        holdfast_print_configured(text, &configured);
                        fclose(text);
                }
        }
        xdr_free((xdrproc_t)xdr_hf_configured, (char *)&configured);
        return recoded_size;
}

static void tell_release(const hf_release_args *args, uint32_t ret_words[static 6]) {
        const hf_address *last = args->gpus.gpus_len > 0 ? &args->gpus.gpus_val[args->gpus.gpus_len - 1] : NULL;

        ret_words[0] = (uint32_t)args->all;
        ret_words[1] = args->gpus.gpus_len;
        ret_words[2] = last ? last->domain : 0;
        ret_words[3] = last ? last->bus : 0;
        ret_words[4] = last ? last->slot : 0;
        ret_words[5] = last ? last->function : 0;
}

size_t reference_recode_release(const void *bytes, size_t size, void *buffer, size_t buffer_size,
                                uint32_t ret_words[static 6]) {
        XDR input = stream_of(bytes, size, XDR_DECODE);
        XDR output = stream_of(buffer, buffer_size, XDR_ENCODE);
        size_t recoded_size = 0;
        hf_release_args args = {0};

        if (xdr_hf_release_args(&input, &args) && xdr_hf_release_args(&output, &args)) {
                recoded_size = xdr_getpos(&output);
                tell_release(&args, ret_words);
        }
        xdr_free((xdrproc_t)xdr_hf_release_args, (char *)&args);
        return recoded_size;
}

size_t reference_encode_watch(uint64_t serial, void *buffer, size_t size) {
        XDR stream = stream_of(buffer, size, XDR_ENCODE);
        hf_watch_args args = {.serial = serial};

        return xdr_hf_watch_args(&stream, &args) ? xdr_getpos(&stream) : 0;
}
