/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard against memory that its front end truncates. The SIGBUS handler runs on whichever thread touched the
 * memory, often on several at once: it finds the mapping (registry.c), puts zero pages in the place of a part of it,
 * marks the owner and wakes CTL, which tells the owner. The thread then repeats its access and goes on; its session
 * ends.
 *
 * The handler uses lock-free atomics and plain system calls, nothing else.
 */
#include "mem_pvt.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <rte_common.h>

static struct {
	struct vhub_loop *loop;	   /* CTL; NULL while stopped */
	struct vhub_watch watch;   /* CTL */
	struct sigaction previous; /* written before the handler is installed */
	int event_fd;		   /* shared atomic; -1 while stopped */
} guard = {
	.event_fd = -1,
};

/*
 * Zero pages from a file of our own, where a large private mapping is refused: strict overcommit and RLIMIT_DATA
 * count those at their full size, these only page by page.
 */
static bool
guard_map_zero_file(void *start, size_t len_bytes)
{
	int fd = memfd_create("vhub-zero", MFD_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd < 0)
		return false;
	if (ftruncate(fd, (off_t)len_bytes) == 0)
		p = mmap(start, len_bytes, PROT_READ | PROT_WRITE,
				MAP_FIXED | MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	return p != MAP_FAILED;
}

static bool
guard_map_zero(uintptr_t start, uintptr_t end)
{
	void *p = mmap((void *)start, end - start, PROT_READ | PROT_WRITE,
			MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED && !guard_map_zero_file((void *)start, end - start))
		return false;
	madvise((void *)start, end - start, MADV_DONTDUMP);
	return true;
}

/* Asks the kernel, so that it is no fault if it cannot. */
static bool
guard_can_read(uintptr_t addr)
{
	uint8_t byte;
	const struct iovec to = { &byte, 1 }, from = { (void *)addr, 1 };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) != -1 || errno != EFAULT;
}

/*
 * How much a fault at `addr` costs. To take pages away takes as long as there are pages, and the thread
 * has others to serve; so little is taken at first that it is done sooner than the copy which may go on
 * through it. The more parts there are, in all mappings, the larger the next: each may cut a mapping of
 * the kernel's into three, of which a process cannot have any number.
 *
 * Nor may one burst of a ring meet any number of faults: so parts grow sooner with those of their own
 * mapping. Behind the end of a file there are no pages to take away, so only to where it begins.
 */
static uint64_t
guard_part_bytes(const struct mem_slot *slot, uintptr_t first, uintptr_t addr)
{
	const uint32_t all = mem_registry_parts() / MEM_PARTS_TO_DOUBLE;
	const uint32_t own = __atomic_load_n(&slot->n_parts, __ATOMIC_RELAXED) /
			MEM_OWN_PARTS_TO_DOUBLE;
	const uint64_t least = MEM_PART_BYTES << RTE_MIN(all, MEM_PART_MAX_DOUBLINGS);
	uint64_t bytes = MEM_PART_BYTES << RTE_MIN(own, MEM_PART_MAX_DOUBLINGS);

	while (bytes > least && guard_can_read(RTE_MAX(addr & ~(bytes - 1), first)))
		bytes /= 2;
	return RTE_MAX(bytes, least);
}

static bool
guard_zero_part(uintptr_t first, uintptr_t last, uintptr_t addr, uint64_t bytes)
{
	const uintptr_t mask = bytes - 1;

	return guard_map_zero(RTE_MAX(addr & ~mask, first), RTE_MIN(addr | mask, last) + 1);
}

/* Pages larger than the part cannot be cut, and nothing can where mappings run out. */
static bool
guard_zero(const struct mem_slot *slot, uintptr_t addr)
{
	const uintptr_t first = __atomic_load_n(&slot->start, __ATOMIC_RELAXED);
	const uintptr_t last = first + __atomic_load_n(&slot->len_bytes, __ATOMIC_RELAXED) - 1;

	/* Being removed: the next fault does not find it. */
	if (first == 0)
		return true;
	return guard_zero_part(first, last, addr, guard_part_bytes(slot, first, addr)) ||
			guard_map_zero(first, last + 1);
}

static bool
guard_replace(struct mem_slot *slot, uintptr_t addr)
{
	/* Before the pages are there to be seen: the promise of struct vhub_mem_owner. */
	mem_registry_mark_owner(slot);
	mem_registry_count_part(slot);
	/*
	 * A thread that came second does it again. The zeros lose nothing that anybody may count on, and a
	 * fault in the zero pages themselves (a memory error) cannot make it return for ever.
	 */
	if (!guard_zero(slot, addr))
		return false;
	/* Release: pairs with the acquire by which CTL and mem_registry_remove() see it. */
	__atomic_fetch_or(&slot->state, MEM_SLOT_ZEROED | MEM_SLOT_UNTOLD, __ATOMIC_RELEASE);
	return true;
}

static void
guard_wake(void)
{
	/* Acquire: pairs with vhub_mem_guard_start(). */
	int fd = __atomic_load_n(&guard.event_fd, __ATOMIC_ACQUIRE);
	ssize_t n = 0;

	if (fd >= 0)
		n = write(fd, &(uint64_t){ 1 }, sizeof(uint64_t));
	(void)n; /* a full counter wakes CTL as well */
}

/* True when the fault was in a mapping of ours, and the access may be repeated. */
static bool
guard_handle(const siginfo_t *info)
{
	struct mem_slot *slot;
	bool done;

	/* Not ours: a signal that was sent, and the faults that are no page's (BUS_ADRALN, the kernel's own). */
	if (info->si_code != BUS_ADRERR && info->si_code != BUS_MCEERR_AR &&
			info->si_code != BUS_MCEERR_AO)
		return false;
	slot = mem_registry_pin((uintptr_t)info->si_addr);
	if (slot == NULL)
		return false;
	/* "Action optional" only tells of a bad page, which nobody of ours may ever touch. */
	done = info->si_code == BUS_MCEERR_AO || guard_replace(slot, (uintptr_t)info->si_addr);
	mem_registry_unpin(slot);
	if (done)
		guard_wake();
	return done;
}

/* What would have happened without us. */
static void
guard_pass_on(int sig, siginfo_t *info, void *context)
{
	const struct sigaction *prev = &guard.previous;
	const struct sigaction dfl = { .sa_handler = SIG_DFL };
	bool sent = info->si_code <= 0 || info->si_code == BUS_MCEERR_AO;

	if ((prev->sa_flags & SA_SIGINFO) != 0) {
		prev->sa_sigaction(sig, info, context);
	} else if (prev->sa_handler != SIG_DFL && prev->sa_handler != SIG_IGN) {
		prev->sa_handler(sig);
	} else if (prev->sa_handler == SIG_DFL || !sent) {
		/* A fault comes again when we return, and then shows the true place in the core dump. */
		sigaction(sig, &dfl, NULL);
		if (sent)
			raise(sig);
	}
}

static void
guard_on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	if (!guard_handle(info))
		guard_pass_on(sig, info, context);
	errno = saved_errno;
}

static void
guard_tell(struct vhub_watch *watch, uint32_t events)
{
	struct vhub_mem_owner *owner;
	uint32_t next = 0;
	uint64_t count;
	ssize_t n;

	(void)events;
	/* Emptied before the slots are looked at: what comes later wakes us again. */
	n = read(watch->fd, &count, sizeof(count));
	(void)n;
	while (mem_registry_next_untold(&next, &owner)) {
		if (owner == NULL)
			continue;
		/* Only CTL reads and sets this bit. */
		if ((__atomic_fetch_or(&owner->faulted, VHUB_MEM_FAULT_TOLD, __ATOMIC_RELAXED) &
				    VHUB_MEM_FAULT_TOLD) == 0)
			owner->broken(owner);
	}
}

int
vhub_mem_guard_start(struct vhub_loop *loop)
{
	struct sigaction action = { .sa_sigaction = guard_on_sigbus,
		.sa_flags = SA_SIGINFO | SA_ONSTACK };
	int fd, ret;

	if (guard.loop != NULL)
		return -EALREADY;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	guard.watch = (struct vhub_watch){ .fd = fd, .fn = guard_tell };
	ret = vhub_loop_watch(loop, &guard.watch, EPOLLIN);
	if (ret < 0)
		goto err_close;
	/* Release: pairs with guard_wake(). */
	__atomic_store_n(&guard.event_fd, fd, __ATOMIC_RELEASE);

	sigemptyset(&action.sa_mask);
	/* In two calls: another thread may fault as soon as the handler is there. */
	if (sigaction(SIGBUS, NULL, &guard.previous) < 0 || sigaction(SIGBUS, &action, NULL) < 0) {
		ret = -errno;
		goto err_unwatch;
	}
	guard.loop = loop;
	return 0;

err_unwatch:
	__atomic_store_n(&guard.event_fd, -1, __ATOMIC_RELAXED);
	vhub_loop_unwatch(loop, &guard.watch);
err_close:
	close(fd);
	return ret;
}

void
vhub_mem_guard_stop(void)
{
	struct sigaction now;

	if (guard.loop == NULL)
		return;
	/* A handler that was put over ours keeps its place, and ours below it, which has nothing to guard. */
	if (sigaction(SIGBUS, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
			now.sa_sigaction == guard_on_sigbus)
		sigaction(SIGBUS, &guard.previous, NULL);
	__atomic_store_n(&guard.event_fd, -1, __ATOMIC_RELAXED);
	vhub_loop_unwatch(guard.loop, &guard.watch);
	close(guard.watch.fd);
	guard.loop = NULL;
}
