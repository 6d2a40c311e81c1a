/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lcores: what each EAL worker runs from vhub_lcores_start() to vhub_lcores_stop(). One turn is
 * messages, then pollers, then the safe point. Next on the way: the pollers of lib/device; park.c and
 * idle.c when nothing comes.
 */
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include "lcore_pvt.h"
#include "msg_pvt.h"
#include "thread_pvt.h"
#include "vhub_alloc.h"
#include "vhub_log.h"

VHUB_LOGTYPE(lcore)

/* Messages that fit before senders keep them in their outboxes, and how many run in one turn. */
#define LCORE_MAILBOX_CAPACITY 1024
#define LCORE_MAX_MSGS 32
/* While it waits for lcores to end, CTL looks this often. */
#define LCORE_STOP_LOOK_NS 100000
/* Looks between two of the watchdog: 10 ms, as it does on the loop. */
#define LCORE_STOP_WATCHDOG_LOOKS 100

/*
 * Written by CTL only, before lcores run and after; `n_lcores` last at the start and first at the
 * stop.
 */
static struct vhub_lcore *lcores[VHUB_MAX_LCORES];
static unsigned int n_lcores;

/* Initial-exec for the reason given in msg_pvt.h. */
static __thread struct vhub_lcore *lcore_self __attribute__((tls_model("initial-exec")));

unsigned int
vhub_lcore_count(void)
{
	/* Pairs with the release in lcores_publish(). */
	return __atomic_load_n(&n_lcores, __ATOMIC_ACQUIRE);
}

struct vhub_lcore *
vhub_lcore_at(unsigned int i)
{
	return i < vhub_lcore_count() ? lcores[i] : NULL;
}

struct vhub_lcore *
vhub_lcore_self(void)
{
	return lcore_self;
}

uint64_t
vhub_lcore_turn(void)
{
	return lcore_self != NULL ? lcore_self->turn_tsc : 0;
}

unsigned int
vhub_lcore_id(const struct vhub_lcore *lcore)
{
	return lcore->id;
}

int
vhub_lcore_node(const struct vhub_lcore *lcore)
{
	return lcore->node;
}

unsigned int
vhub_lcore_index(const struct vhub_lcore *lcore)
{
	return lcore->index;
}

void
vhub_lcore_get_stats(const struct vhub_lcore *lcore, struct vhub_lcore_stats *stats)
{
	const uint64_t word = __atomic_load_n(&lcore->sleep_word, __ATOMIC_RELAXED);
	uint64_t slept;

	stats->lcore_id = lcore->id;
	stats->n_pollers = __atomic_load_n(&lcore->n_pollers, __ATOMIC_RELAXED);
	stats->n_parked = __atomic_load_n(&lcore->n_parked, __ATOMIC_RELAXED);
	stats->turns = __atomic_load_n(&lcore->turns, __ATOMIC_RELAXED);
	stats->busy_cycles = __atomic_load_n(&lcore->busy_cycles, __ATOMIC_RELAXED);
	stats->idle_cycles = __atomic_load_n(&lcore->idle_cycles_done, __ATOMIC_RELAXED);
	stats->sleeps = __atomic_load_n(&lcore->sleeps, __ATOMIC_RELAXED);
	stats->asleep = (word & 1) != 0;
	slept = (word & ~1ull) + (stats->asleep ? rte_rdtsc() : 0);
	/* Asleep since before the TSC has gone back: all of it is known again after the wake. */
	stats->sleep_cycles = (int64_t)slept > 0 ? slept : 0;
}

void
vhub_lcore_post(struct vhub_lcore *lcore, struct vhub_msg *msg)
{
	vhub_mailbox_post(&lcore->box, msg);
}

void
vhub_lcore_wake(struct vhub_lcore *lcore)
{
	/* The counter cannot overflow: each sleep that it ends empties it. */
	eventfd_write(lcore->box.event_fd, 1);
}

void
vhub_lcore_resume_all(struct vhub_lcore *lcore)
{
	/* Pairs with park_resume_all(): what was left there before is seen by the polls. */
	__atomic_store_n(&lcore->resume_all, 1, __ATOMIC_RELEASE);
	vhub_lcore_wake(lcore);
}

static void
lcore_count_pollers(struct vhub_lcore *lcore, int n)
{
	__atomic_store_n(&lcore->n_pollers, lcore->n_pollers + (unsigned int)n, __ATOMIC_RELAXED);
}

void
vhub_lcore_add_poller(struct vhub_poller *poller)
{
	struct vhub_lcore *lcore = lcore_self;

	poller->armed = false;
	poller->is_parked = false;
	poller->word_1 = 0;
	poller->work_tsc = lcore->turn_tsc;
	pollers_append(&lcore->polled, poller);
	lcore->n_unarmable += poller->ops->arm == NULL;
	lcore_count_pollers(lcore, 1);
}

void
vhub_lcore_remove_poller(struct vhub_poller *poller)
{
	struct vhub_lcore *lcore = lcore_self;

	if (poller->is_parked) {
		park_forget(lcore, poller);
	} else {
		pollers_remove(&lcore->polled, poller);
		if (lcore->next_poller == poller)
			lcore->next_poller = poller->next;
		if (lcore->polling == poller)
			lcore->polling = NULL;
	}
	lcore->n_unarmable -= poller->ops->arm == NULL;
	lcore_count_pollers(lcore, -1);
}

void
vhub_lcore_resume(struct vhub_poller *poller)
{
	if (unlikely(poller->is_parked))
		park_resume(lcore_self, poller);
}

int
vhub_lcore_add_wake_fd(int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	return epoll_ctl(lcore_self->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0 ? -errno : 0;
}

void
vhub_lcore_remove_wake_fd(int fd)
{
	epoll_ctl(lcore_self->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void
vhub_lcore_kernel_work(int n)
{
	struct vhub_lcore *lcore = lcore_self;

	if (lcore != NULL)
		lcore->n_kernel_work += (unsigned int)n;
}

/*
 * Lets only the watchdog's signal and the thread's own faults through. Left so when the loop ends:
 * a SIGPIPE that a front end's fd has caused stays pending, and would end the process.
 */
static void
lcore_block_signals(const struct vhub_lcore *lcore)
{
	sigset_t block;

	thread_foreign_signals(&block);
	sigdelset(&block, lcore->watchdog_signal);
	pthread_sigmask(SIG_SETMASK, &block, NULL);
}

static __rte_always_inline unsigned int
lcore_poll(struct vhub_lcore *lcore, struct vhub_poller *poller)
{
	unsigned int n;

	lcore->polling = poller;
	n = poller->ops->poll(poller);
	if (unlikely(lcore->polling == NULL))
		return n;
	if (n != 0)
		poller->work_tsc = lcore->turn_tsc;
	else if (unlikely(lcore->turn_tsc - poller->work_tsc > lcore->park_cycles))
		park_poller(lcore, poller);
	return n;
}

/* Messages, pollers, safe point. Returns how much there was to do. */
static __rte_always_inline unsigned int
lcore_turn(struct vhub_lcore *lcore)
{
	struct vhub_poller *poller;
	unsigned int n = 0;

	if (unlikely(!mailbox_empty(&lcore->box)))
		n += vhub_mailbox_run(&lcore->box, LCORE_MAX_MSGS);
	if (unlikely(__atomic_load_n(&lcore->resume_all, __ATOMIC_RELAXED) != 0))
		park_resume_all(lcore);
	if (lcore->n_words != 0 && park_is_due(lcore))
		park_look(lcore);
	for (poller = lcore->polled.first; poller != NULL; poller = lcore->next_poller) {
		lcore->next_poller = poller->next;
		n += lcore_poll(lcore, poller);
	}
	if (unlikely(!outbox_empty()))
		vhub_outbox_flush();
	rte_rcu_qsbr_quiescent(lcore->qsbr, lcore->index);
	return n;
}

static __rte_always_inline void
lcore_idle(struct vhub_lcore *lcore, uint64_t now)
{
	if (lcore->policy == VHUB_IDLE_ADAPTIVE && now - lcore->work_tsc > lcore->idle_cycles)
		idle_sleep(lcore);
	else if (unlikely(lcore->n_kernel_work != 0))
		idle_lend(lcore);
}

static void
lcore_loop(struct vhub_lcore *lcore)
{
	unsigned int n;
	uint64_t now;

	lcore->turn_tsc = lcore->work_tsc = rte_rdtsc();
	while (likely(!lcore->stopping)) {
		n = lcore_turn(lcore);
		now = rte_rdtsc();
		vhub_count(&lcore->turns, 1);
		vhub_count(n != 0 ? &lcore->busy_cycles : &lcore->idle_cycles_done,
				lcore_cycles(lcore->turn_tsc, now));
		lcore->turn_tsc = now;
		if (n != 0) {
			lcore->work_tsc = now;
			lcore->n_empty = 0;
		} else {
			lcore_idle(lcore, now);
		}
	}
}

static int
lcore_main(void *arg)
{
	struct vhub_lcore *lcore = arg;
	unsigned int dropped;

	lcore_self = lcore;
	lcore->thread = pthread_self();
	lcore_block_signals(lcore);
	rte_rcu_qsbr_thread_online(lcore->qsbr, lcore->index);
	lcore_loop(lcore);
	/* CTL waits for us and cannot make room: what does not fit now would never be sent. */
	vhub_outbox_flush();
	dropped = outbox_drop();
	rte_rcu_qsbr_thread_offline(lcore->qsbr, lcore->index);
	lcore_self = NULL;
	if (dropped != 0)
		VHUB_LOG(WARNING, "lcore %u ended with %u messages not sent", lcore->id, dropped);
	return 0;
}

static void
lcore_on_stop(struct vhub_msg *msg)
{
	vhub_container_of(msg, struct vhub_lcore, stop_msg)->stopping = true;
}

static void
lcore_destroy(struct vhub_lcore *lcore)
{
	close(lcore->epoll_fd);
	vhub_mailbox_fini(&lcore->box);
	vhub_free(lcore, sizeof(*lcore));
}

static int
lcore_create(unsigned int id, struct vhub_lcore **out)
{
	const int node = (int)rte_lcore_to_socket_id(id);
	struct epoll_event event = { .events = EPOLLIN };
	struct vhub_lcore *lcore;
	int ret;

	lcore = vhub_zalloc_node(sizeof(*lcore), node);
	if (lcore == NULL)
		return -ENOMEM;
	lcore->id = id;
	lcore->node = node;
	lcore->stop_msg.fn = lcore_on_stop;
	park_init(lcore);
	ret = vhub_mailbox_init(&lcore->box, LCORE_MAILBOX_CAPACITY);
	if (ret != 0)
		goto free_lcore;
	lcore->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (lcore->epoll_fd < 0) {
		ret = -errno;
		goto fini_box;
	}
	event.data.ptr = &lcore->box; /* wake fds have NULL there */
	if (epoll_ctl(lcore->epoll_fd, EPOLL_CTL_ADD, lcore->box.event_fd, &event) != 0) {
		ret = -errno;
		goto close_epoll;
	}
	*out = lcore;
	return 0;

close_epoll:
	close(lcore->epoll_fd);
fini_box:
	vhub_mailbox_fini(&lcore->box);
free_lcore:
	vhub_free(lcore, sizeof(*lcore));
	return ret;
}

static void
lcores_destroy(unsigned int n)
{
	while (n > 0)
		lcore_destroy(lcores[--n]);
}

/* Makes one struct for each worker. Returns how many, or -errno with none left. */
static int
lcores_create(void)
{
	unsigned int id, n = 0;
	int ret;

	RTE_LCORE_FOREACH_WORKER(id) {
		if (n == VHUB_MAX_LCORES)
			break;
		ret = lcore_create(id, &lcores[n]);
		if (ret != 0) {
			lcores_destroy(n);
			return ret;
		}
		lcores[n]->index = n;
		n++;
	}
	return n > 0 ? (int)n : -ENODEV;
}

static void
lcores_publish(unsigned int n)
{
	/* Pairs with the acquire in vhub_lcore_count(). */
	__atomic_store_n(&n_lcores, n, __ATOMIC_RELEASE);
}

/*
 * Ends the first `n` lcores. A stuck one is interrupted from here: the loop, where the watchdog
 * ticks, waits.
 */
static void
lcores_join(unsigned int n)
{
	const struct timespec pause = { .tv_nsec = LCORE_STOP_LOOK_NS };
	unsigned int looks = 0;

	for (unsigned int i = 0; i < n; i++)
		vhub_lcore_post(lcores[i], &lcores[i]->stop_msg);
	for (unsigned int i = 0; i < n; i++) {
		while (rte_eal_get_lcore_state(lcores[i]->id) == RUNNING) {
			vhub_outbox_flush(); /* a full mailbox leaves the stop message there */
			if (++looks % LCORE_STOP_WATCHDOG_LOOKS == 0)
				watchdog_look();
			nanosleep(&pause, NULL);
		}
		rte_eal_wait_lcore(lcores[i]->id);
	}
}

static int
lcores_launch(unsigned int n, enum vhub_idle_policy policy, uint32_t idle_us)
{
	int ret;

	lcores_publish(n);
	for (unsigned int i = 0; i < n; i++) {
		lcores[i]->policy = policy;
		lcores[i]->idle_cycles = rte_get_tsc_hz() / 1000000 * idle_us;
		lcores[i]->watchdog_signal = watchdog_signal();
		lcores[i]->long_write_cycles = rte_get_tsc_hz() /
				(1000000000 / WATCHDOG_LONG_WRITE_NS);
		lcores[i]->qsbr = vhub_quiesce_qsbr();
		ret = rte_eal_remote_launch(lcore_main, lcores[i], lcores[i]->id);
		if (ret != 0) {
			lcores_join(i);
			lcores_publish(0);
			return ret;
		}
	}
	return 0;
}

int
vhub_lcores_start(struct vhub_loop *loop, enum vhub_idle_policy policy, uint32_t idle_us)
{
	int n, ret;

	if (vhub_lcore_count() != 0)
		return -EALREADY;
	n = lcores_create();
	if (n < 0)
		return n;
	ret = quiesce_register((unsigned int)n);
	if (ret != 0)
		goto destroy;
	ret = watchdog_start(loop);
	if (ret != 0)
		goto destroy;
	ret = quiesce_start(loop);
	if (ret != 0)
		goto stop_watchdog;
	ret = lcores_launch((unsigned int)n, policy, idle_us);
	if (ret != 0)
		goto stop_quiesce;
	return 0;

stop_quiesce:
	quiesce_stop();
stop_watchdog:
	watchdog_stop();
destroy:
	lcores_destroy((unsigned int)n);
	return ret;
}

void
vhub_lcores_stop(void)
{
	const unsigned int n = vhub_lcore_count();

	if (n == 0)
		return;
	lcores_join(n);
	lcores_publish(0);
	quiesce_stop();
	watchdog_stop();
	lcores_destroy(n);
}
