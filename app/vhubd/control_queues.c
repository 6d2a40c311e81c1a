/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control method about queues: it hands one to another lcore. Called by lib/control; next:
 * device/queue_move.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control_methods.h"

struct move {
	struct vhub_queue_move move;
	struct slots *slots;
	struct vhub_device *device; /* there as long as the move is under way */
	struct vhub_control_call *call;
};

static void
moved(struct vhub_queue_move *queue_move, int result)
{
	struct move *move = vhub_container_of(queue_move, struct move, move);
	struct vhub_control_call *call = move->call;
	const unsigned int queue = queue_move->queue;
	const unsigned int lcore = vhub_lcore_id(queue_move->lcore);

	if (result == 0)
		slots_note_affinity(move->slots, move->device);
	free(move);
	if (result == 0)
		vhub_control_result(call, json_true());
	else if (result == -ESHUTDOWN)
		vhub_control_refuse(call, CONTROL_BUSY, "the device is being removed");
	else if (result == -ETIMEDOUT)
		vhub_control_refuse(call, CONTROL_NOT_MOVED,
				"queue=%u stays where it was: what it has in flight did not complete in two seconds; ask again when its storage answers",
				queue);
	else
		vhub_control_refuse(call, CONTROL_NOT_MOVED,
				"queue=%u stays where it was: it cannot run on lcore=%u: %s; choose another of lcore_list",
				queue, lcore, strerror(-result));
}

static void
begin(struct vhub_control_call *call, struct slots *slots, struct vhub_device *device,
		unsigned int queue, struct vhub_lcore *lcore)
{
	struct move *move = calloc(1, sizeof(*move));
	int ret = -ENOMEM;

	if (move != NULL) {
		move->slots = slots;
		move->device = device;
		move->call = call;
		move->move.queue = (uint16_t)queue;
		move->move.lcore = lcore;
		move->move.done = moved;
		ret = vhub_device_queue_move(device, &move->move);
	}
	if (ret == 0)
		return;
	free(move);
	if (ret == -ENOTCONN)
		vhub_control_refuse(call, CONTROL_NOT_MOVED,
				"queue=%u stays where it was: %s has no front end whose rings could move, its queues stay on the lcores it was made with",
				queue, device->name);
	else
		vhub_control_refuse(call, VHUB_CONTROL_INTERNAL, "%s", strerror(-ret));
}

static void
queue_move(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	const char *name = control_text(params, "name");
	const json_int_t queue = json_integer_value(json_object_get(params, "queue"));
	const json_int_t id = json_integer_value(json_object_get(params, "lcore"));
	const struct slot *slot = slots_find(context->slots, name);
	struct vhub_lcore *lcore = affinity_find_lcore(id);

	if (slot == NULL) {
		vhub_control_refuse(call, CONTROL_NO_DEVICE, "there is no device %.64s", name);
	} else if (slot->state != SLOT_SERVING) {
		vhub_control_refuse(call, CONTROL_BUSY, "%.64s is %s: ask again when it is serving",
				name, slot_state_name(slot->state));
	} else if (queue < 0 || queue >= (json_int_t)vhub_device_n_queues(slot->device)) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"queue=%" JSON_INTEGER_FORMAT ": %.64s has 0 to %u", queue, name,
				vhub_device_n_queues(slot->device) - 1);
	} else if (lcore == NULL) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"lcore=%" JSON_INTEGER_FORMAT
				": there is no such worker; lcore_list names them",
				id);
	} else {
		begin(call, context->slots, slot->device, (unsigned int)queue, lcore);
	}
}

static const struct vhub_control_param queue_move_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the device's name" },
	{ "queue", VHUB_CONTROL_INTEGER, true, "which of its queues, from 0" },
	{ "lcore", VHUB_CONTROL_INTEGER, true, "the worker that is to serve it, as in lcore_list" },
	{ .name = NULL },
};

const struct vhub_control_method control_queue_move = {
	.name = "queue_move",
	.help = "Hands a queue to another worker while it runs; answers when that serves it.",
	.params = queue_move_params,
	.fn = queue_move,
	.renamed = { "device", "name" },
};
