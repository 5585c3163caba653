/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/process/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/leftover.h"
#include "base/locations.h"
#include "base/log.h"
#include "base/pids.h"
#include "base/text.h"

static char *make_path(const char *folder, const char *name) {
        char *path;

        return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

int runtime_init(struct runtime *runtime, const struct locations *locations, bool in_unit) {
        *runtime = (struct runtime){.pid_fd = -1, .in_unit = in_unit};
        runtime->directory = make_path(locations->above_run, "run/nvidia-persistenced");
        if (runtime->directory) {
                runtime->socket = make_path(runtime->directory, SOCKET_NAME);
                runtime->uevents = make_path(runtime->directory, "uevents");
                runtime->pid_file = make_path(runtime->directory, PID_FILE_NAME);
        }
        if (!runtime->socket || !runtime->uevents || !runtime->pid_file)
                return log_errno(LOG_ERR, -ENOMEM, "cannot build the paths of the runtime directory");
        return 0;
}

/* Uses the descriptor, not the path: the former owner may replace the directory at any time. */
static int give_directory(const char *path, int fd, uid_t uid, gid_t gid) {
        /* The umask must not decide who can reach the socket. */
        if (fchown(fd, uid, gid) < 0 || fchmod(fd, 0755) < 0)
                return log_errno(LOG_ERR, -errno, "cannot change the owner of the runtime directory %s", path);
        return 0;
}

/* What to change; in the unit, if one has started us. */
static const char *advice(bool in_unit) {
        return in_unit ? "in the unit, set RuntimeDirectory=nvidia-persistenced, or start it as root "
                         "(no User=) with --user"
                       : "give the directory to that user, or remove it and start as root with --user";
}

/*
 * If the directory belongs to another user, because a daemon with another --user created it, it is given to ours. If
 * the path is a link or not a directory, it stays unchanged; runtime_lock() reports if it cannot be used.
 */
int runtime_make_directory(const struct runtime *runtime, uid_t uid, gid_t gid) {
        const char *path = runtime->directory;
        bool made = mkdir(path, 0755) == 0;
        CLEANUP(fd_done) int fd = -1;
        struct stat status;

        if (!made && errno != EEXIST)
                return log_errno(LOG_ERR, -errno, "uid %u cannot create the runtime directory %s; %s",
                                 (unsigned)getuid(), path, advice(runtime->in_unit));
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &status) < 0)
                return made ? log_errno(LOG_ERR, -errno, "cannot open the runtime directory %s", path) : 0;
        if (made || (geteuid() == 0 && status.st_uid != (uid == (uid_t)-1 ? 0 : uid)))
                return give_directory(path, fd, uid, gid);
        return 0;
}

enum {
        LOCK_TO_REPLACE = 1,
        LOCK_TRIES = 10,
        LOCK_TRIES_OF_READERS = 200,
        LOCK_PAUSE_MSEC = 10,
};

/*
 * Whether the process has ended, except for a thread that is stuck in the driver. Such a process serves nobody, but
 * stays in the process table and keeps its lock, perhaps for ever.
 */
static bool is_dead(pid_t pid) {
        char text[1024];
        const char *name_end;

        if (pid <= 0 || pids_read(pid, "stat", text, sizeof(text)) < 0)
                return false;
        name_end = strrchr(text, ')'); /* the state follows the name, which may contain anything */
        return name_end && text_starts_with(name_end, ") Z");
}

/* Returns what fcntl(2) returned last. */
static int lock_patiently(int fd, struct flock *whole, unsigned tries) {
        int r = fcntl(fd, F_SETLK, whole);

        for (unsigned i = 0; i < tries && r < 0 && (errno == EACCES || errno == EAGAIN); i++) {
                (void)poll(NULL, 0, LOCK_PAUSE_MSEC);
                r = fcntl(fd, F_SETLK, whole);
        }
        return r;
}

/*
 * Whether only processes that are not daemons have the file locked. *ret_holder describes one of the locks. Its pid is
 * 0 if there is no lock, or if the process is in another PID namespace.
 */
static bool is_read_locked(int fd, struct flock *ret_holder) {
        *ret_holder = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (fcntl(fd, F_GETLK, ret_holder) < 0 || ret_holder->l_type == F_UNLCK)
                ret_holder->l_pid = 0;
        return ret_holder->l_type == F_RDLCK;
}

/*
 * Returns 0, LOCK_TO_REPLACE, or negative errno (logged). Daemons lock for writing. A process that removes the files of
 * a killed daemon locks for reading, for a moment (base/leftover.h). So can any user, who must not keep the daemon from
 * starting.
 */
static int lock(int fd, const char *path) {
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        struct flock holder;

        if (lock_patiently(fd, &whole, LOCK_TRIES) == 0)
                return 0;
        if (errno != EACCES && errno != EAGAIN)
                return log_errno(LOG_ERR, -errno, "cannot lock the pid file %s", path);
        if (is_read_locked(fd, &holder) && lock_patiently(fd, &whole, LOCK_TRIES_OF_READERS) == 0)
                return 0;
        if (is_read_locked(fd, &holder)) {
                log_always(LOG_NOTICE, "pid %d, which is not a daemon, has %s locked: replacing the file",
                           (int)holder.l_pid, path);
                return LOCK_TO_REPLACE;
        }
        if (is_dead(holder.l_pid)) {
                log_always(LOG_NOTICE,
                           "the previous daemon (pid %d) is dead, but one of its threads is still in the driver",
                           (int)holder.l_pid);
                return LOCK_TO_REPLACE;
        }
        log_write(LOG_ERR, "another persistence daemon runs (pid %d holds %s); stop it first", (int)holder.l_pid, path);
        return -EBUSY;
}

static int write_pid(int fd, const char *path) {
        char text[16];

        (void)text_format(text, sizeof(text), "%d\n", (int)getpid());
        /* Truncate first, so that no digits of a longer pid are left. */
        if (ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text))
                return log_errno(LOG_ERR, errno ? -errno : -ENOSPC, "cannot write the pid file %s", path);
        return 0;
}

/*
 * Removes a pid file that a daemon of another user left in our directory. Returns 0 if it is removed, so that the
 * caller can try again; or -EACCES (logged) if it is locked or cannot be removed.
 */
static int remove_foreign(const char *path) {
        CLEANUP(fd_done) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type != F_UNLCK || !file_is_at(fd, path) ||
            unlink(path) < 0)
                return log_errno(LOG_ERR, -EACCES, "cannot open the pid file %s", path);
        return 0;
}

/*
 * Opens and locks the pid file. Returns 0, or negative errno (logged). *ret_fd is -1 if the file was removed meanwhile:
 * try again.
 */
static int open_locked(const char *path, int *ret_fd) {
        CLEANUP(fd_done) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
        int r;

        *ret_fd = -1;
        if (fd < 0 && errno == EACCES)
                return remove_foreign(path);
        if (fd < 0)
                return log_errno(LOG_ERR, -errno, "cannot open the pid file %s", path);
        r = lock(fd, path);
        if (r < 0)
                return r;
        if (r == LOCK_TO_REPLACE) { /* the other process keeps the lock on the old file */
                *ret_fd = -1;
                if (file_is_at(fd, path) && unlink(path) < 0)
                        return log_errno(LOG_ERR, -errno, "cannot replace the pid file %s", path);
                return 0;
        }
        /* A daemon that ends removes the file, so the lock may be on a file that is gone. */
        *ret_fd = file_is_at(fd, path) ? take_fd(&fd) : -1;
        return 0;
}

int runtime_lock(struct runtime *runtime) {
        const char *path = runtime->pid_file;
        CLEANUP(fd_done) int fd = -1;
        int r = 0;

        if (access(runtime->directory, W_OK | X_OK) < 0)
                return log_errno(LOG_ERR, -errno, "uid %u cannot write to the runtime directory %s; %s",
                                 (unsigned)getuid(), runtime->directory, advice(runtime->in_unit));
        while (r == 0 && fd < 0)
                r = open_locked(path, &fd);
        if (r < 0)
                return r;
        (void)fchmod(fd, 0644);
        errno = 0;
        r = write_pid(fd, path);
        if (r < 0) { /* an empty pid file is worse than no file */
                (void)unlink(path);
                return r;
        }
        runtime->pid_fd = take_fd(&fd);
        log_always(LOG_NOTICE, "Started (%d)", (int)getpid());
        return 0;
}

void runtime_unlock(struct runtime *runtime) {
        if (runtime->pid_fd < 0) /* without the lock, the files are not ours */
                return;
        if (runtime->removes_socket && unlink(runtime->socket) < 0 && errno != ENOENT)
                (void)log_errno(LOG_WARNING, -errno, "cannot remove the socket %s", runtime->socket);
        if (unlink(runtime->pid_file) < 0 && errno != ENOENT)
                (void)log_errno(LOG_WARNING, -errno, "cannot remove the pid file %s", runtime->pid_file);
        runtime->pid_fd = fd_close(runtime->pid_fd);
        log_always(LOG_NOTICE, "Shutdown (%d)", (int)getpid());
}

void runtime_done(struct runtime *runtime) {
        free(runtime->directory);
        free(runtime->socket);
        free(runtime->uevents);
        free(runtime->pid_file);
}
