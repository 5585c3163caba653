/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The set of GPUs, with a real event loop, real worker threads and a fake driver. Its calls begin on the workers; a
 * test may hold them back and decides when they end.
 */

#include "daemon/gpus/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/gpus/registry_private.h"
#include "daemon/gpus/worker.h"

enum {
        N_GPUS = 4,
        FIRST_BUS = 0x17,
        LIMIT_SEC = 30, /* takes milliseconds on an idle machine */
};

/* ---- the driver ---- */

enum call {
        CALL_LIST,
        CALL_OPEN,
        CALL_ADOPT,
        CALL_CLOSE,
        CALL_UVM_ENABLE,
        CALL_UVM_DISABLE,
        CALL_NUMA,
        CALL_QUERY,
        CALL_EXPLAIN,
        CALL_SUBSCRIBE,
        CALL_UNSUBSCRIBE,
        N_CALLS,
};

/* Threads and tests use atomic members without the mutex. */
struct driver_gpu {
        atomic_bool listed;
        atomic_bool unreadable; /* the driver's information about it */
        atomic_bool lacks_numa;
        atomic_bool hides_uuid; /* until it is opened */
        atomic_int minor;
        atomic_uint binding;       /* grows with every bind */
        atomic_uint held_binding;  /* the binding that was opened; 0: not open */
        atomic_bool memory_in_use; /* the reason of a failed close */
        bool in_call;
        bool held_back[N_CALLS]; /* such calls block */
        atomic_int result[N_CALLS];
        atomic_uint begun[N_CALLS], ended[N_CALLS];
};

struct driver {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        int wake_fd; /* wakes the loop when a call has begun or ended */
        struct driver_gpu gpus[N_GPUS];
        struct driver_gpu list;      /* calls for the list */
        struct driver_gpu questions; /* calls for questions about any GPU */
        struct driver_gpu events;    /* calls for the subscription */
        int events_fd;
        const char *fault; /* something that must never happen */
};

static void wake(struct driver *driver) {
        (void)pthread_cond_broadcast(&driver->changed);
        (void)eventfd_write(driver->wake_fd, 1);
}

/* Begins and ends a call. Returns its result, with the mutex locked: leave() unlocks it. */
static int pass(struct driver *driver, struct driver_gpu *gpu, enum call call) {
        (void)pthread_mutex_lock(&driver->mutex);
        if (gpu->in_call)
                driver->fault = "two calls for one GPU at the same time";
        gpu->in_call = true;
        gpu->begun[call]++;
        wake(driver);
        while (gpu->held_back[call])
                (void)pthread_cond_wait(&driver->changed, &driver->mutex);
        gpu->in_call = false;
        gpu->ended[call]++;
        wake(driver);
        return gpu->result[call];
}

static int leave(struct driver *driver, int result) {
        (void)pthread_mutex_unlock(&driver->mutex);
        return result;
}

static struct pci_address address_of(size_t index) {
        return (struct pci_address){.bus = (uint8_t)(FIRST_BUS + index)};
}

static struct driver_gpu *gpu_at(struct driver *driver, const struct pci_address *address) {
        return &driver->gpus[address->bus - FIRST_BUS];
}

static void fill_info(const struct driver_gpu *gpu, size_t index, struct gpu_info *ret_info) {
        *ret_info = (struct gpu_info){.address = address_of(index), .minor = GPU_MINOR_UNKNOWN};
        if (gpu->unreadable)
                return;
        ret_info->minor = gpu->minor;
        ret_info->lacks_numa = gpu->lacks_numa;
        if (!gpu->hides_uuid)
                (void)text_format(ret_info->uuid, sizeof(ret_info->uuid), "GPU-%zu", index);
}

/* Lists the GPUs as they were when the call began. */
static int driver_list(void *context, struct gpu_info **ret_gpus, size_t *ret_n) {
        struct gpu_info *infos = calloc(N_GPUS, sizeof(*infos));
        struct driver *driver = context;
        size_t n = 0;
        int r;

        (void)pthread_mutex_lock(&driver->mutex);
        for (size_t i = 0; infos && i < N_GPUS; i++)
                if (driver->gpus[i].listed)
                        fill_info(&driver->gpus[i], i, &infos[n++]);
        (void)pthread_mutex_unlock(&driver->mutex);
        r = pass(driver, &driver->list, CALL_LIST);
        if (!infos || r < 0) {
                free(infos);
                return leave(driver, r < 0 ? r : -ENOMEM);
        }
        *ret_gpus = infos;
        *ret_n = n;
        return leave(driver, 0);
}

static int driver_open(void *context, const struct pci_address *address, struct gpu_hold *ret_hold,
                       struct gpu_failure *ret_failure) {
        struct driver *driver = context;
        struct driver_gpu *gpu = gpu_at(driver, address);
        unsigned binding = gpu->binding;
        int minor = gpu->minor;
        int r = pass(driver, gpu, CALL_OPEN);

        if (r == 0 && !gpu->listed)
                r = -ENODEV;
        if (r < 0)
                return leave(driver, gpu_failure_set(ret_failure, r, 0, "cannot open"));
        *ret_hold = GPU_HOLD_NONE;
        ret_hold->minor = minor;
        (void)text_format(ret_hold->uuid, sizeof(ret_hold->uuid), "GPU-%d", address->bus - FIRST_BUS);
        gpu->held_binding = binding;
        return leave(driver, 0);
}

static int driver_adopt(void *context, const struct pci_address *address, struct gpu_hold *hold,
                        struct gpu_failure *ret_failure) {
        struct driver *driver = context;
        struct driver_gpu *gpu = gpu_at(driver, address);
        int r = pass(driver, gpu, CALL_ADOPT);

        if (r == 0 && !gpu->listed)
                r = -ENODEV;
        *hold = GPU_HOLD_NONE;
        if (r < 0)
                return leave(driver, gpu_failure_set(ret_failure, r, 0, "cannot adopt"));
        hold->minor = gpu->minor;
        gpu->held_binding = gpu->binding;
        return leave(driver, 0);
}

static int driver_close(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                        struct gpu_failure *ret_failure) {
        struct driver *driver = context;
        struct driver_gpu *gpu = gpu_at(driver, &info->address);
        int r = pass(driver, gpu, CALL_CLOSE);

        ret_failure->numa = gpu->memory_in_use;
        if (r < 0)
                return leave(driver, gpu_failure_set(ret_failure, r, 0, "cannot close"));
        gpu->held_binding = 0;
        *hold = GPU_HOLD_NONE;
        return leave(driver, 0);
}

static int driver_uvm_enable(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                             struct gpu_failure *ret_failure) {
        struct driver *driver = context;
        int r = pass(driver, gpu_at(driver, &info->address), CALL_UVM_ENABLE);

        if (r < 0)
                return leave(driver, gpu_failure_set(ret_failure, r, 0, "cannot register"));
        hold->uvm = true;
        return leave(driver, 0);
}

static int driver_uvm_disable(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                              struct gpu_failure *ret_failure) {
        struct driver *driver = context;

        hold->uvm = false;
        return leave(driver, pass(driver, gpu_at(driver, &info->address), CALL_UVM_DISABLE));
}

static int driver_numa(void *context, const struct pci_address *address, struct gpu_hold *hold, bool online,
                       struct gpu_failure *ret_failure) {
        struct driver *driver = context;
        int r = pass(driver, gpu_at(driver, address), CALL_NUMA);

        if (r < 0)
                (void)gpu_failure_set(ret_failure, r, 0, "cannot change its memory");
        return leave(driver, r);
}

static int driver_query(void *context, const struct gpu_info *info, enum gpu_legacy *ret_legacy,
                        struct gpu_failure *ret_failure) {
        struct driver *driver = context;
        int r = pass(driver, &driver->questions, CALL_QUERY);

        *ret_legacy = GPU_LEGACY_ON;
        return leave(driver, r);
}

static void driver_explain(void *context, const struct gpu_info *info, struct gpu_failure *failure) {
        struct driver *driver = context;

        (void)pass(driver, &driver->questions, CALL_EXPLAIN);
        (void)gpu_failure_explain(failure, -EBUSY, 0, NULL, "drained");
        (void)leave(driver, 0);
}

static int driver_subscribe(void *context, struct rm_events **ret_events, struct gpu_failure *ret_failure) {
        struct driver *driver = context;
        int r = pass(driver, &driver->events, CALL_SUBSCRIBE);

        *ret_events = (struct rm_events *)context;
        return leave(driver, r);
}

static int driver_events_fd(const struct rm_events *events) {
        return ((const struct driver *)events)->events_fd;
}

/* No events: the tests call notice() instead. */
static int driver_read_events(struct rm_events *events, struct rm_event *ret_events, size_t max, size_t *ret_n,
                              struct gpu_failure *ret_failure) {
        *ret_n = 0;
        return 0;
}

static void driver_unsubscribe(struct rm_events *events) {
        struct driver *driver = (struct driver *)events;

        (void)leave(driver, pass(driver, &driver->events, CALL_UNSUBSCRIBE));
}

static const struct gpu_ops driver_ops = {
        .name = "test",
        .list = driver_list,
        .open = driver_open,
        .adopt = driver_adopt,
        .close = driver_close,
        .uvm_enable = driver_uvm_enable,
        .uvm_disable = driver_uvm_disable,
        .numa_set = driver_numa,
        .query = driver_query,
        .explain = driver_explain,
};

/* ---- the world ---- */

struct world {
        struct driver driver;
        struct event_base *loop;
        struct event *woken, *tick;
        struct worker *worker;
        struct registry *registry;
        struct registry_policy policy;
        const char *off_uuid; /* configured off, unlike the others */
        unsigned n_ready, n_stopped;
        uint64_t deadline_usec;
};

static struct registry_policy policy_of(const struct gpu_info *info, int index, void *userdata) {
        const struct world *world = userdata;
        struct registry_policy policy = world->policy;

        if (world->off_uuid && text_equal(info->uuid, world->off_uuid))
                policy.persistence = false;
        return policy;
}

static void on_change(void *userdata) {
}

static void on_ready(void *userdata) {
        ((struct world *)userdata)->n_ready++;
}

static void on_stopped(void *userdata) {
        ((struct world *)userdata)->n_stopped++;
}

static void on_woken(evutil_socket_t fd, short what, void *userdata) {
        eventfd_t count;

        (void)eventfd_read(fd, &count);
}

static void on_tick(evutil_socket_t fd, short what, void *userdata) {
}

static void turn(struct world *world, const char *condition, int line) {
        if (clock_monotonic_usec() > world->deadline_usec)
                fail_msg("line %d: not true within %d s: %s", line, LIMIT_SEC, condition);
        assert_int_equal(event_base_loop(world->loop, EVLOOP_ONCE), 0);
}

/* Turns the loop until the condition holds. */
#define AWAIT(world, condition)                                                                                        \
        do {                                                                                                           \
                (world)->deadline_usec = clock_monotonic_usec() + LIMIT_SEC * USEC_PER_SEC;                            \
                while (!(condition))                                                                                   \
                        turn((world), #condition, __LINE__);                                                           \
        } while (0)

static bool is_idle(const struct world *world) {
        return !world->registry->scanning && registry_count(world->registry).busy == 0;
}

static void start_loop(struct world *world) {
        static const struct timeval period = {.tv_usec = 100000};

        world->driver.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        world->driver.events_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        world->loop = event_base_new();
        world->woken = event_new(world->loop, world->driver.wake_fd, EV_READ | EV_PERSIST, on_woken, NULL);
        world->tick = event_new(world->loop, -1, EV_PERSIST, on_tick, NULL);
        assert_true(event_add(world->woken, NULL) == 0 && event_add(world->tick, &period) == 0);
        assert_int_equal(worker_new(&world->worker, world->loop), 0);
}

static void prepare_with(struct world *world, size_t n_gpus, const struct gpu_ops *ops) {
        const struct registry_config config = {
                .loop = NULL,
                .ops = ops,
                .context = &world->driver,
                .stuck_usec = 3600 * USEC_PER_SEC,
                .policy = policy_of,
                .on_change = on_change,
                .on_ready = on_ready,
                .on_stopped = on_stopped,
                .userdata = world,
        };
        struct registry_config complete = config;

        *world = (struct world){.policy = {.persistence = true}};
        (void)pthread_mutex_init(&world->driver.mutex, NULL);
        (void)pthread_cond_init(&world->driver.changed, NULL);
        for (size_t i = 0; i < N_GPUS; i++)
                world->driver.gpus[i] = (struct driver_gpu){.listed = i < n_gpus, .minor = (int)i, .binding = 1};
        start_loop(world);
        complete.loop = world->loop;
        complete.worker = world->worker;
        assert_int_equal(registry_new(&world->registry, &complete), 0);
        registry_set_polling(world->registry, false);
}

/* A driver with this many GPUs, and a registry that has not started. */
static void prepare(struct world *world, size_t n_gpus) {
        prepare_with(world, n_gpus, &driver_ops);
}

/* The same with a driver that announces unbinds. */
static void prepare_announcing(struct world *world, size_t n_gpus) {
        static struct gpu_ops ops;

        ops = driver_ops;
        ops.subscribe = driver_subscribe;
        ops.events_fd = driver_events_fd;
        ops.read_events = driver_read_events;
        ops.unsubscribe = driver_unsubscribe;
        prepare_with(world, n_gpus, &ops);
}

static void start(struct world *world, size_t n_gpus) {
        prepare(world, n_gpus);
        registry_start(world->registry);
        AWAIT(world, world->n_ready == 1 && is_idle(world));
}

static void start_announcing(struct world *world, size_t n_gpus) {
        prepare_announcing(world, n_gpus);
        registry_start(world->registry);
        AWAIT(world, world->n_ready == 1 && is_idle(world));
}

static void let_all_go(struct driver *driver) {
        (void)pthread_mutex_lock(&driver->mutex);
        memset(driver->list.held_back, 0, sizeof(driver->list.held_back));
        memset(driver->questions.held_back, 0, sizeof(driver->questions.held_back));
        memset(driver->events.held_back, 0, sizeof(driver->events.held_back));
        for (size_t i = 0; i < N_GPUS; i++)
                memset(driver->gpus[i].held_back, 0, sizeof(driver->gpus[i].held_back));
        wake(driver);
        (void)pthread_mutex_unlock(&driver->mutex);
}

/* Each test ends here: stops the registry, and checks that every GPU is closed. */
static void finish(struct world *world) {
        let_all_go(&world->driver);
        registry_stop(world->registry, false);
        AWAIT(world, world->n_stopped == 1 && !world->registry->scanning && !world->registry->asking &&
                             !unbinds_is_open(world->registry->unbinds));
        for (size_t i = 0; i < N_GPUS; i++)
                assert_int_equal(world->driver.gpus[i].held_binding, 0);
        if (world->driver.fault)
                fail_msg("%s", world->driver.fault);
        assert_true(worker_free(world->worker));
        registry_free(world->registry);
        event_free(world->woken);
        event_free(world->tick);
        event_base_free(world->loop);
        world->driver.wake_fd = fd_close(world->driver.wake_fd);
        world->driver.events_fd = fd_close(world->driver.events_fd);
}

/* ---- what tests do and see ---- */

static const struct gpu *find(const struct world *world, size_t index) {
        return registry_find(world->registry, &(struct pci_address){.bus = (uint8_t)(FIRST_BUS + index)});
}

static enum gpu_state state_of(const struct world *world, size_t index) {
        const struct gpu *gpu = find(world, index);

        assert_non_null(gpu);
        return gpu->state;
}

static unsigned begun(struct world *world, size_t index, enum call call) {
        return world->driver.gpus[index].begun[call];
}

/* Whether the GPU is held, by an open since its last bind. */
static bool is_fresh(struct world *world, size_t index) {
        const struct driver_gpu *gpu = &world->driver.gpus[index];

        return find(world, index) && state_of(world, index) == GPU_HELD && gpu->held_binding == gpu->binding;
}

static void hold_back(struct world *world, size_t index, enum call call) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.gpus[index].held_back[call] = true;
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void hold_back_events(struct world *world, enum call call) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.events.held_back[call] = true;
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void let_go(struct world *world, size_t index, enum call call, int result) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.gpus[index].held_back[call] = false;
        world->driver.gpus[index].result[call] = result;
        wake(&world->driver);
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void let_go_list(struct world *world) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.list.held_back[CALL_LIST] = false;
        wake(&world->driver);
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void set_result(struct world *world, size_t index, enum call call, int result) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.gpus[index].result[call] = result;
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void driver_unbinds(struct world *world, size_t index) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.gpus[index].listed = false;
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void driver_binds(struct world *world, size_t index, int minor) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.gpus[index].listed = true;
        world->driver.gpus[index].minor = minor;
        world->driver.gpus[index].binding++;
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void notice(struct world *world, size_t index, bool bind) {
        const struct rm_event event = {.gpu_id = (uint32_t)(FIRST_BUS + index) << 8, .bind = bind};

        registry_note_event(world->registry, &event);
}

static void uevent_removed(struct world *world, size_t index) {
        const struct pci_address address = address_of(index);

        registry_note_removed(world->registry, &address);
}

static void look(struct world *world) {
        registry_rescan(world->registry);
        AWAIT(world, is_idle(world));
}

struct asked {
        struct registry_request request;
        bool answered;
        enum registry_answer answer;
};

/* Lets the creation of the n-th thread from now fail. */
static unsigned refused_thread;

static void refuse_thread(unsigned n) {
        refused_thread = n;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
        if (refused_thread > 0 && --refused_thread == 0)
                return EAGAIN;
        return __real_pthread_create(thread, attributes, run, argument);
}

static void on_answered(struct registry_request *request, enum registry_answer answer) {
        struct asked *asked = container_of(request, struct asked, request);

        assert_false(asked->answered);
        asked->answered = true;
        asked->answer = answer;
}

static void ask(struct world *world, size_t index, struct asked *asked, enum registry_request_kind kind, bool enable) {
        const struct pci_address address = address_of(index);

        *asked = (struct asked){.request = {.kind = kind, .enable = enable, .answered = on_answered}};
        registry_request(world->registry, &address, &asked->request);
}

static enum registry_answer set_mode(struct world *world, size_t index, bool enable) {
        struct asked asked;

        ask(world, index, &asked, REGISTRY_SET_MODE_ONLY, enable);
        AWAIT(world, asked.answered && find(world, index)->job == GPU_JOB_NONE);
        return asked.answer;
}

/* ---- the start ---- */

static void readiness_is_reported_after_each_gpu_was_opened_once(void **state) {
        struct world world;

        prepare(&world, 3);
        hold_back(&world, 1, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, registry_count(world.registry).held == 2 && begun(&world, 1, CALL_OPEN) == 1);
        assert_int_equal(world.n_ready, 0);
        let_go(&world, 1, CALL_OPEN, 0);
        AWAIT(&world, world.n_ready == 1 && is_idle(&world));
        for (size_t i = 0; i < 3; i++) {
                assert_true(is_fresh(&world, i));
                assert_int_equal(begun(&world, i, CALL_OPEN), 1);
        }
        look(&world);
        assert_int_equal(world.n_ready, 1);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        finish(&world);
}

static void without_gpus_readiness_is_reported_and_a_gpu_added_later_is_held(void **state) {
        struct world world;

        start(&world, 0);
        assert_int_equal(registry_count(world.registry).gpus, 0);
        driver_binds(&world, 2, 5);
        look(&world);
        AWAIT(&world, is_fresh(&world, 2));
        assert_int_equal(find(&world, 2)->info.minor, 5);
        finish(&world);
}

static void a_stuck_open_does_not_delay_readiness_and_the_gpu_is_held_when_it_ends(void **state) {
        struct world world;

        prepare(&world, 2);
        registry_set_stuck_limit(world.registry, 20 * USEC_PER_MSEC);
        hold_back(&world, 0, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && is_fresh(&world, 1));
        assert_true(find(&world, 0)->stuck);
        assert_int_equal(state_of(&world, 0), GPU_OPENING);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, is_fresh(&world, 0));
        assert_false(find(&world, 0)->stuck);
        finish(&world);
}

static void a_gpu_that_fails_to_open_is_retried_until_it_is_held(void **state) {
        struct world world;

        prepare(&world, 1);
        set_result(&world, 0, CALL_OPEN, -ENXIO);
        registry_start(world.registry);
        AWAIT(&world, begun(&world, 0, CALL_OPEN) == 2 && world.n_ready == 1);
        set_result(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, is_fresh(&world, 0));
        assert_int_equal(find(&world, 0)->failure.error, 0);
        finish(&world);
}

static void a_first_list_that_fails_once_delays_readiness(void **state) {
        struct world world;

        prepare(&world, 2);
        world.driver.list.result[CALL_LIST] = -EMFILE;
        registry_start(world.registry);
        AWAIT(&world, world.registry->scan_result == -EMFILE);
        assert_int_equal(world.n_ready, 0);
        world.driver.list.result[CALL_LIST] = 0;
        AWAIT(&world, world.n_ready == 1);
        assert_int_equal(registry_count(world.registry).held, 2);
        assert_int_equal(world.driver.list.ended[CALL_LIST], 2);
        finish(&world);
}

static void a_list_that_cannot_be_read_releases_nothing_and_is_retried(void **state) {
        struct world world;

        prepare(&world, 2);
        world.registry->config.poll_usec = 10 * USEC_PER_MSEC;
        world.driver.list.result[CALL_LIST] = -EIO;
        registry_start(world.registry);
        AWAIT(&world, world.driver.list.begun[CALL_LIST] >= 3);
        world.driver.list.result[CALL_LIST] = 0;
        AWAIT(&world, is_fresh(&world, 0) && is_fresh(&world, 1));
        world.driver.list.result[CALL_LIST] = -EIO;
        registry_rescan(world.registry);
        AWAIT(&world, world.driver.list.ended[CALL_LIST] >= 6 && world.registry->scan_result < 0);
        assert_int_equal(registry_count(world.registry).held, 2);
        world.driver.list.result[CALL_LIST] = 0;
        AWAIT(&world, world.registry->scan_result == 0 && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        finish(&world);
}

/* ---- unbind and bind ---- */

static void an_unbind_notice_releases_and_a_bind_notice_holds_again(void **state) {
        struct world world;

        start(&world, 2);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        assert_int_equal(registry_count(world.registry).unbinding, 1);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        look(&world); /* the GPU is still listed: the unbind waits for another user */
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        driver_binds(&world, 0, 0);
        notice(&world, 0, true);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        assert_int_equal(begun(&world, 1, CALL_OPEN), 1);
        finish(&world);
}

static void a_gpu_bound_under_another_minor_is_opened_only_once(void **state) {
        struct world world;

        start(&world, 2);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED);
        driver_binds(&world, 0, 7);
        hold_back(&world, 0, CALL_OPEN);
        notice(&world, 0, true); /* opens at once; the list with the new minor is read during the open */
        AWAIT(&world, begun(&world, 0, CALL_OPEN) == 2 && find(&world, 0)->info.minor == 7);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        look(&world);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 1);
        finish(&world);
}

static void a_list_begun_before_the_open_does_not_release_the_gpu(void **state) {
        struct world world;

        start(&world, 1);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        driver_unbinds(&world, 0);
        world.driver.list.held_back[CALL_LIST] = true;
        registry_rescan(world.registry); /* does not contain the GPU; its result is held back */
        AWAIT(&world, world.driver.list.begun[CALL_LIST] == 2);
        driver_binds(&world, 0, 3);
        notice(&world, 0, true);
        AWAIT(&world, is_fresh(&world, 0));
        let_all_go(&world.driver);
        AWAIT(&world, is_idle(&world) && find(&world, 0) && find(&world, 0)->info.minor == 3);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 1);
        finish(&world);
}

static void after_an_unbind_during_an_open_the_gpu_is_closed_when_the_open_ends(void **state) {
        struct world world;

        prepare(&world, 1);
        hold_back(&world, 0, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, begun(&world, 0, CALL_OPEN) == 1);
        notice(&world, 0, false);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, begun(&world, 0, CALL_CLOSE) == 1 && is_idle(&world));
        assert_int_equal(state_of(&world, 0), GPU_RELEASED);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        finish(&world);
}

static void a_gpu_is_held_after_an_unbind_and_a_bind_without_a_bind_notice(void **state) {
        struct world world;

        start(&world, 1);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        driver_unbinds(&world, 0);
        driver_binds(&world, 0, 0); /* the same minor, no notice */
        uevent_removed(&world, 0);  /* the only sign that the unbind is over */
        AWAIT(&world, is_fresh(&world, 0));
        finish(&world);
}

static void a_gpu_listed_with_another_minor_after_an_unbind_is_held(void **state) {
        struct world world;

        start(&world, 1);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        driver_binds(&world, 0, 9);
        look(&world);
        AWAIT(&world, is_fresh(&world, 0));
        finish(&world);
}

static void no_gpu_is_opened_before_the_subscription_to_unbind_notices(void **state) {
        struct world world;

        prepare_announcing(&world, 2);
        hold_back_events(&world, CALL_SUBSCRIBE);
        registry_start(world.registry);
        AWAIT(&world, registry_count(world.registry).using == 2 && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN) + begun(&world, 1, CALL_OPEN), 0);
        assert_int_equal(world.n_ready, 0);
        let_all_go(&world.driver);
        AWAIT(&world, world.n_ready == 1 && is_fresh(&world, 0) && is_fresh(&world, 1));
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        assert_int_equal(registry_count(world.registry).using, 1);
        finish(&world);
}

static void if_the_subscription_hangs_gpus_are_opened_after_a_limit(void **state) {
        struct world world;

        prepare_announcing(&world, 1);
        hold_back_events(&world, CALL_SUBSCRIBE);
        registry_start(world.registry);
        AWAIT(&world, is_fresh(&world, 0) && world.n_ready == 1);
        finish(&world);
}

static void a_hanging_subscription_delays_only_the_first_open(void **state) {
        uint64_t begun_usec;
        struct world world;

        prepare_announcing(&world, 2);
        world.policy.persistence = false;
        hold_back_events(&world, CALL_SUBSCRIBE);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_DONE); /* waits for the limit */
        begun_usec = clock_monotonic_usec();
        assert_int_equal(set_mode(&world, 1, true), REGISTRY_DONE);
        assert_true(clock_monotonic_usec() < begun_usec + USEC_PER_SEC);
        finish(&world);
}

static void a_gpu_that_is_no_longer_wanted_does_not_wait_for_the_subscription(void **state) {
        struct world world;

        prepare_announcing(&world, 1);
        hold_back_events(&world, CALL_SUBSCRIBE);
        registry_start(world.registry);
        AWAIT(&world, registry_count(world.registry).using == 1);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        assert_int_equal(registry_count(world.registry).using, 0);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 0);
        finish(&world);
}

static void after_an_unbind_and_a_bind_uvm_persistence_is_set_again(void **state) {
        struct world world;

        prepare(&world, 1);
        world.policy.uvm = true;
        registry_start(world.registry);
        AWAIT(&world, find(&world, 0) && find(&world, 0)->hold.uvm && is_idle(&world));
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        assert_false(find(&world, 0)->hold.uvm);
        driver_binds(&world, 0, 0);
        notice(&world, 0, true);
        AWAIT(&world, is_fresh(&world, 0) && find(&world, 0)->hold.uvm && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_UVM_ENABLE), 2);
        finish(&world);
}

static void unexpected_notices_do_no_harm(void **state) {
        const struct rm_event strange[] = {{.gpu_id = 0}, {.gpu_id = UINT32_MAX, .bind = true}, {.gpu_id = 0x10001700}};
        struct world world;

        start(&world, 1);
        for (size_t i = 0; i < ARRAY_SIZE(strange); i++)
                registry_note_event(world.registry, &strange[i]);
        notice(&world, 0, true); /* already bound */
        AWAIT(&world, is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        notice(&world, 0, false);
        notice(&world, 0, false); /* twice */
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED);
        finish(&world);
}

/* ---- removed, added and swapped GPUs ---- */

static void a_gpu_that_is_no_longer_listed_is_closed_and_forgotten(void **state) {
        struct world world;

        start(&world, 2);
        driver_unbinds(&world, 0);
        look(&world);
        AWAIT(&world, !find(&world, 0));
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 1);
        driver_binds(&world, 0, 0);
        look(&world);
        AWAIT(&world, is_fresh(&world, 0));
        assert_int_equal(begun(&world, 1, CALL_OPEN), 1);
        finish(&world);
}

/* With the same address and minor, only the uevent shows that the descriptor belongs to the old GPU. */
static void a_gpu_swapped_between_two_scans_is_reopened_after_its_uevent(void **state) {
        struct world world;

        start(&world, 2);
        driver_unbinds(&world, 0);
        driver_binds(&world, 0, 0);
        look(&world);
        assert_false(is_fresh(&world, 0));
        uevent_removed(&world, 0);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        assert_int_equal(begun(&world, 1, CALL_OPEN), 1);
        finish(&world);
}

static void a_gpu_swapped_during_its_open_is_reopened(void **state) {
        struct world world;

        prepare(&world, 1);
        hold_back(&world, 0, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, begun(&world, 0, CALL_OPEN) == 1);
        driver_unbinds(&world, 0);
        driver_binds(&world, 0, 0);
        uevent_removed(&world, 0);
        AWAIT(&world, !world.registry->scanning);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        finish(&world);
}

static void a_gpu_swapped_during_its_close_is_reopened(void **state) {
        struct world world;

        start(&world, 1);
        hold_back(&world, 0, CALL_CLOSE);
        driver_unbinds(&world, 0);
        registry_rescan(world.registry);
        AWAIT(&world, begun(&world, 0, CALL_CLOSE) == 1);
        driver_binds(&world, 0, 0);
        registry_rescan(world.registry);
        AWAIT(&world, !world.registry->scanning);
        let_go(&world, 0, CALL_CLOSE, 0);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        finish(&world);
}

static void a_gpu_listed_with_another_minor_is_reopened(void **state) {
        struct world world;

        start(&world, 1);
        driver_unbinds(&world, 0);
        driver_binds(&world, 0, 4);
        look(&world);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        look(&world);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        finish(&world);
}

static void a_failed_gpu_is_held_after_a_swap(void **state) {
        struct world world;

        prepare(&world, 1);
        set_result(&world, 0, CALL_OPEN, -EIO);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && is_idle(&world));
        set_result(&world, 0, CALL_OPEN, 0);
        driver_binds(&world, 0, 0);
        uevent_removed(&world, 0);
        AWAIT(&world, is_fresh(&world, 0));
        finish(&world);
}

static void a_failed_gpu_that_is_listed_with_another_minor_is_held(void **state) {
        struct world world;

        prepare(&world, 1);
        set_result(&world, 0, CALL_OPEN, -EIO);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && is_idle(&world));
        set_result(&world, 0, CALL_OPEN, 0);
        driver_binds(&world, 0, 6);
        look(&world);
        AWAIT(&world, is_fresh(&world, 0));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        finish(&world);
}

static void a_released_gpu_with_a_new_minor_is_held_after_a_set(void **state) {
        struct world world;

        start(&world, 1);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        driver_binds(&world, 0, 8);
        look(&world);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1); /* still switched off */
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_DONE);
        assert_true(is_fresh(&world, 0));
        finish(&world);
}

static void a_gpu_with_unreadable_information_stays_held(void **state) {
        struct world world;

        start(&world, 1);
        world.driver.gpus[0].unreadable = true;
        look(&world);
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 0);
        assert_int_equal(find(&world, 0)->info.minor, 0);
        assert_string_equal(find(&world, 0)->info.uuid, "GPU-0");
        world.driver.gpus[0].unreadable = false;
        look(&world);
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 0);
        finish(&world);
}

static void a_removed_gpu_with_a_stuck_close_is_forgotten_when_the_close_ends(void **state) {
        struct world world;

        start(&world, 2);
        registry_set_stuck_limit(world.registry, 20 * USEC_PER_MSEC);
        hold_back(&world, 0, CALL_CLOSE);
        driver_unbinds(&world, 0);
        uevent_removed(&world, 0);
        AWAIT(&world, find(&world, 0)->stuck);
        assert_int_equal(set_mode(&world, 1, false), REGISTRY_DONE);
        let_go(&world, 0, CALL_CLOSE, 0);
        AWAIT(&world, !find(&world, 0));
        finish(&world);
}

/* The random sequence is fixed. */
static void after_hundreds_of_random_events_every_gpu_is_held(void **state) {
        uint32_t random = 2;
        struct world world;

        start(&world, N_GPUS);
        for (int round = 0; round < 400; round++) {
                size_t index;

                random = random * 1664525 + 1013904223; /* constants from Numerical Recipes */
                index = random >> 30;
                switch (random >> 16 & 7) {
                case 0:
                        notice(&world, index, false);
                        driver_unbinds(&world, index);
                        uevent_removed(&world, index);
                        break;
                case 1:
                case 2:
                        driver_binds(&world, index, (int)(random >> 20 & 15));
                        notice(&world, index, true);
                        break;
                case 3: /* swapped, with only a uevent */
                        driver_binds(&world, index, world.driver.gpus[index].minor);
                        uevent_removed(&world, index);
                        break;
                case 4:
                        registry_rescan(world.registry);
                        break;
                case 5:
                        notice(&world, index, false);
                        driver_binds(&world, index, world.driver.gpus[index].minor);
                        notice(&world, index, true);
                        uevent_removed(&world, index);
                        break;
                default:
                        (void)event_base_loop(world.loop, EVLOOP_NONBLOCK);
                        break;
                }
        }
        for (size_t i = 0; i < N_GPUS; i++) {
                driver_binds(&world, i, (int)i);
                uevent_removed(&world, i);
                notice(&world, i, true);
        }
        for (size_t i = 0; i < N_GPUS; i++)
                AWAIT(&world, is_fresh(&world, i));
        AWAIT(&world, is_idle(&world));
        assert_int_equal(registry_count(world.registry).gpus, N_GPUS);
        finish(&world);
}

/* ---- requests ---- */

/* The unbind may have waited for this release. */
static void a_set_off_of_a_gpu_that_is_unbound_is_answered_after_the_release(void **state) {
        struct asked first, second;
        struct world world;

        start(&world, 1);
        hold_back(&world, 0, CALL_CLOSE);
        ask(&world, 0, &first, REGISTRY_SET_MODE, false);
        ask(&world, 0, &second, REGISTRY_SET_MODE, true);
        driver_unbinds(&world, 0);
        uevent_removed(&world, 0);
        assert_false(first.answered);
        assert_false(second.answered);
        let_go(&world, 0, CALL_CLOSE, 0);
        AWAIT(&world, first.answered && second.answered && !find(&world, 0));
        assert_int_equal(first.answer, REGISTRY_DONE);
        assert_int_equal(second.answer, REGISTRY_NO_GPU);
        finish(&world);
}

static void a_set_on_of_a_gpu_that_is_unbound_is_answered_at_once(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 1);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        hold_back(&world, 0, CALL_OPEN);
        ask(&world, 0, &asked, REGISTRY_SET_MODE, true);
        AWAIT(&world, begun(&world, 0, CALL_OPEN) == 2);
        driver_unbinds(&world, 0);
        uevent_removed(&world, 0);
        assert_true(asked.answered);
        assert_int_equal(asked.answer, REGISTRY_NO_GPU);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, !find(&world, 0));
        finish(&world);
}

static void a_set_on_of_a_gpu_that_fails_to_open_is_a_driver_error(void **state) {
        struct world world;

        start(&world, 1);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        set_result(&world, 0, CALL_OPEN, -EIO);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_FAILED);
        assert_int_equal(state_of(&world, 0), GPU_FAILED);
        set_result(&world, 0, CALL_OPEN, 0);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_DONE); /* retried at once, without the pause */
        finish(&world);
}

static void a_reload_that_changes_only_another_gpu_keeps_the_mode_set_by_a_client(void **state) {
        struct world world;

        start(&world, 2);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        world.off_uuid = "GPU-1";
        registry_apply_policy(world.registry);
        AWAIT(&world, state_of(&world, 1) == GPU_RELEASED && is_idle(&world));
        assert_int_equal(state_of(&world, 0), GPU_RELEASED);
        world.off_uuid = NULL;
        registry_apply_policy(world.registry);
        AWAIT(&world, is_fresh(&world, 1) && is_idle(&world));
        assert_int_equal(state_of(&world, 0), GPU_RELEASED);
        finish(&world);
}

static void a_reload_that_changes_the_gpus_configuration_overrides_a_set(void **state) {
        struct world world;

        start(&world, 1);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_DONE); /* a Set without a change counts, too */
        world.policy.persistence = false;
        registry_apply_policy(world.registry);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        world.policy.persistence = true;
        registry_apply_policy(world.registry);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        finish(&world);
}

static void a_set_that_is_overridden_by_a_reload_during_the_open_is_answered(void **state) {
        struct asked asked;
        struct world world;

        prepare(&world, 1);
        hold_back(&world, 0, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, find(&world, 0) && begun(&world, 0, CALL_OPEN) == 1);
        ask(&world, 0, &asked, REGISTRY_SET_MODE_ONLY, true);
        world.policy.persistence = false;
        registry_apply_policy(world.registry);
        assert_false(asked.answered);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_FAILED);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        finish(&world);
}

static void a_set_stays_in_force_when_the_uuid_becomes_known_and_another_rule_applies(void **state) {
        struct asked asked;
        struct world world;

        prepare(&world, 1);
        world.off_uuid = "GPU-0";
        world.driver.gpus[0].hides_uuid = true;
        hold_back(&world, 0, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, find(&world, 0) && begun(&world, 0, CALL_OPEN) == 1);
        ask(&world, 0, &asked, REGISTRY_SET_MODE_ONLY, true);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, asked.answered && is_idle(&world));
        assert_int_equal(asked.answer, REGISTRY_DONE);
        assert_false(registry_gpu_policy(find(&world, 0)).persistence);
        assert_int_equal(state_of(&world, 0), GPU_HELD);
        finish(&world);
}

static void a_set_of_an_absent_gpu_is_overridden_only_by_a_change_of_its_configuration(void **state) {
        struct world world;

        start(&world, 1);
        for (unsigned changed = 0; changed < 2; changed++) {
                assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
                driver_unbinds(&world, 0);
                look(&world);
                AWAIT(&world, !find(&world, 0));
                world.policy.persistence = !changed;
                registry_apply_policy(world.registry);
                world.policy.persistence = true;
                registry_apply_policy(world.registry);
                driver_binds(&world, 0, 0);
                look(&world);
                AWAIT(&world, find(&world, 0) && is_idle(&world));
                assert_int_equal(state_of(&world, 0), changed ? GPU_HELD : GPU_RELEASED);
        }
        finish(&world);
}

static void a_set_of_a_stuck_gpu_is_a_driver_error(void **state) {
        struct asked waiting;
        struct world world;

        prepare(&world, 1);
        registry_set_stuck_limit(world.registry, 20 * USEC_PER_MSEC);
        hold_back(&world, 0, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, find(&world, 0));
        ask(&world, 0, &waiting, REGISTRY_SET_MODE, true);
        AWAIT(&world, waiting.answered);
        assert_int_equal(waiting.answer, REGISTRY_FAILED);
        ask(&world, 0, &waiting, REGISTRY_SET_MODE, false);
        assert_true(waiting.answered);
        assert_int_equal(waiting.answer, REGISTRY_FAILED);
        finish(&world);
}

/* As after a reset by nvidia-smi, whose Set can arrive before the uevent of the bind. */
static void a_set_of_a_gpu_whose_bind_is_not_known_yet_finds_the_gpu(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 2);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        driver_unbinds(&world, 0);
        look(&world);
        assert_null(find(&world, 0));
        driver_binds(&world, 0, 0);
        ask(&world, 0, &asked, REGISTRY_SET_MODE_ONLY, true);
        assert_false(asked.answered);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_DONE);
        assert_true(is_fresh(&world, 0));
        finish(&world);
}

static void a_set_of_an_unknown_gpu_is_answered_after_the_list_was_read_again(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 1);
        world.driver.list.held_back[CALL_LIST] = true;
        registry_rescan(world.registry); /* begun before the request, so its result does not count */
        ask(&world, 1, &asked, REGISTRY_SET_MODE_ONLY, true);
        registry_advance(world.registry);
        assert_false(asked.answered);
        let_go_list(&world);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_NO_GPU);
        AWAIT(&world, is_idle(&world));
        finish(&world);
}

static void if_the_list_hangs_a_set_of_an_unknown_gpu_is_answered_after_a_limit_or_at_a_stop(void **state) {
        struct asked first, second;
        struct world world;

        start(&world, 1);
        world.driver.list.held_back[CALL_LIST] = true;
        ask(&world, 1, &first, REGISTRY_SET_MODE_ONLY, true);
        ask(&world, 2, &second, REGISTRY_SET_MODE_ONLY, true);
        first.request.since_usec -= 60 * USEC_PER_SEC;
        registry_advance(world.registry);
        assert_true(first.answered);
        assert_int_equal(first.answer, REGISTRY_NO_GPU);
        assert_false(second.answered);
        registry_stop(world.registry, false);
        assert_true(second.answered);
        assert_int_equal(second.answer, REGISTRY_FAILED);
        let_go_list(&world);
        finish(&world);
}

/* The limit is shorter than NVML's, and does not depend on the limit for stuck GPUs. */
static void a_set_is_answered_before_its_client_gives_up(void **state) {
        struct asked first, second;
        struct world world;

        prepare(&world, 1);
        hold_back(&world, 0, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, find(&world, 0));
        ask(&world, 0, &first, REGISTRY_SET_MODE, true);
        ask(&world, 0, &second, REGISTRY_SET_MODE, false);
        registry_advance(world.registry);
        assert_false(first.answered);
        first.request.since_usec -= (REGISTRY_REQUEST_LIMIT_SEC + 1) * USEC_PER_SEC;
        registry_advance(world.registry);
        assert_true(first.answered);
        assert_int_equal(first.answer, REGISTRY_FAILED);
        assert_false(second.answered);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, second.answered);
        assert_int_equal(second.answer, REGISTRY_DONE);
        finish(&world);
}

static void a_set_on_during_an_unbind_is_refused(void **state) {
        struct world world;

        start(&world, 1);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_FAILED);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        finish(&world);
}

static void if_the_memory_cannot_be_onlined_the_old_mode_is_restored(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 1);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        set_result(&world, 0, CALL_NUMA, -EPERM);
        ask(&world, 0, &asked, REGISTRY_SET_MODE, true);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_NUMA_FAILED);
        assert_int_equal(state_of(&world, 0), GPU_RELEASED);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        set_result(&world, 0, CALL_NUMA, 0);
        ask(&world, 0, &asked, REGISTRY_SET_MODE, true);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_DONE);
        assert_int_equal(state_of(&world, 0), GPU_HELD);
        finish(&world);
}

static void a_set_starts_no_memory_job_for_a_gpu_without_numa_memory(void **state) {
        struct asked asked;
        struct world world;

        prepare(&world, 2);
        world.driver.gpus[1].lacks_numa = true;
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && is_idle(&world));
        for (size_t i = 0; i < 2; i++) {
                ask(&world, i, &asked, REGISTRY_SET_MODE, false);
                AWAIT(&world, asked.answered);
                assert_int_equal(asked.answer, REGISTRY_DONE);
        }
        assert_int_equal(begun(&world, 0, CALL_NUMA), 1);
        assert_int_equal(begun(&world, 1, CALL_NUMA), 0);
        finish(&world);
}

static void if_the_memory_is_in_use_a_set_of_mode_and_memory_restores_the_old_mode(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 1);
        set_result(&world, 0, CALL_CLOSE, -EBUSY);
        world.driver.gpus[0].memory_in_use = true;
        ask(&world, 0, &asked, REGISTRY_SET_MODE, false);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_NUMA_FAILED);
        assert_true(is_fresh(&world, 0) && find(&world, 0)->wanted);

        assert_int_equal(set_mode(&world, 0, false), REGISTRY_FAILED); /* a Set of the mode only is retried */
        assert_false(find(&world, 0)->wanted);
        set_result(&world, 0, CALL_CLOSE, 0);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED);
        finish(&world);
}

/* ---- UVM ---- */

static void a_failure_of_uvm_persistence_never_releases_the_gpu(void **state) {
        struct world world;

        prepare(&world, 2);
        world.policy.uvm = true;
        set_result(&world, 0, CALL_UVM_ENABLE, -EIO);
        set_result(&world, 1, CALL_UVM_ENABLE, -EOPNOTSUPP);
        registry_start(world.registry);
        AWAIT(&world, begun(&world, 0, CALL_UVM_ENABLE) == 2); /* retried after a second */
        assert_int_equal(registry_count(world.registry).held, 2);
        assert_int_equal(find(&world, 0)->uvm_failure.error, -EIO);
        assert_int_equal(begun(&world, 1, CALL_UVM_ENABLE), 1); /* not supported: not retried */
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 0);
        set_result(&world, 0, CALL_UVM_ENABLE, 0);
        AWAIT(&world, find(&world, 0)->hold.uvm && is_idle(&world));
        finish(&world);
}

static void uvm_persistence_does_not_delay_readiness(void **state) {
        struct world world;

        prepare(&world, 1);
        world.policy.uvm = true;
        hold_back(&world, 0, CALL_UVM_ENABLE);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1);
        assert_int_equal(state_of(&world, 0), GPU_HELD);
        finish(&world);
}

/* ---- leases ---- */

struct lessee {
        struct registry_lease lease;
        unsigned n_answers;
        enum registry_answer answer;
};

static void on_lease(struct registry_lease *lease, enum registry_answer answer) {
        struct lessee *lessee = container_of(lease, struct lessee, lease);

        lessee->n_answers++;
        lessee->answer = answer;
}

static void a_lease_of_all_gpus_includes_those_added_during_the_lease(void **state) {
        struct lessee lessee = {.lease = {.all = true, .answered = on_lease}};
        struct world world;

        start(&world, 2);
        registry_lease_begin(world.registry, &lessee.lease);
        AWAIT(&world, lessee.n_answers == 1 && is_idle(&world));
        assert_int_equal(lessee.answer, REGISTRY_DONE);
        assert_int_equal(registry_count(world.registry).held, 0);
        driver_binds(&world, 2, 2);
        driver_binds(&world, 0, 0); /* rebound, as after a driver update */
        uevent_removed(&world, 0);
        look(&world);
        assert_int_equal(registry_count(world.registry).gpus, 3);
        assert_int_equal(begun(&world, 2, CALL_OPEN), 0);
        registry_lease_end(world.registry, &lessee.lease);
        AWAIT(&world, is_fresh(&world, 0) && is_fresh(&world, 1) && is_fresh(&world, 2));
        assert_int_equal(lessee.n_answers, 1);
        finish(&world);
}

static void a_lease_is_answered_after_the_daemon_stopped_using_the_driver(void **state) {
        struct lessee lessee = {.lease = {.all = true, .answered = on_lease}};
        struct world world;

        start_announcing(&world, 1);
        hold_back_events(&world, CALL_UNSUBSCRIBE);
        registry_lease_begin(world.registry, &lessee.lease);
        AWAIT(&world, registry_count(world.registry).held == 0 && is_idle(&world));
        assert_int_equal(lessee.n_answers, 0);
        let_all_go(&world.driver);
        AWAIT(&world, lessee.n_answers == 1);
        registry_lease_end(world.registry, &lessee.lease);
        finish(&world);
}

static void if_the_daemon_cannot_stop_using_the_driver_a_lease_is_answered_after_a_limit(void **state) {
        struct lessee lessee = {.lease = {.all = true, .answered = on_lease}};
        uint64_t begun_usec = clock_monotonic_usec();
        struct world world;

        start_announcing(&world, 1);
        hold_back_events(&world, CALL_UNSUBSCRIBE);
        registry_lease_begin(world.registry, &lessee.lease);
        AWAIT(&world, lessee.n_answers == 1);
        assert_int_equal(lessee.answer, REGISTRY_DONE);
        assert_true(clock_monotonic_usec() >= begun_usec + USEC_PER_SEC);
        registry_lease_end(world.registry, &lessee.lease);
        finish(&world);
}

/* A hanging GPU keeps the module loaded, so the rest of the daemon need not stop using the driver. */
static void if_another_gpu_hangs_a_lease_waits_only_for_its_own_gpus(void **state) {
        struct pci_address address = address_of(0);
        struct lessee lessee = {.lease = {.addresses = &address, .n_addresses = 1, .answered = on_lease}};
        struct world world;

        prepare_announcing(&world, 2); /* subscribed while any GPU is used */
        hold_back(&world, 1, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, find(&world, 0) && is_fresh(&world, 0) && begun(&world, 1, CALL_OPEN) == 1);
        assert_int_equal(world.driver.questions.begun[CALL_QUERY], 0); /* a question would block */
        registry_lease_begin(world.registry, &lessee.lease);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED);
        assert_int_equal(lessee.n_answers, 1);
        registry_lease_end(world.registry, &lessee.lease);
        finish(&world);
}

static void a_lease_of_a_stuck_gpu_fails(void **state) {
        struct pci_address address = address_of(0);
        struct lessee lessee = {.lease = {.addresses = &address, .n_addresses = 1, .answered = on_lease}};
        struct world world;

        start(&world, 2);
        registry_set_stuck_limit(world.registry, 20 * USEC_PER_MSEC);
        hold_back(&world, 0, CALL_CLOSE);
        registry_lease_begin(world.registry, &lessee.lease);
        AWAIT(&world, lessee.n_answers == 1);
        assert_int_equal(lessee.answer, REGISTRY_FAILED);
        assert_true(is_fresh(&world, 1));
        registry_lease_end(world.registry, &lessee.lease);
        finish(&world);
}

static void if_no_thread_can_be_created_a_set_on_fails_and_the_open_is_retried(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 1);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        refuse_thread(1);
        ask(&world, 0, &asked, REGISTRY_SET_MODE_ONLY, true);
        assert_true(asked.answered);
        assert_int_equal(asked.answer, REGISTRY_FAILED);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        AWAIT(&world, is_fresh(&world, 0));
        finish(&world);
}

/* ---- the previous process ---- */

/* Hands over a descriptor from the previous process. The caller closes it, because the fake driver does not. */
static int hand_over(struct world *world, size_t index) {
        struct pci_address address = address_of(index);
        struct gpu_hold hold = GPU_HOLD_NONE;

        hold.device_fd = eventfd(0, EFD_CLOEXEC);
        assert_int_equal(registry_adopt(world->registry, &address, &hold), 0);
        return hold.device_fd;
}

static void a_kept_gpu_is_adopted_without_an_open(void **state) {
        struct world world;
        int fd;

        prepare(&world, 2);
        fd = hand_over(&world, 1);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        assert_int_equal(begun(&world, 1, CALL_OPEN), 0);
        assert_true(is_fresh(&world, 1));
        (void)fd_close(fd);
        finish(&world);
}

static void if_no_thread_can_be_created_an_adoption_is_retried(void **state) {
        struct world world;
        int fd;

        prepare(&world, 1);
        fd = hand_over(&world, 0);
        refuse_thread(2); /* the first one reads the list */
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_ADOPT), 1);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 0);
        assert_true(is_fresh(&world, 0));
        (void)fd_close(fd);
        finish(&world);
}

static void a_gpu_removed_during_its_adoption_is_reopened(void **state) {
        struct world world;
        int fd;

        prepare(&world, 1);
        fd = hand_over(&world, 0);
        hold_back(&world, 0, CALL_ADOPT);
        registry_start(world.registry);
        AWAIT(&world, begun(&world, 0, CALL_ADOPT) == 1);
        uevent_removed(&world, 0);
        AWAIT(&world, !world.registry->scanning);
        let_go(&world, 0, CALL_ADOPT, 0);
        AWAIT(&world, begun(&world, 0, CALL_OPEN) == 1 && is_fresh(&world, 0));
        (void)fd_close(fd);
        finish(&world);
}

/* An adoption waits for the subscription to unbind notices. Until then, what is handed over is still open. */
static void a_gpu_that_waits_for_its_adoption_does_not_count_as_released(void **state) {
        struct pci_address address = address_of(0);
        struct lessee lessee = {.lease = {.addresses = &address, .n_addresses = 1, .answered = on_lease}};
        struct asked off;
        struct world world;
        int fds[2];

        prepare_announcing(&world, 2);
        for (size_t i = 0; i < 2; i++)
                fds[i] = hand_over(&world, i);
        hold_back_events(&world, CALL_SUBSCRIBE);
        registry_start(world.registry);
        AWAIT(&world, registry_is_listed(world.registry));
        registry_lease_begin(world.registry, &lessee.lease);
        ask(&world, 1, &off, REGISTRY_SET_MODE_ONLY, false);
        assert_int_equal(lessee.n_answers, 0);
        assert_false(off.answered);
        let_all_go(&world.driver);
        AWAIT(&world, lessee.n_answers == 1 && off.answered);
        assert_int_equal(lessee.answer, REGISTRY_DONE);
        assert_int_equal(off.answer, REGISTRY_DONE);
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(begun(&world, i, CALL_ADOPT), 1);
                assert_int_equal(begun(&world, i, CALL_CLOSE), 1);
                (void)fd_close(fds[i]);
        }
        registry_lease_end(world.registry, &lessee.lease);
        finish(&world);
}

/* ---- questions ---- */

static void hold_questions_back(struct world *world, enum call call, bool held_back) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.questions.held_back[call] = held_back;
        wake(&world->driver);
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void questions_wait_until_no_job_is_in_the_driver(void **state) {
        struct world world;

        prepare(&world, 2);
        hold_back(&world, 1, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, find(&world, 0) && is_fresh(&world, 0));
        assert_int_equal(world.driver.questions.begun[CALL_QUERY], 0);
        let_go(&world, 1, CALL_OPEN, 0);
        AWAIT(&world, find(&world, 0)->legacy == GPU_LEGACY_ON && find(&world, 1)->legacy == GPU_LEGACY_ON);
        assert_int_equal(world.driver.questions.begun[CALL_QUERY], 2);
        finish(&world);
}

static void a_hanging_question_delays_no_set_no_lease_and_no_stop(void **state) {
        struct lessee lessee = {.lease = {.all = true, .answered = on_lease}};
        struct world world;

        prepare(&world, 2);
        hold_questions_back(&world, CALL_QUERY, true);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && world.driver.questions.begun[CALL_QUERY] == 1);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_DONE);
        registry_lease_begin(world.registry, &lessee.lease);
        AWAIT(&world, lessee.n_answers == 1);
        assert_int_equal(lessee.answer, REGISTRY_DONE);
        registry_lease_end(world.registry, &lessee.lease);
        AWAIT(&world, is_fresh(&world, 0) && is_fresh(&world, 1));
        registry_stop(world.registry, false);
        AWAIT(&world, world.n_stopped == 1);
        assert_int_equal(world.driver.questions.begun[CALL_QUERY], 1);
        assert_int_equal(world.driver.questions.ended[CALL_QUERY], 0);
        finish(&world);
}

static void a_failed_open_is_reported_before_its_reason_is_known(void **state) {
        struct world world;

        prepare(&world, 1);
        set_result(&world, 0, CALL_OPEN, -EIO);
        hold_questions_back(&world, CALL_EXPLAIN, true);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && world.driver.questions.begun[CALL_EXPLAIN] == 1);
        assert_int_equal(find(&world, 0)->failure.error, -EIO);
        hold_questions_back(&world, CALL_EXPLAIN, false);
        AWAIT(&world, find(&world, 0)->failure.error == -EBUSY);
        finish(&world);
}

/* ---- the end ---- */

static void a_hanging_scan_does_not_delay_a_stop(void **state) {
        struct world world;

        start(&world, 1);
        (void)pthread_mutex_lock(&world.driver.mutex);
        world.driver.list.held_back[CALL_LIST] = true;
        (void)pthread_mutex_unlock(&world.driver.mutex);
        registry_rescan(world.registry);
        registry_stop(world.registry, false);
        AWAIT(&world, world.n_stopped == 1);
        assert_true(world.registry->scanning);
        finish(&world);
}

static void a_stop_waits_for_an_open_and_then_releases_the_gpu(void **state) {
        struct world world;

        prepare(&world, 2);
        hold_back(&world, 0, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, find(&world, 1) && state_of(&world, 1) == GPU_HELD && begun(&world, 0, CALL_OPEN) == 1);
        registry_stop(world.registry, false);
        AWAIT(&world, state_of(&world, 1) == GPU_RELEASED);
        assert_int_equal(world.n_stopped, 0);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, world.n_stopped == 1);
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 1);
        finish(&world);
}

static void after_a_stop_no_gpu_is_opened(void **state) {
        struct world world;

        start(&world, 1);
        registry_stop(world.registry, false);
        AWAIT(&world, world.n_stopped == 1);
        driver_binds(&world, 0, 1);
        driver_binds(&world, 1, 2);
        notice(&world, 0, true);
        uevent_removed(&world, 0);
        registry_rescan(world.registry);
        AWAIT(&world, is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        assert_int_equal(begun(&world, 1, CALL_OPEN), 0);
        finish(&world);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_first_list_that_fails_once_delays_readiness),
        cmocka_unit_test(a_gpu_bound_under_another_minor_is_opened_only_once),
        cmocka_unit_test(if_no_thread_can_be_created_an_adoption_is_retried),
        cmocka_unit_test(a_gpu_removed_during_its_adoption_is_reopened),
        cmocka_unit_test(a_gpu_listed_with_another_minor_is_reopened),
        cmocka_unit_test(a_removed_gpu_with_a_stuck_close_is_forgotten_when_the_close_ends),
        cmocka_unit_test(a_gpu_swapped_between_two_scans_is_reopened_after_its_uevent),
        cmocka_unit_test(a_gpu_swapped_during_its_close_is_reopened),
        cmocka_unit_test(a_gpu_swapped_during_its_open_is_reopened),
        cmocka_unit_test(a_gpu_with_unreadable_information_stays_held),
        cmocka_unit_test(a_failed_gpu_that_is_listed_with_another_minor_is_held),
        cmocka_unit_test(a_failed_gpu_is_held_after_a_swap),
        cmocka_unit_test(a_gpu_that_fails_to_open_is_retried_until_it_is_held),
        cmocka_unit_test(a_gpu_that_is_no_longer_listed_is_closed_and_forgotten),
        cmocka_unit_test(a_gpu_that_is_no_longer_wanted_does_not_wait_for_the_subscription),
        cmocka_unit_test(a_gpu_that_waits_for_its_adoption_does_not_count_as_released),
        cmocka_unit_test(a_kept_gpu_is_adopted_without_an_open),
        cmocka_unit_test(if_the_daemon_cannot_stop_using_the_driver_a_lease_is_answered_after_a_limit),
        cmocka_unit_test(a_reload_that_changes_the_gpus_configuration_overrides_a_set),
        cmocka_unit_test(a_reload_that_changes_only_another_gpu_keeps_the_mode_set_by_a_client),
        cmocka_unit_test(a_set_stays_in_force_when_the_uuid_becomes_known_and_another_rule_applies),
        cmocka_unit_test(a_set_of_an_absent_gpu_is_overridden_only_by_a_change_of_its_configuration),
        cmocka_unit_test(a_set_that_is_overridden_by_a_reload_during_the_open_is_answered),
        cmocka_unit_test(a_lease_of_a_stuck_gpu_fails),
        cmocka_unit_test(a_lease_of_all_gpus_includes_those_added_during_the_lease),
        cmocka_unit_test(a_lease_is_answered_after_the_daemon_stopped_using_the_driver),
        cmocka_unit_test(a_list_begun_before_the_open_does_not_release_the_gpu),
        cmocka_unit_test(a_list_that_cannot_be_read_releases_nothing_and_is_retried),
        cmocka_unit_test(a_hanging_scan_does_not_delay_a_stop),
        cmocka_unit_test(a_hanging_question_delays_no_set_no_lease_and_no_stop),
        cmocka_unit_test(a_released_gpu_with_a_new_minor_is_held_after_a_set),
        cmocka_unit_test(a_set_of_a_stuck_gpu_is_a_driver_error),
        cmocka_unit_test(a_set_of_an_unknown_gpu_is_answered_after_the_list_was_read_again),
        cmocka_unit_test(a_set_of_a_gpu_whose_bind_is_not_known_yet_finds_the_gpu),
        cmocka_unit_test(a_set_is_answered_before_its_client_gives_up),
        cmocka_unit_test(a_set_off_of_a_gpu_that_is_unbound_is_answered_after_the_release),
        cmocka_unit_test(a_set_on_during_an_unbind_is_refused),
        cmocka_unit_test(if_no_thread_can_be_created_a_set_on_fails_and_the_open_is_retried),
        cmocka_unit_test(a_set_on_of_a_gpu_that_fails_to_open_is_a_driver_error),
        cmocka_unit_test(a_set_on_of_a_gpu_that_is_unbound_is_answered_at_once),
        cmocka_unit_test(a_stop_waits_for_an_open_and_then_releases_the_gpu),
        cmocka_unit_test(after_hundreds_of_random_events_every_gpu_is_held),
        cmocka_unit_test(a_stuck_open_does_not_delay_readiness_and_the_gpu_is_held_when_it_ends),
        cmocka_unit_test(a_hanging_subscription_delays_only_the_first_open),
        cmocka_unit_test(after_a_stop_no_gpu_is_opened),
        cmocka_unit_test(a_failed_open_is_reported_before_its_reason_is_known),
        cmocka_unit_test(after_an_unbind_during_an_open_the_gpu_is_closed_when_the_open_ends),
        cmocka_unit_test(an_unbind_notice_releases_and_a_bind_notice_holds_again),
        cmocka_unit_test(a_gpu_listed_with_another_minor_after_an_unbind_is_held),
        cmocka_unit_test(a_gpu_is_held_after_an_unbind_and_a_bind_without_a_bind_notice),
        cmocka_unit_test(if_another_gpu_hangs_a_lease_waits_only_for_its_own_gpus),
        cmocka_unit_test(readiness_is_reported_after_each_gpu_was_opened_once),
        cmocka_unit_test(a_set_starts_no_memory_job_for_a_gpu_without_numa_memory),
        cmocka_unit_test(if_the_memory_is_in_use_a_set_of_mode_and_memory_restores_the_old_mode),
        cmocka_unit_test(if_the_memory_cannot_be_onlined_the_old_mode_is_restored),
        cmocka_unit_test(no_gpu_is_opened_before_the_subscription_to_unbind_notices),
        cmocka_unit_test(unexpected_notices_do_no_harm),
        cmocka_unit_test(questions_wait_until_no_job_is_in_the_driver),
        cmocka_unit_test(uvm_persistence_does_not_delay_readiness),
        cmocka_unit_test(after_an_unbind_and_a_bind_uvm_persistence_is_set_again),
        cmocka_unit_test(a_failure_of_uvm_persistence_never_releases_the_gpu),
        cmocka_unit_test(if_the_list_hangs_a_set_of_an_unknown_gpu_is_answered_after_a_limit_or_at_a_stop),
        cmocka_unit_test(if_the_subscription_hangs_gpus_are_opened_after_a_limit),
        cmocka_unit_test(without_gpus_readiness_is_reported_and_a_gpu_added_later_is_held),
};

int main(void) {
        log_open("test", 0, true);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
