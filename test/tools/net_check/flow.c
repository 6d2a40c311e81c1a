/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue pair: sends what the window allows, receives, and keeps the order in view. Called by
 * main.c in a loop; next: frame.c or stream.c for what is in a packet.
 *
 * A back end may discard what comes before it has both rings, so each life of the link, and of the port
 * between two restarts, begins with probes. The first that comes back says that everything sent in an
 * earlier life and not yet back was lost on the way, since a flow keeps its order.
 */
#include <string.h>

#include <rte_ethdev.h>

#include "net_check.h"

#define PROBE_SECONDS 0.01

static uint64_t
outstanding(const struct check_flow *flow)
{
	return flow->next - flow->expected;
}

bool
flow_idle(const struct check_flow *flow)
{
	return outstanding(flow) == 0;
}

void
flow_arrived(struct check_flow *flow, uint64_t at, uint64_t step)
{
	struct check_counts *c = &flow->counts;
	uint64_t *seen = &flow->seen[at % CHECK_SEEN];

	if (at >= flow->next) {
		c->foreign++;
		report_fault(flow, "%lu came back before it was sent", at);
		return;
	}
	if (at < flow->expected) {
		if (*seen == at + 1) {
			c->duplicates++;
			report_fault(flow, "%lu came back twice", at);
			return;
		}
		c->reordered++;
		c->lost -= RTE_MIN(c->lost, step);
		report_fault(flow, "%lu came back after %lu", at, flow->expected - 1);
	} else {
		/*
		 * Before the probe comes what the back end of before left in the ring, behind what it
		 * had taken from there and gave to nobody.
		 */
		if (flow->probing) {
			c->lost_at_reconnect += at - flow->expected;
		} else if (at > flow->expected) {
			c->lost += at - flow->expected;
			report_fault(flow, "%lu to %lu are missing", flow->expected, at - 1);
		}
		flow->expected = at + step;
	}
	*seen = at + 1;
	c->received++;
}

/* ---- sending ---- */

static void
send_probe(struct check_flow *flow, double now)
{
	struct rte_mbuf *m;

	if (now - flow->probed < PROBE_SECONDS)
		return;
	flow->probed = now;
	m = rte_pktmbuf_alloc(flow->port->pool);
	if (m == NULL)
		return;
	if (frame_build_probe(flow, m) != 0 ||
			rte_eth_tx_burst(flow->port->id, flow->queue, &m, 1) != 1)
		rte_pktmbuf_free(m);
}

/* How many packets may be sent now. */
static unsigned int
send_room(const struct check_flow *flow, uint64_t step)
{
	const struct check_options *o = &check_options;
	uint64_t under_way = (outstanding(flow) + step - 1) / step;
	uint64_t room = under_way < o->window ? o->window - under_way : 0;

	if (o->packets != 0)
		room = RTE_MIN(room, o->packets - flow->next / step);
	return RTE_MIN(room, (uint64_t)CHECK_BURST);
}

static unsigned int
send_burst(struct check_flow *flow, const struct check_traffic *traffic, double now)
{
	uint64_t step = traffic->step(flow);
	unsigned int room = send_room(flow, step), n, ready, sent;
	struct rte_mbuf *burst[CHECK_BURST];

	if (room == 0 || rte_pktmbuf_alloc_bulk(flow->port->pool, burst, room) != 0)
		return 0;
	if (flow_idle(flow))
		flow->heard = now;
	for (n = 0; n < room; n++) {
		if (traffic->build(flow, burst[n]) != 0)
			break;
		flow->next += step;
	}
	ready = check_options.tcp_bytes == 0 ?
			n :
			rte_eth_tx_prepare(flow->port->id, flow->queue, burst, n);
	if (ready < n)
		report_fail("port %u cannot send such packets: %s", flow->port->id,
				rte_strerror(rte_errno));
	sent = rte_eth_tx_burst(flow->port->id, flow->queue, burst, ready);
	rte_pktmbuf_free_bulk(burst + sent, room - sent);
	/* What did not go is built anew next time. */
	flow->next -= (n - sent) * step;
	flow->counts.sent += sent;
	return sent;
}

/* ---- receiving ---- */

static void
probe_came(struct check_flow *flow, uint32_t epoch, double now)
{
	if (epoch != flow->epoch || !flow->probing)
		return;
	flow->counts.lost_at_reconnect += outstanding(flow);
	flow->expected = flow->next;
	flow->probing = false;
	flow->heard = now;
}

static void
receive_one(struct check_flow *flow, const struct check_traffic *traffic, const struct rte_mbuf *m,
		double now)
{
	static uint8_t scratch[CHECK_MAX_PACKET];
	const struct rte_ether_hdr *eth;
	uint32_t len = rte_pktmbuf_pkt_len(m), epoch;
	const uint8_t *data = NULL;

	if (len >= sizeof(*eth) && len <= sizeof(scratch))
		data = rte_pktmbuf_read(m, 0, len, scratch);
	if (data == NULL) {
		flow->counts.foreign++;
		report_fault(flow, "a packet of %u bytes came that nobody sent", len);
		return;
	}
	eth = (const struct rte_ether_hdr *)data;
	if (check_options.lan && !rte_is_same_ether_addr(&eth->dst_addr, &flow->port->mac)) {
		flow->counts.others++;
		return;
	}
	flow->counts.bytes += len;
	if (!rte_is_same_ether_addr(&eth->dst_addr, &flow->port->mac) ||
			!rte_is_same_ether_addr(&eth->src_addr, &check_peer)) {
		flow->counts.corrupt++;
		report_fault(flow, "the addresses of a packet of %u bytes were not swapped", len);
		return;
	}
	if (frame_is_probe(flow, data, len, &epoch))
		probe_came(flow, epoch, now);
	else
		traffic->check(flow, m, data);
}

static unsigned int
receive_burst(struct check_flow *flow, const struct check_traffic *traffic, double now)
{
	struct rte_mbuf *burst[CHECK_BURST];
	unsigned int n = rte_eth_rx_burst(flow->port->id, flow->queue, burst, CHECK_BURST), i;
	uint64_t before = flow->counts.received;

	for (i = 0; i < n; i++)
		receive_one(flow, traffic, burst[i], now);
	rte_pktmbuf_free_bulk(burst, n);
	if (flow->counts.received != before)
		flow->heard = now;
	return n;
}

/* ---- the whole ---- */

static void
begin_life(struct check_flow *flow, uint32_t epoch, double now)
{
	flow->epoch = epoch;
	flow->probing = true;
	flow->probed = 0;
	flow->heard = now;
}

unsigned int
flow_poll(struct check_flow *flow, const struct check_traffic *traffic, bool sending, double now)
{
	uint32_t ups = __atomic_load_n(&flow->port->ups, __ATOMIC_ACQUIRE);
	uint32_t life = 1 + ups + flow->port->restarts;
	unsigned int moved;

	if (flow->epoch != life)
		begin_life(flow, life, now);
	moved = receive_burst(flow, traffic, now);
	if (flow->probing)
		send_probe(flow, now);
	else if (sending)
		moved += send_burst(flow, traffic, now);
	if ((flow->probing || !flow_idle(flow)) && now - flow->heard > check_options.timeout)
		report_fail("queue %u of port %u got nothing back for %g s (%lu sent, %lu received, "
			    "%s)",
				flow->queue, flow->port->id, check_options.timeout,
				flow->counts.sent, flow->counts.received,
				flow->probing ? "no probe came back" : "packets are under way");
	return moved;
}

void
flow_finish(struct check_flow *flow)
{
	flow->counts.lost += outstanding(flow);
	flow->expected = flow->next;
}
