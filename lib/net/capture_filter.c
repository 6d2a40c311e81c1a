/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which frames are captured: an expression of libpcap's ("tcp port 80"), compiled once. Called by
 * capture.c, which next copies what is wanted.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <pcap/pcap.h>

#include "capture.h"

struct capture_filter {
	struct bpf_program program;
};

int
capture_filter_make(const char *text, uint32_t snaplen_bytes, struct capture_filter **out,
		char *error, size_t error_len)
{
	struct capture_filter *filter = calloc(1, sizeof(*filter));
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, (int)snaplen_bytes);
	int ret = 0;

	if (filter == NULL || pcap == NULL) {
		snprintf(error, error_len, "out of memory");
		ret = -ENOMEM;
	} else if (pcap_compile(pcap, &filter->program, text, 1, PCAP_NETMASK_UNKNOWN) != 0) {
		snprintf(error, error_len, "filter=%.128s: %s", text, pcap_geterr(pcap));
		ret = -EINVAL;
	}
	if (pcap != NULL)
		pcap_close(pcap);
	if (ret != 0)
		free(filter);
	else
		*out = filter;
	return ret;
}

void
capture_filter_free(struct capture_filter *filter)
{
	if (filter == NULL)
		return;
	pcap_freecode(&filter->program);
	free(filter);
}

bool
capture_filter_admits(const struct capture_filter *filter, const uint8_t *frame, uint32_t bytes,
		uint32_t here_bytes)
{
	return bpf_filter(filter->program.bf_insns, frame, bytes, here_bytes) != 0;
}
