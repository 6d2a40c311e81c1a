/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of an lcore, shared by lcore.c (its loop), park.c (its pollers with nothing to do),
 * idle.c (its sleep), watchdog.c (its writes to front ends' fds) and quiesce.c (its safe points).
 */
#ifndef LCORE_PVT_H
#define LCORE_PVT_H

#include <pthread.h>

#include <rte_common.h>
#include <rte_rcu_qsbr.h>

#include "vhub_lcore.h"

/* A poller is left alone once it has had nothing to do for so long. */
#define PARK_AFTER_US 100u
/* Parked pollers that wait for a word, at most; others are polled. */
#define PARK_MAX_WORDS 4096u

/* Pollers in the order in which they were put there. */
struct poller_list {
	struct vhub_poller *first;
	struct vhub_poller **tail;
};

struct vhub_lcore {
	/* Immutable once launched, but for the mailbox's `sleeping`. */
	unsigned int id;    /* EAL's */
	unsigned int index; /* in vhub_lcore_at(), and the thread id in vhub_quiesce_qsbr() */
	int node;
	int epoll_fd; /* the mailbox, kick fds (kick.c), driver fds */
	enum vhub_idle_policy policy;
	uint64_t idle_cycles; /* this long without work, then sleep */
	int watchdog_signal;
	uint64_t long_write_cycles; /* a notification that takes longer is looked into */
	struct rte_rcu_qsbr *qsbr;
	struct vhub_mailbox box;
	struct vhub_msg stop_msg;
	uint64_t park_cycles; /* PARK_AFTER_US */
	uint64_t look_max_cycles;
	uint64_t round_cycles; /* the longest round of looks at all words */

	/* LCORE only. */
	struct poller_list polled __rte_cache_aligned;
	struct poller_list parked;
	/* The turn goes on here; kept right when pollers come and go in it. */
	struct vhub_poller *next_poller;
	struct vhub_poller *polling; /* NULL: it has left in its own poll */
	uint64_t turn_tsc;	     /* end of the last turn */
	uint64_t work_tsc; /* end of the last turn that did something, or of the last try to sleep */
	uint32_t n_words;
	uint32_t next_word;	    /* where the next look begins */
	uint64_t look_tsc;	    /* end of the last look, while pollers were polled */
	uint64_t look_cycles;	    /* what it took, for a slice, on average */
	uint64_t slice_cycles;	    /* the longest pause between two slices, by n_words */
	unsigned int n_unarmable;   /* pollers without an arm slot */
	unsigned int n_kernel_work; /* sources that wait for threads of the kernel's */
	unsigned int n_empty;	    /* turns without work, while there are some */
	unsigned int lend_pause;    /* and before the next try to sleep for them, besides */
	bool stopping;

	/* Written by LCORE, relaxed, read by ANY in vhub_lcore_get_stats(). */
	unsigned int n_pollers __rte_cache_aligned;
	unsigned int n_parked;
	uint64_t turns;
	uint64_t busy_cycles;
	uint64_t idle_cycles_done;
	uint64_t sleeps;
	/*
	 * Cycles asleep and whether asleep now, in one word so that a reader gets both of the same
	 * moment: bit 0 clear, the sum; bit 0 set, the sum less the TSC at which this sleep began.
	 * Bit 0 of the sum is lost.
	 */
	uint64_t sleep_word;

	/* Shared atomic with the watchdog: odd while inside a write to a front end's fd. */
	uint64_t write_seq __rte_cache_aligned;
	uint32_t resume_all; /* shared atomic: ANY sets it, LCORE clears it */
	pthread_t thread;    /* written by LCORE before the first odd write_seq */
	uint64_t seen_seq;   /* CTL: what the watchdog saw last */

	/* LCORE only: parked pollers that wait for a word. */
	struct vhub_lcore_word words[PARK_MAX_WORDS] __rte_cache_aligned;
	struct vhub_poller *word_pollers[PARK_MAX_WORDS];
};

/* None where the TSC has gone back, as it may while the host is suspended: no counter does. */
static inline uint64_t
lcore_cycles(uint64_t begin, uint64_t end)
{
	return end > begin ? end - begin : 0;
}

/* ---- park.c; LCORE, but for park_init() ---- */

void
pollers_append(struct poller_list *list, struct vhub_poller *poller);
void
pollers_remove(struct poller_list *list, struct vhub_poller *poller);

/* Before the lcore is launched. Thread: CTL. */
void
park_init(struct vhub_lcore *lcore);

/* A polled poller has had nothing to do for a while: parks it, if it agrees. */
void
park_poller(struct vhub_lcore *lcore, struct vhub_poller *poller);

/* A parked one is polled again, or all of them are; or it leaves the lcore. */
void
park_resume(struct vhub_lcore *lcore, struct vhub_poller *poller);
void
park_resume_all(struct vhub_lcore *lcore);
void
park_forget(struct vhub_lcore *lcore, struct vhub_poller *poller);

/* With words to look at: whether it is time, and the look, which resumes whose word has changed. */
bool
park_is_due(const struct vhub_lcore *lcore);
void
park_look(struct vhub_lcore *lcore);

/* ---- idle.c ---- */

/*
 * Arms the pollers and sleeps until a message or a watched fd wakes the lcore, or finds that it may
 * not sleep. Either way the idle time starts anew. Returns whether it has slept. Thread: LCORE.
 */
bool
idle_sleep(struct vhub_lcore *lcore);

/*
 * The same when threads of the kernel's work for this lcore, once that has looked in vain for a few
 * turns: n_kernel_work is not 0.
 */
void
idle_lend(struct vhub_lcore *lcore);

/* ---- quiesce.c ---- */

/*
 * Adds `n` lcores to those that are waited for. Thread: CTL, before they are launched. Returns
 * 0 or -ENOMEM.
 */
int
quiesce_register(unsigned int n);

/*
 * From here on, until the stop, what an lcore keeps from being freed is looked at on `loop`. Thread: CTL, before
 * lcores are launched. Returns 0 or an errno.
 */
int
quiesce_start(struct vhub_loop *loop);
/* No lcore runs any more: what is left is freed. Thread: CTL. */
void
quiesce_stop(void);

/* ---- watchdog.c ---- */

/*
 * Installs the signal and watches for lcores that begin to write. Thread: CTL. Returns 0, -EBUSY
 * without a free real-time signal, or an errno.
 */
int
watchdog_start(struct vhub_loop *loop);
void
watchdog_stop(void);

/* A notification that takes so long is looked into; an eventfd is written in a microsecond. */
#define WATCHDOG_LONG_WRITE_NS 2000000ull

/*
 * The signal that interrupts a write: to be let through by the lcores' threads. Thread: CTL, after
 * watchdog_start().
 */
int
watchdog_signal(void);

/*
 * Compares every lcore with what the last call saw, and interrupts the one that is still in the
 * same write. Thread: CTL. Returns whether any has written since, or is writing.
 */
bool
watchdog_look(void);

#endif /* LCORE_PVT_H */
