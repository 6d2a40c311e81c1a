/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Telemetry's calls, carried to the control loop and back. Called by telemetry's threads. Next:
 * the command's own function on CTL, then from_json.c on telemetry's thread again.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bsd/string.h>

#include <rte_telemetry.h>

#include "telemetry_pvt.h"
#include "vhub_telemetry.h"

/* While a message waits for room in the loop's mailbox, this thread has to look after it. */
#define FLUSH_INTERVAL_NS 10000000l

/*
 * One question. It belongs to the thread that asks and to the message: who comes last frees it, for
 * the thread may have given up.
 */
struct fetch {
	struct vhub_msg msg;
	const struct vhub_telemetry_command *command;
	void *arg;
	char params[128];

	pthread_mutex_t lock;
	pthread_cond_t answered;
	unsigned int n_owners;
	bool done;
	json_t *result;
	char error[256];
};

/* Whom to ask; under the lock. */
static struct {
	pthread_mutex_t lock;
	struct vhub_loop *loop; /* NULL: nobody, not yet or not any more */
	const struct vhub_telemetry_command *commands;
	unsigned int n;
	void *arg;
} source = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- one question ---- */

static struct fetch *
fetch_create(const char *params)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));
	pthread_condattr_t attr;

	if (fetch == NULL)
		return NULL;
	strlcpy(fetch->params, params != NULL ? params : "", sizeof(fetch->params));
	fetch->n_owners = 2;
	pthread_mutex_init(&fetch->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&fetch->answered, &attr);
	pthread_condattr_destroy(&attr);
	return fetch;
}

static void
fetch_release(struct fetch *fetch)
{
	bool last;

	pthread_mutex_lock(&fetch->lock);
	last = --fetch->n_owners == 0;
	pthread_mutex_unlock(&fetch->lock);
	if (!last)
		return;
	json_decref(fetch->result);
	pthread_cond_destroy(&fetch->answered);
	pthread_mutex_destroy(&fetch->lock);
	free(fetch);
}

/* CTL. */
static void
answer(struct vhub_msg *msg)
{
	struct fetch *fetch = vhub_container_of(msg, struct fetch, msg);
	json_t *result;

	result = fetch->command->fn(fetch->arg, fetch->params, fetch->error, sizeof(fetch->error));
	pthread_mutex_lock(&fetch->lock);
	fetch->result = result;
	fetch->done = true;
	pthread_cond_signal(&fetch->answered);
	pthread_mutex_unlock(&fetch->lock);
	fetch_release(fetch);
}

/* ---- telemetry's thread ---- */

/* Returns 0, -ESHUTDOWN, -ENOENT. Nothing reaches the loop once it is gone. */
static int
ask(struct fetch *fetch, const char *name)
{
	unsigned int i;
	int ret = -ESHUTDOWN;

	pthread_mutex_lock(&source.lock);
	if (source.loop != NULL) {
		for (i = 0; i < source.n && strcmp(source.commands[i].name, name) != 0; i++)
			;
		ret = i < source.n ? 0 : -ENOENT;
		if (ret == 0) {
			fetch->command = &source.commands[i];
			fetch->arg = source.arg;
			fetch->msg.fn = answer;
			vhub_loop_post(source.loop, &fetch->msg);
		}
	}
	pthread_mutex_unlock(&source.lock);
	return ret;
}

static void
flush(void)
{
	pthread_mutex_lock(&source.lock);
	if (source.loop != NULL)
		vhub_outbox_flush();
	pthread_mutex_unlock(&source.lock);
}

static void
add_ns(struct timespec *when, long ns)
{
	when->tv_nsec += ns;
	when->tv_sec += when->tv_nsec / 1000000000l;
	when->tv_nsec %= 1000000000l;
}

/* Returns whether the answer has come. */
static bool
wait_for(struct fetch *fetch)
{
	unsigned int n = (unsigned int)(VHUB_TELEMETRY_WAIT_US * 1000l / FLUSH_INTERVAL_NS);
	struct timespec until;
	bool done;

	pthread_mutex_lock(&fetch->lock);
	while (!fetch->done && n-- > 0) {
		/* From now on each time: a machine on which nobody ran has used up one interval and not all. */
		clock_gettime(CLOCK_MONOTONIC, &until);
		add_ns(&until, FLUSH_INTERVAL_NS);
		while (!fetch->done &&
				pthread_cond_timedwait(&fetch->answered, &fetch->lock, &until) !=
						ETIMEDOUT)
			;
		pthread_mutex_unlock(&fetch->lock);
		flush();
		pthread_mutex_lock(&fetch->lock);
	}
	done = fetch->done;
	pthread_mutex_unlock(&fetch->lock);
	return done;
}

static int
tell_error(struct rte_tel_data *data, const char *error)
{
	rte_tel_data_start_dict(data);
	return rte_tel_data_add_dict_string(data, "error", error);
}

static int
called(const char *cmd, const char *params, struct rte_tel_data *data)
{
	struct fetch *fetch = fetch_create(params);
	int ret;

	if (fetch == NULL)
		return tell_error(data, "out of memory");
	ret = ask(fetch, cmd);
	if (ret != 0) {
		fetch_release(fetch); /* the message's part */
		fetch_release(fetch);
		return tell_error(data, ret == -ESHUTDOWN ? "vhub is stopping" : "no such command");
	}
	if (!wait_for(fetch))
		ret = tell_error(data, "vhub is busy, ask again");
	else if (fetch->result == NULL)
		ret = tell_error(data, fetch->error);
	else
		ret = telemetry_from_json(data, fetch->result);
	fetch_release(fetch);
	return ret;
}

/* ---- start and end ---- */

int
vhub_telemetry_start(struct vhub_loop *loop, const struct vhub_telemetry_command *commands,
		unsigned int n, void *arg)
{
	unsigned int i;
	int ret = 0;

	pthread_mutex_lock(&source.lock);
	if (source.commands != NULL)
		ret = -EALREADY;
	else {
		source.commands = commands;
		source.n = n;
		source.arg = arg;
		source.loop = loop;
	}
	pthread_mutex_unlock(&source.lock);
	for (i = 0; i < n && ret == 0; i++)
		ret = rte_telemetry_register_cmd(commands[i].name, called, commands[i].help);
	return ret;
}

void
vhub_telemetry_stop(void)
{
	pthread_mutex_lock(&source.lock);
	source.loop = NULL;
	pthread_mutex_unlock(&source.lock);
}
