/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What may be done with file descriptors of front ends. lib/conn and lib/device give them away
 * here; next: work.c.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhub_fd.h"
#include "vhub_work.h"

struct discarded {
	struct vhub_fd_job job;
	int fd;
	/* Of a socket whose peer is told before it is closed. */
	struct vhub_work hang_up;
	struct vhub_fd_account *account;
};

struct vhub_fd_account {
	struct vhub_work work;
	pthread_mutex_t lock;
	/* under the lock */
	struct vhub_fd_job *head;
	struct vhub_fd_job **tail;
	unsigned int n_open; /* with the one that is being closed, and those of peers that are told */
	unsigned int n_hang_ups; /* whose jobs come when their peers have been told */
	bool submitted;		 /* the work: until it has found nothing more to close */
	bool released;
};

static void
run_jobs(struct vhub_work *work);

/* Of who has no account. */
static struct vhub_fd_account common_account = {
	.work = { .run = run_jobs, .kind = VHUB_WORK_CLOSE },
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.tail = &common_account.head,
};

static void
free_account(struct vhub_fd_account *account)
{
	pthread_mutex_destroy(&account->lock);
	free(account);
}

static struct vhub_fd_job *
pop_job(struct vhub_fd_account *account)
{
	struct vhub_fd_job *job = account->head;

	if (job == NULL)
		return NULL;
	account->head = job->next;
	if (account->head == NULL)
		account->tail = &account->head;
	return job;
}

/* WORK */
static void
run_jobs(struct vhub_work *work)
{
	struct vhub_fd_account *account = vhub_container_of(work, struct vhub_fd_account, work);
	struct vhub_fd_job *job;
	bool last;

	pthread_mutex_lock(&account->lock);
	while ((job = pop_job(account)) != NULL) {
		pthread_mutex_unlock(&account->lock);
		job->run(job);
		pthread_mutex_lock(&account->lock);
		account->n_open--;
	}
	account->submitted = false;
	last = account->released && account->n_hang_ups == 0;
	pthread_mutex_unlock(&account->lock);
	if (last)
		free_account(account);
}

int
vhub_fd_account_create(struct vhub_fd_account **out)
{
	struct vhub_fd_account *account = calloc(1, sizeof(*account));

	if (account == NULL)
		return -ENOMEM;
	account->work.run = run_jobs;
	account->work.kind = VHUB_WORK_CLOSE;
	pthread_mutex_init(&account->lock, NULL);
	account->tail = &account->head;
	*out = account;
	return 0;
}

void
vhub_fd_account_release(struct vhub_fd_account *account)
{
	bool last;

	if (account == NULL)
		return;
	pthread_mutex_lock(&account->lock);
	account->released = true;
	last = !account->submitted && account->n_hang_ups == 0;
	pthread_mutex_unlock(&account->lock);
	if (last)
		free_account(account);
}

bool
vhub_fd_account_is_full(struct vhub_fd_account *account)
{
	bool full;

	if (account == NULL)
		return false;
	pthread_mutex_lock(&account->lock);
	full = account->n_open > VHUB_FD_MAX_WAITING;
	pthread_mutex_unlock(&account->lock);
	return full;
}

/* Under the lock. Returns whether the work is to be submitted. */
static bool
push_job(struct vhub_fd_account *account, struct vhub_fd_job *job)
{
	const bool submit = !account->submitted;

	job->next = NULL;
	*account->tail = job;
	account->tail = &job->next;
	account->submitted = true;
	return submit;
}

void
vhub_fd_account_run(struct vhub_fd_account *account, struct vhub_fd_job *job)
{
	bool submit;

	if (account == NULL)
		account = &common_account;
	pthread_mutex_lock(&account->lock);
	account->n_open++;
	submit = push_job(account, job);
	pthread_mutex_unlock(&account->lock);
	if (submit)
		vhub_work_submit(&account->work);
}

static void
close_discarded(struct vhub_fd_job *job)
{
	struct discarded *d = vhub_container_of(job, struct discarded, job);

	close(d->fd);
	free(d);
}

void
vhub_fd_discard(int fd, struct vhub_fd_account *account)
{
	struct discarded *d;

	if (fd < 0)
		return;
	d = calloc(1, sizeof(*d));
	if (d == NULL) {
		close(fd);
		return;
	}
	d->job.run = close_discarded;
	d->fd = fd;
	vhub_fd_account_run(account, &d->job);
}

/* WORK. It may take long and does not hang, so it waits for no close. */
static void
hang_up(struct vhub_work *work)
{
	struct discarded *d = vhub_container_of(work, struct discarded, hang_up);
	struct vhub_fd_account *account = d->account;
	bool submit;

	shutdown(d->fd, SHUT_RDWR);
	pthread_mutex_lock(&account->lock);
	account->n_hang_ups--;
	submit = push_job(account, &d->job);
	pthread_mutex_unlock(&account->lock);
	if (submit)
		vhub_work_submit(&account->work);
}

void
vhub_fd_hang_up(int fd, struct vhub_fd_account *account)
{
	struct discarded *d = calloc(1, sizeof(*d));

	if (d == NULL) {
		shutdown(fd, SHUT_RDWR);
		close(fd);
		return;
	}
	d->job.run = close_discarded;
	d->fd = fd;
	d->hang_up.run = hang_up;
	d->account = account != NULL ? account : &common_account;
	pthread_mutex_lock(&d->account->lock);
	d->account->n_open++;
	d->account->n_hang_ups++;
	pthread_mutex_unlock(&d->account->lock);
	vhub_work_submit(&d->hang_up);
}

void
vhub_fd_discard_wait(void)
{
	/* Whose peers are told are closed then. */
	vhub_work_wait(VHUB_WORK_ORDINARY);
	vhub_work_wait(VHUB_WORK_CLOSE);
}

int
vhub_fd_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return -errno;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &limit) != 0 ? -errno : 0;
}

/* By its name, which the kernel has at hand: fstat(2) would ask the file system. */
bool
vhub_fd_is_eventfd(int fd)
{
	static const char eventfd_name[] = "anon_inode:[eventfd]";
	char path[64], name[sizeof(eventfd_name)];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, name, sizeof(name));
	return len == (ssize_t)sizeof(name) - 1 && memcmp(name, eventfd_name, (size_t)len) == 0;
}
