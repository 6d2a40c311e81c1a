/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control interface: JSON-RPC 2.0 on a Unix stream socket, served by the control loop to several
 * clients at once. What can be asked is the program's: a table of methods.
 *
 * On the wire
 *   Documents follow one another, with or without white space or newlines between them, in both
 *   directions; ours end with a newline. Outside of a document a line is read to its end, so after
 *   a line of garbage and its error the next document is read as if nothing had been.
 *   Requests, notifications and batches are as the specification has them; parameters by name, or
 *   by position in the order of the method's table. Answers come in the order in which they are
 *   ready; a batch's together.
 *
 * Limits for each client, beyond which it is closed (a document that is too long gets an error
 * first): see VHUB_CONTROL_MAX_*. A client with much under way is read again when it has less.
 */
#ifndef VHUB_CONTROL_H
#define VHUB_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "vhub_common.h"
#include "vhub_loop.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Longest document of a client. */
#define VHUB_CONTROL_MAX_INPUT_BYTES (1u << 20)
/** Most that waits for a client to read it. */
#define VHUB_CONTROL_MAX_OUTPUT_BYTES (16u << 20)
/** How long a client may leave answers unread. */
#define VHUB_CONTROL_READ_TIMEOUT_US 5000000ull
/** Clients at a time. One more takes the place of the quietest; who waits for an answer goes last. */
#define VHUB_CONTROL_MAX_CLIENTS 64u
/** Calls in one batch. */
#define VHUB_CONTROL_MAX_BATCH 256u

/** Codes of the specification. */
enum vhub_control_error {
	VHUB_CONTROL_PARSE_ERROR = -32700,
	VHUB_CONTROL_INVALID_REQUEST = -32600,
	VHUB_CONTROL_NO_METHOD = -32601,
	VHUB_CONTROL_INVALID_PARAMS = -32602,
	VHUB_CONTROL_INTERNAL = -32603,
	/** A program's own are from here down to -32099. */
	VHUB_CONTROL_OWN = -32000,
};

struct vhub_control;
struct vhub_control_call;

/** Kinds of value that a parameter may have; several are or-ed. */
#define VHUB_CONTROL_STRING 0x1u
#define VHUB_CONTROL_INTEGER 0x2u
#define VHUB_CONTROL_OBJECT 0x4u
#define VHUB_CONTROL_BOOLEAN 0x8u

/** A parameter of a method. */
struct vhub_control_param {
	const char *name; /**< NULL ends a table */
	unsigned int kinds;
	bool required;
	const char *help;
};

/** A method. Const, as long as the server. */
struct vhub_control_method {
	const char *name;
	const char *help;			 /**< one sentence */
	const struct vhub_control_param *params; /**< NULL: none */
	/**
	 * CTL; does not block. `params` is an object that fits the table; it is the call's, as long
	 * as that is there. Answers by vhub_control_result() or vhub_control_refuse(), now or
	 * later, in any case once.
	 */
	void (*fn)(struct vhub_control_call *call, const json_t *params, void *arg);
	/** Optional. What a parameter was called before, and its name in the table: by name both are taken. */
	const char *renamed[2];
};

/**
 * Listens at `path` with mode 0600 and serves `n` methods, whose fn get `arg`. A socket file on
 * which nobody answers is replaced. The method "rpc_methods", which lists all of them, is always
 * there. Thread: CTL. Returns 0, -ENOMEM, or what vhub_listener_create() returns.
 */
VHUB_API int
vhub_control_create(struct vhub_loop *loop, const char *path,
		const struct vhub_control_method *const *methods, unsigned int n, void *arg,
		struct vhub_control **out);

/**
 * Closes all clients, removes the socket file. Calls under way may still be answered, to nobody.
 * NULL is fine. Thread: CTL, but not from a method.
 */
VHUB_API void
vhub_control_destroy(struct vhub_control *control);

/**
 * Answers a call, which is gone then. `result` is taken; NULL: memory was short when it was made.
 * Thread: CTL.
 */
VHUB_API void
vhub_control_result(struct vhub_control_call *call, json_t *result);

/** Answers it with an error, one sentence like printf. Thread: CTL. */
VHUB_API void
vhub_control_refuse(struct vhub_control_call *call, int code, const char *format, ...)
		__attribute__((format(printf, 3, 4)));

#ifdef __cplusplus
}
#endif

#endif /* VHUB_CONTROL_H */
