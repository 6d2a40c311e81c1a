/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client of the control socket: what it sends is cut into documents, what it is to get waits
 * until it reads. Made by server.c; next: document.c, dispatch.c.
 *
 * A client may not make us wait or grow: input is read while there is room for it, a few documents
 * are served in one turn of the loop, and who has many calls under way or much to read is not read
 * any further until that is less. Whoever is to be closed is marked and closed on the next turn,
 * for a method may be under way on its account.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include <rte_common.h>

#include "control_pvt.h"
#include "vhub_fd.h"
#include "vhub_log.h"

VHUB_LOGTYPE(control);

/* Read at once. */
#define READ_BYTES 65536u
/* Documents served in one turn. */
#define DOCUMENTS_PER_TURN 16u
/* With so many calls under way, or so much unread, a client is not read. */
#define PAUSE_CALLS 64u
#define PAUSE_BYTES (256u << 10)

/* Bytes [begin, end) of memory that grows. */
struct buffer {
	char *bytes;
	size_t begin;
	size_t end;
	size_t size;
};

struct control_client {
	struct control_peer peer;
	struct vhub_control *control;
	struct control_client *next;
	struct vhub_watch watch;
	uint32_t events; /* watched for */
	struct vhub_task task;
	struct vhub_timer timer; /* armed while something waits to be read */

	struct buffer in; /* from the beginning of the present document on */
	size_t scanned;	  /* of it */
	struct control_scan scan;
	struct buffer out;

	uint64_t last_ns; /* when it last sent something */
	bool served;	  /* at least one document */
	bool eof;	  /* it will send nothing more */
	bool ending;
};

static struct control_client *
of(struct control_peer *peer)
{
	return vhub_container_of(peer, struct control_client, peer);
}

/* ---- buffers ---- */

static size_t
buffer_len(const struct buffer *buffer)
{
	return buffer->end - buffer->begin;
}

/* Makes room for `len` more bytes. */
static int
buffer_reserve(struct buffer *buffer, size_t len)
{
	size_t size = RTE_MAX(buffer->size, 4096u);
	char *bytes;

	if (buffer->begin > 0) {
		memmove(buffer->bytes, buffer->bytes + buffer->begin, buffer_len(buffer));
		buffer->end -= buffer->begin;
		buffer->begin = 0;
	}
	while (size < buffer->end + len)
		size *= 2;
	if (size == buffer->size)
		return 0;
	bytes = realloc(buffer->bytes, size);
	if (bytes == NULL)
		return -ENOMEM;
	buffer->bytes = bytes;
	buffer->size = size;
	return 0;
}

/* One that is empty keeps no large memory. */
static void
buffer_trim(struct buffer *buffer)
{
	if (buffer_len(buffer) > 0)
		return;
	buffer->begin = buffer->end = 0;
	if (buffer->size <= READ_BYTES)
		return;
	free(buffer->bytes);
	buffer->bytes = NULL;
	buffer->size = 0;
}

/* ---- out ---- */

static void
client_end(struct control_client *client)
{
	client->ending = true;
	vhub_loop_defer(client->control->loop, &client->task);
}

static void
client_send(struct control_peer *peer, const char *text, size_t len)
{
	struct control_client *client = of(peer);

	if (client->ending)
		return;
	if (buffer_len(&client->out) + len > VHUB_CONTROL_MAX_OUTPUT_BYTES ||
			buffer_reserve(&client->out, len) != 0) {
		VHUB_LOG(WARNING, "a control client was closed: it left %zu bytes unread",
				buffer_len(&client->out));
		client_end(client);
		return;
	}
	memcpy(client->out.bytes + client->out.end, text, len);
	client->out.end += len;
	vhub_loop_defer(client->control->loop, &client->task);
}

static void
client_progress(struct control_peer *peer)
{
	vhub_loop_defer(of(peer)->control->loop, &of(peer)->task);
}

static void
reads_nothing(struct vhub_timer *timer)
{
	struct control_client *client = vhub_container_of(timer, struct control_client, timer);

	VHUB_LOG(WARNING, "a control client was closed: it left %zu bytes unread for %llu s",
			buffer_len(&client->out), VHUB_CONTROL_READ_TIMEOUT_US / 1000000);
	client_end(client);
}

static void
flush(struct control_client *client)
{
	struct buffer *out = &client->out;
	bool progress = false;
	ssize_t n = 0;

	while (buffer_len(out) > 0) {
		n = send(client->watch.fd, out->bytes + out->begin, buffer_len(out),
				MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		out->begin += (size_t)n;
		progress = true;
	}
	if (buffer_len(out) == 0)
		vhub_timer_cancel(client->control->loop, &client->timer);
	else if (errno != EAGAIN)
		client_end(client);
	else if (progress || !client->timer.armed)
		vhub_timer_arm(client->control->loop, &client->timer, VHUB_CONTROL_READ_TIMEOUT_US);
	buffer_trim(out);
}

/* ---- in ---- */

static bool
paused(const struct control_client *client)
{
	return client->peer.n_pending >= PAUSE_CALLS || buffer_len(&client->out) >= PAUSE_BYTES;
}

static void
serve_document(struct control_client *client)
{
	const struct buffer *in = &client->in;

	client->served = true;
	control_dispatch(&client->control->methods, &client->peer, in->bytes + in->begin,
			client->scanned);
	client->in.begin += client->scanned;
	client->scanned = 0;
}

/* The next document, if it is there. Returns whether it was. */
static bool
serve_next(struct control_client *client)
{
	const struct buffer *in = &client->in;
	bool complete;
	size_t used;

	if (in->bytes == NULL) /* nothing has come */
		return false;
	complete = control_scan(&client->scan, in->bytes + in->begin + client->scanned,
			buffer_len(in) - client->scanned, &used);
	client->scanned += used;
	if (!complete && client->eof && client->scan.started) {
		client->scan = (struct control_scan){ 0 };
		complete = true;
	}
	if (complete)
		serve_document(client);
	else if (!client->scan.started) { /* white space */
		client->in.begin += client->scanned;
		client->scanned = 0;
	}
	return complete;
}

/* Returns whether there may be more. */
static bool
serve_documents(struct control_client *client)
{
	unsigned int i;

	for (i = 0; i < DOCUMENTS_PER_TURN && !paused(client) && !client->ending; i++) {
		if (!serve_next(client)) {
			buffer_trim(&client->in);
			return false;
		}
	}
	return true;
}

static void
read_some(struct control_client *client)
{
	struct timespec now;
	ssize_t n;

	if (buffer_reserve(&client->in, READ_BYTES) != 0) {
		client_end(client);
		return;
	}
	n = recv(client->watch.fd, client->in.bytes + client->in.end, READ_BYTES, MSG_DONTWAIT);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client_end(client);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	client->last_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
	client->eof = n == 0;
	client->in.end += (size_t)n;
}

/* A document that has no end within the limit: what follows could be anything. */
static void
refuse_long(struct control_client *client)
{
	control_send_error(&client->peer, VHUB_CONTROL_PARSE_ERROR,
			"this document is longer than 1 MiB; the connection is closed");
	flush(client);
	client_end(client);
}

/* ---- turns ---- */

static void
rewatch(struct control_client *client)
{
	uint32_t events = 0;

	if (!client->eof && !paused(client) && client->scanned == buffer_len(&client->in))
		events |= EPOLLIN;
	if (buffer_len(&client->out) > 0)
		events |= EPOLLOUT;
	if (events != client->events &&
			vhub_loop_rewatch(client->control->loop, &client->watch, events) != 0)
		client_end(client);
	client->events = events;
}

/* Something has come, something was answered, something was read. */
static void
client_turn(struct vhub_task *task)
{
	struct control_client *client = vhub_container_of(task, struct control_client, task);
	bool more;

	if (client->ending) {
		control_client_close(client);
		return;
	}
	flush(client);
	more = serve_documents(client);
	flush(client);
	if (!more && buffer_len(&client->in) > VHUB_CONTROL_MAX_INPUT_BYTES)
		refuse_long(client);
	else if (more && !paused(client))
		vhub_loop_defer(client->control->loop, &client->task);
	else if (client->eof && !more && client->peer.n_pending == 0 &&
			buffer_len(&client->out) == 0)
		client_end(client);
	rewatch(client);
}

static void
on_client(struct vhub_watch *watch, uint32_t events)
{
	struct control_client *client = vhub_container_of(watch, struct control_client, watch);

	if ((events & EPOLLIN) != 0)
		read_some(client);
	else if ((events & (EPOLLHUP | EPOLLERR)) != 0)
		client_end(client);
	/* At once, so that nothing more is read before this was looked at. */
	if (client->task.queued)
		vhub_loop_undefer(client->control->loop, &client->task);
	client_turn(&client->task);
}

/* ---- life ---- */

int
control_client_open(struct vhub_control *control, int fd)
{
	struct control_client *client = calloc(1, sizeof(*client));
	int ret = -ENOMEM;

	if (client == NULL)
		goto hang_up;
	client->peer.send = client_send;
	client->peer.progress = client_progress;
	client->control = control;
	client->watch.fd = fd;
	client->watch.fn = on_client;
	client->events = EPOLLIN;
	client->task.fn = client_turn;
	client->timer.fn = reads_nothing;
	ret = vhub_loop_watch(control->loop, &client->watch, EPOLLIN);
	if (ret != 0)
		goto free_client;
	client->next = control->clients;
	control->clients = client;
	control->n_clients++;
	return 0;

free_client:
	free(client);
hang_up:
	vhub_fd_hang_up(fd, NULL);
	return ret;
}

/*
 * Who waits for an answer goes last: others can come again. But go it does, or calls that storage holds up would lock
 * out whoever looks what is wrong. Who was never served goes first.
 */
static bool
goes_before(const struct control_client *client, const struct control_client *other)
{
	const bool waits = client->peer.n_pending > 0, other_waits = other->peer.n_pending > 0;

	if (waits != other_waits)
		return other_waits;
	if (client->served != other->served)
		return other->served;
	/* Later ones in the list came before. */
	return client->last_ns <= other->last_ns;
}

void
control_client_make_room(struct vhub_control *control)
{
	struct control_client *client, *first = control->clients;

	for (client = first; client != NULL; client = client->next) {
		if (goes_before(client, first))
			first = client;
	}
	if (first->peer.n_pending > 0)
		VHUB_LOG(WARNING,
				"a control client was closed for another one: %u calls of its go on",
				first->peer.n_pending);
	control_client_close(first);
}

void
control_client_close(struct control_client *client)
{
	struct vhub_control *control = client->control;
	struct control_client **link;

	for (link = &control->clients; *link != client; link = &(*link)->next)
		;
	*link = client->next;
	control->n_clients--;
	control_forget_peer(&client->peer);
	vhub_loop_undefer(control->loop, &client->task);
	vhub_timer_cancel(control->loop, &client->timer);
	vhub_loop_unwatch(control->loop, &client->watch);
	/* What it has not read yet of an answer is still its to read. */
	vhub_fd_hang_up(client->watch.fd, NULL);
	free(client->in.bytes);
	free(client->out.bytes);
	free(client);
}
