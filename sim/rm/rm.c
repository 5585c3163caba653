/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/rm/rm.h"

#include <errno.h>
#include <stdlib.h>

#include "sim/rm/private.h"

void rm_lock(struct rm *rm) {
        (void)pthread_mutex_lock(&rm->mutex);
}

void rm_unlock(struct rm *rm) {
        (void)pthread_mutex_unlock(&rm->mutex);
}

int rm_new(struct rm **ret_rm, struct model *model) {
        struct rm *rm = calloc(1, sizeof(*rm));

        if (!rm)
                return -ENOMEM;
        rm->model = model;
        rm->next_handle = 0xc1d00001; /* the driver's own start at 0xc1d0...: rs_server.h */
        (void)pthread_mutex_init(&rm->mutex, NULL);
        event_init(rm);
        *ret_rm = rm;
        return 0;
}

void rm_free(struct rm *rm) {
        if (!rm)
                return;
        model_unlisten(rm->model, &rm->listener);
        while (!LIST_EMPTY(&rm->clients))
                client_free(rm, LIST_FIRST(&rm->clients));
        event_done(rm);
        (void)pthread_mutex_destroy(&rm->mutex);
        free(rm);
}

void rm_file_init(struct rm_file *file, struct rm *rm, void (*wake)(struct rm_file *file)) {
        *file = (struct rm_file){.rm = rm, .wake = wake};
}

void rm_file_done(struct rm_file *file) {
        struct root_client *next;

        if (!file->rm)
                return;
        rm_lock(file->rm);
        for (struct root_client *client = LIST_FIRST(&file->rm->clients); client; client = next) {
                next = LIST_NEXT(client, link);
                if (client->file == file)
                        client_free(file->rm, client);
        }
        event_free_of(file->rm, file, 0);
        rm_unlock(file->rm);
        file->rm = NULL;
}

bool rm_file_poll(struct rm_file *file) {
        bool pending;

        rm_lock(file->rm);
        pending = file->event_pending;
        file->event_pending = false;
        rm_unlock(file->rm);
        return pending;
}
