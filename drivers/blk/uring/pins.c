/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory as registered buffers (`pin=on`): its pages are looked up and pinned once, instead of
 * with each I/O. Called by uring.c when a guest's memory comes and goes, by queue.c and by io.c's
 * steps, which ask where a buffer is registered.
 *
 * To register takes long (a second for each GiB of 4 KiB pages), under the lock of the io_uring, and
 * an lcore's io_uring may be registered to by its own thread only. So blocking work registers with
 * an io_uring that nobody submits to, slice by slice, and an lcore's one shares what is there by one
 * short call (Linux 6.12): some 20 us. Disks take turns, a slice each, so that this keeps one thread
 * of the blocking work from others, whatever guests there are.
 *
 * The kernel makes what pages are missing, of our memory, and a front end may have taken them out of its file
 * since it described it. So each slice is registered by a window (lib/mem), where none is made, and goes
 * without where one is missing; its I/O names addresses of the window that was.
 *
 *   CTL    uring_memory(): nobody finds what was there; WORK makes anew, CTL publishes
 *   LCORE  pins_look(), in each turn: what is published is not what the io_uring has: pins_follow()
 *
 * Where a buffer is not registered, or nothing is, I/O goes on with plain iovecs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>

#include "uring_pvt.h"
#include "vhub_lcore.h"
#include "vhub_log.h"
#include "vhub_mem.h"
#include "vhub_work.h"

VHUB_LOGTYPE(blk)

/*
 * The more slices, the longer an lcore's call that shares them (50 us for a thousand); the larger they
 * are, the longer a piece of work. So they are as small as their number allows, up to 1 GiB, what the
 * kernel takes.
 */
#define MAX_SLICES 1024u
#define MIN_SLICE_SHIFT 26u
#define MAX_SLICE_SHIFT 30u
/* Looks, a millisecond apart, for lcores that still share what is to go before others are registered. */
#define MAX_LOOKS 200u
/*
 * What RLIMIT_MEMLOCK does not allow is tried again, after this and each time twice as long: the table
 * of before is let go of when its last I/O has ended, and its pages by the kernel when it gets to it.
 */
#define TRY_AGAIN_US 100000u
#define MAX_TRIES 8u

/* Linux 6.12, of which liburing 2.3 does not know: IORING_REGISTER_CLONE_BUFFERS. */
#define REGISTER_CLONE_BUFFERS 30
struct clone_buffers {
	uint32_t src_fd;
	uint32_t flags;
	uint32_t src_off;
	uint32_t dst_off;
	uint32_t nr;
	uint32_t pad[3];
};

/* Of one table. */
struct uring_pins {
	struct vhub_work work;
	struct vhub_timer timer; /* for the next try */
	/* CTL. */
	struct uring_disk *disk;      /* NULL: nobody wants it any more */
	struct vhub_mem_table *mem;   /* a reference, until all is registered */
	struct uring_pins *next_line; /* that waits for its next piece of work */
	bool making;		      /* and not made yet */
	unsigned int n_tries;	      /* that RLIMIT_MEMLOCK has ended */
	/* CTL, and WORK while a piece is under way; immutable once published. */
	struct uring_pins *former; /* to be let go of first, so that not both are pinned */
	int result;
	bool has_ring;
	struct io_uring ring;
	int uffd; /* -1, or windows are opened with it */
	uint64_t bytes;
	uint64_t left_bytes; /* without pages, or too much */
	uint32_t n_slices;
	uintptr_t *slices; /* where each was registered; 0: it was not */
	unsigned int slice_shift;
	uint32_t next_range; /* and where in it: the next slice */
	uint64_t next_at_bytes;
	unsigned int n_looks; /* before it is let go of */
	/* Shared atomic. */
	uint32_t refs; /* one is CTL's and WORK's, the others are queues' */

	uint32_t n_ranges; /* by hva */
	struct uring_pin_range ranges[];
};

static int
share(int from_fd, int to_fd)
{
	struct clone_buffers arg = { .src_fd = (uint32_t)from_fd };

	return syscall(SYS_io_uring_register, to_fd, REGISTER_CLONE_BUFFERS, &arg, 1) < 0 ? -errno :
											    0;
}

/* ---- whether this kernel can ---- */

static int
try_to_share(struct io_uring *from, struct io_uring *to)
{
	static uint8_t page[4096] __attribute__((aligned(4096)));
	const struct iovec iov = { page, sizeof(page) };
	int ret = io_uring_register_buffers(from, &iov, 1);

	return ret != 0 ? ret : share(from->ring_fd, to->ring_fd);
}

static int
probe_sharing(void)
{
	struct io_uring from, to;
	int ret = io_uring_queue_init(1, &from, 0);

	if (ret != 0)
		return ret;
	ret = io_uring_queue_init(1, &to, 0);
	if (ret == 0) {
		ret = try_to_share(&from, &to);
		io_uring_queue_exit(&to);
	}
	io_uring_queue_exit(&from);
	return ret;
}

static int
probe_window(void)
{
	int uffd, ret = vhub_mem_window_start(&uffd);

	if (ret == 0)
		close(uffd);
	return ret;
}

void
pins_learn(struct uring_disk *d)
{
	int ret;

	if (!d->pin)
		return;
	if (d->inline_kind == INLINE_ALL) {
		VHUB_LOG(NOTICE, "%s: pin=on has no use: its I/O is done without an io_uring",
				d->path);
		d->pin = false;
		return;
	}
	ret = probe_sharing();
	if (ret != 0) {
		VHUB_LOG(WARNING, "%s: pin=on: %s; guests' memory is not pinned", d->path,
				ret == -EINVAL		       ? "this needs Linux 6.12" :
						ret == -ENOMEM ? "RLIMIT_MEMLOCK allows nothing" :
								 strerror(-ret));
		d->pin = false;
		return;
	}
	ret = probe_window();
	if (ret != 0) {
		VHUB_LOG(WARNING,
				"%s: pin=on: this needs userfaultfd: %s; guests' memory is not pinned",
				d->path, strerror(-ret));
		d->pin = false;
	}
}

/* ---- WORK: registering ---- */

static int
compare_ranges(const void *a, const void *b)
{
	const struct uring_pin_range *x = a, *y = b;

	return (x->hva > y->hva) - (x->hva < y->hva);
}

static uint64_t
slices_of(uint64_t bytes, unsigned int shift)
{
	return (bytes + (UINT64_C(1) << shift) - 1) >> shift;
}

static unsigned int
choose_slice_shift(const struct vhub_mem_table *mem)
{
	unsigned int shift;

	for (shift = MIN_SLICE_SHIFT; shift < MAX_SLICE_SHIFT; shift++) {
		uint64_t n = 0;

		for (uint32_t i = 0; i < mem->n_regions; i++)
			n += slices_of(mem->regions[i].size_bytes, shift);
		if (n <= MAX_SLICES)
			break;
	}
	return shift;
}

/*
 * What the front end has not filled is left out: to pin it would take its pages now, from us, and as
 * many as a front end cares to name. So is what makes more than the host has, which is the same pages
 * again. What is missing since then register_slice() finds.
 */
static uint32_t
choose_ranges(struct uring_pins *pins)
{
	const uint64_t host_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) *
			(uint64_t)sysconf(_SC_PAGESIZE);
	uint32_t n_slices = 0;

	pins->n_ranges = 0;
	pins->bytes = pins->left_bytes = 0;
	pins->slice_shift = choose_slice_shift(pins->mem);
	for (uint32_t i = 0; i < pins->mem->n_regions; i++) {
		const struct vhub_mem_region *r = &pins->mem->regions[i];
		const uint64_t n = slices_of(r->size_bytes, pins->slice_shift);

		if (!r->allocated || n > MAX_SLICES - n_slices ||
				r->size_bytes > host_bytes - pins->bytes) {
			pins->left_bytes += r->size_bytes;
			continue;
		}
		pins->ranges[pins->n_ranges++] = (struct uring_pin_range){ (uintptr_t)r->hva,
			r->size_bytes, n_slices, r->map };
		n_slices += (uint32_t)n;
		pins->bytes += r->size_bytes;
	}
	qsort(pins->ranges, pins->n_ranges, sizeof(pins->ranges[0]), compare_ranges);
	return n_slices;
}

static void
end_windows(struct uring_pins *pins)
{
	if (pins->uffd >= 0)
		close(pins->uffd);
	pins->uffd = -1;
}

/* What prepare() has made, but for the io_uring. */
static void
clear(struct uring_pins *pins)
{
	end_windows(pins);
	free(pins->slices);
	pins->slices = NULL;
}

static int
prepare_ring(struct uring_pins *pins)
{
	int ret = io_uring_queue_init(1, &pins->ring, 0);

	if (ret != 0)
		return ret;
	ret = io_uring_register_buffers_sparse(&pins->ring, pins->n_slices);
	if (ret != 0)
		io_uring_queue_exit(&pins->ring);
	pins->has_ring = ret == 0;
	return ret;
}

static int
prepare(struct uring_pins *pins)
{
	int ret;

	pins->n_slices = choose_ranges(pins);
	if (pins->n_slices == 0)
		return -ENODATA;
	ret = vhub_mem_window_start(&pins->uffd);
	if (ret != 0)
		return ret;
	pins->slices = calloc(pins->n_slices, sizeof(pins->slices[0]));
	ret = pins->slices == NULL ? -ENOMEM : prepare_ring(pins);
	if (ret != 0)
		clear(pins);
	return ret;
}

/* Returns 0, -EFAULT: not all of it has pages, or an error that ends all. */
static int
register_in_window(struct uring_pins *pins, unsigned int index, const struct uring_pin_range *range,
		uint64_t at, uint64_t bytes)
{
	struct vhub_mem_window window;
	struct iovec iov;
	int ret = vhub_mem_window_open(pins->uffd, range->map, (uint8_t *)(range->hva + at), bytes,
			&window);

	/* No mapping is left, or the guard has put another one in its place. */
	if (ret == -EINVAL)
		return -EFAULT;
	if (ret != 0)
		return ret;
	iov = (struct iovec){ window.hva, bytes };
	ret = io_uring_register_buffers_update_tag(&pins->ring, index, &iov, NULL, 1);
	vhub_mem_window_close(&window);
	if (ret == 1)
		pins->slices[index] = (uintptr_t)window.hva;
	return ret == 1 ? 0 : ret < 0 ? ret : -EIO;
}

static void
leave_out(struct uring_pins *pins, uint64_t bytes)
{
	pins->bytes -= bytes;
	pins->left_bytes += bytes;
}

static int
register_slice(struct uring_pins *pins)
{
	const struct uring_pin_range *range = &pins->ranges[pins->next_range];
	const uint64_t at = pins->next_at_bytes, slice_bytes = UINT64_C(1) << pins->slice_shift;
	const uint64_t bytes = RTE_MIN(range->bytes - at, slice_bytes);
	unsigned int index = range->first_slice + (unsigned int)(at >> pins->slice_shift);
	int ret = register_in_window(pins, index, range, at, bytes);

	if (ret == -EFAULT)
		leave_out(pins, bytes);
	else if (ret != 0)
		return ret;
	pins->next_at_bytes += slice_bytes;
	if (pins->next_at_bytes < range->bytes)
		return 0;
	pins->next_at_bytes = 0;
	pins->next_range++;
	if (pins->next_range < pins->n_ranges)
		return 0;
	end_windows(pins);
	return pins->bytes == 0 ? -ENODATA : 0;
}

/*
 * A piece of work: some tens of milliseconds. What RLIMIT_MEMLOCK ends is begun anew: of two guests that
 * had half of it each, both would wait for the other's.
 */
static void
step_work(struct vhub_work *work)
{
	struct uring_pins *pins = vhub_container_of(work, struct uring_pins, work);

	pins->result = pins->has_ring ? register_slice(pins) : prepare(pins);
	if (pins->result != -ENOMEM || !pins->has_ring)
		return;
	io_uring_queue_exit(&pins->ring);
	pins->has_ring = false;
	clear(pins);
	pins->next_range = 0;
	pins->next_at_bytes = 0;
}

/* ---- letting go: WORK, and LCORE by pins_leave() ---- */

/*
 * Whoever is the last closes the io_uring that they were registered with, after the last that shared them
 * has let go of its own. So no lcore's is the last one that has them, which would unpin them, 10 ms for a
 * GiB, in the lcore's call: after a close the kernel does that by itself.
 */
static void
put(struct uring_pins *pins)
{
	/* Release, acquire: everybody's last look comes before it is freed. */
	if (__atomic_fetch_sub(&pins->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	if (pins->has_ring)
		io_uring_queue_exit(&pins->ring);
	clear(pins);
	free(pins);
}

/* After `n_looks` at most for lcores that share them. */
static void
put_work(struct vhub_work *work)
{
	struct uring_pins *pins = vhub_container_of(work, struct uring_pins, work);
	const struct timespec pause = { .tv_nsec = 1000000 };
	unsigned int looks = pins->n_looks;

	for (; looks != 0 && __atomic_load_n(&pins->refs, __ATOMIC_RELAXED) != 1; looks--)
		nanosleep(&pause, NULL);
	put(pins);
}

static void
let_go(struct uring_pins *pins, unsigned int n_looks)
{
	pins->n_looks = n_looks;
	pins->work = (struct vhub_work){ .run = put_work };
	/* An lcore may just have found it. */
	vhub_quiesce_then(&pins->work, "pinned guest memory");
}

static void
let_go_work(struct vhub_work *work)
{
	let_go(vhub_container_of(work, struct uring_pins, work), 0);
}

/* Others are to be registered in place of these: best if lcores that share them have let go by then. */
static void
let_former_go_work(struct vhub_work *work)
{
	let_go(vhub_container_of(work, struct uring_pins, work)->former, MAX_LOOKS);
}

/* ---- CTL ---- */

static void
tell(struct uring_disk *d, const struct uring_pins *pins)
{
	const uint64_t mib = 1 << 20;

	if (!vhub_log_allowed(&d->pin_limit))
		return;
	if (pins->result == 0 && pins->left_bytes == 0)
		VHUB_LOG(INFO, "%s: %" PRIu64 " MiB of guest memory are pinned", d->path,
				pins->bytes / mib);
	else if (pins->result == 0)
		VHUB_LOG(NOTICE,
				"%s: %" PRIu64 " MiB of guest memory are pinned, %" PRIu64
				" MiB are not: not allocated (QEMU: prealloc=on), or too much",
				d->path, pins->bytes / mib, pins->left_bytes / mib);
	else if (pins->result == -ENODATA)
		VHUB_LOG(NOTICE,
				"%s: guest memory is not pinned: it is not allocated (QEMU: prealloc=on)",
				d->path);
	else
		VHUB_LOG(WARNING, "%s: %" PRIu64 " MiB of guest memory cannot be pinned: %s%s",
				d->path, pins->bytes / mib, strerror(-pins->result),
				pins->result == -ENOMEM ?
						" (RLIMIT_MEMLOCK is for all disks' guests together; "
						"systemd: LimitMEMLOCK=infinity)" :
						"");
}

static void
publish(struct uring_disk *d, struct uring_pins *pins)
{
	/* Release: pairs with pins_look() and pins_follow(). */
	__atomic_store_n(&d->pins, pins, __ATOMIC_RELEASE);
	__atomic_store_n(&d->pins_seq, d->pins_seq + 1, __ATOMIC_RELEASE);
}

static void
begin_let_go(struct uring_pins *pins)
{
	pins->work = (struct vhub_work){ .run = let_go_work };
	vhub_work_submit(&pins->work);
}

/* All is registered, or no more will be. */
static void
made(struct uring_pins *pins)
{
	struct uring_disk *d = pins->disk;

	pins->making = false;
	vhub_mem_table_put(pins->mem);
	pins->mem = NULL;
	if (d == NULL) {
		begin_let_go(pins);
		return;
	}
	if (pins->result == 0)
		publish(d, pins);
	tell(d, pins);
	if (pins->result != 0) {
		d->pins_wanted = NULL;
		begin_let_go(pins);
	}
}

/* Those of all disks that are being made, and wait for their next piece of work; one is under way. */
static struct {
	struct uring_pins *first;
	bool busy;
	struct vhub_loop *loop; /* of timers that are armed */
} line;

static void
stepped(struct vhub_work *work);

static void
begin_step(void)
{
	struct uring_pins *pins = line.first;

	if (line.busy || pins == NULL)
		return;
	line.first = pins->next_line;
	line.busy = true;
	pins->work = (struct vhub_work){ .run = step_work, .done = stepped };
	vhub_work_submit(&pins->work);
}

/*
 * Who tries again is first, from its first slice to its last: two that went on in turns would both be
 * refused again.
 */
static void
join_line(struct uring_pins *pins)
{
	struct uring_pins **link = &line.first;

	while (pins->n_tries == 0 && *link != NULL)
		link = &(*link)->next_line;
	pins->next_line = *link;
	*link = pins;
}

/* Returns whether it was there. */
static bool
leave_line(struct uring_pins *pins)
{
	struct uring_pins **link;

	for (link = &line.first; *link != NULL && *link != pins; link = &(*link)->next_line)
		;
	if (*link == NULL)
		return false;
	*link = pins->next_line;
	return true;
}

static void
try_again(struct vhub_timer *timer)
{
	join_line(vhub_container_of(timer, struct uring_pins, timer));
	begin_step();
}

/* To begin anew. Returns false when there is no point in it. */
static bool
begin_to_wait(struct uring_pins *pins)
{
	line.loop = vhub_work_loop();
	if (pins->result != -ENOMEM || line.loop == NULL || pins->n_tries == MAX_TRIES)
		return false;
	if (pins->n_tries == 0 && vhub_log_allowed(&pins->disk->pin_limit))
		VHUB_LOG(NOTICE,
				"%s: RLIMIT_MEMLOCK does not allow to pin guest memory yet, trying again",
				pins->disk->path);
	pins->timer.fn = try_again;
	vhub_timer_arm(line.loop, &pins->timer, (uint64_t)TRY_AGAIN_US << pins->n_tries);
	pins->n_tries++;
	return true;
}

static void
stepped(struct vhub_work *work)
{
	struct uring_pins *pins = vhub_container_of(work, struct uring_pins, work);
	const bool goes_on = pins->result == 0 && pins->next_range < pins->n_ranges;

	line.busy = false;
	if (pins->disk != NULL && goes_on)
		join_line(pins);
	else if (pins->disk == NULL || !begin_to_wait(pins))
		made(pins);
	begin_step();
}

static void
former_gone(struct vhub_work *work)
{
	struct uring_pins *pins = vhub_container_of(work, struct uring_pins, work);

	if (pins->disk != NULL)
		join_line(pins);
	else
		made(pins);
	begin_step();
}

/* Returns what was published, and is to be let go of; NULL: nothing was. */
static struct uring_pins *
retract(struct uring_disk *d)
{
	struct uring_pins *pins = d->pins_wanted;

	if (pins == NULL)
		return NULL;
	d->pins_wanted = NULL;
	pins->disk = NULL;
	if (!pins->making) {
		publish(d, NULL);
		return pins;
	}
	if (pins->timer.armed) {
		vhub_timer_cancel(line.loop, &pins->timer);
		made(pins);
	} else if (leave_line(pins)) {
		made(pins);
	}
	return NULL;
}

void
uring_memory(struct vhub_blk_disk *disk, struct vhub_mem_table *mem)
{
	struct uring_disk *d = uring_disk_of(disk);
	struct uring_pins *former = retract(d), *pins = NULL;

	if (d->pin && mem != NULL)
		pins = calloc(1, sizeof(*pins) + mem->n_regions * sizeof(pins->ranges[0]));
	if (pins == NULL) {
		if (former != NULL)
			begin_let_go(former);
		return;
	}
	pins->disk = d;
	pins->uffd = -1;
	pins->mem = vhub_mem_table_get(mem);
	pins->refs = 1;
	pins->making = true;
	d->pins_wanted = pins;
	if (former == NULL) {
		join_line(pins);
		begin_step();
		return;
	}
	pins->former = former;
	pins->work = (struct vhub_work){ .run = let_former_go_work, .done = former_gone };
	vhub_work_submit(&pins->work);
}

/* ---- LCORE ---- */

void
pins_leave(struct uring_queue *q)
{
	if (q->shared != NULL)
		put(q->shared);
	q->shared = NULL;
	q->pins = NULL;
}

static void
share_pins(struct uring_queue *q, struct uring_pins *pins)
{
	static _Thread_local struct vhub_log_limit limit;
	int ret = share(pins->ring.ring_fd, q->ring.ring_fd);

	if (ret != 0) {
		if (vhub_log_allowed(&limit))
			VHUB_LOG(WARNING, "%s: an lcore goes on without pinned guest memory: %s",
					q->disk->path, strerror(-ret));
		return;
	}
	__atomic_fetch_add(&pins->refs, 1, __ATOMIC_RELAXED);
	q->shared = pins;
	q->pins = pins;
	q->pin_last = &pins->ranges[0];
}

/*
 * What the io_uring shares is not what is published. Old kernels wait in the call that lets go until
 * nothing is under way, so we come again until then: a new table has all rings drained anyway.
 */
void
pins_follow(struct uring_queue *q, uint32_t seq)
{
	struct uring_pins *pins;

	q->pins = NULL;
	if (q->shared != NULL) {
		if (q->n_under_way != 0)
			return;
		io_uring_unregister_buffers(&q->ring);
		pins_leave(q);
	}
	q->pins_seq = seq;
	/* Pairs with publish(). */
	pins = __atomic_load_n(&q->disk->pins, __ATOMIC_ACQUIRE);
	if (pins != NULL)
		share_pins(q, pins);
}

static const struct uring_pin_range *
find_range(const struct uring_pins *pins, uintptr_t addr)
{
	uint32_t low = 0, high = pins->n_ranges;

	while (low < high) {
		uint32_t mid = (low + high) / 2;
		const struct uring_pin_range *range = &pins->ranges[mid];

		if (addr - range->hva < range->bytes)
			return range;
		if (addr < range->hva)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

int
pins_find(struct uring_queue *q, const void *buf, uint32_t len, void **registered)
{
	const uintptr_t addr = (uintptr_t)buf;
	const struct uring_pin_range *range = q->pin_last;
	const struct uring_pins *pins = q->pins;
	uint64_t at;
	uint32_t slice;

	if (unlikely(addr - range->hva >= range->bytes)) {
		range = find_range(pins, addr);
		if (range == NULL)
			return -1;
		q->pin_last = range;
	}
	at = addr - range->hva;
	if (unlikely(len > range->bytes - at || (at ^ (at + len - 1)) >> pins->slice_shift != 0))
		return -1;
	slice = range->first_slice + (uint32_t)(at >> pins->slice_shift);
	if (unlikely(pins->slices[slice] == 0))
		return -1;
	at &= (UINT64_C(1) << pins->slice_shift) - 1;
	*registered = (void *)(pins->slices[slice] + at);
	return (int)slice;
}
