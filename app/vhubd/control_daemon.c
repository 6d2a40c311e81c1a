/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control methods about the daemon itself. Called by lib/control; next: status.c, config_save.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include <rte_log.h>
#include <rte_version.h>

#include "config_save.h"
#include "control_methods.h"
#include "log_level.h"
#include "status.h"
#include "vhub_work.h"

/* ---- version, lcore_list ---- */

static void
version(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)params;
	(void)arg;
	vhub_control_result(call,
			json_pack("{s:s, s:s, s:i}", "vhubd", VHUB_VERSION, "dpdk", rte_version(),
					"pid", (int)getpid()));
}

const struct vhub_control_method control_version = {
	.name = "version",
	.help = "Tells the versions of vhubd and DPDK, and the process id.",
	.fn = version,
};

static void
lcore_list(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;

	(void)params;
	vhub_control_result(call, status_lcores(context->slots));
}

const struct vhub_control_method control_lcore_list = {
	.name = "lcore_list",
	.help = "Lists the worker lcores: busy share, pollers, sleeps, devices.",
	.fn = lcore_list,
};

/* ---- log_level_set ---- */

static void
log_level_set(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	const char *pattern = control_text(params, "pattern");
	char ours[256];
	uint32_t level;

	if (log_level_parse(control_text(params, "level"), &level) != 0) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"level=%.64s: allowed are " LOG_LEVEL_ALLOWED,
				control_text(params, "level"));
		return;
	}
	if (pattern == NULL)
		pattern = LOG_LEVEL_OURS;
	if (!log_level_has_type(pattern, ours, sizeof(ours))) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"pattern=%.64s: there is no such log type; vhub's are %s", pattern,
				ours);
		return;
	}
	if (rte_log_set_level_pattern(pattern, level) < 0) {
		vhub_control_refuse(call, VHUB_CONTROL_INTERNAL, "out of memory");
		return;
	}
	if (strcmp(pattern, LOG_LEVEL_OURS) == 0)
		context->options->log_level = level;
	vhub_control_result(call,
			json_pack("{s:s, s:s}", "pattern", pattern, "level",
					log_level_name(level)));
}

static const struct vhub_control_param log_level_params[] = {
	{ "level", VHUB_CONTROL_STRING, true, LOG_LEVEL_ALLOWED },
	{ "pattern", VHUB_CONTROL_STRING, false,
			"log types, such as vhub.blk or lib.eal, with * and ? (" LOG_LEVEL_OURS
			")" },
	{ .name = NULL },
};

const struct vhub_control_method control_log_level_set = {
	.name = "log_level_set",
	.help = "Sets how much is logged.",
	.params = log_level_params,
	.fn = log_level_set,
};

/* ---- config_save ---- */

struct save {
	STAILQ_ENTRY(save) next;
	struct vhub_work work;
	struct vhub_control_call *call;
	const struct control_context *context;
	char *path;
	char *text;
	int result;
	char error[512];
};

/*
 * CTL. The first one to each path is under way, for one may hang; the text of the next to that path is made when it
 * is over: a file never gets what is older than what it has.
 */
static STAILQ_HEAD(, save) saves = STAILQ_HEAD_INITIALIZER(saves);

static void
refuse_save(struct vhub_control_call *call, int result, const char *why)
{
	vhub_control_refuse(call, result == -ESHUTDOWN ? CONTROL_STOPPING : CONTROL_NO_FILE, "%s",
			why);
}

static void
run_save(struct vhub_work *work)
{
	struct save *save = vhub_container_of(work, struct save, work);

	save->result = config_save_write(save->path, save->text, save->error, sizeof(save->error));
}

static struct save *
find_save(const char *path)
{
	struct save *save;

	STAILQ_FOREACH(save, &saves, next) {
		if (strcmp(save->path, path) == 0)
			return save;
	}
	return NULL;
}

/* False: it is over, and has not begun. */
static bool
begin_save(struct save *save)
{
	save->result = config_save_text(save->context->options, save->context->slots, &save->text,
			save->error, sizeof(save->error));
	if (save->result != 0)
		return false;
	/* The work's from here on: it may have failed already. */
	vhub_work_submit(&save->work);
	return true;
}

static void
answer_save(const struct save *save)
{
	if (save->result == 0)
		vhub_control_result(save->call, json_pack("{s:s}", "path", save->path));
	else
		refuse_save(save->call, save->result, save->error);
}

/* It is over: the next one to its path follows. */
static void
end_save(struct save *save)
{
	struct save *next;

	do {
		answer_save(save);
		STAILQ_REMOVE(&saves, save, save, next);
		next = find_save(save->path);
		free(save->path);
		free(save->text);
		free(save);
		save = next;
	} while (save != NULL && !begin_save(save));
}

static void
saved(struct vhub_work *work)
{
	end_save(vhub_container_of(work, struct save, work));
}

static void
save_as(struct vhub_control_call *call, const struct control_context *context, const char *path)
{
	struct save *save = calloc(1, sizeof(*save));
	const bool is_first = find_save(path) == NULL;

	if (save != NULL)
		save->path = strdup(path);
	if (save == NULL || save->path == NULL) {
		free(save);
		vhub_control_refuse(call, VHUB_CONTROL_INTERNAL, "out of memory");
		return;
	}
	save->call = call;
	save->context = context;
	save->work.kind = VHUB_WORK_STORAGE;
	save->work.run = run_save;
	save->work.done = saved;
	STAILQ_INSERT_TAIL(&saves, save, next);
	if (is_first && !begin_save(save))
		end_save(save);
}

static void
config_save(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	const char *path = control_text(params, "path");
	char error[512];
	char *text;
	int ret;

	if (path != NULL) {
		save_as(call, context, path);
		return;
	}
	ret = config_save_text(context->options, context->slots, &text, error, sizeof(error));
	if (ret != 0) {
		refuse_save(call, ret, error);
		return;
	}
	vhub_control_result(call, json_pack("{s:s}", "text", text));
	free(text);
}

static const struct vhub_control_param config_save_params[] = {
	{ "path", VHUB_CONTROL_STRING, false,
			"the file, as seen by vhubd; without it the text is the answer" },
	{ .name = NULL },
};

const struct vhub_control_method control_config_save = {
	.name = "config_save",
	.help = "Writes what runs now as a file for --config.",
	.params = config_save_params,
	.fn = config_save,
};
