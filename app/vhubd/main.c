/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhubd: serves virtio devices over vhost-user. Here: starting the parts in order, signals, and the
 * orderly end. Called vhub-blk or vhub-net it is one of those programs (backend_program.c). Next:
 * options.c, eal.c, slots.c, control_methods.c.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "backend_program.h"
#include "control_methods.h"
#include "eal.h"
#include "options.h"
#include "service.h"
#include "slots.h"
#include "telemetry_commands.h"
#include "vhub_log.h"
#include "vhub_mem.h"
#include "vhub_telemetry.h"
#include "vhub_work.h"

VHUB_LOGTYPE(vhubd);

/* Exit statuses. */
#define EXIT_USAGE 2
#define EXIT_STUCK 3
#define EXIT_NOT_SAVED 4
#define EXIT_SESSION 5

#define STOP_TIMEOUT_US 900000

/* Our heap grows by so much at once: as much as a hundred disks or so take of it. */
#define HEAP_STEP_BYTES (4 << 20)
/* Larger blocks are mapped; the C library allows no more. */
#define HEAP_BLOCK_MAX_BYTES (32 << 20)

struct daemon_state {
	struct vhub_loop *loop;
	struct slots *slots;
	struct control_context context; /* of the control methods */
	struct vhub_control *control;
	struct vhub_watch signals;
	unsigned int n_settled; /* of the options' slots: served, or tried again */
	bool ready;
	bool told_failed; /* the service manager knows of devices that have failed */
	bool stopping;
	uint64_t n_not_saved; /* disks that had gone so before the end */
	int result;	      /* of the run, once it has ended */
	unsigned int n_stuck; /* devices that have not come to rest or to their end */
};

static struct options options;

/* ---- signals ---- */

/*
 * Before EAL starts its threads, so that they inherit the mask and the signals come to us only. A terminal that
 * goes away is a reason to end as well, unless whoever has started us (nohup) has it ignored. A service manager has
 * no terminal: there somebody wants logs to be opened anew, or a configuration to be read again, and no guest to
 * lose its disk.
 */
static void
block_signals(sigset_t *set)
{
	struct sigaction hup = { .sa_handler = SIG_DFL };

	sigemptyset(set);
	if (service_manages())
		signal(SIGHUP, SIG_IGN);
	sigaction(SIGHUP, NULL, &hup);
	if (hup.sa_handler != SIG_IGN)
		sigaddset(set, SIGHUP);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigprocmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* A file that may not grow is an error of who writes it. */
	signal(SIGXFSZ, SIG_IGN);
}

static void
stopped(void *arg, unsigned int n_stuck)
{
	struct daemon_state *d = arg;

	d->n_stuck = n_stuck;
	vhub_loop_stop(d->loop, d->result);
}

static void
stop(struct daemon_state *d)
{
	d->stopping = true;
	service_tell("STOPPING=1\nSTATUS=stopping");
	d->n_not_saved = vhub_blk_n_not_saved();
	slots_stop(d->slots, STOP_TIMEOUT_US, stopped, d);
}

static void
on_signal(struct vhub_watch *watch, uint32_t events)
{
	struct daemon_state *d = vhub_container_of(watch, struct daemon_state, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(watch->fd, &info, sizeof(info)) != (ssize_t)sizeof(info) || d->stopping)
		return;
	VHUB_LOG(NOTICE, "%s: stopping", strsignal((int)info.ssi_signo));
	stop(d);
}

static int
watch_signals(struct daemon_state *d, const sigset_t *set)
{
	d->signals.fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signals.fd < 0)
		return -errno;
	d->signals.fn = on_signal;
	return vhub_loop_watch(d->loop, &d->signals, EPOLLIN);
}

/* ---- a program that lives as long as its front end ---- */

static void
front_end_left(void *arg, int result)
{
	struct daemon_state *d = arg;

	if (d->stopping)
		return;
	VHUB_LOG(NOTICE, "the front end has gone: stopping");
	d->result = result;
	stop(d);
}

/* ---- start and end ---- */

/*
 * brk(2), mmap(2) and munmap(2) wait for whoever maps or unmaps guest memory, and a front end can make that a second.
 * So the control thread, whose heap this is above all, calls them seldom: it gives back nothing.
 */
static void
keep_heap(void)
{
	mallopt(M_TOP_PAD, HEAP_STEP_BYTES);
	mallopt(M_TRIM_THRESHOLD, -1);
	mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_MAX_BYTES);
}

/* Before devices are there, for those may take their time. */
static int
start_management(struct daemon_state *d)
{
	int ret = telemetry_commands_start(d->loop, d->slots);

	if (ret != 0) {
		VHUB_LOG(ERR, "cannot register commands of telemetry: %s", strerror(-ret));
		return ret;
	}
	d->context.options = &options;
	d->context.slots = d->slots;
	return options.control == NULL ?
			0 :
			control_methods_start(d->loop, options.control, &d->context, &d->control);
}

static int
start_parts(struct daemon_state *d, const sigset_t *set)
{
	int ret = vhub_loop_create(&d->loop);

	if (ret == 0)
		ret = watch_signals(d, set);
	if (ret == 0)
		ret = vhub_work_start(d->loop);
	if (ret == 0)
		ret = vhub_mem_guard_start(d->loop);
	if (ret == 0)
		ret = vhub_lcores_start(d->loop, options.idle_policy, options.idle_us);
	if (ret == -ENODEV)
		VHUB_LOG(ERR, "EAL has no worker lcore: give it two lcores or more, for example -l 0-1");
	else if (ret != 0)
		VHUB_LOG(ERR, "cannot start: %s", strerror(-ret));
	if (ret == 0)
		ret = slots_create(d->loop, &d->slots);
	if (ret == 0)
		ret = start_management(d);
	return ret;
}

/* Devices that are there, or are to be. */
struct tally {
	unsigned int n;
	unsigned int n_served;
	unsigned int n_failed;
};

static struct tally
count_devices(const struct daemon_state *d)
{
	struct tally tally = { .n = 0 };
	const struct slot *slot;

	for (slot = slots_first(d->slots); slot != NULL; slot = slots_next(slot)) {
		if (slot->state > SLOT_SERVING)
			continue;
		tally.n++;
		tally.n_served += slot->state == SLOT_SERVING;
		tally.n_failed += slot->failure[0] != '\0';
	}
	return tally;
}

/* "READY=1\n" in `before`, or nothing. */
static void
tell_status(struct daemon_state *d, const char *before)
{
	const struct tally tally = count_devices(d);

	d->told_failed = tally.n_failed != 0;
	if (d->ready && tally.n_failed == 0)
		service_tell("%sSTATUS=", before);
	else
		service_tell("%sSTATUS=%u of %u devices are there", before, tally.n_served,
				tally.n);
}

/* Some have failed at the start: how many are there now? */
static void
slots_changed(void *arg)
{
	struct daemon_state *d = arg;

	if (d->ready && !d->stopping && (d->told_failed || count_devices(d).n_failed != 0))
		tell_status(d, "");
}

static void
tell_ready(struct daemon_state *d)
{
	const struct tally tally = count_devices(d);
	char of_all[32] = "";

	if (options.ends_with_front_end)
		vhub_server_on_left(slots_first(d->slots)->server, front_end_left, d);
	if (tally.n_failed != 0)
		snprintf(of_all, sizeof(of_all), " of %u", tally.n);
	VHUB_LOG(NOTICE, "ready: %u%s device%s on %u worker lcore%s", tally.n_served, of_all,
			tally.n == 1 ? "" : "s", vhub_lcore_count(),
			vhub_lcore_count() == 1 ? "" : "s");
	d->ready = true;
	tell_status(d, "READY=1\n");
}

static void
end_start(struct daemon_state *d, int result)
{
	/* Those that are served give their sockets back. */
	d->result = result;
	stop(d);
}

static void
slot_added(const struct slot *slot, void *arg, int result, const char *why)
{
	struct daemon_state *d = arg;

	(void)slot;
	(void)why; /* the log has it */
	if (d->stopping)
		return;
	if (result != 0 && !options.retry_failed)
		end_start(d, result);
	else if (++d->n_settled == options.n_slots)
		tell_ready(d);
	else
		tell_status(d, "");
}

/* They are built and served while signals are served already. */
static void
add_all(struct daemon_state *d)
{
	char error[512];
	int ret;

	slots_on_change(d->slots, slots_changed, d);
	for (unsigned int i = 0; i < options.n_slots; i++) {
		options.slots[i].of_start = true;
		options.slots[i].retries = options.retry_failed;
		ret = slots_add(d->slots, &options.slots[i], slot_added, d, error, sizeof(error));
		if (ret != 0) {
			VHUB_LOG(ERR, "%s: %s", options.slots[i].name, error);
			end_start(d, ret);
			return;
		}
	}
	if (options.n_slots == 0)
		tell_ready(d);
	else
		tell_status(d, "");
}

static int
serve(struct daemon_state *d)
{
	int ret;

	service_watchdog_start(d->loop);
	add_all(d);
	ret = vhub_loop_run(d->loop);
	if (ret == 0)
		return EXIT_SUCCESS;
	/* Who starts us again until the start is right is to know one that was. */
	return options.ends_with_front_end && d->ready ? EXIT_SESSION : EXIT_FAILURE;
}

/* `status`, or, were it all in order, what tells of disks whose guests have lost something. */
static int
status_of_saving(const struct daemon_state *d, int status)
{
	if (status == EXIT_SUCCESS && vhub_blk_n_not_saved() != d->n_not_saved)
		return EXIT_NOT_SAVED;
	return status;
}

/* Returns the exit status. */
static int
stop_parts(struct daemon_state *d, int status)
{
	bool stuck;

	vhub_telemetry_stop();
	vhub_control_destroy(d->control);
	/* Work before devices, for what is under way there may be the building of one. */
	stuck = d->n_stuck != 0 || vhub_work_stop() != 0;
	d->n_stuck += slots_end(d->slots);
	if (status == EXIT_SUCCESS && d->n_stuck != 0)
		status = EXIT_STUCK;
	status = status_of_saving(d, status);
	/*
	 * An lcore still has I/O in flight, or a front end's file, or an image that is being opened or closed, is
	 * stuck: the kernel will see to what is left.
	 */
	if (stuck || d->n_stuck != 0) {
		fflush(NULL);
		_exit(status);
	}
	slots_destroy(d->slots);
	vhub_lcores_stop();
	vhub_mem_guard_stop();
	if (d->loop != NULL && d->signals.fd >= 0) {
		vhub_loop_unwatch(d->loop, &d->signals);
		close(d->signals.fd);
	}
	vhub_loop_destroy(d->loop);
	return status;
}

/* What is written wrong does not become right; a file may be there, or readable, or memory free, the next time. */
static int
status_of_options(int ret)
{
	if (ret > 0)
		return EXIT_SUCCESS;
	return ret == -EINVAL || ret == -ENOKEY ? EXIT_USAGE : EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
	const struct backend_program *program = backend_program_find(argc > 0 ? argv[0] : "");
	struct daemon_state d = { .signals.fd = -1 };
	int status = EXIT_FAILURE;
	sigset_t set;
	int ret;

	if (program != NULL)
		ret = backend_program_parse(program, &options, argc, argv);
	else
		ret = options_parse(&options, argc, argv);
	if (ret != 0) {
		options_free(&options);
		return status_of_options(ret);
	}
	keep_heap();
	block_signals(&set);
	if (eal_start(&options) == 0) {
		if (start_parts(&d, &set) == 0)
			status = serve(&d);
		status = stop_parts(&d, status);
		eal_stop();
	}
	options_free(&options);
	return status;
}
