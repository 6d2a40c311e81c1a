/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What goes into the dirty log ("Migration" in the vhost-user specification): the buffers that a
 * device has written, and, if the front end asked for it with VHOST_VRING_F_LOG, the used side of
 * the ring. Called by the push files and notify.c after the stores, and only while a log is set;
 * the bits themselves are lib/mem's.
 */
#include "virtq_pvt.h"

/*
 * log_guest_addr stands for the first byte of the used ring. In a packed ring two areas are
 * written, and front ends differ in which of them they mean: one that gives the address of the
 * event suppression means just that, and the descriptors lie where they lie; any other address is
 * taken for that of the descriptor ring.
 */
void
dirty_set_bases(struct vhub_virtq *vq)
{
	uint64_t event_gpa;

	vq->ring_log_gpa = vq->used_log_gpa;
	vq->event_log_gpa = vq->used_log_gpa;
	if (!vq->packed)
		return;
	event_gpa = vhub_mem_hva_to_gpa(vq->mem, vq->device_event);
	if (vq->used_log_gpa == event_gpa)
		vq->ring_log_gpa = vhub_mem_hva_to_gpa(vq->mem, vq->ring);
	else
		vq->event_log_gpa = event_gpa;
}

static void
dirty_mark_chain(const struct vhub_virtq *vq, const struct vhub_chain *chain)
{
	const struct iovec *iov = chain->iov + chain->n_out;
	uint64_t left = chain->used_bytes;

	for (uint16_t i = 0; i < chain->n_in && left != 0; i++) {
		const uint64_t here = RTE_MIN(left, iov[i].iov_len);

		/* A piece lies in one region, so it is contiguous for the guest too. */
		vhub_dirty_log_mark(vq->log, vhub_mem_hva_to_gpa(vq->mem, iov[i].iov_base), here);
		left -= here;
	}
}

void
dirty_mark_data(const struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		dirty_mark_chain(vq, chains[i]);
}

void
dirty_mark_ring(const struct vhub_virtq *vq, uint64_t offset, uint64_t len)
{
	if (vq->log_used)
		vhub_dirty_log_mark(vq->log, vq->ring_log_gpa + offset, len);
}

void
dirty_mark_event(const struct vhub_virtq *vq, uint64_t offset, uint64_t len)
{
	if (vq->log_used)
		vhub_dirty_log_mark(vq->log, vq->event_log_gpa + offset, len);
}

/*
 * Entries are published first and marked then, so a back end that is killed in between leaves some
 * that nobody has marked, and the next one goes on behind them. Which ones it does not know: it marks
 * all that they may be. Front ends that reconnect give the log with the ring or soon after it, before
 * they enable it; the first log that marks the ring at all is taken for the one that may lack them.
 */
void
dirty_mark_former(struct vhub_virtq *vq)
{
	uint64_t desc_bytes, avail_bytes, used_bytes;

	if (!vq->former_unmarked || vq->log == NULL || !vq->log_used)
		return;
	vq->former_unmarked = false;
	if (vq->packed) {
		dirty_mark_ring(vq, 0, vq->size * sizeof(struct packed_desc));
		dirty_mark_event(vq, 0, sizeof(*vq->device_event));
		return;
	}
	vhub_virtq_layout((uint16_t)vq->size, vq->event_idx ? VIRTQ_F_EVENT_IDX : 0, &desc_bytes,
			&avail_bytes, &used_bytes);
	dirty_mark_ring(vq, 0, used_bytes);
}
