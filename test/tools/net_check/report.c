/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What vhub-net-check says: faults on standard error, progress and the result on standard output.
 * Called by every other file; nothing comes next.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "net_check.h"

#define FAULTS_SHOWN 20

static char failure[256];
static unsigned int faults;

void
report_fault(const struct check_flow *flow, const char *format, ...)
{
	va_list args;

	if (++faults > FAULTS_SHOWN)
		return;
	fprintf(stderr, "vhub-net-check: port %u queue %u: ", flow->port->id, flow->queue);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs(faults == FAULTS_SHOWN ? "; no more is shown\n" : "\n", stderr);
}

void
report_fail(const char *format, ...)
{
	va_list args;

	if (report_failed())
		return;
	va_start(args, format);
	vsnprintf(failure, sizeof(failure), format, args);
	va_end(args);
	fprintf(stderr, "vhub-net-check: %s\n", failure);
}

bool
report_failed(void)
{
	return failure[0] != '\0';
}

void
report_progress(const struct check_flow *flows, unsigned int n, uint32_t restarts, double now)
{
	static uint64_t last_received;
	static double last;
	uint64_t received = 0, least = UINT64_MAX;
	unsigned int i;

	for (i = 0; i < n; i++) {
		received += flows[i].counts.received;
		least = RTE_MIN(least, flows[i].counts.received);
	}
	printf("{\"time\":%.6f,\"received\":%" PRIu64 ",\"least\":%" PRIu64
	       ",\"restarts\":%u,\"rate\":%.0f}\n",
			now, received, least, restarts,
			last == 0 ? 0 : (received - last_received) / (now - last));
	fflush(stdout);
	last = now;
	last_received = received;
}

static void
add_up(struct check_counts *sum, const struct check_counts *each)
{
	sum->sent += each->sent;
	sum->received += each->received;
	sum->bytes += each->bytes;
	sum->lost += each->lost;
	sum->lost_at_reconnect += each->lost_at_reconnect;
	sum->duplicates += each->duplicates;
	sum->reordered += each->reordered;
	sum->corrupt += each->corrupt;
	sum->foreign += each->foreign;
	sum->others += each->others;
	sum->whole += each->whole;
	sum->segmented += each->segmented;
	sum->short_sums += each->short_sums;
}

static void
print_counts(const struct check_counts *c)
{
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = {
		{ "sent", c->sent },
		{ "received", c->received },
		{ "bytes", c->bytes },
		{ "lost", c->lost },
		{ "lost_at_reconnect", c->lost_at_reconnect },
		{ "duplicates", c->duplicates },
		{ "reordered", c->reordered },
		{ "corrupt", c->corrupt },
		{ "foreign", c->foreign },
		{ "others", c->others },
		{ "whole", c->whole },
		{ "segmented", c->segmented },
		{ "short_sums", c->short_sums },
	};
	unsigned int i;

	for (i = 0; i < RTE_DIM(fields); i++)
		printf("%s\"%s\":%" PRIu64, i == 0 ? "" : ",", fields[i].name, fields[i].value);
}

/* `failure` holds names and numbers of ours and errno texts: nothing that JSON has to escape. */
static void
print_json(const struct check_flow *flows, unsigned int n, const struct check_counts *sum,
		uint32_t reconnects, uint32_t restarts, double seconds)
{
	unsigned int i;

	printf("{\"ok\":%s,\"error\":\"%s\",\"seconds\":%.3f,\"rate\":%.0f,\"reconnects\":%u,"
	       "\"restarts\":%u,",
			report_failed() ? "false" : "true", failure, seconds,
			sum->received / seconds, reconnects, restarts);
	print_counts(sum);
	printf(",\"flows\":[");
	for (i = 0; i < n; i++) {
		printf("%s{\"port\":%u,\"queue\":%u,", i == 0 ? "" : ",", flows[i].port->id,
				flows[i].queue);
		print_counts(&flows[i].counts);
		printf("}");
	}
	printf("]}\n");
}

static void
judge(const struct check_flow *flows, unsigned int n, const struct check_counts *sum,
		uint32_t reconnects)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (flows[i].counts.received == 0)
			report_fail("nothing came back on queue %u of port %u", flows[i].queue,
					flows[i].port->id);
	if (sum->lost != 0)
		report_fail("%" PRIu64 " %s lost", sum->lost,
				check_options.tcp_bytes == 0 ? "packets are" : "bytes are");
	if (sum->duplicates + sum->reordered + sum->corrupt + sum->foreign != 0)
		report_fail("%" PRIu64 " packets are not right",
				sum->duplicates + sum->reordered + sum->corrupt + sum->foreign);
	if (check_options.reconnect && reconnects == 0)
		report_fail("the link never came up again");
}

int
report_end(const struct check_flow *flows, unsigned int n, uint32_t reconnects, uint32_t restarts,
		double seconds)
{
	struct check_counts sum = { 0 };
	unsigned int i;

	for (i = 0; i < n; i++)
		add_up(&sum, &flows[i].counts);
	judge(flows, n, &sum, reconnects);
	if (check_options.json)
		print_json(flows, n, &sum, reconnects, restarts, seconds);
	else
		printf("%s: %" PRIu64 " sent, %" PRIu64 " received, %" PRIu64 " lost (%" PRIu64
		       " more at %u reconnects), %" PRIu64 " twice, %" PRIu64 " late, %" PRIu64
		       " corrupt, %" PRIu64 " foreign, %.0f packets/s\n",
				report_failed() ? "failed" : "right", sum.sent, sum.received,
				sum.lost, sum.lost_at_reconnect, reconnects, sum.duplicates,
				sum.reordered, sum.corrupt, sum.foreign, sum.received / seconds);
	fflush(stdout);
	return report_failed() ? 1 : 0;
}
