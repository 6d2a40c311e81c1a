/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Features: the device's, those of its rings, those of the protocol; and how many queues there are.
 * Called by frontend.c; next: inflight.c, and frontend.c again.
 */
#include <errno.h>
#include <inttypes.h>

#include "frontend.h"
#include "perf.h"

#define F_VERSION_1 (UINT64_C(1) << 32)

/* What this front end can do; the others when they are asked for. */
#define OUR_PROTOCOL (VHUB_USER_PF(MQ) | VHUB_USER_PF(REPLY_ACK) | VHUB_USER_PF(CONFIG))
#define SUSPEND_PROTOCOL \
	(VHUB_USER_PF(GET_VRING_BASE_INFLIGHT) | VHUB_USER_PF(GET_VRING_BASE_SKIP_DRAIN))

static const struct frontend_feature transport[] = {
	{ 28, "INDIRECT_DESC", "--indirect" },
	{ 29, "EVENT_IDX", "--event-idx" },
	{ 30, "PROTOCOL_FEATURES", NULL },
	{ 32, "VERSION_1", NULL },
	{ 34, "RING_PACKED", "--packed" },
	{ 35, "IN_ORDER", "--in-order" },
	{ 0, NULL, NULL },
};

static const struct frontend_feature *
find_feature(const struct frontend_feature *list, unsigned int bit)
{
	for (; list != NULL && list->name != NULL; list++) {
		if (list->bit == bit)
			return list;
	}
	return NULL;
}

static int
say_missing(const struct frontend *fe, uint64_t missing)
{
	const unsigned int bit = (unsigned int)__builtin_ctzll(missing);
	const struct frontend_feature *f = find_feature(transport, bit);

	if (f == NULL)
		f = find_feature(fe->config.names, bit);
	if (f != NULL && f->option != NULL)
		perf_error(fe->config.path,
				"the back end does not offer %s (bit %u; it offers 0x%" PRIx64
				"): leave out %s, or let the back end offer it",
				f->name, bit, fe->offered, f->option);
	else
		perf_error(fe->config.path,
				"the back end does not offer %s (bit %u; it offers 0x%" PRIx64
				"): this front end cannot do without",
				f != NULL ? f->name : "a feature", bit, fe->offered);
	return -ENOTSUP;
}

static int
negotiate_protocol(struct frontend *fe)
{
	uint64_t want = OUR_PROTOCOL;
	int ret;

	if (fe->config.inflight)
		want |= VHUB_USER_PF(INFLIGHT_SHMFD);
	if (fe->config.suspend)
		want |= SUSPEND_PROTOCOL;
	if ((fe->offered & VHUB_F(PROTOCOL_FEATURES)) != 0) {
		ret = wire_ask_u64(fe, VHUB_USER_GET_PROTOCOL_FEATURES, &fe->protocol_offered);
		if (ret == 0)
			ret = wire_tell_u64(fe, VHUB_USER_SET_PROTOCOL_FEATURES,
					want & fe->protocol_offered);
		if (ret != 0)
			return ret;
		fe->protocol = want & fe->protocol_offered;
	}
	if (fe->config.inflight && (fe->protocol & VHUB_USER_PF(INFLIGHT_SHMFD)) == 0) {
		perf_error(fe->config.path,
				"the back end does not offer INFLIGHT_SHMFD (protocol features 0x%" PRIx64
				"): leave out --inflight",
				fe->protocol_offered);
		return -ENOTSUP;
	}
	if (fe->config.suspend && (fe->protocol & SUSPEND_PROTOCOL) != SUSPEND_PROTOCOL) {
		perf_error(fe->config.path,
				"the back end does not offer GET_VRING_BASE_SKIP_DRAIN (protocol features 0x%" PRIx64
				"): leave out --suspend",
				fe->protocol_offered);
		return -ENOTSUP;
	}
	return 0;
}

/* In what the device counts in: a net back end says pairs, which are two rings each. */
static int
ask_number(struct frontend *fe)
{
	fe->max_queues = UINT64_MAX;
	if ((fe->protocol & VHUB_USER_PF(MQ)) == 0)
		return 0;
	return wire_ask_u64(fe, VHUB_USER_GET_QUEUE_NUM, &fe->max_queues);
}

int
frontend_negotiate(struct frontend *fe)
{
	const uint64_t want = fe->config.features | F_VERSION_1 | VHUB_F(PROTOCOL_FEATURES);
	const uint64_t required = fe->config.required | F_VERSION_1;
	int ret;

	fe->protocol = 0;
	fe->protocol_offered = 0;
	ret = wire_ask_u64(fe, VHUB_USER_GET_FEATURES, &fe->offered);
	if (ret != 0)
		return ret;
	if ((required & ~fe->offered) != 0)
		return say_missing(fe, required & ~fe->offered);
	ret = negotiate_protocol(fe);
	if (ret == 0)
		ret = ask_number(fe);
	if (ret == 0)
		ret = wire_tell(fe, &(struct wire_message){ .request = VHUB_USER_SET_OWNER });
	if (ret != 0)
		return ret;
	fe->features = want & fe->offered;
	return wire_tell_u64(fe, VHUB_USER_SET_FEATURES, fe->features);
}
