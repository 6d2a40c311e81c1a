/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhub-net-check: a front end that checks. Sends numbered packets through virtio-user ports to a
 * back end that echoes them, and checks that each comes back once, in order, on its queue, and with
 * every byte right. Used by test/e2e (testpmd.py, class NetCheck). Exit status: 0 all is right, 1
 * not, 2 wrong arguments. Next: options.c, port.c, flow.c.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_memory.h>

#include "net_check.h"

static struct check_port ports[CHECK_MAX_PORTS];
static struct check_flow flows[CHECK_MAX_PORTS * CHECK_MAX_QUEUES];
static unsigned int n_ports, n_flows;
static uint32_t restarts; /* of all ports */
/* Set by the signal handlers. */
static bool asked_to_end, asked_to_restart;

static void
on_signal(int number __rte_unused)
{
	__atomic_store_n(&asked_to_end, true, __ATOMIC_RELAXED);
}

static void
on_restart(int number __rte_unused)
{
	__atomic_store_n(&asked_to_restart, true, __ATOMIC_RELAXED);
}

/* CLOCK_MONOTONIC, so that whoever reads the progress can compare it with a clock of its own. */
static double
now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static int
open_ports(void)
{
	unsigned int i;
	uint16_t id;

	RTE_ETH_FOREACH_DEV(id)
	{
		if (n_ports == CHECK_MAX_PORTS) {
			report_fail("more than %d ports", CHECK_MAX_PORTS);
			return -1;
		}
		if (port_open(&ports[n_ports], id) != 0)
			return -1;
		for (i = 0; i < check_options.queues; i++) {
			flows[n_flows].port = &ports[n_ports];
			flows[n_flows].queue = i;
			flows[n_flows].index = n_flows;
			n_flows++;
		}
		n_ports++;
	}
	if (n_ports == 0)
		report_fail("no port; EAL needs --vdev net_virtio_user0,path=SOCKET");
	return n_ports == 0 ? -1 : 0;
}

static uint32_t
reconnects(void)
{
	uint32_t sum = 0;
	unsigned int i;

	for (i = 0; i < n_ports; i++)
		sum += ports[i].ups;
	return sum;
}

/* Whether some flow has yet to send or to receive. */
static bool
busy(const struct check_traffic *traffic, bool sending)
{
	const struct check_options *o = &check_options;
	unsigned int i;

	for (i = 0; i < n_flows; i++) {
		if (flows[i].probing || !flow_idle(&flows[i]))
			return true;
		if (sending &&
				(o->packets == 0 ||
						flows[i].next / traffic->step(&flows[i]) <
								o->packets))
			return true;
	}
	return false;
}

/* Once nothing is under way: what a ring holds when its port stops is lost. */
static void
restart_ports(const struct check_traffic *traffic)
{
	unsigned int i;

	if (busy(traffic, false))
		return;
	__atomic_store_n(&asked_to_restart, false, __ATOMIC_RELAXED);
	for (i = 0; i < n_ports && i < check_options.restartable; i++)
		if (port_restart(&ports[i]) != 0)
			return;
	restarts++;
}

/* Sends and receives until the end; the seconds during which packets were sent. */
static double
run(const struct check_traffic *traffic)
{
	const struct check_options *o = &check_options;
	double begin = now_seconds(), now = begin, told = begin;
	bool sending = true, pausing;
	unsigned int i, moved;

	while (busy(traffic, sending) && !report_failed()) {
		now = now_seconds();
		sending = sending && !__atomic_load_n(&asked_to_end, __ATOMIC_RELAXED) &&
				(o->seconds == 0 || now - begin < o->seconds);
		pausing = __atomic_load_n(&asked_to_restart, __ATOMIC_RELAXED);
		for (i = 0, moved = 0; i < n_flows; i++)
			if (port_usable(flows[i].port, now))
				moved += flow_poll(&flows[i], traffic, sending && !pausing, now);
		if (pausing)
			restart_ports(traffic);
		if (o->progress != 0 && now - told >= o->progress) {
			report_progress(flows, n_flows, restarts, now);
			told = now;
		}
		/* The other side may need this very CPU to answer. */
		if (moved == 0)
			sched_yield();
	}
	return now - begin;
}

/* What EAL has in a file of its own, as without hugepages: a back end sees its holes. */
static int
allocate(const struct rte_memseg_list *list, void *arg __rte_unused)
{
	const struct rte_memseg *first = rte_mem_virt2memseg(list->base_va, list);
	const int fd = first != NULL ? rte_memseg_get_fd_thread_unsafe(first) : -1;

	return fd < 0 || posix_fallocate(fd, 0, (off_t)list->len) == 0 ? 0 : -1;
}

/* A virtio-user port tells its back end of EAL's memory as soon as it is there. */
static int
add_late_vdevs(void)
{
	unsigned int i;
	char name[64];
	size_t len;

	if (check_options.n_late_vdevs != 0 && rte_memseg_list_walk(allocate, NULL) != 0) {
		fprintf(stderr, "vhub-net-check: EAL's memory cannot be allocated\n");
		return -1;
	}
	for (i = 0; i < check_options.n_late_vdevs; i++) {
		const char *device = check_options.late_vdevs[i];

		len = strcspn(device, ",");
		snprintf(name, sizeof(name), "%.*s", (int)len, device);
		if (rte_eal_hotplug_add("vdev", name, device[len] == ',' ? &device[len + 1] : "") !=
				0) {
			fprintf(stderr, "vhub-net-check: --late-vdev %s: cannot be added\n",
					device);
			return -1;
		}
	}
	return 0;
}

int
main(int argc, char **argv)
{
	int words = rte_eal_init(argc, argv), status;
	double seconds = 0;
	unsigned int i;

	if (words < 0) {
		fprintf(stderr, "vhub-net-check: EAL does not start: %s\n",
				rte_strerror(rte_errno));
		return 2;
	}
	options_read(argc - words, argv + words);
	if (add_late_vdevs() != 0)
		return 2;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGUSR1, on_restart);
	/* virtio-user writes to a back end that may have gone. */
	signal(SIGPIPE, SIG_IGN);
	if (open_ports() == 0)
		seconds = run(check_options.tcp_bytes == 0 ? &check_frames : &check_streams);
	for (i = 0; i < n_flows; i++)
		flow_finish(&flows[i]);
	status = report_end(flows, n_flows, reconnects(), restarts, RTE_MAX(seconds, 1e-9));
	/* With a back end that has gone, EAL's interrupt thread takes a port apart at the same time. */
	for (i = 0; i < n_ports; i++)
		if (!port_usable(&ports[i], now_seconds()))
			return status;
	for (i = 0; i < n_ports; i++)
		port_close(&ports[i]);
	rte_eal_cleanup();
	return status;
}
