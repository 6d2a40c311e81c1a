/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of this folder share. */
#ifndef TELEMETRY_PVT_H
#define TELEMETRY_PVT_H

#include <jansson.h>

struct rte_tel_data;

/** Fills `data` with an object or an array. Thread: ANY. Returns 0 or -EINVAL, -ENOMEM. */
int
telemetry_from_json(struct rte_tel_data *data, const json_t *json);

#endif /* TELEMETRY_PVT_H */
