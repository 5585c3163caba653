/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/args/ids.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

/* ---- parsing ----------------------------------------------------------------- */

static bool parse(struct id *id) {
        uint64_t index;

        if (text_equal_nocase(id->text, "all") || text_equal(id->text, "*"))
                id->kind = ID_ALL;
        else if (text_parse_u64(id->text, 10, INT32_MAX, &index) == 0) {
                id->kind = ID_INDEX;
                id->index = (size_t)index;
        } else if (pci_address_parse(id->text, &id->address) == 0)
                id->kind = ID_ADDRESS;
        else if (strncasecmp(id->text, "GPU-", 4) == 0)
                id->kind = ID_UUID;
        else
                return false;
        return true;
}

static int add_one(struct ids *ids, const char *text, char *error, size_t error_size) {
        struct id id = {0};

        if (!text_copy(id.text, sizeof(id.text), text) || !parse(&id)) {
                (void)text_format(
                        error, error_size,
                        "'%s' is not a GPU: give an index (0), a PCI address (0000:17:00.0), a UUID (GPU-...) or all",
                        text);
                return -EINVAL;
        }
        if (ids->n == IDS_MAX) {
                (void)text_format(error, error_size, "names more than %d GPUs", IDS_MAX);
                return -EINVAL;
        }
        ids->items[ids->n++] = id;
        return 0;
}

int ids_add(struct ids *ids, const char *list, char *error, size_t error_size) {
        char text[81]; /* an item that is cut to this size is still too long for an id, and refused */
        int r = 0;

        _Static_assert(sizeof(text) > ID_TEXT_SIZE, "an item that is cut would pass for an id");
        while (r == 0 && text_next_item(&list, text))
                r = add_one(ids, text, error, error_size);
        return r;
}

int ids_set(struct options_parser *parser, const struct option_spec *spec, void *ids, const char *list) {
        char reason[160];

        return ids_add(ids, list, reason, sizeof(reason)) < 0 ? options_refuse(parser, spec, "%s", reason) : 0;
}

/* ---- selecting --------------------------------------------------------------- */

static bool matches(const struct id *id, const struct snapshot_gpu *gpu) {
        switch (id->kind) {
        case ID_ALL:
                return !gpu->info.excluded;
        case ID_INDEX:
                return gpu->index == id->index;
        case ID_ADDRESS:
                return pci_address_compare(&gpu->info.address, &id->address) == 0;
        case ID_UUID:
                return strncasecmp(gpu->info.uuid, id->text, strlen(id->text)) == 0;
        }
        return false;
}

static int select_one(const struct id *id, struct snapshot *snapshot, char *error, size_t error_size) {
        size_t n = 0;

        each_gpu(gpu, snapshot)
                if (matches(id, gpu)) {
                        gpu->selected = true;
                        n++;
                }
        if (id->kind == ID_ALL || n == 1)
                return 0;
        if (n > 1) {
                (void)text_format(error, error_size,
                                  "'%s' is ambiguous: it is the beginning of %zu UUIDs; give more of it", id->text, n);
                return -EINVAL;
        }
        if (snapshot->n_gpus == 0)
                (void)text_format(error, error_size, "no GPU '%s': there are no GPUs", id->text);
        else
                (void)text_format(error, error_size, "no GPU '%s' among the %zu here; 'holdfast status' lists them",
                                  id->text, snapshot->n_gpus);
        return -ENODEV;
}

int ids_select(const struct ids *ids, struct snapshot *snapshot, char *error, size_t error_size) {
        static const struct id all = {.kind = ID_ALL};
        int r = 0;

        each_gpu(gpu, snapshot)
                gpu->selected = false;
        if (ids->n == 0)
                return select_one(&all, snapshot, error, error_size);
        for (size_t i = 0; i < ids->n && r == 0; i++)
                r = select_one(&ids->items[i], snapshot, error, error_size);
        return r;
}
