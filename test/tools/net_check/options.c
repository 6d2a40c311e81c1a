/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads the options of vhub-net-check, those after EAL's "--". Called by main.c; next: port.c.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/stdlib.h>

#include "net_check.h"

#define TCP_HEADERS 54	  /* Ethernet, IPv4 and TCP without options */
#define HALF_RING 128u	  /* of the smallest ring that is usual */
#define ENTRY_BYTES 1448u /* of payload: one segment, or not quite what a buffer holds */

struct check_options check_options = {
	.sizes = { 64 },
	.n_sizes = 1,
	.seed = 1,
	.queues = 1,
	.restartable = CHECK_MAX_PORTS,
	.timeout = 5,
	.link_timeout = 30,
};

static const char usage[] =
		"vhub-net-check EAL_ARGUMENTS -- OPTIONS\n"
		"Sends numbered packets through each virtio-user port (--vdev net_virtio_user0,...) to a back\n"
		"end that echoes them with the Ethernet addresses swapped, and checks what comes back.\n"
		"\n"
		"  --sizes N[,N...]   frame sizes in turn, 64 to 1518 bytes; mix: all of them, at random\n"
		"  --seed N           of the mix\n"
		"  --queues N         queue pairs of each port\n"
		"  --window N         packets under way per queue pair, at most 1024 (32, or as many as take\n"
		"                     half of a ring of 256)\n"
		"  --seconds S        for how long to send; or\n"
		"  --packets N        how many per queue pair\n"
		"                     (with neither: until SIGINT or SIGTERM; SIGUSR1 has all ports stopped,\n"
		"                     set up anew and started, once all that is under way has come back)\n"
		"  --csum             TCP packets with a partial checksum\n"
		"  --tso BYTES        TCP packets with that much payload, to be segmented by the other side\n"
		"  --guest-offload    accept partial checksums and large packets; expect packets back whole\n"
		"  --reconnect        the link is to go down and to come up again at least once\n"
		"  --late-vdev DEVICE as EAL's --vdev, when all of its memory is allocated\n"
		"  --lan              behind a switch: what is for others' addresses is no fault\n"
		"  --restartable N    SIGUSR1 is for the first N ports only (all)\n"
		"  --timeout S        how long a queue pair may stand still (5)\n"
		"  --link-timeout S   how long a link may stay down (30)\n"
		"  --progress[=S]     a line of JSON every S seconds (0.02)\n"
		"  --json             the last line is JSON\n";

enum {
	OPT_SIZES = 256,
	OPT_SEED,
	OPT_QUEUES,
	OPT_WINDOW,
	OPT_SECONDS,
	OPT_PACKETS,
	OPT_CSUM,
	OPT_TSO,
	OPT_GUEST_OFFLOAD,
	OPT_RECONNECT,
	OPT_LATE_VDEV,
	OPT_LAN,
	OPT_RESTARTABLE,
	OPT_TIMEOUT,
	OPT_LINK_TIMEOUT,
	OPT_PROGRESS,
	OPT_JSON,
	OPT_HELP,
};

static const struct option table[] = {
	{ "sizes", required_argument, NULL, OPT_SIZES },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "queues", required_argument, NULL, OPT_QUEUES },
	{ "window", required_argument, NULL, OPT_WINDOW },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "packets", required_argument, NULL, OPT_PACKETS },
	{ "csum", no_argument, NULL, OPT_CSUM },
	{ "tso", required_argument, NULL, OPT_TSO },
	{ "guest-offload", no_argument, NULL, OPT_GUEST_OFFLOAD },
	{ "reconnect", no_argument, NULL, OPT_RECONNECT },
	{ "late-vdev", required_argument, NULL, OPT_LATE_VDEV },
	{ "lan", no_argument, NULL, OPT_LAN },
	{ "restartable", required_argument, NULL, OPT_RESTARTABLE },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "link-timeout", required_argument, NULL, OPT_LINK_TIMEOUT },
	{ "progress", optional_argument, NULL, OPT_PROGRESS },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static long long
number(const char *name, const char *text, long long least, long long most)
{
	const char *error;
	long long value = strtonum(text, least, most, &error);

	if (error == NULL)
		return value;
	fprintf(stderr, "vhub-net-check: --%s %s: is %s; it takes %lld to %lld\n", name, text,
			error, least, most);
	exit(2);
}

static double
seconds(const char *name, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end != text && *end == '\0' && value > 0 && value < 1e6)
		return value;
	fprintf(stderr, "vhub-net-check: --%s %s: no number of seconds above 0\n", name, text);
	exit(2);
}

static void
read_sizes(char *text)
{
	struct check_options *o = &check_options;
	char *rest = text, *word;

	o->n_sizes = 0;
	if (strcmp(text, "mix") == 0)
		return;
	while ((word = strsep(&rest, ",")) != NULL) {
		if (o->n_sizes == CHECK_MAX_SIZES) {
			fprintf(stderr, "vhub-net-check: --sizes: more than %d\n", CHECK_MAX_SIZES);
			exit(2);
		}
		o->sizes[o->n_sizes++] = number("sizes", word, CHECK_MIN_FRAME, CHECK_MAX_FRAME);
	}
}

static void
read_one(int option, char *value)
{
	struct check_options *o = &check_options;

	switch (option) {
	case OPT_SIZES:
		read_sizes(value);
		break;
	case OPT_SEED:
		o->seed = number("seed", value, 0, INT64_MAX);
		break;
	case OPT_QUEUES:
		o->queues = number("queues", value, 1, CHECK_MAX_QUEUES);
		break;
	case OPT_WINDOW:
		o->window = number("window", value, 1, CHECK_SEEN / 4);
		break;
	case OPT_SECONDS:
		o->seconds = seconds("seconds", value);
		break;
	case OPT_PACKETS:
		o->packets = number("packets", value, 1, INT64_MAX);
		break;
	case OPT_CSUM:
		o->tcp_bytes = CHECK_MAX_FRAME - RTE_ETHER_CRC_LEN - TCP_HEADERS;
		break;
	case OPT_TSO:
		o->tso = true;
		o->tcp_bytes = number("tso", value, 1, CHECK_MAX_PACKET - TCP_HEADERS);
		break;
	case OPT_GUEST_OFFLOAD:
		o->guest_offload = true;
		break;
	case OPT_RECONNECT:
		o->reconnect = true;
		break;
	case OPT_LATE_VDEV:
		if (o->n_late_vdevs == CHECK_MAX_PORTS) {
			fprintf(stderr, "vhub-net-check: --late-vdev: more than %d\n",
					CHECK_MAX_PORTS);
			exit(2);
		}
		o->late_vdevs[o->n_late_vdevs++] = value;
		break;
	case OPT_LAN:
		o->lan = true;
		break;
	case OPT_RESTARTABLE:
		o->restartable = number("restartable", value, 0, CHECK_MAX_PORTS);
		break;
	case OPT_TIMEOUT:
		o->timeout = seconds("timeout", value);
		break;
	case OPT_LINK_TIMEOUT:
		o->link_timeout = seconds("link-timeout", value);
		break;
	case OPT_PROGRESS:
		o->progress = value == NULL ? 0.02 : seconds("progress", value);
		break;
	case OPT_JSON:
		o->json = true;
		break;
	case OPT_HELP:
		fputs(usage, stdout);
		exit(0);
	default:
		fputs(usage, stderr);
		exit(2);
	}
}

void
options_read(int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1)
		read_one(option, optarg);
	if (optind != argc) {
		fprintf(stderr, "vhub-net-check: %s: an option begins with --\n", argv[optind]);
		exit(2);
	}
	if (check_options.guest_offload && check_options.tcp_bytes == 0) {
		fprintf(stderr, "vhub-net-check: --guest-offload needs --csum or --tso\n");
		exit(2);
	}
	if (check_options.window == 0)
		check_options.window = RTE_MAX(1u,
				RTE_MIN(32u, HALF_RING / (1 + check_options.tcp_bytes / ENTRY_BYTES)));
}
