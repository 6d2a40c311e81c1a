/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Closing what front ends sent, on threads of its own. lib/conn and lib/device give fds away here;
 * nothing comes after.
 *
 * One thread closes and one stands by. When what is due has waited for a while, the one that closes
 * is stuck: the other takes over, and another one is made to stand by.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vhub_fd.h"

#define CLOSER_MAX_THREADS 16
#define CLOSER_PATIENCE_NS 20000000
#define NS_PER_S 1000000000

struct discarded {
	struct discarded *next;
	struct timespec due; /* another thread takes it from then on */
	int fd;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work;  /* something is due, or a thread has come back */
	pthread_cond_t clean; /* nothing is left */
	struct discarded *head;
	struct discarded **tail;
	unsigned int n_threads;
	unsigned int n_closing;
} closer;

static pthread_once_t closer_once = PTHREAD_ONCE_INIT;

static void
closer_init(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&closer.lock, NULL);
	pthread_cond_init(&closer.work, &attr);
	pthread_cond_init(&closer.clean, NULL);
	pthread_condattr_destroy(&attr);
	closer.head = NULL;
	closer.tail = &closer.head;
	closer.n_threads = 0;
	closer.n_closing = 0;
}

/*
 * Threads do not live on in a forked child; fds that waited stay open there until it ends or
 * executes another program.
 */
static void
closer_setup(void)
{
	closer_init();
	pthread_atfork(NULL, NULL, closer_init);
}

static struct timespec
patience_from_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += CLOSER_PATIENCE_NS;
	if (t.tv_nsec >= NS_PER_S) {
		t.tv_sec++;
		t.tv_nsec -= NS_PER_S;
	}
	return t;
}

/* With the lock held. Signals are for CTL: the thread inherits a full mask. */
static void *
closer_main(void *arg);

static void
start_thread(void)
{
	sigset_t all, old;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, closer_main, NULL) == 0) {
		pthread_setname_np(thread, "vhub-close");
		pthread_detach(thread);
		closer.n_threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Waits for something that is this thread's to close, with the lock held. */
static struct discarded *
wait_for_one(void)
{
	struct timespec due;

	for (;;) {
		if (closer.head == NULL) {
			pthread_cond_wait(&closer.work, &closer.lock);
			continue;
		}
		if (closer.n_closing == 0)
			return closer.head;
		due = closer.head->due;
		if (pthread_cond_timedwait(&closer.work, &closer.lock, &due) == ETIMEDOUT)
			return closer.head; /* NULL when another thread was faster */
	}
}

static void
close_one(struct discarded *d)
{
	closer.head = d->next;
	if (closer.head == NULL)
		closer.tail = &closer.head;
	closer.n_closing++;
	if (closer.n_closing == closer.n_threads && closer.n_threads < CLOSER_MAX_THREADS)
		start_thread();
	pthread_mutex_unlock(&closer.lock);
	close(d->fd);
	free(d);
	pthread_mutex_lock(&closer.lock);
	closer.n_closing--;
	if (closer.n_closing == 0 && closer.head == NULL)
		pthread_cond_broadcast(&closer.clean);
}

static void *
closer_main(void *arg)
{
	struct discarded *d;

	pthread_mutex_lock(&closer.lock);
	for (;;) {
		d = wait_for_one();
		if (d != NULL)
			close_one(d);
	}
	return arg;
}

void
vhub_fd_discard(int fd)
{
	struct discarded *d;

	if (fd < 0)
		return;
	d = malloc(sizeof(*d));
	if (d == NULL) {
		close(fd);
		return;
	}
	d->fd = fd;
	d->next = NULL;
	d->due = patience_from_now();
	pthread_once(&closer_once, closer_setup);
	pthread_mutex_lock(&closer.lock);
	*closer.tail = d;
	closer.tail = &d->next;
	if (closer.n_threads == 0)
		start_thread();
	pthread_cond_signal(&closer.work);
	pthread_mutex_unlock(&closer.lock);
}

void
vhub_fd_discard_wait(void)
{
	pthread_once(&closer_once, closer_setup);
	pthread_mutex_lock(&closer.lock);
	while (closer.head != NULL || closer.n_closing != 0)
		pthread_cond_wait(&closer.clean, &closer.lock);
	pthread_mutex_unlock(&closer.lock);
}

bool
vhub_fd_is_notifier(int fd)
{
	struct statx st;

	/* DONT_SYNC: answered from memory. An anonymous inode has no file type. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0)
		return false;
	return (st.stx_mode & S_IFMT) == 0 || S_ISFIFO(st.stx_mode);
}
