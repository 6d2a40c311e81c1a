/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes to fds that a front end gave us, and the watchdog that interrupts one which the front end
 * made block.
 *
 * The lcore counts write_seq up before and after each write: odd means inside. CTL looks every 10
 * ms; the same odd number seen twice is a write of at least 10 ms, and a signal without SA_RESTART
 * ends it, again each 10 ms while it lasts (the first may have come just before the lcore entered
 * the kernel).
 *
 * CTL looks only while lcores write. After some looks at which no write_seq had moved it parks: it
 * sets `parked` and stops its timer. The next lcore that writes sees `parked`, clears it and
 * signals the eventfd that starts the timer again. So a system whose guests are idle, or ask for no
 * notifications, leaves CTL asleep, and one that notifies all the time pays a load for it on the
 * lcore and a hundred short wakes a second on CTL.
 *
 * Called by lib/virtq to notify a guest.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>

#include "lcore_pvt.h"

#define WATCHDOG_TICK_US 10000
/*
 * Looks that found nothing before the watchdog parks: not so few that a slow trickle of I/O wakes
 * CTL each time.
 */
#define WATCHDOG_QUIET_TICKS 10
/*
 * An eventfd is written in a microsecond. After a ring's write that took long all its writes are measured for
 * so many seconds, and again as long if one of them was long.
 */
#define WATCHDOG_SUSPECT_SECONDS 10
/*
 * So many of a ring that are long, with fewer than WATCHDOG_NEAR_WRITES of it between each and the next, are the
 * front end's doing; a single one is not: now and then a hypervisor takes the CPU away, and the thread's clock
 * goes on meanwhile.
 */
#define WATCHDOG_LONG_WRITES 8
#define WATCHDOG_NEAR_WRITES 64
/* Nor are as many as far apart as one likes, if they take so much of WATCHDOG_SUSPECT_SECONDS. */
#define WATCHDOG_LONG_SUM_NS 500000000ull

static struct {
	/* Shared atomic. On a line of its own: every lcore reads it before each write. */
	uint32_t parked __rte_cache_aligned;
	/* Immutable while lcores run. */
	struct vhub_watch
			watch __rte_cache_aligned; /* fd: an eventfd, written by the lcore that clears `parked` */
	struct vhub_loop *loop;
	int signal; /* 0 until taken, then ours for good */
	/* CTL */
	struct vhub_timer timer;
	unsigned int quiet_ticks;
} watchdog;

int
watchdog_signal(void)
{
	return watchdog.signal;
}

bool
watchdog_look(void)
{
	struct vhub_lcore *lcore;
	bool active = false;
	uint64_t seq;

	for (unsigned int i = 0; (lcore = vhub_lcore_at(i)) != NULL; i++) {
		/*
		 * Pairs with the release in vhub_lcore_notify_fd(), which makes lcore->thread
		 * visible.
		 */
		seq = __atomic_load_n(&lcore->write_seq, __ATOMIC_ACQUIRE);
		if (seq != lcore->seen_seq) {
			lcore->seen_seq = seq;
			active = true;
		} else if ((seq & 1) != 0) {
			pthread_kill(lcore->thread, watchdog.signal);
			active = true;
		}
	}
	return active;
}

/* Returns false when a write has begun meanwhile and the timer must go on. */
static bool
watchdog_park(void)
{
	__atomic_store_n(&watchdog.parked, 1, __ATOMIC_RELAXED);
	/*
	 * Pairs with the fence in vhub_lcore_notify_fd(): either we see its write_seq or it sees
	 * `parked`.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!watchdog_look())
		return true;
	/*
	 * The lcore may have cleared it as well: then its event comes too, and arms a timer that is
	 * armed.
	 */
	__atomic_store_n(&watchdog.parked, 0, __ATOMIC_RELAXED);
	return false;
}

static void
watchdog_tick(struct vhub_timer *timer)
{
	if (watchdog_look())
		watchdog.quiet_ticks = 0;
	else if (++watchdog.quiet_ticks >= WATCHDOG_QUIET_TICKS && watchdog_park())
		return;
	vhub_timer_arm(watchdog.loop, timer, WATCHDOG_TICK_US);
}

static void
watchdog_on_unparked(struct vhub_watch *watch, uint32_t events)
{
	eventfd_t wakes;

	RTE_SET_USED(events);
	eventfd_read(watch->fd, &wakes);
	watchdog.quiet_ticks = 0;
	if (!watchdog.timer.armed)
		vhub_timer_arm(watchdog.loop, &watchdog.timer, WATCHDOG_TICK_US);
}

static void
watchdog_on_signal(int signum)
{
	/* Nothing: that a handler ran is what makes write(2) return EINTR. */
	RTE_SET_USED(signum);
}

/*
 * Takes a real-time signal that the program does not use. It is never given back: one sent late
 * would end the process by its default action. Returns 0 or -EBUSY.
 */
static int
watchdog_take_signal(void)
{
	/* Without SA_RESTART, which would begin the write anew. */
	const struct sigaction action = { .sa_handler = watchdog_on_signal };
	struct sigaction old;

	for (int signum = SIGRTMAX; watchdog.signal == 0 && signum >= SIGRTMIN; signum--) {
		if (sigaction(signum, NULL, &old) != 0 || (old.sa_flags & SA_SIGINFO) != 0 ||
				old.sa_handler != SIG_DFL)
			continue;
		if (sigaction(signum, &action, NULL) == 0)
			watchdog.signal = signum;
	}
	return watchdog.signal != 0 ? 0 : -EBUSY;
}

int
watchdog_start(struct vhub_loop *loop)
{
	int ret;

	ret = watchdog_take_signal();
	if (ret != 0)
		return ret;
	watchdog.loop = loop;
	watchdog.timer = (struct vhub_timer){ .fn = watchdog_tick };
	watchdog.watch.fn = watchdog_on_unparked;
	watchdog.watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (watchdog.watch.fd < 0)
		return -errno;
	ret = vhub_loop_watch(loop, &watchdog.watch, EPOLLIN);
	if (ret != 0) {
		close(watchdog.watch.fd);
		return ret;
	}
	__atomic_store_n(&watchdog.parked, 1, __ATOMIC_RELAXED); /* no lcore runs yet */
	return 0;
}

void
watchdog_stop(void)
{
	vhub_timer_cancel(watchdog.loop, &watchdog.timer);
	vhub_loop_unwatch(watchdog.loop, &watchdog.watch);
	close(watchdog.watch.fd);
}

static __rte_noinline void
watchdog_unpark(void)
{
	if (__atomic_exchange_n(&watchdog.parked, 0, __ATOMIC_RELAXED) != 0)
		eventfd_write(watchdog.watch.fd, 1);
}

static int
notify_write(int fd)
{
	const uint64_t one = 1;

	return write(fd, &one, sizeof(one)) < 0 ? -errno : 0;
}

/* Whether the ring's writes are (still) to be measured. */
static __rte_noinline bool
is_suspect(struct vhub_notify_account *account, uint64_t now)
{
	const uint64_t most = WATCHDOG_SUSPECT_SECONDS * rte_get_tsc_hz();

	if (vhub_tsc_is_ahead(account->suspect_until_tsc, now, most))
		return true;
	if (account->n_long == 0) {
		*account = (struct vhub_notify_account){ 0 };
		return false;
	}
	account->n_long = 0;
	account->long_ns = 0;
	account->suspect_until_tsc = now + most;
	return true;
}

/* One more that took `ns`. Returns whether that is enough. */
static bool
is_front_ends_doing(struct vhub_notify_account *account, uint64_t ns)
{
	account->near_writes = WATCHDOG_NEAR_WRITES;
	account->n_near++;
	account->n_long++;
	account->long_ns += ns;
	return account->n_near >= WATCHDOG_LONG_WRITES ||
			(account->n_long >= WATCHDOG_LONG_WRITES &&
					account->long_ns >= WATCHDOG_LONG_SUM_NS);
}

/*
 * An eventfd on which a front end has hung hundreds of thousands of waiters takes long to write,
 * and then it is written: the watchdog would never see it. A write that took long makes the ring's
 * next ones be measured in CPU time, so that an lcore that lost its CPU meanwhile blames nobody, and when
 * several were long indeed the last one counts as stuck.
 */
static __rte_noinline int
notify_write_measured(struct vhub_notify_account *account, int fd)
{
	const uint64_t begin = vhub_thread_cpu_ns();
	const int ret = notify_write(fd);
	const uint64_t ns = vhub_thread_cpu_ns() - begin;

	if (likely(ns <= WATCHDOG_LONG_WRITE_NS)) {
		if (account->near_writes != 0 && --account->near_writes == 0)
			account->n_near = 0;
		return ret;
	}
	if (!is_front_ends_doing(account, ns))
		return ret;
	*account = (struct vhub_notify_account){ 0 };
	return -EINTR;
}

static int
notify_write_watched(const struct vhub_lcore *lcore, struct vhub_notify_account *account, int fd)
{
	uint64_t begin;
	int ret;

	if (account == NULL)
		return notify_write(fd);
	begin = rte_rdtsc();
	if (unlikely(account->suspect_until_tsc != 0) && is_suspect(account, begin))
		return notify_write_measured(account, fd);
	ret = notify_write(fd);
	if (unlikely(rte_rdtsc() - begin > lcore->long_write_cycles))
		account->suspect_until_tsc = begin + WATCHDOG_SUSPECT_SECONDS * rte_get_tsc_hz();
	return ret;
}

int
vhub_lcore_notify_fd(int fd, struct vhub_notify_account *account)
{
	struct vhub_lcore *lcore = vhub_lcore_self();
	uint64_t seq;
	int ret;

	if (unlikely(lcore == NULL))
		return notify_write(fd);
	seq = lcore->write_seq;
	/* Release: lcore->thread first, for watchdog_look(). */
	__atomic_store_n(&lcore->write_seq, seq + 1, __ATOMIC_RELEASE);
	/* Pairs with the fence in watchdog_park(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (unlikely(__atomic_load_n(&watchdog.parked, __ATOMIC_RELAXED) != 0))
		watchdog_unpark();
	ret = notify_write_watched(lcore, account, fd);
	__atomic_store_n(&lcore->write_seq, seq + 2, __ATOMIC_RELEASE);
	return ret;
}
