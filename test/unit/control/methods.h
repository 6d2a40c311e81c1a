/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Methods for the tests of lib/control: one answers at once, one when the test says so, one with an
 * error, one with what it got.
 */
#ifndef METHODS_H
#define METHODS_H

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "vhub_control.h"

#define MAX_LATER 512

static struct vhub_control_call *later[MAX_LATER];
static unsigned int n_later;
static unsigned int n_hellos;

static inline void
hello(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)params;
	n_hellos++;
	vhub_control_result(call, json_string(arg));
}

static inline void
wait_for_it(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)params;
	(void)arg;
	later[n_later++] = call;
}

static inline void
never(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)params;
	(void)arg;
	vhub_control_refuse(call, -32042, "no %s today", "luck");
}

static inline void
echo(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)arg;
	vhub_control_result(call, json_deep_copy(params));
}

/* As much text as is asked for. */
static inline void
large(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const json_int_t n = json_integer_value(json_object_get(params, "bytes"));
	char *text = malloc((size_t)n + 1);

	(void)arg;
	memset(text, 'x', (size_t)n);
	text[n] = '\0';
	vhub_control_result(call, json_string(text));
	free(text);
}

static const struct vhub_control_param echo_params[] = {
	{ "text", VHUB_CONTROL_STRING, true, "a text" },
	{ "what", VHUB_CONTROL_INTEGER | VHUB_CONTROL_OBJECT, false, "something" },
	{ "loud", VHUB_CONTROL_BOOLEAN, false, "whether" },
	{ .name = NULL },
};
static const struct vhub_control_param large_params[] = {
	{ "bytes", VHUB_CONTROL_INTEGER, true, "how many" },
	{ .name = NULL },
};

static const struct vhub_control_method hello_method = {
	.name = "hello",
	.help = "Says it.",
	.fn = hello,
};
static const struct vhub_control_method wait_method = {
	.name = "wait",
	.help = "Later.",
	.fn = wait_for_it,
};
static const struct vhub_control_method fail_method = {
	.name = "fail",
	.help = "Never.",
	.fn = never,
};
static const struct vhub_control_method echo_method = {
	.name = "echo",
	.help = "Back.",
	.params = echo_params,
	.fn = echo,
	.renamed = { "words", "text" },
};
static const struct vhub_control_method large_method = {
	.name = "large",
	.help = "Much.",
	.params = large_params,
	.fn = large,
};

static const struct vhub_control_method *const test_methods[] = { &hello_method, &wait_method,
	&fail_method, &echo_method, &large_method };

#define N_TEST_METHODS (sizeof(test_methods) / sizeof(test_methods[0]))

#endif /* METHODS_H */
