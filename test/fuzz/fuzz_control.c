/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a control client sends, cut into documents and dispatched: lib/control/document.c,
 * dispatch.c and params.c. Some calls are answered at once, some when the input has ended, some
 * after their peer is gone. Every answer has to be JSON of ours.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control_pvt.h"

#define MAX_LATER 1024

static struct vhub_control_call *later[MAX_LATER];
static unsigned int n_later;

static void
echo(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)arg;
	vhub_control_result(call, json_deep_copy(params));
}

static void
wait_for_it(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)params;
	(void)arg;
	if (n_later < MAX_LATER)
		later[n_later++] = call;
	else
		vhub_control_refuse(call, -32001, "full");
}

static const struct vhub_control_param params[] = {
	{ "a", VHUB_CONTROL_STRING, true, "a text" },
	{ "b", VHUB_CONTROL_INTEGER | VHUB_CONTROL_OBJECT | VHUB_CONTROL_BOOLEAN, false,
			"something" },
	{ .name = NULL },
};
static const struct vhub_control_method echo_method = {
	.name = "echo",
	.help = "Back.",
	.params = params,
	.fn = echo,
	.renamed = { "c", "a" },
};
static const struct vhub_control_method wait_method = {
	.name = "wait",
	.help = "Later.",
	.fn = wait_for_it,
};
static const struct vhub_control_method *const table[] = { &echo_method, &wait_method };
static const struct control_methods methods = { table, 2, NULL };

static void
take(struct control_peer *peer, const char *text, size_t len)
{
	json_t *document = json_loadb(text, len, 0, NULL);

	(void)peer;
	if (text[len - 1] != '\n' || !(json_is_object(document) || json_is_array(document)))
		abort();
	json_decref(document);
}

static void
progress(struct control_peer *peer)
{
	(void)peer;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_peer peer = { .send = take, .progress = progress };
	struct control_scan scan = { 0 };
	const char *text = (const char *)data;
	size_t begin = 0, at = 0, used;

	n_later = 0;
	while (at < size) {
		const size_t piece = 1 + data[at] % 64;

		if (control_scan(&scan, text + at, piece < size - at ? piece : size - at, &used)) {
			control_dispatch(&methods, &peer, text + begin, at + used - begin);
			begin = at + used;
		}
		at += used;
	}
	for (unsigned int i = 0; i < n_later; i++) {
		if (i == n_later / 2)
			control_forget_peer(&peer);
		vhub_control_result(later[i], json_true());
	}
	if (peer.n_pending != 0 || peer.exchanges != NULL)
		abort();
	return 0;
}
