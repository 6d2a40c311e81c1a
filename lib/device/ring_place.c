/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a ring lies and what it is, as its session's record says: in guest memory, in the log, in the inflight
 * region. Called by rings.c, which comes next, and by the req_*.c when something of that changes.
 */
#include <errno.h>
#include <string.h>

#include "handler_pvt.h"

/* ---- where a ring lies ---- */

static int
ring_addresses(const struct vhub_device_handler *h, unsigned int index,
		const struct vhub_mem_table *mem, void **desc, void **avail, void **used)
{
	const struct vring_record *rec = &h->rec.vrings[index];
	uint64_t desc_bytes, avail_bytes, used_bytes;

	vhub_virtq_layout(rec->size, h->rec.features, &desc_bytes, &avail_bytes, &used_bytes);
	*desc = vhub_mem_uva_to_hva(mem, rec->addr.desc_uva, desc_bytes);
	*avail = vhub_mem_uva_to_hva(mem, rec->addr.avail_uva, avail_bytes);
	*used = vhub_mem_uva_to_hva(mem, rec->addr.used_uva, used_bytes);
	if (*desc == NULL || *avail == NULL || *used == NULL)
		return -EFAULT;
	return vhub_virtq_is_aligned(*desc, *avail, *used, vhub_virtq_is_packed(h->rec.features)) ?
			0 :
			-EINVAL;
}

int
rings_check_addresses(const struct vhub_device_handler *h, unsigned int index,
		const struct vhub_mem_table *mem)
{
	void *desc, *avail, *used;

	return foreign_has_iommu(h) ? 0 : ring_addresses(h, index, mem, &desc, &avail, &used);
}

int
rings_want_mem(struct vhub_device_handler *h, struct vring_run *vring, struct vhub_mem_table *mem)
{
	struct vring_want *want = &vring->want;
	int ret;

	if (h->dev->foreign != NULL)
		return rings_check_addresses(h, vring->pub.index, mem);
	ret = ring_addresses(h, vring->pub.index, mem, &want->desc, &want->avail, &want->used);
	if (ret != 0)
		return ret;
	want->mem = mem;
	want->mask |= VRING_WANT_MEM;
	return 0;
}

/*
 * Where a ring notes in the log what it writes of itself, and how much that may be. In a packed ring those are
 * the descriptors, and log_guest_addr may be the address of its other part that we write: see dirty_set_bases().
 */
static uint64_t
ring_log_gpa(const struct vhub_device_handler *h, unsigned int index, uint64_t *bytes)
{
	const struct vhub_user_vring_addr *addr = &h->rec.vrings[index].addr;
	uint64_t desc_bytes, avail_bytes;
	const void *desc, *event;

	vhub_virtq_layout(h->rec.vrings[index].size, h->rec.features, &desc_bytes, &avail_bytes,
			bytes);
	if (!vhub_virtq_is_packed(h->rec.features))
		return addr->log_gpa;
	event = vhub_mem_uva_to_hva(h->mem, addr->used_uva, *bytes);
	desc = vhub_mem_uva_to_hva(h->mem, addr->desc_uva, desc_bytes);
	*bytes = desc_bytes;
	if (event == NULL || desc == NULL || vhub_mem_hva_to_gpa(h->mem, event) != addr->log_gpa)
		return addr->log_gpa;
	return vhub_mem_hva_to_gpa(h->mem, desc);
}

/* The last byte of the used ring must have its bit in the log ("Migration"). */
static int
check_used_log(const struct vhub_device_handler *h, unsigned int index,
		const struct vhub_dirty_log *log)
{
	const struct vhub_user_vring_addr *addr = &h->rec.vrings[index].addr;
	uint64_t gpa, bytes;

	if (log == NULL || (addr->flags & VHUB_USER_VRING_F_LOG) == 0)
		return 0;
	gpa = ring_log_gpa(h, index, &bytes);
	if (!vhub_dirty_log_covers(log, addr->log_gpa, 1) ||
			!vhub_dirty_log_covers(log, gpa, bytes))
		return -ERANGE;
	return 0;
}

int
log_too_short(struct vhub_request *req)
{
	return vhub_request_refuse(req, -ERANGE, "the log does not cover a used ring");
}

bool
rings_fit_log(const struct vhub_device_handler *h, const struct vhub_dirty_log *log)
{
	unsigned int i;

	for (i = 0; i < h->dev->max_queues; i++) {
		if (h->vrings[i] != NULL && check_used_log(h, i, log) != 0)
			return false;
	}
	return true;
}

int
rings_want_log(struct vhub_device_handler *h, struct vring_run *vring, struct vhub_dirty_log *log)
{
	const struct vhub_user_vring_addr *addr = &h->rec.vrings[vring->pub.index].addr;
	int ret = check_used_log(h, vring->pub.index, log);

	if (ret != 0)
		return ret;
	vring->want.log = log;
	vring->want.log_used = (addr->flags & VHUB_USER_VRING_F_LOG) != 0;
	vring->want.used_log_gpa = addr->log_gpa;
	vring->want.mask |= VRING_WANT_LOG;
	return 0;
}

void
rings_put_old(struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < h->event.n_vrings; i++) {
		struct vring_run *vring = h->event.vrings[i];

		vhub_mem_table_put(vring->old_mem);
		vring->old_mem = NULL;
		vhub_dirty_log_put(vring->old_log);
		vring->old_log = NULL;
	}
}

/* ---- what its record allows ---- */

/* What lib/virtq would refuse without a word. */
static int
check_shape(const struct vhub_device_handler *h, struct vhub_request *req,
		const struct vring_record *rec)
{
	bool packed = vhub_virtq_is_packed(h->rec.features);

	if (rec->size == 0 || !rec->has_addr || !h->rec.has_features)
		return vhub_request_refuse(req, -EINVAL,
				"SET_FEATURES, SET_VRING_NUM and SET_VRING_ADDR come before the start of a ring");
	if (!packed && (rec->size & (rec->size - 1)) != 0)
		return vhub_request_refuse(req, -EINVAL, "ring size %u is not a power of two",
				rec->size);
	if (!vhub_virtq_base_fits(rec->base, rec->size, packed))
		return vhub_request_refuse(req, -EINVAL, "base 0x%x lies beyond the ring",
				rec->base);
	return 0;
}

static int
check_places(struct vhub_device_handler *h, struct vhub_request *req, unsigned int index,
		struct vhub_virtq_config *config)
{
	int ret = 0;

	if (!foreign_has_iommu(h))
		ret = ring_addresses(h, index, h->mem, &config->desc, &config->avail,
				&config->used);
	if (ret == -EFAULT)
		return vhub_request_refuse(req, ret, "ring addresses outside of guest memory");
	if (ret != 0)
		return vhub_request_refuse(req, ret, "ring addresses are not aligned");
	if (check_used_log(h, index, config->log) != 0)
		return log_too_short(req);
	ret = inflight_part(h, index, &config->inflight, &config->inflight_bytes);
	if (ret != 0)
		return vhub_request_refuse(req, ret,
				"the inflight region is for %u entries a ring, ring %u has %u",
				h->rec.inflight.queue_size, index, h->rec.vrings[index].size);
	return 0;
}

int
ring_config(struct vhub_device_handler *h, struct vhub_request *req, unsigned int index,
		struct vhub_virtq_config *config)
{
	struct vring_record *rec = &h->rec.vrings[index];
	int ret = check_shape(h, req, rec);

	if (ret != 0)
		return ret;
	memset(config, 0, sizeof(*config));
	config->size = rec->size;
	config->features = h->rec.features;
	config->base = rec->base;
	config->from_used = h->dev->discards;
	config->mem = h->mem;
	config->faulted = &h->mem_owner.faulted;
	config->log = handler_active_log(h);
	config->log_used = (rec->addr.flags & VHUB_USER_VRING_F_LOG) != 0;
	config->used_log_gpa = rec->addr.log_gpa;
	config->call_fd = rec->call_fd;
	config->notify_account = &h->notify_accounts[index];
	config->chain_bytes = h->dev->chain_bytes;
	config->numa_node = h->mem->numa_node;
	return check_places(h, req, index, config);
}
