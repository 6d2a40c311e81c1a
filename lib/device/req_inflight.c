/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GET_INFLIGHT_FD and SET_INFLIGHT_FD: the memory in which rings note what is in flight ("Inflight
 * I/O tracking"). GET makes a fresh one and keeps nothing of it; only what SET brings is used. Behind
 * the rings' parts is a byte of the device's, which outlives us as they do. Next: ring_place.c gives
 * each ring its part, lib/virtq writes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_common.h>

#include "handler_pvt.h"

static bool
is_packed(const struct vhub_device_handler *h)
{
	return vhub_virtq_is_packed(h->rec.features);
}

static int
check_shape(const struct vhub_device_handler *h, struct vhub_request *req)
{
	const struct vhub_user_inflight *inflight = &req->payload.inflight;

	if (inflight->num_queues == 0 || inflight->num_queues > h->dev->max_queues)
		return vhub_request_refuse(req, -EINVAL,
				"an inflight region for %u rings, there are %u",
				inflight->num_queues, h->dev->max_queues);
	if (inflight->queue_size == 0 || inflight->queue_size > VHUB_VIRTQ_MAX_SIZE)
		return vhub_request_refuse(req, -EINVAL,
				"an inflight region for rings of %u entries", inflight->queue_size);
	return 0;
}

static uint64_t
region_bytes(const struct vhub_device_handler *h, const struct vhub_user_inflight *inflight)
{
	return inflight->num_queues * vhub_inflight_queue_bytes(inflight->queue_size, is_packed(h));
}

/* ---- what the device keeps ---- */

/*
 * Behind the parts of the rings, in regions of our making: the specification has nothing there, and
 * front ends only keep the memory. They could write it: it is copied once and believed as far as
 * struct vhub_device_ops says.
 */
struct kept_trailer {
	char magic[8];
	uint8_t version;
	uint8_t byte;
	uint8_t zero[54];
};
_Static_assert(sizeof(struct kept_trailer) == 64, "as long as parts are aligned");

#define KEPT_MAGIC "vhubkept"
#define KEPT_VERSION 1

static bool
keeps(const struct vhub_device_handler *h)
{
	return h->dev->ops->keep != NULL && h->dev->ops->recall != NULL;
}

/* Bytes of a trailer that we would make. */
static uint64_t
kept_bytes(const struct vhub_device_handler *h)
{
	return keeps(h) ? sizeof(struct kept_trailer) : 0;
}

static void
kept_init(const struct vhub_device_handler *h, struct kept_trailer *trailer)
{
	memset(trailer, 0, sizeof(*trailer));
	memcpy(trailer->magic, KEPT_MAGIC, sizeof(trailer->magic));
	trailer->version = KEPT_VERSION;
	trailer->byte = h->dev->ops->keep(h->dev);
}

/*
 * WORK: the trailer of a mapped region and in *copy what it holds; NULL: the region has none. Under
 * other features the parts of the rings are of another size, and it is not where it was.
 */
static struct kept_trailer *
kept_find(const struct vhub_device_handler *h, uint8_t *region,
		const struct vhub_user_inflight *inflight, struct kept_trailer *copy)
{
	uint64_t at = region_bytes(h, inflight);

	if (!keeps(h) || region == NULL || inflight->mmap_size_bytes < at + sizeof(*copy))
		return NULL;
	memcpy(copy, region + at, sizeof(*copy));
	if (memcmp(copy->magic, KEPT_MAGIC, sizeof(copy->magic)) != 0 ||
			copy->version != KEPT_VERSION)
		return NULL;
	return (struct kept_trailer *)(region + at);
}

void
inflight_kept_get(struct vhub_device_handler *h)
{
	if (keeps(h))
		h->kept = h->dev->ops->keep(h->dev);
}

void
inflight_kept_put(const struct vhub_device_handler *h)
{
	struct kept_trailer copy;
	struct kept_trailer *trailer = kept_find(h, h->inflight, &h->rec.inflight, &copy);

	/* Read by a later process: what it pairs with is the reply, or the ring, that comes next. */
	if (trailer != NULL)
		__atomic_store_n(&trailer->byte, h->kept, __ATOMIC_RELEASE);
}

static void
put_kept(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	inflight_kept_put(h);
	h->work_result = 0;
}

int
inflight_keep(struct vhub_device_handler *h, struct vhub_request *req)
{
	if (!keeps(h) || h->inflight == NULL)
		return 0;
	inflight_kept_get(h);
	h->req = req;
	return handler_work(h, put_kept, handler_finish);
}

/* ---- the region of the rings that run ---- */

void
inflight_forget(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	h->work_result = 0;
	if (h->inflight != NULL)
		memset(h->inflight, 0,
				RTE_MIN(region_bytes(h, &h->rec.inflight),
						h->rec.inflight.mmap_size_bytes));
}

bool
inflight_is_wanted(const struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < VHUB_MAX_VRINGS; i++) {
		if (h->rec.vrings[i].left_in_flight)
			return true;
	}
	return false;
}

void
inflight_drop(struct vhub_device_handler *h)
{
	vhub_mem_map_put(h->inflight_map);
	h->inflight_map = NULL;
	h->inflight = NULL;
}

int
inflight_part(struct vhub_device_handler *h, unsigned int index, void **part, uint64_t *bytes)
{
	const struct vhub_user_inflight *inflight = &h->rec.inflight;

	*part = NULL;
	*bytes = 0;
	if (h->inflight == NULL || index >= inflight->num_queues)
		return 0;
	/* The guest's driver may have made the ring smaller than the front end had thought. */
	if (inflight->queue_size < h->rec.vrings[index].size ||
			inflight->mmap_size_bytes < region_bytes(h, inflight))
		return -EINVAL;
	*bytes = vhub_inflight_queue_bytes(inflight->queue_size, is_packed(h));
	*part = h->inflight + index * *bytes;
	return 0;
}

/* ---- GET ---- */

static int
fill_region(const struct vhub_device_handler *h, int fd, uint64_t rings_bytes)
{
	struct kept_trailer trailer;

	if (ftruncate(fd, (off_t)(rings_bytes + kept_bytes(h))) != 0)
		return -errno;
	if (keeps(h)) {
		kept_init(h, &trailer);
		if (pwrite(fd, &trailer, sizeof(trailer), (off_t)rings_bytes) !=
				(ssize_t)sizeof(trailer))
			return -EIO;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return -errno;
	return 0;
}

/*
 * A file whose size nobody can change, zeroed but for the trailer: each ring prepares its part when
 * it first starts.
 */
static int
make_region(const struct vhub_device_handler *h, uint64_t rings_bytes)
{
	int fd = memfd_create("vhub-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret;

	if (fd < 0)
		return -errno;
	ret = fill_region(h, fd, rings_bytes);
	if (ret != 0) {
		close(fd);
		return ret;
	}
	return fd;
}

int
req_get_inflight_fd(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	uint64_t rings_bytes;
	int ret = check_shape(h, req);

	if (ret != 0)
		return ret;
	rings_bytes = region_bytes(h, &req->payload.inflight);
	req->reply.inflight = req->payload.inflight;
	req->reply.inflight.mmap_size_bytes = rings_bytes + kept_bytes(h);
	req->reply.inflight.mmap_offset_bytes = 0;
	req->reply_fd = make_region(h, rings_bytes);
	if (req->reply_fd < 0)
		return req->reply_fd;
	req->reply_size_bytes = req->header.size;
	return 0;
}

/* ---- SET ---- */

static void
region_mapped(struct vhub_device_handler *h, int result)
{
	if (result == 0) {
		inflight_drop(h);
		h->inflight_map = h->new_map;
		h->inflight = h->new_hva;
		h->rec.inflight = h->req->payload.inflight;
		/* Whatever it holds is for the rings that start next. */
		for (unsigned int i = 0; i < VHUB_MAX_VRINGS; i++)
			h->rec.vrings[i].left_in_flight = false;
		session_record_set_fd(&h->rec.inflight_fd, vhub_request_take_fd(h->req, 0),
				handler_account(h));
		if (h->kept_found)
			h->dev->ops->recall(h->dev, h->kept);
	} else {
		memory_refused(h->req, result);
	}
	handler_finish(h, result);
}

static void
map_region(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);
	const struct vhub_user_inflight *inflight = &h->req->payload.inflight;
	struct kept_trailer copy;

	h->kept_found = false;
	h->work_result = vhub_mem_map_create(h->req->fds[0], inflight->mmap_offset_bytes,
			inflight->mmap_size_bytes, &h->mem_owner, &h->new_map, &h->new_hva);
	if (h->work_result == 0 && kept_find(h, h->new_hva, inflight, &copy) != NULL) {
		h->kept = copy.byte;
		h->kept_found = true;
	}
}

static void
stopped_for_region(struct vhub_device_handler *h, int result)
{
	if (result == 0)
		handler_work(h, map_region, region_mapped);
	else
		handler_finish(h, result);
}

int
req_set_inflight_fd(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	const struct vhub_user_inflight *inflight = &req->payload.inflight;
	int ret = check_shape(h, req);

	if (ret != 0)
		return ret;
	if (!rings_are_set_aside(h))
		return vhub_request_refuse(req, -EBUSY,
				"the inflight region cannot change while rings run");
	if (inflight->mmap_size_bytes < region_bytes(h, inflight) ||
			inflight->mmap_offset_bytes % 8 != 0)
		return vhub_request_refuse(req, -EINVAL,
				"the inflight region is too small or not aligned");
	if (handler_running(h))
		return rings_stop_set_aside(h, req, stopped_for_region);
	h->req = req;
	return handler_work(h, map_region, region_mapped);
}
