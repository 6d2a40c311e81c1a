/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `vhub-perf net`: options, devices, who receives what, lcores, report. Called by main.c; next:
 * net_options.c, and in the order of a run net_device.c, run.c with net_lcore.c, report.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "perf.h"
#include "worker.h"

static const struct report_kind kind = {
	.command = "net",
	.packets = true,
	.item = "packet",
	.errors = {
		[NET_LOST] = "lost",
		[NET_DUPLICATES] = "duplicate",
		[NET_REORDERINGS] = "reordered",
		[NET_CORRUPT] = "corrupt",
		[NET_MISDIRECTED] = "misdirected",
	},
	.counts = {
		[NET_SENT] = "sent",
		[NET_RECEIVED] = "received",
		[NET_GAPS] = "gaps",
		[NET_KICKS] = "kicks",
		[NET_UNTAKEN] = "untaken",
	},
};

struct net_run {
	struct net_options o;
	struct perf_memory mem;
	unsigned int n_devices; /* sockets, then peers */
	unsigned int n_busy;	/* sockets that get packets */
	struct net_device *devices;
	struct frontend **frontends;
	struct net_lcore *lcores;
	struct report *report;
};

/* ---- devices ---- */

/* The other device of a pair. */
static unsigned int
partner(unsigned int d)
{
	const unsigned int n = run_options.n_sockets;

	return d < n ? d + n : d - n;
}

static int
open_devices(struct net_run *net)
{
	const unsigned int n = run_options.n_sockets;
	uint64_t bytes;
	int ret = 0;

	net->devices = calloc(n + net->o.n_peers, sizeof(*net->devices));
	net->frontends = calloc(n + net->o.n_peers, sizeof(struct frontend *));
	if (net->devices == NULL || net->frontends == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; ret == 0 && i < n + net->o.n_peers; i++) {
		net->n_devices++;
		net->devices[i].receiver = net->o.mode == NET_PAIR ? partner(i) : NET_NOBODY;
		ret = net_device_open(&net->devices[i], &net->o,
				i < n ? run_options.sockets[i] : net->o.peers[i - n], i);
		net->frontends[i] = net->devices[i].fe;
	}
	if (ret != 0)
		return ret;
	bytes = net->n_devices * net_device_memory_bytes(&net->o);
	ret = memory_create(bytes, run_options.hugepages, &net->mem);
	for (unsigned int i = 0; ret == 0 && i < net->n_devices; i++)
		ret = net_device_start(&net->devices[i], &net->o, &net->mem);
	return ret;
}

/* ---- who does what ---- */

/* The device whose packets device `d` receives. */
static unsigned int
sender_to(const struct net_run *net, unsigned int d)
{
	return net->o.mode == NET_PAIR ? partner(d) : d;
}

static bool
is_busy(const struct net_run *net, unsigned int d)
{
	return d % run_options.n_sockets < net->n_busy;
}

static unsigned int
busy_devices(const struct net_run *net)
{
	return net->o.mode == NET_PAIR ? 2 * net->n_busy : net->n_busy;
}

/* Both ends of a flow are on one lcore, which alone knows what was sent and what came. */
static void
set_up_queue(struct net_run *net, unsigned int d, unsigned int i, unsigned int place)
{
	struct net_queue *q = &net->devices[d].queues[i];
	struct net_device *from = &net->devices[sender_to(net, d)];
	const unsigned int pair = d % run_options.n_sockets * run_options.queues + i;
	struct report_queue *row = &net->report->queues[place];
	struct net_lcore *l = &net->lcores[pair % net->report->n_lcores];

	q->sends = net->o.mode != NET_RX;
	q->receives = net->o.mode != NET_TX;
	q->expects = &from->queues[i].own;
	q->expected_mark = net_flow_mark(from->number << 16 | i);
	q->sender = place;
	q->n_senders = net->report->n_queues;
	q->report = row;
	row->device = d;
	row->queue = i;
	row->lcore = pair % net->report->n_lcores;
	l->queues[l->n_queues++] = q;
}

static int
deal_queues(struct net_run *net, unsigned int n_lcores)
{
	const unsigned int n = busy_devices(net) * run_options.queues;
	unsigned int place = 0;
	int ret = report_create(&kind, n, RTE_MIN(n_lcores, n), &net->report);

	if (ret != 0)
		return ret;
	/* Those that have queues: the report's. */
	n_lcores = net->report->n_lcores;
	net->lcores = calloc(n_lcores, sizeof(*net->lcores));
	if (net->lcores == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < n_lcores; i++) {
		net->lcores[i].queues = calloc(n, sizeof(struct net_queue *));
		if (net->lcores[i].queues == NULL)
			return -ENOMEM;
	}
	for (unsigned int d = 0; d < net->n_devices; d++) {
		for (unsigned int i = 0; is_busy(net, d) && i < run_options.queues; i++)
			set_up_queue(net, d, i, place++);
	}
	return 0;
}

/* ---- report ---- */

static void
describe(struct net_run *net)
{
	const struct net_options *o = &net->o;
	const struct frontend *fe = net->devices[0].fe;
	json_t *p = net->report->parameters, *peers = json_array();
	char rings[160];

	run_report_parameters(net->report, fe, net->mem.hugepages);
	for (unsigned int i = 0; i < o->n_peers; i++)
		json_array_append_new(peers, json_string(o->peers[i]));
	json_object_set_new(p, "peers", peers);
	json_object_set_new(p, "mode", json_string(net_mode_names[o->mode]));
	json_object_set_new(p, "size", json_string(o->sizes.text));
	json_object_set_new(p, "mergeable", json_boolean(o->mergeable));
	json_object_set_new(p, "offloads", json_boolean(o->offloads));
	json_object_set_new(p, "rx_buffer", json_integer(o->rx_buffer));
	json_object_set_new(p, "burst", json_integer(o->burst));
	json_object_set_new(p, "window",
			o->window == NET_NO_WINDOW ? json_null() : json_integer(o->window));
	json_object_set_new(p, "touch", json_boolean(o->touch));
	json_object_set_new(p, "idle", json_integer(o->idle));
	snprintf(net->report->what, sizeof(net->report->what),
			"net %s, size %s, %s%s%s, burst %u%s%s", net_mode_names[o->mode],
			o->sizes.text, run_ring_text(fe, rings, sizeof(rings)),
			o->mergeable ? ", mergeable" : "", o->offloads ? ", offloads" : "",
			o->burst, o->touch ? ", touched" : "",
			net->mem.hugepages ? "" : ", no hugepages");
}

/* Nothing at all is no result, whatever the mode. */
static void
look_for_silence(struct report *r)
{
	for (unsigned int i = 0; i < r->n_queues; i++) {
		if (r->queues[i].figures.items == 0)
			report_fail(r, "device %u, queue %u: no packet in the measured time",
					r->queues[i].device, r->queues[i].queue);
	}
}

/* ---- run ---- */

static int
run_net(struct net_run *net, unsigned int n_lcores)
{
	struct run run = { 0 };

	net->n_busy = run_options.n_sockets - net->o.idle;
	if (open_devices(net) != 0)
		return PERF_USAGE;
	if (deal_queues(net, n_lcores) != 0) {
		perf_error("net", "out of memory");
		return PERF_USAGE;
	}
	describe(net);
	run.report = net->report;
	run.frontends = net->frontends;
	run.n_frontends = net->n_devices;
	run.lcore = net_generate;
	run.arg = net->lcores;
	run.wait_for_items = true;
	run_drive(&run);
	if (!workers_asked_to_end())
		look_for_silence(net->report);
	run_stop(&run);
	return run_tell(net->report);
}

static void
clean_up(struct net_run *net)
{
	const unsigned int n_lcores = net->report != NULL ? net->report->n_lcores : 0;

	for (unsigned int i = 0; i < net->n_devices; i++)
		net_device_close(&net->devices[i]);
	for (unsigned int i = 0; net->lcores != NULL && i < n_lcores; i++)
		free(net->lcores[i].queues);
	free(net->lcores);
	free(net->devices);
	free(net->frontends);
	report_destroy(net->report);
	memory_destroy(&net->mem);
}

static int
net_command(int argc, char **argv)
{
	struct net_run *net = calloc(1, sizeof(*net));
	int ret;

	if (net == NULL)
		return PERF_USAGE;
	ret = net_options_parse(argc, argv, &net->o);
	if (ret != 0) {
		free(net);
		return ret > 0 ? PERF_OK : PERF_USAGE;
	}
	ret = workers_start(run_options.cpus);
	if (ret > 0) {
		ret = run_net(net, (unsigned int)ret);
		clean_up(net);
		workers_stop();
	} else {
		ret = PERF_USAGE;
	}
	free(net);
	return ret;
}

const struct perf_command perf_net = {
	.name = "net",
	.help = "packets, as the front end of a network device",
	.run = net_command,
};
