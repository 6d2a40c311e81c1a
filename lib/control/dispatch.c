/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON-RPC 2.0: a document becomes an exchange of one call or a batch of them, each call finds its
 * method, and when the last one is answered the answers are sent together. Called by client.c;
 * next: params.c, then the program's methods.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_pvt.h"

/* One document: a call, or a batch. Freed with the answer to its last call. */
struct control_exchange {
	struct control_peer *peer; /* NULL: gone */
	struct control_exchange *next;
	json_t *answers; /* of a batch */
	unsigned int n_pending;
	bool is_batch;
};

struct vhub_control_call {
	struct control_exchange *exchange;
	json_t *id; /* NULL: a notification */
	json_t *params;
};

/* ---- answers ---- */

static void
send_document(struct control_peer *peer, const json_t *document)
{
	char *text = json_dumps(document, JSON_COMPACT | JSON_ENSURE_ASCII);
	size_t len;

	if (text == NULL)
		return;
	len = strlen(text);
	text[len] = '\n'; /* in the place of its end */
	peer->send(peer, text, len + 1);
	free(text);
}

/* Takes `id` and `value`. */
static json_t *
new_answer(json_t *id, const char *member, json_t *value)
{
	return json_pack("{s:s, s:o, s:o}", "jsonrpc", "2.0", member, value, "id", id);
}

static json_t *
new_error(json_t *id, int code, const char *message)
{
	/* A message may quote bytes of a peer's, cut somewhere. */
	json_t *text = json_string(message);

	if (text == NULL)
		text = json_string("the message is no UTF-8");
	return new_answer(id, "error", json_pack("{s:i, s:o}", "code", code, "message", text));
}

static void
exchange_done(struct control_exchange *exchange)
{
	struct control_exchange **link;
	struct control_peer *peer = exchange->peer;

	if (peer != NULL) {
		for (link = &peer->exchanges; *link != exchange; link = &(*link)->next)
			;
		*link = exchange->next;
		if (exchange->is_batch && json_array_size(exchange->answers) > 0)
			send_document(peer, exchange->answers);
	}
	json_decref(exchange->answers);
	free(exchange);
}

/* Takes `answer`, NULL: none is due. */
static void
exchange_answer(struct control_exchange *exchange, json_t *answer)
{
	if (answer != NULL && exchange->peer != NULL) {
		if (exchange->is_batch)
			json_array_append(exchange->answers, answer);
		else
			send_document(exchange->peer, answer);
	}
	json_decref(answer);
	if (exchange->peer != NULL) {
		exchange->peer->n_pending--;
		exchange->peer->progress(exchange->peer);
	}
	if (--exchange->n_pending == 0)
		exchange_done(exchange);
}

static void
call_done(struct vhub_control_call *call, json_t *answer)
{
	struct control_exchange *exchange = call->exchange;

	json_decref(call->id);
	json_decref(call->params);
	free(call);
	exchange_answer(exchange, answer);
}

void
vhub_control_result(struct vhub_control_call *call, json_t *result)
{
	json_t *answer = NULL;

	if (result == NULL) {
		vhub_control_refuse(call, VHUB_CONTROL_INTERNAL, "out of memory");
		return;
	}
	if (call->id != NULL)
		answer = new_answer(json_incref(call->id), "result", result);
	else
		json_decref(result);
	call_done(call, answer);
}

void
vhub_control_refuse(struct vhub_control_call *call, int code, const char *format, ...)
{
	json_t *answer = NULL;
	char message[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (call->id != NULL)
		answer = new_error(json_incref(call->id), code, message);
	call_done(call, answer);
}

void
control_send_error(struct control_peer *peer, int code, const char *message)
{
	json_t *answer = new_error(json_null(), code, message);

	if (answer != NULL)
		send_document(peer, answer);
	json_decref(answer);
}

void
control_forget_peer(struct control_peer *peer)
{
	struct control_exchange *exchange;

	for (exchange = peer->exchanges; exchange != NULL; exchange = exchange->next)
		exchange->peer = NULL;
	peer->exchanges = NULL;
	peer->n_pending = 0;
}

/* ---- calls ---- */

static const struct vhub_control_method *
find_method(const struct control_methods *methods, const char *name)
{
	unsigned int i;

	if (strcmp(name, control_rpc_methods.name) == 0)
		return &control_rpc_methods;
	for (i = 0; i < methods->n; i++) {
		if (strcmp(name, methods->own[i]->name) == 0)
			return methods->own[i];
	}
	return NULL;
}

/* What the specification wants of a request object; NULL, or one sentence. */
static const char *
check_request(const json_t *request)
{
	const json_t *version = json_object_get(request, "jsonrpc");
	const json_t *id = json_object_get(request, "id");
	const json_t *params = json_object_get(request, "params");

	if (!json_is_object(request))
		return "a request is a JSON object";
	if (!json_is_string(version) || strcmp(json_string_value(version), "2.0") != 0)
		return "\"jsonrpc\" is to be \"2.0\"";
	if (!json_is_string(json_object_get(request, "method")))
		return "\"method\" is to be a string";
	if (params != NULL && !json_is_object(params) && !json_is_array(params))
		return "\"params\" is to be an object or an array";
	if (id != NULL && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		return "\"id\" is to be a string, a number or null";
	return NULL;
}

static void
run_call(const struct control_methods *methods, struct vhub_control_call *call, const char *name,
		json_t *params)
{
	const struct vhub_control_method *method = find_method(methods, name);
	char error[512] = "out of memory";
	int code;

	if (method == NULL) {
		vhub_control_refuse(call, VHUB_CONTROL_NO_METHOD,
				"there is no method %.64s; rpc_methods lists them", name);
		return;
	}
	code = control_params(method, params, &call->params, error, sizeof(error));
	if (code != 0) {
		vhub_control_refuse(call, code, "%s", error);
		return;
	}
	if (method == &control_rpc_methods)
		method->fn(call, call->params, (void *)(uintptr_t)methods);
	else
		method->fn(call, call->params, methods->arg);
}

/* One request of an exchange, which counts as pending already. */
static void
serve_request(const struct control_methods *methods, struct control_exchange *exchange,
		json_t *request)
{
	const char *wrong = check_request(request);
	json_t *id = json_object_get(request, "id");
	struct vhub_control_call *call;

	if (wrong != NULL) {
		/* Without a request there is nothing that could be a notification. */
		if (id == NULL || !(json_is_string(id) || json_is_number(id)))
			id = json_null();
		exchange_answer(exchange,
				new_error(json_incref(id), VHUB_CONTROL_INVALID_REQUEST, wrong));
		return;
	}
	call = calloc(1, sizeof(*call));
	if (call == NULL) {
		exchange_answer(exchange,
				id == NULL ? NULL :
					     new_error(json_incref(id), VHUB_CONTROL_INTERNAL,
							     "out of memory"));
		return;
	}
	call->exchange = exchange;
	call->id = json_incref(id);
	run_call(methods, call, json_string_value(json_object_get(request, "method")),
			json_object_get(request, "params"));
}

static struct control_exchange *
new_exchange(struct control_peer *peer, const json_t *document)
{
	struct control_exchange *exchange = calloc(1, sizeof(*exchange));

	if (exchange == NULL)
		return NULL;
	exchange->is_batch = json_is_array(document);
	exchange->answers = json_array();
	if (exchange->answers == NULL) {
		free(exchange);
		return NULL;
	}
	exchange->n_pending = exchange->is_batch ? (unsigned int)json_array_size(document) : 1;
	exchange->peer = peer;
	exchange->next = peer->exchanges;
	peer->exchanges = exchange;
	peer->n_pending += exchange->n_pending;
	return exchange;
}

static void
serve_document(const struct control_methods *methods, struct control_peer *peer, json_t *document)
{
	struct control_exchange *exchange;
	json_t *request;
	size_t i;

	if (json_is_array(document) &&
			(json_array_size(document) == 0 ||
					json_array_size(document) > VHUB_CONTROL_MAX_BATCH)) {
		control_send_error(peer, VHUB_CONTROL_INVALID_REQUEST,
				"a batch has 1 to 256 requests");
		return;
	}
	exchange = new_exchange(peer, document);
	if (exchange == NULL)
		control_send_error(peer, VHUB_CONTROL_INTERNAL, "out of memory");
	else if (!json_is_array(document))
		serve_request(methods, exchange, document);
	else {
		/* The exchange may be gone with its last request. */
		json_array_foreach(document, i, request) serve_request(methods, exchange, request);
	}
}

void
control_dispatch(const struct control_methods *methods, struct control_peer *peer, const char *text,
		size_t len)
{
	json_error_t error;
	json_t *document;
	char message[256];

	document = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (document == NULL) {
		snprintf(message, sizeof(message), "this is no JSON: %s, at byte %d", error.text,
				error.position);
		control_send_error(peer, VHUB_CONTROL_PARSE_ERROR, message);
		return;
	}
	serve_document(methods, peer, document);
	json_decref(document);
}
