/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of this folder share.
 *
 *   server.c     listens, keeps the clients
 *   client.c     one client's socket: bytes in, bytes out, limits
 *   document.c   finds the end of a document in a stream of bytes
 *   dispatch.c   a document to calls, answers to a document
 *   params.c     parameters of a call against the method's table; rpc_methods
 */
#ifndef CONTROL_PVT_H
#define CONTROL_PVT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhub_control.h"

/* ---- documents ---- */

/** Where a scan of a stream stands. Zero-initialised: before a document. */
struct control_scan {
	size_t depth; /**< open brackets of whatever kind */
	bool started; /**< something that is no white space has come */
	bool in_string;
	bool escaped; /**< the next byte of the string is no end */
};

/**
 * Goes on over `len` bytes. Returns true when a document is complete: *used bytes belong to it (or
 * to nothing), and the scan is before the next one; false: all bytes were used, more must come.
 */
bool
control_scan(struct control_scan *scan, const char *bytes, size_t len, size_t *used);

/* ---- calls ---- */

/** Who sends documents and gets answers: a client, a fuzzer. */
struct control_peer {
	/** Takes a document of `len` bytes, which ends with a newline. */
	void (*send)(struct control_peer *peer, const char *text, size_t len);
	/** A call was answered, or needs no answer: n_pending is one less. */
	void (*progress)(struct control_peer *peer);
	struct control_exchange *exchanges; /**< dispatch.c */
	unsigned int n_pending;		    /**< calls that are not answered yet */
};

/** What can be called. */
struct control_methods {
	const struct vhub_control_method *const *own; /**< the program's */
	unsigned int n;
	void *arg;
};

/** Serves a document. Answers that are ready are sent before it returns, others later. */
void
control_dispatch(const struct control_methods *methods, struct control_peer *peer, const char *text,
		size_t len);

/** Sends an error that belongs to no call. */
void
control_send_error(struct control_peer *peer, int code, const char *message);

/** The peer is gone: what is not answered yet will be answered to nobody. */
void
control_forget_peer(struct control_peer *peer);

/* ---- methods ---- */

/** The table of rpc_methods itself. */
extern const struct vhub_control_method control_rpc_methods;

/**
 * Makes the parameters of a call, by name, from `given` (an object, an array or NULL). Returns 0
 * and a new reference in *out; VHUB_CONTROL_INVALID_PARAMS with one sentence in `error`, or
 * VHUB_CONTROL_INTERNAL.
 */
int
control_params(const struct vhub_control_method *method, json_t *given, json_t **out, char *error,
		size_t error_len);

/* ---- clients ---- */

struct control_client;

/** Kept by server.c. */
struct vhub_control {
	struct vhub_loop *loop;
	struct control_methods methods;
	struct vhub_connection *listener;
	struct control_client *clients;
	unsigned int n_clients;
};

/** Serves the connected socket `fd`, which is taken in every case. Returns 0 or -errno. */
int
control_client_open(struct vhub_control *control, int fd);

/** Closes the quietest client, of whom there are some; who waits for an answer goes last. */
void
control_client_make_room(struct vhub_control *control);

/** Closes and frees it now. Not from below its own callbacks. */
void
control_client_close(struct control_client *client);

#endif /* CONTROL_PVT_H */
