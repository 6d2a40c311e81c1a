/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `vhub-perf blk`: options, devices, lcores, report. Called by main.c; next: blk_options.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "blk.h"
#include "blk_verify.h"
#include "parse.h"
#include "perf.h"
#include "worker.h"

static const struct report_kind kind = {
	.command = "blk",
	.item = "request",
	.errors = {
		[BLK_ERROR_IO] = "io_error",
		[BLK_ERROR_UNSUPPORTED] = "unsupported",
		[BLK_ERROR_STATUS] = "unknown_status",
		[BLK_ERROR_NO_STATUS] = "status_not_written",
		[BLK_ERROR_LENGTH] = "short_read",
		[BLK_ERROR_MISMATCH] = "mismatch",
	},
	.counts = {
		[BLK_COUNT_READS] = "reads",
		[BLK_COUNT_WRITES] = "others",
		[BLK_COUNT_CHECKED] = "checked",
		[BLK_COUNT_RECONNECTS] = "reconnects",
		[BLK_COUNT_SUSPENSIONS] = "suspensions",
		[BLK_COUNT_LEFT] = "left_in_flight",
		[BLK_COUNT_SUSPEND_US] = "suspend_us",
	},
};

/* ---- make ---- */

static int
open_devices(struct blk_run *blk, const struct blk_options *o)
{
	int ret = 0;

	blk->devices = calloc(run_options.n_sockets, sizeof(*blk->devices));
	blk->frontends = calloc(run_options.n_sockets, sizeof(struct frontend *));
	if (blk->devices == NULL || blk->frontends == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; ret == 0 && i < run_options.n_sockets; i++) {
		blk->n_devices++;
		ret = blk_device_open(&blk->devices[i], o, run_options.sockets[i]);
		blk->frontends[i] = blk->devices[i].fe;
	}
	return ret;
}

/* The lcores take the queues in turn. */
static int
deal_queues(struct blk_run *blk, struct report *report)
{
	unsigned int place = 0;

	for (unsigned int i = 0; i < report->n_lcores; i++) {
		blk->queues[i] = calloc(report->n_queues, sizeof(*blk->queues[i]));
		if (blk->queues[i] == NULL)
			return -ENOMEM;
	}
	for (unsigned int d = 0; d < blk->n_devices; d++) {
		for (unsigned int i = 0; i < blk->devices[d].n_queues; i++, place++) {
			struct blk_queue *q = &blk->devices[d].queues[i];
			const unsigned int lcore = place % report->n_lcores;

			q->place = place;
			q->places = report->n_queues;
			q->report = &report->queues[place];
			q->figures = &q->report->figures;
			q->report->device = d;
			q->report->queue = i;
			q->report->lcore = lcore;
			blk->queues[lcore][blk->n_queues[lcore]++] = q;
		}
	}
	return 0;
}

/* ---- report ---- */

static void
describe(struct report *r, const struct blk_run *blk, const struct blk_options *o)
{
	const struct blk_device *first = &blk->devices[0];
	char rings[160], bs[32];

	/* What was chosen for the depth, where the user did not say. */
	run_options.ring_size = first->rings[0]->size;
	run_report_parameters(r, first->fe, first->mem.hugepages);
	json_object_set_new(r->parameters, "rw", json_string(blk_rw_name(o->rw)));
	json_object_set_new(r->parameters, "rwmixread", json_integer(o->rwmixread));
	json_object_set_new(r->parameters, "bs", json_integer((json_int_t)o->bs_bytes));
	json_object_set_new(r->parameters, "offset", json_integer((json_int_t)o->offset_bytes));
	json_object_set_new(r->parameters, "size",
			json_integer((json_int_t)(o->size_bytes != 0 ?
							o->size_bytes :
							first->capacity_bytes - o->offset_bytes)));
	json_object_set_new(r->parameters, "iodepth", json_integer(o->iodepth));
	json_object_set_new(r->parameters, "touch", json_boolean(o->touch));
	json_object_set_new(r->parameters, "verify", json_boolean(o->verify));
	json_object_set_new(r->parameters, "inflight", json_boolean(o->inflight));
	json_object_set_new(r->parameters, "suspend_s", json_real((double)o->suspend_ns / 1e9));
	if (o->hand_over != NULL)
		json_object_set_new(r->parameters, "hand_over", json_string(o->hand_over));
	json_object_set_new(r->parameters, "capacity",
			json_integer((json_int_t)first->capacity_bytes));
	snprintf(r->what, sizeof(r->what), "blk %s, %s, depth %u%s, %s%s", blk_rw_name(o->rw),
			format_size(o->bs_bytes, bs, sizeof(bs)), o->iodepth,
			o->verify		 ? ", verified" :
					o->touch ? ", touched" :
						   "",
			run_ring_text(first->fe, rings, sizeof(rings)),
			first->mem.hugepages ? "" : ", no hugepages");
}

/* What the back end has kept. */
static void
count_lost(struct report *r, const struct blk_run *blk)
{
	for (unsigned int d = 0; d < blk->n_devices; d++) {
		for (unsigned int i = 0; i < blk->devices[d].n_queues; i++) {
			const struct blk_queue *q = &blk->devices[d].queues[i];

			if (q->n_free < q->depth)
				report_fail(r, "%s: ring %u: %u requests did not come back",
						q->device->path, i, q->depth - q->n_free);
		}
	}
}

/* ---- run ---- */

/* A run that came to its end is reported, also when the back end did not. */
static void
drive(struct blk_run *blk, struct report *report, bool verify)
{
	struct run run = {
		.report = report,
		.frontends = blk->frontends,
		.n_frontends = blk->n_devices,
		.lcore = blk_generate,
		.arg = blk,
	};

	if (verify)
		blk_verify_drive(blk, report);
	else
		run_drive(&run);
	count_lost(report, blk);
	run_stop(&run);
}

static int
run_with(struct blk_run *blk, const struct blk_options *o, unsigned int n_lcores)
{
	struct report *report = NULL;
	int ret = open_devices(blk, o), status = PERF_USAGE;

	blk->options = o;
	if (ret == 0)
		ret = report_create(&kind, run_options.n_sockets * run_options.queues,
				RTE_MIN(n_lcores, run_options.n_sockets * run_options.queues),
				&report);
	if (ret == 0)
		ret = deal_queues(blk, report);
	if (ret == 0) {
		describe(report, blk, o);
		drive(blk, report, o->verify);
		status = run_tell(report);
	}
	report_destroy(report);
	return status;
}

static int
blk_main(int argc, char **argv)
{
	struct blk_run blk = { .devices = NULL };
	struct blk_options o;
	int ret = blk_options_read(&o, argc, argv), status;

	if (ret != 0)
		return ret > 0 ? PERF_OK : PERF_USAGE;
	ret = workers_start(run_options.cpus);
	if (ret < 0)
		return PERF_USAGE;
	status = run_with(&blk, &o, (unsigned int)ret);
	for (unsigned int i = 0; i < blk.n_devices; i++)
		blk_device_close(&blk.devices[i]);
	free(blk.devices);
	free(blk.frontends);
	for (unsigned int i = 0; i < RTE_MAX_LCORE; i++)
		free(blk.queues[i]);
	workers_stop();
	return status;
}

const struct perf_command perf_blk = {
	.name = "blk",
	.help = "block requests to vhost-user-blk back ends",
	.run = blk_main,
};
