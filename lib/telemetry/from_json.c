/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON values as telemetry's own, as far as that has such: integers, text, arrays of one kind,
 * objects. Called by fetch.c.
 */
#include <errno.h>
#include <stdio.h>

#include <rte_telemetry.h>

#include "telemetry_pvt.h"

/* A nested array or object; NULL without memory, or when it is neither. */
static struct rte_tel_data *
container(const json_t *json)
{
	struct rte_tel_data *data;

	if (!json_is_object(json) && !json_is_array(json))
		return NULL;
	data = rte_tel_data_alloc();
	if (data != NULL && telemetry_from_json(data, json) != 0) {
		rte_tel_data_free(data);
		data = NULL;
	}
	return data;
}

/* What does not fit is left out. */
static void
add_member(struct rte_tel_data *data, const char *name, const json_t *value)
{
	struct rte_tel_data *nested;

	if (json_is_integer(value))
		rte_tel_data_add_dict_u64(data, name, (uint64_t)json_integer_value(value));
	else if (json_is_real(value))
		rte_tel_data_add_dict_u64(data, name, (uint64_t)(json_real_value(value) + 0.5));
	else if (json_is_boolean(value))
		rte_tel_data_add_dict_int(data, name, json_is_true(value));
	else if (json_is_string(value))
		rte_tel_data_add_dict_string(data, name, json_string_value(value));
	else {
		nested = container(value);
		if (nested != NULL && rte_tel_data_add_dict_container(data, name, nested, 0) != 0)
			rte_tel_data_free(nested);
	}
}

static void
add_element(struct rte_tel_data *data, const json_t *value)
{
	if (json_is_integer(value))
		rte_tel_data_add_array_u64(data, (uint64_t)json_integer_value(value));
	else
		rte_tel_data_add_array_string(data, json_string_value(value));
}

/* Telemetry's arrays hold no objects: they become members "0", "1", ... of one. */
static void
add_objects(struct rte_tel_data *data, const json_t *array)
{
	json_t *value;
	char name[24];
	size_t i;

	rte_tel_data_start_dict(data);
	json_array_foreach(array, i, value)
	{
		snprintf(name, sizeof(name), "%zu", i);
		add_member(data, name, value);
	}
}

static void
add_array(struct rte_tel_data *data, const json_t *array)
{
	const json_t *first = json_array_get(array, 0);
	json_t *value;
	size_t i;

	if (json_is_object(first)) {
		add_objects(data, array);
		return;
	}
	rte_tel_data_start_array(data,
			json_is_integer(first) ? RTE_TEL_U64_VAL : RTE_TEL_STRING_VAL);
	json_array_foreach(array, i, value) add_element(data, value);
}

int
telemetry_from_json(struct rte_tel_data *data, const json_t *json)
{
	const char *name;
	json_t *value;

	if (json_is_array(json)) {
		add_array(data, json);
		return 0;
	}
	if (!json_is_object(json))
		return -EINVAL;
	rte_tel_data_start_dict(data);
	json_object_foreach((json_t *)(uintptr_t)json, name, value) add_member(data, name, value);
	return 0;
}
