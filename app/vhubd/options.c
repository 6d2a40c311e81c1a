/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads the command line of vhubd: EAL's arguments before "--", ours after it, or ours alone.
 * Called by main.c; next: slot_spec.c for each device.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <bsd/stdlib.h>
#include <bsd/string.h>

#include <rte_common.h>
#include <rte_log.h>
#include <rte_version.h>

#include "options.h"
#include "slot_spec.h"

#define DEFAULT_IDLE_US 50

static const struct {
	const char *name;
	uint32_t level;
} log_levels[] = {
	{ "error", RTE_LOG_ERR },
	{ "warning", RTE_LOG_WARNING },
	{ "notice", RTE_LOG_NOTICE },
	{ "info", RTE_LOG_INFO },
	{ "debug", RTE_LOG_DEBUG },
};

/* ---- help ---- */

/* Each line of `help`, under its option. */
static void
print_keys(const char *help)
{
	size_t len;

	for (; *help != '\0'; help += len + (help[len] == '\n')) {
		len = strcspn(help, "\n");
		printf("      %.*s\n", (int)len, help);
	}
}

static void
print_help(void)
{
	const struct vhub_builder_ops *ops;
	unsigned int i;

	printf("vhubd %s serves virtio devices to virtual machines and virtio-user ports over vhost-user.\n\n"
	       "usage: vhubd [options]\n"
	       "       vhubd EAL-ARGUMENTS -- [options]\n\n"
	       "Without EAL arguments it takes its CPUs from the affinity mask (control on the first, workers on\n"
	       "the others) and hugepages if enough are free, else ordinary memory.\n\n"
	       "  --idle poll|adaptive  what a worker does with nothing to do: poll for ever, or sleep after a\n"
	       "                        while until somebody notifies it (default: adaptive)\n"
	       "  --idle-us N           microseconds without work before a worker sleeps, 0 to 1000000 (default: %d)\n"
	       "  --log-level LEVEL     error, warning, notice, info or debug (default: info)\n"
	       "  --load FILE           load a shared object with further drivers, for the options that\n"
	       "                        follow\n"
	       "  --version             print the version and exit\n"
	       "  --help                print this and exit\n",
			VHUB_VERSION, DEFAULT_IDLE_US);
	for (i = 0; (ops = vhub_builder_at(i)) != NULL; i++) {
		printf("  --%s NAME,key=value,...\n", ops->name);
		print_keys(slot_spec_help);
		print_keys(ops->help);
	}
}

/* ---- single options ---- */

static int
wrong(const char *option, const char *value, const char *why)
{
	fprintf(stderr, "vhubd: %s %s: %s\n", option, value, why);
	return -EINVAL;
}

static int
allowed(char *error, size_t error_len, const char *what)
{
	snprintf(error, error_len, "allowed are %s", what);
	return -EINVAL;
}

static int
set_log_level(struct options *options, const char *value, char *error, size_t error_len)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(log_levels); i++) {
		if (strcmp(value, log_levels[i].name) == 0) {
			options->log_level = log_levels[i].level;
			return 0;
		}
	}
	return allowed(error, error_len, "error, warning, notice, info and debug");
}

static int
set_idle(struct options *options, const char *value, char *error, size_t error_len)
{
	if (strcmp(value, "poll") == 0)
		options->idle_policy = VHUB_IDLE_POLL;
	else if (strcmp(value, "adaptive") == 0)
		options->idle_policy = VHUB_IDLE_ADAPTIVE;
	else
		return allowed(error, error_len, "poll and adaptive");
	return 0;
}

static int
set_idle_us(struct options *options, const char *value, char *error, size_t error_len)
{
	const char *bad = NULL;

	options->idle_us = (uint32_t)strtonum(value, 0, 1000000, &bad);
	return bad == NULL ? 0 : allowed(error, error_len, "0 to 1000000 microseconds");
}

static int
parse_slot(struct options *options, const struct vhub_builder_ops *ops, const char *option,
		const char *value)
{
	struct slot_options *slot = &options->slots[options->n_slots];
	char error[512] = "";
	unsigned int i;

	if (options->n_slots == MAX_SLOTS)
		return wrong(option, value, "that is more than 512 devices");
	if (slot_spec_parse(slot, ops, value, error, sizeof(error)) != 0) {
		slot_spec_free(slot);
		return wrong(option, value, error);
	}
	for (i = 0; i < options->n_slots; i++) {
		if (strcmp(options->slots[i].name, slot->name) == 0) {
			slot_spec_free(slot);
			return wrong(option, value, "another device has this name already");
		}
	}
	options->n_slots++;
	return 0;
}

/* Its constructors register what it adds, for the options that follow. */
static int
set_load(struct options *options, const char *value, char *error, size_t error_len)
{
	(void)options;
	if (dlopen(value, RTLD_NOW | RTLD_LOCAL) != NULL)
		return 0;
	snprintf(error, error_len, "%s", dlerror());
	return -EINVAL;
}

static const struct {
	const char *name;
	/* -EINVAL: `error` holds what is allowed. */
	int (*set)(struct options *options, const char *value, char *error, size_t error_len);
} plain_keys[] = {
	{ "log-level", set_log_level },
	{ "idle", set_idle },
	{ "idle-us", set_idle_us },
	{ "load", set_load },
};

static bool
is_plain_key(const char *key)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(plain_keys); i++) {
		if (strcmp(key, plain_keys[i].name) == 0)
			return true;
	}
	return false;
}

int
options_set(struct options *options, const char *key, const char *value, char *error,
		size_t error_len)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(plain_keys); i++) {
		if (strcmp(key, plain_keys[i].name) == 0)
			return plain_keys[i].set(options, value, error, error_len);
	}
	return -ENOENT;
}

/* ---- entry ---- */

static int
no_such_option(const char *option)
{
	fprintf(stderr,
			"vhubd: %s: there is no such option; --help lists them, and EAL's arguments go "
			"before --\n",
			option);
	return -EINVAL;
}

static int
parse_option(struct options *options, const char *option, const char *value)
{
	const struct vhub_builder_ops *ops;
	char error[1024] = "";
	int ret;

	if (strncmp(option, "--", 2) != 0)
		return no_such_option(option);
	ops = vhub_builder_find(option + 2);
	if (ops == NULL && !is_plain_key(option + 2))
		return no_such_option(option);
	if (value == NULL)
		return fprintf(stderr, "vhubd: %s: a value must follow\n", option), -EINVAL;
	if (ops != NULL)
		return parse_slot(options, ops, option, value);
	ret = options_set(options, option + 2, value, error, sizeof(error));
	return ret == 0 ? 0 : wrong(option, value, error);
}

/* Takes "--option value" and "--option=value". Returns how many arguments it used, or -EINVAL. */
static int
parse_one(struct options *options, const char *arg, const char *next)
{
	char option[64];
	const char *equals = strchr(arg, '=');
	size_t len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
	int ret;

	strlcpy(option, arg, RTE_MIN(sizeof(option), len + 1));
	ret = parse_option(options, option, equals != NULL ? equals + 1 : next);
	return ret != 0 ? ret : equals != NULL ? 1 : 2;
}

/* The arguments before "--", when it is there, are EAL's. */
static int
split_eal(struct options *options, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			options->eal_argc = i;
			options->eal_argv = argv;
			return i + 1;
		}
	}
	return 1;
}

void
options_init(struct options *options)
{
	memset(options, 0, sizeof(*options));
	options->log_level = RTE_LOG_INFO;
	options->idle_policy = VHUB_IDLE_ADAPTIVE;
	options->idle_us = DEFAULT_IDLE_US;
}

int
options_parse(struct options *options, int argc, char **argv)
{
	int i, used;

	options_init(options);
	for (i = split_eal(options, argc, argv); i < argc; i += used) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			print_help();
			return 1;
		}
		if (strcmp(argv[i], "--version") == 0) {
			printf("vhubd %s (%s)\n", VHUB_VERSION, rte_version());
			return 1;
		}
		used = parse_one(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
		if (used < 0)
			return used;
	}
	if (options->n_slots > 0)
		return 0;
	fprintf(stderr,
			"vhubd: there is nothing to serve: give a device, such as "
			"--blk disk0,socket=/tmp/disk0.sock,driver=malloc,size=1G (--help tells more)\n");
	return -EINVAL;
}

void
options_free(struct options *options)
{
	while (options->n_slots > 0)
		slot_spec_free(&options->slots[--options->n_slots]);
}
