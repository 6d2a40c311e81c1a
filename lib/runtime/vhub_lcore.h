/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Executors and their lcores. Each EAL worker lcore runs one loop: messages, then every poller,
 * then a safe point at which it reports a quiescent state. No lock, system call or allocation is on
 * that way, but for the sleep of the idle policy. Pollers for which nothing comes are parked: instead
 * of them, a word of memory each is looked at (park.c).
 *
 * Idle policies
 *   poll      never sleeps.
 *   adaptive  after `idle_us` without work: each poller is armed (it asks its guests and its driver
 *             for notifications and looks once more), the mailbox is looked at once more, then the
 *             lcore sleeps in epoll_wait(2) on kick fds, driver fds and its mailbox. One poller
 *             that cannot be armed (a ring whose kicks do not wake the lcore) keeps the lcore awake. Nothing is lost:
 *             work that came before the arming is seen by the look after it, work that comes later
 *             writes to an fd.
 *
 * Either way an lcore sleeps like that, and at once, while threads of the kernel's work for it
 * (vhub_lcore_kernel_work()) and it finds nothing else to do: they may need its CPU.
 */
#ifndef VHUB_LCORE_H
#define VHUB_LCORE_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_common.h"
#include "vhub_loop.h"
#include "vhub_msg.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Most lcores in one executor, and in vhub. */
#define VHUB_MAX_LCORES 128

struct vhub_lcore;
struct vhub_poller;

/**
 * A word of memory that is changed by whoever brings something to a poller. Something has come when
 * its bits in `mask` are others than `seen`.
 */
struct vhub_lcore_word {
	const uint16_t *at; /**< NULL: there is none */
	uint16_t mask;
	uint16_t seen;
};

/** What an lcore does with a poller. All run on that lcore. */
struct vhub_poller_ops {
	/** Required. One bounded turn of work. Returns how many items it handled; 0 means idle. */
	unsigned int (*poll)(struct vhub_poller *poller);
	/**
	 * Optional. The lcore is about to sleep: ask for notifications, then look once more.
	 * Returns 0 when it may sleep; anything else (-EAGAIN work is there, -ENOTSUP nothing would
	 * wake us) keeps the lcore awake. Without this slot the lcore never sleeps while the poller
	 * is there.
	 */
	int (*arm)(struct vhub_poller *poller);
	/**
	 * Optional. Awake again: ask guests to stop notifying. Called once after each call of arm,
	 * also after one that kept the lcore awake.
	 */
	void (*disarm)(struct vhub_poller *poller);
	/**
	 * Optional. Polls have found nothing for a while: may the poller be left alone until
	 * vhub_lcore_resume(), or until a word changes? Then fills `word`, which is zeroed, with what
	 * the last poll has seen, and returns true. It is still armed before a sleep, and
	 * removed as ever. Without this slot it is polled in each turn.
	 */
	bool (*park)(struct vhub_poller *poller, struct vhub_lcore_word *word);
	/**
	 * Optional. It is parked, and somebody has left something where only polls find it
	 * (vhub_lcore_resume_all()): whether that is for this one, which is polled again then. Without
	 * this slot it is.
	 */
	bool (*is_meant)(struct vhub_poller *poller);
	/** Optional. It is polled again, behind the others. */
	void (*resume)(struct vhub_poller *poller);
};

/** Embedded by its owner, zeroed but for `ops`; on an lcore's list from add to remove. */
struct vhub_poller {
	const struct vhub_poller_ops *ops;
	struct vhub_poller *next;  /**< runtime, as all that follows */
	struct vhub_poller **link; /**< what points here */
	uint64_t work_tsc;	   /**< begin of the last turn with something to do */
	uint32_t word_1;	   /**< parked with a word: its place + 1; else 0 */
	bool is_parked;
	bool armed;
};

/** How an lcore behaves when nothing comes. */
enum vhub_idle_policy {
	VHUB_IDLE_POLL,
	VHUB_IDLE_ADAPTIVE,
};

/** What an lcore has done; a copy. Cycles are TSC cycles. */
struct vhub_lcore_stats {
	unsigned int lcore_id;
	unsigned int n_pollers;
	unsigned int n_parked; /**< of them: left alone, as nothing comes for them */
	uint64_t turns;
	uint64_t busy_cycles;  /**< turns in which a poller or a message did something */
	uint64_t idle_cycles;  /**< turns in which none did */
	uint64_t sleep_cycles; /**< asleep in epoll_wait(2) */
	uint64_t sleeps;
	bool asleep;
};

/**
 * Where a device runs: its control loop, and the lcores that it may use, of which the first is its
 * home. A plain value.
 */
struct vhub_executor {
	struct vhub_loop *loop;
	unsigned int n_lcores;
	struct vhub_lcore *lcores[VHUB_MAX_LCORES];
};

/**
 * Launches the loop on every EAL worker lcore, and the watchdog on `loop`.
 * Thread: CTL, after rte_eal_init() and before any executor is made.
 * Returns 0, -ENODEV when EAL has no worker lcore, -EBUSY when a worker runs something else,
 * -EALREADY, -ENOMEM, or the errno of eventfd(2) or epoll_create1(2).
 */
VHUB_API int
vhub_lcores_start(struct vhub_loop *loop, enum vhub_idle_policy policy, uint32_t idle_us);

/**
 * Ends every lcore's loop and waits for it; pollers must have been removed. Thread: CTL. Blocks for
 * one turn.
 */
VHUB_API void
vhub_lcores_stop(void);

/** Number of running lcores, and the i-th of them (0 .. count-1), NULL beyond. Thread: ANY. */
VHUB_API unsigned int
vhub_lcore_count(void);
VHUB_API struct vhub_lcore *
vhub_lcore_at(unsigned int i);

/** The calling lcore, NULL on other threads. Thread: ANY. */
VHUB_API struct vhub_lcore *
vhub_lcore_self(void);

/** What tells the present turn of the calling lcore from its others; 0 on other threads. Thread: ANY. */
VHUB_API uint64_t
vhub_lcore_turn(void);

/** EAL's number, NUMA node (SOCKET_ID_ANY possible), place in vhub_lcore_at(). Thread: ANY. */
VHUB_API unsigned int
vhub_lcore_id(const struct vhub_lcore *lcore);
VHUB_API int
vhub_lcore_node(const struct vhub_lcore *lcore);
VHUB_API unsigned int
vhub_lcore_index(const struct vhub_lcore *lcore);

/** Copies the counters. Thread: ANY; values of one call may be a turn apart. */
VHUB_API void
vhub_lcore_get_stats(const struct vhub_lcore *lcore, struct vhub_lcore_stats *stats);

/**
 * Runs msg->fn at the lcore's next safe point, waking it if it sleeps. Thread: ANY. Never blocks.
 */
VHUB_API void
vhub_lcore_post(struct vhub_lcore *lcore, struct vhub_msg *msg);

/**
 * Adds or removes a poller of the calling lcore. Thread: LCORE, from a message or a poller's own
 * poll.
 */
VHUB_API void
vhub_lcore_add_poller(struct vhub_poller *poller);
VHUB_API void
vhub_lcore_remove_poller(struct vhub_poller *poller);

/**
 * Polls a poller of the calling lcore again that may be parked: there is something for it that no
 * word tells of. Thread: LCORE, from a message or from any poller.
 */
VHUB_API void
vhub_lcore_resume(struct vhub_poller *poller);

/**
 * Lets `fd` wake the calling lcore from its sleep, edge-triggered; it is never read. The fd's owner
 * removes it before closing it. Thread: LCORE. Returns 0 or the errno of epoll_ctl(2); -EPERM:
 * cannot be polled.
 */
VHUB_API int
vhub_lcore_add_wake_fd(int fd);
VHUB_API void
vhub_lcore_remove_wake_fd(int fd);

/**
 * `n` more (negative: fewer) sources on the calling lcore wait for threads of the kernel's: io_uring's
 * workers, those of a loop device. While there are some, an lcore that has found nothing to do for a
 * few turns sleeps whatever its policy: spinning, it would keep those threads from its CPU, and the
 * scheduler from giving it to them. Thread: LCORE; does nothing on others.
 */
VHUB_API void
vhub_lcore_kernel_work(int n);

/**
 * What a ring's notifications have cost lately. Zeroed when a front end comes; it outlasts the ring, so that
 * to stop and start it forgets nothing. The ring's lcore's, which hands it over with the ring.
 */
struct vhub_notify_account {
	uint64_t suspect_until_tsc; /**< writes are measured until then; 0: they are not */
	uint64_t long_ns;     /**< CPU time of those that were long, of this stretch of time */
	uint32_t n_long;      /**< and how many */
	uint16_t n_near;      /**< long ones near each other */
	uint16_t near_writes; /**< more writes, and the next long one is not near any more */
};

/**
 * Writes 1 to an eventfd that a front end gave us. A front end can make this write block (it shares
 * the file's flags and counter): the watchdog interrupts it then, after 10 to 20 ms. Thread: LCORE
 * (on another thread it is a plain write). `account`: of the ring that is told of; NULL: nobody asks how long
 * it takes. Returns 0, -EINTR when the watchdog interrupted it, or when it took milliseconds of CPU time as
 * several before it on this account have, -EAGAIN when the counter or pipe is full
 * (the receiver has a notification pending: not an error), or another errno of write(2).
 */
VHUB_API int
vhub_lcore_notify_fd(int fd, struct vhub_notify_account *account);

/**
 * Ends the sleep of `lcore`, or its next one at once. For who has left something where a poller of
 * that lcore looks for it, and has been told by that poller's arm that the lcore sleeps. One write to
 * an eventfd. Thread: ANY. Does not block.
 */
VHUB_API void
vhub_lcore_wake(struct vhub_lcore *lcore);

/**
 * The same for who has left it where only a poll finds it: those of the pollers that are parked for which it
 * may be (is_meant) are polled again too. Thread: ANY. Does not block.
 */
VHUB_API void
vhub_lcore_resume_all(struct vhub_lcore *lcore);

/** Waits, without blocking, until every lcore has passed a safe point. Embedded by its owner. */
struct vhub_quiesce {
	/** CTL: all lcores have; may free the structure */
	void (*fn)(struct vhub_quiesce *quiesce);
	uint64_t token;		 /**< runtime */
	struct vhub_loop *loop;	 /**< runtime */
	uint64_t delay_us;	 /**< runtime: until the next look */
	struct vhub_timer timer; /**< runtime */
};

/**
 * Calls quiesce->fn on `loop` once every lcore has passed a safe point after this call: whoever
 * read a pointer that was replaced before the call has let go of it. Without running lcores fn runs
 * on the next turn. Thread: CTL. Does not block.
 */
VHUB_API void
vhub_quiesce_begin(struct vhub_loop *loop, struct vhub_quiesce *quiesce);

/**
 * The same for who may block, at most for a second. Thread: WORK; CTL only when no front end can keep
 * an lcore busy, for CTL is who would see to that. Returns 0 or -ETIMEDOUT: an lcore is stuck.
 */
VHUB_API int
vhub_quiesce_wait(void);

struct vhub_work;

/**
 * For who gives something back that lcores may still reach: waits as vhub_quiesce_wait() does, then calls
 * work->run(work) in the caller and returns 0. When an lcore is stuck it says so in the log and returns
 * -ETIMEDOUT, at once if an earlier caller has waited in vain; `run` is then called as blocking work once
 * all lcores have passed, by vhub_lcores_stop() at the latest. The work and what `run` uses are the caller's
 * no more, so `run` may free them; `done` is not called. `what` names in the log what is kept. Thread: as
 * vhub_quiesce_wait().
 */
VHUB_API int
vhub_quiesce_then(struct vhub_work *work, const char *what);

struct rte_rcu_qsbr;

/**
 * Where all lcores report their quiescent states, for structures of DPDK's that wait for them; NULL
 * before vhub_lcores_start(). Lasts until the process ends. Thread: ANY.
 */
VHUB_API struct rte_rcu_qsbr *
vhub_quiesce_qsbr(void);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_LCORE_H */
