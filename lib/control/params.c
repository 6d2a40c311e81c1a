/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameters of a call: by position to by name, and checked against the method's table, so that a
 * method finds what its table says. And the method that lists the tables. Called by dispatch.c.
 */
#include <stdio.h>
#include <string.h>

#include <bsd/string.h>

#include <rte_common.h>

#include "control_pvt.h"

static const struct vhub_control_param no_params[] = { { .name = NULL } };

static const struct {
	unsigned int kind;
	const char *name;
} kinds[] = {
	{ VHUB_CONTROL_STRING, "string" },
	{ VHUB_CONTROL_INTEGER, "integer" },
	{ VHUB_CONTROL_OBJECT, "object" },
	{ VHUB_CONTROL_BOOLEAN, "boolean" },
};

static const struct vhub_control_param *
table(const struct vhub_control_method *method)
{
	return method->params != NULL ? method->params : no_params;
}

static const struct vhub_control_param *
find(const struct vhub_control_method *method, const char *name)
{
	const struct vhub_control_param *param;

	for (param = table(method); param->name != NULL; param++) {
		if (strcmp(param->name, name) == 0)
			return param;
	}
	return NULL;
}

static unsigned int
kind_of(const json_t *value)
{
	return json_is_string(value)	       ? VHUB_CONTROL_STRING :
			json_is_integer(value) ? VHUB_CONTROL_INTEGER :
			json_is_object(value)  ? VHUB_CONTROL_OBJECT :
			json_is_boolean(value) ? VHUB_CONTROL_BOOLEAN :
						 0;
}

/* "string or object" */
static void
name_kinds(unsigned int mask, char *text, size_t len)
{
	size_t i;

	text[0] = '\0';
	for (i = 0; i < RTE_DIM(kinds); i++) {
		if ((mask & kinds[i].kind) == 0)
			continue;
		strlcat(text, text[0] == '\0' ? "" : " or ", len);
		strlcat(text, kinds[i].name, len);
	}
}

static void
name_params(const struct vhub_control_method *method, char *text, size_t len)
{
	const struct vhub_control_param *param;

	strlcpy(text, table(method)->name == NULL ? "none" : "", len);
	for (param = table(method); param->name != NULL; param++) {
		strlcat(text, text[0] == '\0' ? "" : ", ", len);
		strlcat(text, param->name, len);
	}
}

/* By position to by name. */
static int
from_array(const struct vhub_control_method *method, const json_t *given, json_t *params,
		char *error, size_t error_len)
{
	const struct vhub_control_param *param = table(method);
	char names[256];
	json_t *value;
	size_t i;

	json_array_foreach(given, i, value)
	{
		if (param->name == NULL) {
			name_params(method, names, sizeof(names));
			snprintf(error, error_len, "%s has %zu parameters: %s; %zu were given",
					method->name, i, names, json_array_size(given));
			return VHUB_CONTROL_INVALID_PARAMS;
		}
		if (json_object_set(params, param->name, value) != 0)
			return VHUB_CONTROL_INTERNAL;
		param++;
	}
	return 0;
}

/* From what a parameter was called before to its name, unless that is given too. */
static int
from_former(const struct vhub_control_method *method, json_t *params)
{
	const char *former = method->renamed[0], *name = method->renamed[1];
	json_t *value = former == NULL ? NULL : json_object_get(params, former);

	if (value == NULL || json_object_get(params, name) != NULL)
		return 0;
	if (json_object_set(params, name, value) != 0)
		return VHUB_CONTROL_INTERNAL;
	json_object_del(params, former);
	return 0;
}

static int
check(const struct vhub_control_method *method, json_t *params, char *error, size_t error_len)
{
	const struct vhub_control_param *param;
	char names[256];
	const char *name;
	json_t *value;

	json_object_foreach(params, name, value)
	{
		param = find(method, name);
		if (param == NULL) {
			name_params(method, names, sizeof(names));
			snprintf(error, error_len, "%s has no parameter %.64s; allowed: %s",
					method->name, name, names);
			return VHUB_CONTROL_INVALID_PARAMS;
		}
		if ((kind_of(value) & param->kinds) == 0) {
			name_kinds(param->kinds, names, sizeof(names));
			snprintf(error, error_len, "parameter %s of %s is to be of type %s", name,
					method->name, names);
			return VHUB_CONTROL_INVALID_PARAMS;
		}
	}
	for (param = table(method); param->name != NULL; param++) {
		if (param->required && json_object_get(params, param->name) == NULL) {
			snprintf(error, error_len, "%s needs the parameter %s: %s", method->name,
					param->name, param->help);
			return VHUB_CONTROL_INVALID_PARAMS;
		}
	}
	return 0;
}

int
control_params(const struct vhub_control_method *method, json_t *given, json_t **out, char *error,
		size_t error_len)
{
	json_t *params;
	int ret = 0;

	if (json_is_object(given))
		params = json_incref(given);
	else
		params = json_object();
	if (params == NULL)
		return VHUB_CONTROL_INTERNAL;
	if (json_is_array(given))
		ret = from_array(method, given, params, error, error_len);
	if (ret == 0)
		ret = from_former(method, params);
	if (ret == 0)
		ret = check(method, params, error, error_len);
	if (ret != 0)
		json_decref(params);
	else
		*out = params;
	return ret;
}

/* ---- rpc_methods ---- */

static json_t *
describe(const struct vhub_control_method *method)
{
	const struct vhub_control_param *param;
	json_t *params = json_array();
	char names[64];

	for (param = table(method); param->name != NULL; param++) {
		name_kinds(param->kinds, names, sizeof(names));
		json_array_append_new(params,
				json_pack("{s:s, s:s, s:b, s:s}", "name", param->name, "type",
						names, "required", param->required, "help",
						param->help));
	}
	return json_pack("{s:s, s:s, s:o}", "name", method->name, "help", method->help, "params",
			params);
}

static json_t *
list_methods(const struct control_methods *methods)
{
	json_t *list = json_array();
	unsigned int i;

	json_array_append_new(list, describe(&control_rpc_methods));
	for (i = 0; i < methods->n; i++)
		json_array_append_new(list, describe(methods->own[i]));
	return list;
}

static void
rpc_methods(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)params;
	vhub_control_result(call, list_methods(arg));
}

/* dispatch.c gives it the table of methods in place of the program's argument. */
const struct vhub_control_method control_rpc_methods = {
	.name = "rpc_methods",
	.help = "Lists the methods and their parameters.",
	.fn = rpc_methods,
};
