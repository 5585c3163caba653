/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The set of GPUs, on a real event loop with real worker threads, and a driver of the test's own: its calls begin on
 * the workers and end when the test lets them.
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
        LIMIT_SEC = 30, /* for what takes milliseconds on an idle machine */
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

/* What is atomic is looked at, or set, without the mutex by threads or by the tests. */
struct driver_gpu {
        atomic_bool listed;
        atomic_bool unreadable; /* its information, for the moment */
        atomic_bool lacks_numa;
        atomic_bool hides_uuid; /* until it is opened */
        atomic_int minor;
        atomic_uint binding;       /* grows with every bind */
        atomic_uint held_binding;  /* of the open that holds it; 0: none */
        atomic_bool memory_in_use; /* what a close that fails tells */
        bool in_call;
        bool held_back[N_CALLS]; /* calls of that kind do not return */
        atomic_int result[N_CALLS];
        atomic_uint begun[N_CALLS], ended[N_CALLS];
};

struct driver {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        int wake_fd; /* into the loop: a call has begun or ended */
        struct driver_gpu gpus[N_GPUS];
        struct driver_gpu list;      /* the list's calls */
        struct driver_gpu questions; /* and those of questions, about whichever GPU */
        struct driver_gpu events;    /* and those of the subscription to notices */
        int events_fd;
        const char *fault; /* what must never happen */
};

static void wake(struct driver *driver) {
        (void)pthread_cond_broadcast(&driver->changed);
        (void)eventfd_write(driver->wake_fd, 1);
}

/* Begins and ends a call. Returns its result, with the mutex held. */
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

/* What is listed is what was there when the call began, as when it is read entry by entry. */
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

/* The tests tell of unbinds by themselves: notice(). */
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
        const char *off_uuid; /* configured off, whatever the policy says of others */
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
                fail_msg("line %d: not within %d s: %s", line, LIMIT_SEC, condition);
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

/* A driver with that many GPUs and a registry that has not looked yet. */
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

/* Every test ends here: with a stop, and with books that agree. */
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

/* ---- what happens to it ---- */

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

/* Held, by an open of the GPU as it is bound now. */
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

/* The n-th thread from now is not to be had. */
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
        *asked = (struct asked){.request = {.kind = kind, .enable = enable, .answered = on_answered}};
        registry_request(world->registry, find(world, index), &asked->request);
}

static void ask_unlisted(struct world *world, size_t index, struct asked *asked) {
        const struct pci_address address = address_of(index);

        *asked = (struct asked){.request = {.kind = REGISTRY_SET_MODE_ONLY, .enable = true, .answered = on_answered}};
        registry_request_unlisted(world->registry, &address, &asked->request);
}

static enum registry_answer set_mode(struct world *world, size_t index, bool enable) {
        struct asked asked;

        ask(world, index, &asked, REGISTRY_SET_MODE_ONLY, enable);
        AWAIT(world, asked.answered && find(world, index)->job == GPU_JOB_NONE);
        return asked.answer;
}

/* ---- the start ---- */

static void every_gpu_is_opened_once_and_then_it_is_ready(void **state) {
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

static void without_gpus_it_is_ready_and_holds_what_comes(void **state) {
        struct world world;

        start(&world, 0);
        assert_int_equal(registry_count(world.registry).gpus, 0);
        driver_binds(&world, 2, 5);
        look(&world);
        AWAIT(&world, is_fresh(&world, 2));
        assert_int_equal(find(&world, 2)->info.minor, 5);
        finish(&world);
}

static void a_stuck_gpu_keeps_nobody_waiting_and_is_held_when_it_comes_back(void **state) {
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

static void a_gpu_that_fails_is_tried_again_until_it_is_held(void **state) {
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

static void a_list_that_cannot_be_read_takes_nothing_away_and_is_read_again(void **state) {
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
        look(&world); /* still listed: the unbind waits for another user */
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
        notice(&world, 0, true); /* opens at once; the list with the other minor comes meanwhile */
        AWAIT(&world, begun(&world, 0, CALL_OPEN) == 2 && find(&world, 0)->info.minor == 7);
        let_go(&world, 0, CALL_OPEN, 0);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        look(&world);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 1);
        finish(&world);
}

static void a_list_older_than_the_hold_does_not_cost_it(void **state) {
        struct world world;

        start(&world, 1);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        driver_unbinds(&world, 0);
        world.driver.list.held_back[CALL_LIST] = true;
        registry_rescan(world.registry); /* does not see the GPU, and says so late */
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

static void an_unbind_during_an_open_is_obeyed_when_the_open_ends(void **state) {
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

static void an_unbind_that_is_over_and_followed_by_a_bind_unseen_leaves_the_gpu_held(void **state) {
        struct world world;

        start(&world, 1);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        driver_unbinds(&world, 0);
        driver_binds(&world, 0, 0); /* the same minor, and nobody told */
        uevent_removed(&world, 0);  /* but that the unbind is over */
        AWAIT(&world, is_fresh(&world, 0));
        finish(&world);
}

static void an_unbind_seen_by_another_minor_to_be_over_leaves_the_gpu_held(void **state) {
        struct world world;

        start(&world, 1);
        notice(&world, 0, false);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        driver_binds(&world, 0, 9);
        look(&world);
        AWAIT(&world, is_fresh(&world, 0));
        finish(&world);
}

static void nothing_is_opened_before_unbinds_are_heard_of(void **state) {
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

static void who_stays_deaf_holds_all_the_same(void **state) {
        struct world world;

        prepare_announcing(&world, 1);
        hold_back_events(&world, CALL_SUBSCRIBE);
        registry_start(world.registry);
        AWAIT(&world, is_fresh(&world, 0) && world.n_ready == 1);
        finish(&world);
}

static void a_subscription_that_is_late_delays_no_second_open(void **state) {
        uint64_t begun_usec;
        struct world world;

        prepare_announcing(&world, 2);
        world.policy.persistence = false;
        hold_back_events(&world, CALL_SUBSCRIBE);
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_DONE); /* after the limit */
        begun_usec = clock_monotonic_usec();
        assert_int_equal(set_mode(&world, 1, true), REGISTRY_DONE);
        assert_true(clock_monotonic_usec() < begun_usec + USEC_PER_SEC);
        finish(&world);
}

static void a_gpu_that_is_not_wanted_any_more_does_not_wait(void **state) {
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

static void uvm_is_had_again_with_the_gpu_after_an_unbind(void **state) {
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

static void notices_of_other_gpus_and_at_any_time_do_no_harm(void **state) {
        const struct rm_event strange[] = {{.gpu_id = 0}, {.gpu_id = UINT32_MAX, .bind = true}, {.gpu_id = 0x10001700}};
        struct world world;

        start(&world, 1);
        for (size_t i = 0; i < ARRAY_SIZE(strange); i++)
                registry_note_event(world.registry, &strange[i]);
        notice(&world, 0, true); /* bound already */
        AWAIT(&world, is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        notice(&world, 0, false);
        notice(&world, 0, false); /* twice */
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED);
        finish(&world);
}

/* ---- GPUs that go and come ---- */

static void a_gpu_that_goes_is_let_go_of_and_forgotten(void **state) {
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

/* Same address, same minor: nothing but the uevent tells that the descriptor is of the GPU before. */
static void a_gpu_swapped_faster_than_anybody_looks_is_opened_anew(void **state) {
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

static void a_gpu_swapped_while_it_is_opened_is_opened_anew(void **state) {
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

static void a_gpu_swapped_while_it_is_closed_is_opened_anew(void **state) {
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

static void a_gpu_replaced_under_another_minor_is_opened_anew(void **state) {
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

static void a_gpu_that_failed_and_was_swapped_is_held(void **state) {
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

static void a_gpu_that_failed_and_came_back_under_another_minor_is_held_at_once(void **state) {
        struct world world;

        prepare(&world, 1);
        set_result(&world, 0, CALL_OPEN, -EIO); /* a pause of a second, and then more */
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && is_idle(&world));
        set_result(&world, 0, CALL_OPEN, 0);
        driver_binds(&world, 0, 6);
        look(&world);
        AWAIT(&world, is_fresh(&world, 0));
        assert_int_equal(begun(&world, 0, CALL_OPEN), 2);
        finish(&world);
}

static void a_released_gpu_that_was_replaced_is_held_when_told_to(void **state) {
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

static void a_gpu_that_cannot_be_read_for_a_moment_stays_held(void **state) {
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

static void a_gpu_stuck_in_its_close_is_forgotten_when_that_ends(void **state) {
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

/* Everything at once, in a fixed order of chances: at the end every GPU that is there is held, freshly. */
static void a_storm_of_comings_and_goings_ends_with_all_held(void **state) {
        uint32_t random = 2;
        struct world world;

        start(&world, N_GPUS);
        for (int round = 0; round < 400; round++) {
                size_t index;

                random = random * 1664525 + 1013904223; /* Numerical Recipes' */
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
                case 3: /* swapped, and only a uevent tells */
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

/* An unbind may have waited for just this release. */
static void a_set_off_of_a_gpu_that_goes_meanwhile_is_answered_when_it_is_released(void **state) {
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

static void a_set_on_of_a_gpu_that_goes_meanwhile_is_answered_at_once(void **state) {
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

static void a_set_on_of_a_gpu_that_fails_is_an_error_of_the_driver(void **state) {
        struct world world;

        start(&world, 1);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        set_result(&world, 0, CALL_OPEN, -EIO);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_FAILED);
        assert_int_equal(state_of(&world, 0), GPU_FAILED);
        set_result(&world, 0, CALL_OPEN, 0);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_DONE); /* tried at once, whatever the pause */
        finish(&world);
}

static void a_set_lasts_over_a_reload_that_says_of_the_gpu_what_was_said_before(void **state) {
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

static void a_set_ends_at_a_reload_that_says_otherwise_of_the_gpu(void **state) {
        struct world world;

        start(&world, 1);
        assert_int_equal(set_mode(&world, 0, true), REGISTRY_DONE); /* as it is, and a Set all the same */
        world.policy.persistence = false;
        registry_apply_policy(world.registry);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED && is_idle(&world));
        world.policy.persistence = true;
        registry_apply_policy(world.registry);
        AWAIT(&world, is_fresh(&world, 0) && is_idle(&world));
        finish(&world);
}

static void a_set_that_a_reload_overtakes_is_answered(void **state) {
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

static void a_set_lasts_when_the_gpu_tells_that_another_line_is_meant(void **state) {
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

static void a_set_of_a_gpu_that_is_away_ends_only_at_a_reload_that_says_otherwise_of_it(void **state) {
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

static void a_set_of_a_gpu_that_is_stuck_is_an_error_of_the_driver(void **state) {
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

/* As by a reset, which asks as soon as the bind has returned, before anybody has told us of it. */
static void a_set_of_a_gpu_whose_bind_we_have_not_heard_of_finds_it(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 2);
        assert_int_equal(set_mode(&world, 0, false), REGISTRY_DONE);
        driver_unbinds(&world, 0);
        look(&world);
        assert_null(find(&world, 0));
        driver_binds(&world, 0, 0);
        ask_unlisted(&world, 0, &asked);
        assert_false(asked.answered);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_DONE);
        assert_true(is_fresh(&world, 0));
        finish(&world);
}

static void a_set_of_a_gpu_that_the_list_has_not_is_answered_when_it_is_read(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 1);
        world.driver.list.held_back[CALL_LIST] = true;
        registry_rescan(world.registry); /* which began before, and counts for nothing */
        ask_unlisted(&world, 1, &asked);
        registry_advance(world.registry);
        assert_false(asked.answered);
        let_go_list(&world);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_NO_GPU);
        AWAIT(&world, is_idle(&world));
        finish(&world);
}

static void where_the_list_hangs_a_set_of_an_unknown_gpu_is_answered_in_time_and_by_a_stop(void **state) {
        struct asked first, second;
        struct world world;

        start(&world, 1);
        world.driver.list.held_back[CALL_LIST] = true;
        ask_unlisted(&world, 1, &first);
        ask_unlisted(&world, 2, &second);
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

/* Whatever the limit for a GPU in the driver is: NVML waits no longer. */
static void a_set_that_waits_for_too_long_is_answered_before_its_client_gives_up(void **state) {
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

static void memory_that_cannot_be_changed_brings_the_old_mode_back(void **state) {
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

static void a_set_starts_no_job_for_memory_that_a_gpu_does_not_have(void **state) {
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

static void memory_in_use_brings_the_old_mode_back_where_memory_was_meant(void **state) {
        struct asked asked;
        struct world world;

        start(&world, 1);
        set_result(&world, 0, CALL_CLOSE, -EBUSY);
        world.driver.gpus[0].memory_in_use = true;
        ask(&world, 0, &asked, REGISTRY_SET_MODE, false);
        AWAIT(&world, asked.answered);
        assert_int_equal(asked.answer, REGISTRY_NUMA_FAILED);
        assert_true(is_fresh(&world, 0) && find(&world, 0)->wanted);

        assert_int_equal(set_mode(&world, 0, false), REGISTRY_FAILED); /* the mode only: it is tried again */
        assert_false(find(&world, 0)->wanted);
        set_result(&world, 0, CALL_CLOSE, 0);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED);
        finish(&world);
}

/* ---- UVM ---- */

static void uvm_that_fails_never_costs_the_hold(void **state) {
        struct world world;

        prepare(&world, 2);
        world.policy.uvm = true;
        set_result(&world, 0, CALL_UVM_ENABLE, -EIO);
        set_result(&world, 1, CALL_UVM_ENABLE, -EOPNOTSUPP);
        registry_start(world.registry);
        AWAIT(&world, begun(&world, 0, CALL_UVM_ENABLE) == 2); /* tried again, a second later */
        assert_int_equal(registry_count(world.registry).held, 2);
        assert_int_equal(find(&world, 0)->uvm_failure.error, -EIO);
        assert_int_equal(begun(&world, 1, CALL_UVM_ENABLE), 1); /* what cannot be had is not tried again */
        assert_int_equal(begun(&world, 0, CALL_CLOSE), 0);
        set_result(&world, 0, CALL_UVM_ENABLE, 0);
        AWAIT(&world, find(&world, 0)->hold.uvm && is_idle(&world));
        finish(&world);
}

static void uvm_does_not_hold_up_readiness(void **state) {
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

static void a_lease_of_all_covers_what_comes_meanwhile(void **state) {
        struct lessee lessee = {.lease = {.all = true, .answered = on_lease}};
        struct world world;

        start(&world, 2);
        registry_lease_begin(world.registry, &lessee.lease);
        AWAIT(&world, lessee.n_answers == 1 && is_idle(&world));
        assert_int_equal(lessee.answer, REGISTRY_DONE);
        assert_int_equal(registry_count(world.registry).held, 0);
        driver_binds(&world, 2, 2);
        driver_binds(&world, 0, 0); /* rebound, as after a change of drivers */
        uevent_removed(&world, 0);
        look(&world);
        assert_int_equal(registry_count(world.registry).gpus, 3);
        assert_int_equal(begun(&world, 2, CALL_OPEN), 0);
        registry_lease_end(world.registry, &lessee.lease);
        AWAIT(&world, is_fresh(&world, 0) && is_fresh(&world, 1) && is_fresh(&world, 2));
        assert_int_equal(lessee.n_answers, 1);
        finish(&world);
}

static void a_lease_waits_until_nothing_of_ours_uses_the_driver(void **state) {
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

static void a_lease_is_answered_in_the_end_when_it_does_not_become_quiet(void **state) {
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

/* It keeps the kernel module where it is: there is nothing to be quiet for. */
static void beside_a_gpu_that_hangs_a_lease_waits_for_nothing_else(void **state) {
        struct pci_address address = address_of(0);
        struct lessee lessee = {.lease = {.addresses = &address, .n_addresses = 1, .answered = on_lease}};
        struct world world;

        prepare_announcing(&world, 2); /* subscribed for as long as any GPU is used */
        hold_back(&world, 1, CALL_OPEN);
        registry_start(world.registry);
        AWAIT(&world, find(&world, 0) && is_fresh(&world, 0) && begun(&world, 1, CALL_OPEN) == 1);
        assert_int_equal(world.driver.questions.begun[CALL_QUERY], 0); /* it would wait */
        registry_lease_begin(world.registry, &lessee.lease);
        AWAIT(&world, state_of(&world, 0) == GPU_RELEASED);
        assert_int_equal(lessee.n_answers, 1);
        registry_lease_end(world.registry, &lessee.lease);
        finish(&world);
}

static void a_lease_of_a_gpu_that_is_stuck_says_so(void **state) {
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

static void a_set_on_for_which_there_is_no_thread_is_answered_and_tried_again(void **state) {
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

/* ---- the process before us ---- */

/* A descriptor of this GPU, as it is left by the process before: the caller's to close, as the driver here does not. */
static int hand_over(struct world *world, size_t index) {
        struct pci_address address = address_of(index);
        struct gpu_hold hold = GPU_HOLD_NONE;

        hold.device_fd = eventfd(0, EFD_CLOEXEC);
        assert_int_equal(registry_adopt(world->registry, &address, &hold), 0);
        return hold.device_fd;
}

static void a_gpu_that_was_kept_is_adopted_and_not_opened(void **state) {
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

static void a_gpu_for_whose_adoption_there_is_no_thread_is_adopted_later(void **state) {
        struct world world;
        int fd;

        prepare(&world, 1);
        fd = hand_over(&world, 0);
        refuse_thread(2); /* the first one makes the list */
        registry_start(world.registry);
        AWAIT(&world, world.n_ready == 1 && is_idle(&world));
        assert_int_equal(begun(&world, 0, CALL_ADOPT), 1);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 0);
        assert_true(is_fresh(&world, 0));
        (void)fd_close(fd);
        finish(&world);
}

static void a_gpu_removed_before_it_could_be_adopted_is_opened_anew(void **state) {
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

/* ---- questions ---- */

static void hold_questions_back(struct world *world, enum call call, bool held_back) {
        (void)pthread_mutex_lock(&world->driver.mutex);
        world->driver.questions.held_back[call] = held_back;
        wake(&world->driver);
        (void)pthread_mutex_unlock(&world->driver.mutex);
}

static void once_no_gpu_is_in_the_driver_each_is_asked_about(void **state) {
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

static void a_question_that_hangs_keeps_no_set_no_lease_and_no_stop_waiting(void **state) {
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

static void an_open_that_fails_is_told_of_before_it_is_explained(void **state) {
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

static void a_look_for_gpus_that_hangs_does_not_keep_a_stop_waiting(void **state) {
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

static void a_stop_waits_for_what_is_in_the_driver_and_then_releases_it(void **state) {
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

static void after_a_stop_nothing_is_opened_whatever_comes(void **state) {
        struct world world;

        start(&world, 1);
        registry_stop(world.registry, false);
        AWAIT(&world, world.n_stopped == 1);
        driver_binds(&world, 0, 1);
        driver_binds(&world, 1, 2);
        notice(&world, 0, true);
        uevent_removed(&world, 0);
        registry_rescan(world.registry);
        assert_int_equal(begun(&world, 0, CALL_OPEN), 1);
        assert_int_equal(begun(&world, 1, CALL_OPEN), 0);
        finish(&world);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_first_list_that_fails_once_delays_readiness),
                cmocka_unit_test(a_gpu_bound_under_another_minor_is_opened_only_once),
                cmocka_unit_test(a_gpu_for_whose_adoption_there_is_no_thread_is_adopted_later),
                cmocka_unit_test(a_gpu_removed_before_it_could_be_adopted_is_opened_anew),
                cmocka_unit_test(a_gpu_replaced_under_another_minor_is_opened_anew),
                cmocka_unit_test(a_gpu_stuck_in_its_close_is_forgotten_when_that_ends),
                cmocka_unit_test(a_gpu_swapped_faster_than_anybody_looks_is_opened_anew),
                cmocka_unit_test(a_gpu_swapped_while_it_is_closed_is_opened_anew),
                cmocka_unit_test(a_gpu_swapped_while_it_is_opened_is_opened_anew),
                cmocka_unit_test(a_gpu_that_cannot_be_read_for_a_moment_stays_held),
                cmocka_unit_test(a_gpu_that_failed_and_came_back_under_another_minor_is_held_at_once),
                cmocka_unit_test(a_gpu_that_failed_and_was_swapped_is_held),
                cmocka_unit_test(a_gpu_that_fails_is_tried_again_until_it_is_held),
                cmocka_unit_test(a_gpu_that_goes_is_let_go_of_and_forgotten),
                cmocka_unit_test(a_gpu_that_is_not_wanted_any_more_does_not_wait),
                cmocka_unit_test(a_gpu_that_was_kept_is_adopted_and_not_opened),
                cmocka_unit_test(a_lease_is_answered_in_the_end_when_it_does_not_become_quiet),
                cmocka_unit_test(a_set_ends_at_a_reload_that_says_otherwise_of_the_gpu),
                cmocka_unit_test(a_set_lasts_over_a_reload_that_says_of_the_gpu_what_was_said_before),
                cmocka_unit_test(a_set_lasts_when_the_gpu_tells_that_another_line_is_meant),
                cmocka_unit_test(a_set_of_a_gpu_that_is_away_ends_only_at_a_reload_that_says_otherwise_of_it),
                cmocka_unit_test(a_set_that_a_reload_overtakes_is_answered),
                cmocka_unit_test(a_lease_of_a_gpu_that_is_stuck_says_so),
                cmocka_unit_test(a_lease_of_all_covers_what_comes_meanwhile),
                cmocka_unit_test(a_lease_waits_until_nothing_of_ours_uses_the_driver),
                cmocka_unit_test(a_list_older_than_the_hold_does_not_cost_it),
                cmocka_unit_test(a_list_that_cannot_be_read_takes_nothing_away_and_is_read_again),
                cmocka_unit_test(a_look_for_gpus_that_hangs_does_not_keep_a_stop_waiting),
                cmocka_unit_test(a_question_that_hangs_keeps_no_set_no_lease_and_no_stop_waiting),
                cmocka_unit_test(a_released_gpu_that_was_replaced_is_held_when_told_to),
                cmocka_unit_test(a_set_of_a_gpu_that_is_stuck_is_an_error_of_the_driver),
                cmocka_unit_test(a_set_of_a_gpu_that_the_list_has_not_is_answered_when_it_is_read),
                cmocka_unit_test(a_set_of_a_gpu_whose_bind_we_have_not_heard_of_finds_it),
                cmocka_unit_test(a_set_that_waits_for_too_long_is_answered_before_its_client_gives_up),
                cmocka_unit_test(a_set_off_of_a_gpu_that_goes_meanwhile_is_answered_when_it_is_released),
                cmocka_unit_test(a_set_on_during_an_unbind_is_refused),
                cmocka_unit_test(a_set_on_for_which_there_is_no_thread_is_answered_and_tried_again),
                cmocka_unit_test(a_set_on_of_a_gpu_that_fails_is_an_error_of_the_driver),
                cmocka_unit_test(a_set_on_of_a_gpu_that_goes_meanwhile_is_answered_at_once),
                cmocka_unit_test(a_stop_waits_for_what_is_in_the_driver_and_then_releases_it),
                cmocka_unit_test(a_storm_of_comings_and_goings_ends_with_all_held),
                cmocka_unit_test(a_stuck_gpu_keeps_nobody_waiting_and_is_held_when_it_comes_back),
                cmocka_unit_test(a_subscription_that_is_late_delays_no_second_open),
                cmocka_unit_test(after_a_stop_nothing_is_opened_whatever_comes),
                cmocka_unit_test(an_open_that_fails_is_told_of_before_it_is_explained),
                cmocka_unit_test(an_unbind_during_an_open_is_obeyed_when_the_open_ends),
                cmocka_unit_test(an_unbind_notice_releases_and_a_bind_notice_holds_again),
                cmocka_unit_test(an_unbind_seen_by_another_minor_to_be_over_leaves_the_gpu_held),
                cmocka_unit_test(an_unbind_that_is_over_and_followed_by_a_bind_unseen_leaves_the_gpu_held),
                cmocka_unit_test(beside_a_gpu_that_hangs_a_lease_waits_for_nothing_else),
                cmocka_unit_test(every_gpu_is_opened_once_and_then_it_is_ready),
                cmocka_unit_test(a_set_starts_no_job_for_memory_that_a_gpu_does_not_have),
                cmocka_unit_test(memory_in_use_brings_the_old_mode_back_where_memory_was_meant),
                cmocka_unit_test(memory_that_cannot_be_changed_brings_the_old_mode_back),
                cmocka_unit_test(nothing_is_opened_before_unbinds_are_heard_of),
                cmocka_unit_test(notices_of_other_gpus_and_at_any_time_do_no_harm),
                cmocka_unit_test(once_no_gpu_is_in_the_driver_each_is_asked_about),
                cmocka_unit_test(uvm_does_not_hold_up_readiness),
                cmocka_unit_test(uvm_is_had_again_with_the_gpu_after_an_unbind),
                cmocka_unit_test(uvm_that_fails_never_costs_the_hold),
                cmocka_unit_test(where_the_list_hangs_a_set_of_an_unknown_gpu_is_answered_in_time_and_by_a_stop),
                cmocka_unit_test(who_stays_deaf_holds_all_the_same),
                cmocka_unit_test(without_gpus_it_is_ready_and_holds_what_comes),
        };

        log_open("test", 0, true);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
