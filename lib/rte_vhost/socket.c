/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device of librte_vhost's on a private socket. The library connects to us ("client mode"), which
 * it does at once and in our thread; the socket file is there only for that moment, in a folder that
 * nobody else may enter. Each connection is a registration of its own: the library is not made for
 * a second start on one. Called by sync.c; next: frontend.c.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <bsd/string.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <rte_log.h>
#include <rte_vhost.h>

#include "rvhost.h"
#include "vhub_alloc.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net);

/*
 * The library makes its thread with the first start, and two threads of ours, each for its own port, would have it
 * make two. Also for what we do before that.
 */
static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;

/* What the library's callbacks need while it connects, which it does in the thread that starts it. */
static __thread struct rvhost_path *connecting __attribute__((tls_model("initial-exec")));

/* ---- what the library calls back, on its own thread but for the first ---- */

static int
new_connection(int vid)
{
	if (connecting != NULL)
		connecting->vid = vid;
	return 0;
}

/* We know from our own state when rings run: callbacks that wait for lcores would deadlock. */
static int
new_device(int vid)
{
	(void)vid;
	return 0;
}

static void
destroy_device(int vid)
{
	(void)vid;
}

static const struct rte_vhost_device_ops device_ops = {
	.new_device = new_device,
	.destroy_device = destroy_device,
	.new_connection = new_connection,
	.guest_notified = rvhost_guest_notified,
};

/* ---- the private socket ---- */

/*
 * The library writes a line for each message, and for what guests do wrong: only what is our own
 * fault is to be seen. Under the lock.
 */
static void
quieten_library(void)
{
	static bool done;

	if (done || rte_log_can_log(rte_log_register("vhub.net"), RTE_LOG_DEBUG))
		return;
	done = true;
	rte_log_set_level_pattern("lib.vhost.config", RTE_LOG_CRIT);
	rte_log_set_level_pattern("lib.vhost.data", RTE_LOG_CRIT);
}

static int
make_folder(struct rvhost_path *path)
{
	static const char *const places[] = { "/run", "/tmp" };
	const char *own = getenv("RUNTIME_DIRECTORY"); /* systemd's RuntimeDirectory= */
	unsigned int i;

	for (i = own == NULL; i <= 2; i++) {
		snprintf(path->socket_path, sizeof(path->socket_path) - 2, "%s/vhub-XXXXXX",
				i == 0 ? own : places[i - 1]);
		if (mkdtemp(path->socket_path) != NULL)
			return 0;
	}
	return -errno;
}

static int
listen_at(const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, ret;

	if (strlcpy(addr.sun_path, name, sizeof(addr.sun_path)) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* Under the lock. */
static int
register_and_start(struct rvhost_path *path)
{
	uint64_t flags = RTE_VHOST_USER_CLIENT | RTE_VHOST_USER_NO_RECONNECT |
			RTE_VHOST_USER_NET_STATS_ENABLE;

	if (path->iommu)
		flags |= RTE_VHOST_USER_IOMMU_SUPPORT;
	if (path->copies_by_dma)
		flags |= RTE_VHOST_USER_ASYNC_COPY;
	if (rte_vhost_driver_register(path->socket_path, flags) != 0)
		return -ENOMEM;
	path->vid = -1;
	connecting = path;
	if (rte_vhost_driver_callback_register(path->socket_path, &device_ops) != 0 ||
			rte_vhost_driver_get_features(path->socket_path, &path->library_features) !=
					0 ||
			rte_vhost_driver_start(path->socket_path) != 0 || path->vid < 0) {
		connecting = NULL;
		rte_vhost_driver_unregister(path->socket_path);
		return -EIO;
	}
	connecting = NULL;
	return 0;
}

static int
start_library(struct rvhost_path *path)
{
	int ret;

	pthread_mutex_lock(&start_lock);
	quieten_library();
	ret = register_and_start(path);
	pthread_mutex_unlock(&start_lock);
	return ret;
}

static int
accept_library(struct rvhost_path *path, int listening)
{
	const struct timeval look = { .tv_sec = RVHOST_LOOK_SECONDS };

	path->fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	if (path->fd < 0)
		return -errno;
	path->lost = 0;
	setsockopt(path->fd, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof(look));
	return 0;
}

/* In the folder that is there: the file, the library's connection to it. */
static int
connect_library(struct rvhost_path *path)
{
	int listening, ret;

	strlcat(path->socket_path, "/s", sizeof(path->socket_path));
	listening = listen_at(path->socket_path);
	if (listening < 0)
		return listening;
	ret = start_library(path);
	if (ret == 0) {
		ret = accept_library(path, listening);
		if (ret != 0)
			rte_vhost_driver_unregister(path->socket_path);
	}
	close(listening);
	unlink(path->socket_path);
	return ret;
}

int
rvhost_open(struct rvhost_path *path)
{
	char folder[sizeof(path->socket_path)];
	int ret;

	ret = make_folder(path);
	if (ret == 0) {
		strlcpy(folder, path->socket_path, sizeof(folder));
		ret = connect_library(path);
		rmdir(folder);
	}
	if (ret != 0)
		VHUB_LOG(ERR, "%s: librte_vhost takes no device: %s", path->dev->name,
				strerror(-ret));
	return ret;
}

void
rvhost_close(struct rvhost_path *path)
{
	if (path->fd < 0)
		return;
	/* Closes its end and unmaps; nobody is in a ring. */
	rte_vhost_driver_unregister(path->socket_path);
	close(path->fd);
	path->fd = -1;
	path->vid = -1;
}

/* ---- life of a path ---- */

uint64_t
rvhost_features(bool iommu)
{
	uint64_t features = UINT64_C(1) << VIRTIO_NET_F_CSUM |
			UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM |
			UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO4 |
			UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO6 |
			UINT64_C(1) << VIRTIO_NET_F_GUEST_ECN |
			UINT64_C(1) << VIRTIO_NET_F_GUEST_UFO |
			UINT64_C(1) << VIRTIO_NET_F_HOST_TSO4 |
			UINT64_C(1) << VIRTIO_NET_F_HOST_TSO6 |
			UINT64_C(1) << VIRTIO_NET_F_HOST_ECN |
			UINT64_C(1) << VIRTIO_NET_F_HOST_UFO |
			UINT64_C(1) << VIRTIO_NET_F_MRG_RXBUF | UINT64_C(1) << VIRTIO_F_ANY_LAYOUT |
			UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC |
			UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | UINT64_C(1) << VIRTIO_F_VERSION_1 |
			UINT64_C(1) << VIRTIO_F_RING_PACKED | UINT64_C(1) << VIRTIO_F_IN_ORDER;

	return iommu ? features | VHUB_F(ACCESS_PLATFORM) : features;
}

int
rvhost_create(struct vhub_device *dev, uint16_t n_vrings, bool iommu, bool trusted,
		struct rte_mempool *pool, struct rvhost_dma *dma, struct rvhost_path **out)
{
	struct rvhost_path *path = vhub_zalloc_node(sizeof(*path), -1);
	int ret = -ENOMEM;

	if (path == NULL)
		goto put_dma;
	path->pool = trusted ? pool : rvhost_allowance_pool(pool);
	if (path->pool == NULL)
		goto free_path;
	path->dma = dma;
	path->dev = dev;
	path->iommu = iommu;
	path->trusted = trusted;
	path->n_vrings = n_vrings;
	path->fd = -1;
	path->vid = -1;
	path->iotlb_fd = -1;
	path->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (path->event_fd < 0) {
		ret = -errno;
		goto free_path;
	}
	*out = path;
	return 0;

free_path:
	vhub_free(path, sizeof(*path));
put_dma:
	rvhost_dma_put(dma);
	return ret;
}

void
rvhost_destroy(struct rvhost_path *path)
{
	if (path == NULL)
		return;
	close(path->event_fd);
	rvhost_dma_put(path->dma);
	vhub_free(path, sizeof(*path));
}
