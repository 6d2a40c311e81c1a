/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop of an lcore of `vhub-perf net`: it goes round its queues; on each it receives, then
 * sends. Launched through run.c; on the way net_receive.h and net_send.h; next, when all have
 * ended, net_run.c, for the report.
 */
#include <rte_cycles.h>

#include "net.h"
#include "net_receive.h"
#include "net_send.h"

/* At the end, when nothing comes for so long, nothing will; a turn counts for TURN_MS at most. */
#define QUIET_MS 2000u
#define TURN_MS 1u

/* ---- phases ---- */

/* Before the measured time begins. */
static void
forget_ramp(const struct net_lcore *l)
{
	for (unsigned int i = 0; i < l->n_queues; i++) {
		struct net_queue *q = l->queues[i];

		report_forget(q->report);
		net_flow_begin(&q->own);
		q->kicks_before = q->rx->kicks + q->tx->kicks;
	}
}

static void
enter(const struct net_lcore *l, enum run_phase phase, uint64_t now)
{
	const uint64_t rate = run_options.rate;

	for (unsigned int i = 0; i < l->n_queues; i++) {
		struct net_queue *q = l->queues[i];

		q->measuring = phase == RUN_MEASURE;
		q->counting = phase <= RUN_MEASURE;
		q->stall_cycles = now;
		q->stall_next = q->own.next;
		q->paced = rate != 0;
		if (phase > RUN_MEASURE) {
			q->sends = false;
			continue;
		}
		if (q->paced && q->sends)
			pace_start(&q->pace, now, rte_get_tsc_hz(), rate, q->sender, q->n_senders);
	}
}

/* Sent, and not given back. */
static uint16_t
untaken(const struct net_queue *q)
{
	return (uint16_t)(q->tx->n_slots - net_free_slots(q));
}

/*
 * Whether nothing of the queue is under way any more: all that was sent has been taken, and what
 * has not come back was lost, which is so after a `long_while`.
 */
static bool
is_quiet(const struct net_queue *q, bool long_while)
{
	return untaken(q) == 0 &&
			(long_while || !q->receives || q->o->mode == NET_RX ||
					net_flow_lost(q->expects) == 0);
}

/* ---- the loop ---- */

static int
give_up(struct run *run, const struct net_queue *q)
{
	return run_fault(run, "%s: %s", q->path,
			q->rx->fault[0] != '\0' ? q->rx->fault : q->tx->fault);
}

/* Returns how many buffers came and packets went, or -EPROTO. */
static __rte_always_inline int
turn(struct net_queue *q, uint64_t now, const bool draining, const bool packed)
{
	int received = 0, sent = 0;

	if (q->receives)
		received = net_receive(q, packed);
	if (unlikely(received < 0))
		return received;
	if (q->sends)
		sent = net_send(q, now, packed);
	else if (draining)
		sent = net_take_back(q, true, packed);
	ring_kick_both(q->rx, q->tx, packed);
	return sent < 0 ? sent : received + sent;
}

static __rte_always_inline int
all_turns(struct run *run, const struct net_lcore *l, uint64_t now, const bool draining,
		const bool packed)
{
	int n = 0;

	for (unsigned int i = 0; i < l->n_queues; i++) {
		const int ret = turn(l->queues[i], now, draining, packed);

		if (unlikely(ret < 0))
			return give_up(run, l->queues[i]);
		n += ret;
	}
	return n;
}

static bool
all_quiet(const struct net_lcore *l, bool long_while)
{
	for (unsigned int i = 0; i < l->n_queues; i++) {
		if (!is_quiet(l->queues[i], long_while))
			return false;
	}
	return true;
}

/* Figures that are known at the end only. */
static void
sum_up(const struct net_lcore *l)
{
	for (unsigned int i = 0; i < l->n_queues; i++) {
		const struct net_queue *q = l->queues[i];
		struct report_figures *f = &q->report->figures;

		vhub_count(&f->counts[NET_KICKS], q->rx->kicks + q->tx->kicks - q->kicks_before);
		vhub_count(&f->counts[NET_UNTAKEN], untaken(q));
		if (q->o->mode != NET_RX)
			vhub_count(&f->counts[NET_SENT], q->own.sent - q->own.base);
		if (!q->receives)
			continue;
		vhub_count(&f->counts[NET_RECEIVED],
				q->o->mode == NET_RX ? f->items : q->expects->arrived);
		/* A source does not wait for room: its gaps are no fault of the device. */
		if (q->o->mode == NET_RX)
			vhub_count(&f->counts[NET_GAPS], net_flow_lost(q->expects));
		else
			vhub_count(&f->errors[NET_LOST], net_flow_lost(q->expects));
	}
}

/* All queues have the same options. */
static uint64_t
touched_bytes(const struct net_lcore *l)
{
	const struct net_options *o = l->queues[0]->o;

	return o->touch ? o->sizes.max : 0;
}

static __rte_always_inline int
generate(struct run *run, unsigned int lcore, const bool packed)
{
	const uint64_t ms = rte_get_tsc_hz() / 1000;
	const struct net_lcore *l = &((const struct net_lcore *)run->arg)[lcore];
	enum run_phase phase, last = RUN_END;
	struct run_meter meter;
	uint64_t now, begin, quiet = 0;
	int n = 0;

	run_meter_init(&meter, &run->report->lcores[lcore], touched_bytes(l));
	now = rte_rdtsc();

	while ((phase = run_phase(run)) != RUN_END) {
		if (unlikely(phase != last)) {
			if (phase == RUN_MEASURE)
				forget_ramp(l);
			now = rte_rdtsc();
			run_meter_enter(&meter, phase, now);
			enter(l, phase, now);
			last = phase;
		}
		n = all_turns(run, l, now, phase == RUN_DRAIN, packed);
		if (unlikely(n < 0))
			break;
		begin = now;
		now = rte_rdtsc();
		run_meter_turn(&meter, now, (unsigned int)n);
		if (unlikely(phase == RUN_DRAIN)) {
			quiet = n > 0 ? 0 : quiet + RTE_MIN(now - begin, TURN_MS * ms);
			if (all_quiet(l, quiet > QUIET_MS * ms))
				break;
		}
	}
	run_meter_enter(&meter, RUN_END, now);
	sum_up(l);
	return n < 0 ? n : 0;
}

int
net_generate(struct run *run, unsigned int lcore)
{
	return run_options.packed ? generate(run, lcore, true) : generate(run, lcore, false);
}
