/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads the command line of vhubd: EAL's arguments before "--", ours after it, or ours alone; and
 * sets single keys for config_file.c. Called by main.c; next: slot_spec.c for each device,
 * config_file.c for --config.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/stdlib.h>
#include <bsd/string.h>

#include <rte_common.h>
#include <rte_log.h>
#include <rte_version.h>

#include "config_file.h"
#include "log_level.h"
#include "options.h"
#include "slot_spec.h"
#include "vhub_args.h"
#include "vhub_conn.h"

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
	       "  --config FILE         read keys and devices from an INI file: these options without the\n"
	       "                        dashes in its section [vhubd], each device in one such as [blk disk0]\n"
	       "  --control PATH        serve JSON-RPC on a Unix socket there (mode 0600): devices come and go\n"
	       "                        while others are served; vhubctl is a client\n"
	       "  --failed-devices exit|retry  when a device cannot be built (storage that is not there): end, or\n"
	       "                        serve the others and try it again until it is there (default: exit)\n"
	       "  --telemetry           answer dpdk-telemetry.py, below /vhub (EAL arguments of yours decide\n"
	       "                        this themselves: --no-telemetry)\n"
	       "  --version             print the version and exit\n"
	       "  --help                print this and exit\n",
			VHUB_VERSION, DEFAULT_IDLE_US);
	for (i = 0; (ops = vhub_builder_at(i)) != NULL; i++) {
		printf("  --%s NAME,key=value,...\n", ops->name);
		if (!ops->standalone)
			print_keys(slot_spec_help);
		print_keys(slot_spec_common_help);
		print_keys(ops->help);
	}
}

/* ---- single keys ---- */

static int
allowed(char *error, size_t error_len, const char *what)
{
	snprintf(error, error_len, "allowed are %s", what);
	return -EINVAL;
}

static int
set_text(char **to, const char *value, char *error, size_t error_len)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return snprintf(error, error_len, "out of memory"), -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

static int
set_log_level(struct options *options, const char *value, char *error, size_t error_len)
{
	return log_level_parse(value, &options->log_level) == 0 ?
			0 :
			allowed(error, error_len, LOG_LEVEL_ALLOWED);
}

static void
get_log_level(const struct options *options, char *value, size_t len)
{
	strlcpy(value, log_level_name(options->log_level), len);
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

static void
get_idle(const struct options *options, char *value, size_t len)
{
	strlcpy(value, options->idle_policy == VHUB_IDLE_POLL ? "poll" : "adaptive", len);
}

static int
set_idle_us(struct options *options, const char *value, char *error, size_t error_len)
{
	const char *bad = NULL;
	const uint32_t us = (uint32_t)strtonum(value, 0, 1000000, &bad);

	if (bad != NULL)
		return allowed(error, error_len, "0 to 1000000 microseconds");
	options->idle_us = us;
	return 0;
}

static void
get_idle_us(const struct options *options, char *value, size_t len)
{
	snprintf(value, len, "%u", options->idle_us);
}

/* Its constructors register what it adds, for the options that follow. */
static int
set_load(struct options *options, const char *value, char *error, size_t error_len)
{
	if (options->n_loads == MAX_LOADS)
		return snprintf(error, error_len, "that is more than %d files", MAX_LOADS), -EINVAL;
	if (dlopen(value, RTLD_NOW | RTLD_LOCAL) == NULL)
		return snprintf(error, error_len, "%s", dlerror()), -ELIBACC;
	return set_text(&options->loads[options->n_loads++], value, error, error_len);
}

static int
set_control(struct options *options, const char *value, char *error, size_t error_len)
{
	if (value[0] == '\0' || strlen(value) > VHUB_SOCKET_PATH_MAX_BYTES) {
		snprintf(error, error_len,
				"allowed are paths of 1 to %d bytes, which is all that a Unix socket takes",
				VHUB_SOCKET_PATH_MAX_BYTES);
		return -EINVAL;
	}
	return set_text(&options->control, value, error, error_len);
}

static void
get_control(const struct options *options, char *value, size_t len)
{
	strlcpy(value, options->control != NULL ? options->control : "", len);
}

/* As the switches of devices. */
static int
set_telemetry(struct options *options, const char *value, char *error, size_t error_len)
{
	return vhub_text_bool(value, &options->telemetry) == 0 ?
			0 :
			allowed(error, error_len, "on and off");
}

static void
get_telemetry(const struct options *options, char *value, size_t len)
{
	strlcpy(value, options->telemetry ? "on" : "off", len);
}

static int
set_failed_devices(struct options *options, const char *value, char *error, size_t error_len)
{
	if (strcmp(value, "exit") != 0 && strcmp(value, "retry") != 0)
		return allowed(error, error_len, "exit and retry");
	options->retry_failed = strcmp(value, "retry") == 0;
	return 0;
}

static void
get_failed_devices(const struct options *options, char *value, size_t len)
{
	strlcpy(value, options->retry_failed ? "retry" : "exit", len);
}

struct plain_key {
	const char *name;
	/** `error` holds what is allowed, or why not */
	int (*set)(struct options *options, const char *value, char *error, size_t error_len);
	void (*get)(const struct options *options, char *value, size_t len); /* NULL: repeats */
	bool is_switch; /* on the command line without a value: "on" */
};

static const struct plain_key plain_keys[] = {
	{ "log-level", set_log_level, get_log_level, false },
	{ "idle", set_idle, get_idle, false },
	{ "idle-us", set_idle_us, get_idle_us, false },
	{ "load", set_load, NULL, false },
	{ "control", set_control, get_control, false },
	{ "failed-devices", set_failed_devices, get_failed_devices, false },
	{ "telemetry", set_telemetry, get_telemetry, true },
};

static const struct plain_key *
find_key(const char *name)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(plain_keys); i++) {
		if (strcmp(name, plain_keys[i].name) == 0)
			return &plain_keys[i];
	}
	return NULL;
}

int
options_set(struct options *options, const char *key, const char *value, char *error,
		size_t error_len)
{
	const struct plain_key *plain = find_key(key);

	return plain != NULL ? plain->set(options, value, error, error_len) : -ENOENT;
}

bool
options_key_repeats(const char *key)
{
	const struct plain_key *plain = find_key(key);

	return plain != NULL && plain->get == NULL;
}

bool
options_get(const struct options *options, unsigned int i, const char **key, char *value,
		size_t len)
{
	value[0] = '\0';
	/* Files to load come first, for what follows may need them. */
	if (i < options->n_loads) {
		*key = "load";
		strlcpy(value, options->loads[i], len);
		return true;
	}
	i -= options->n_loads;
	if (i >= RTE_DIM(plain_keys))
		return false;
	*key = plain_keys[i].name;
	if (plain_keys[i].get != NULL)
		plain_keys[i].get(options, value, len);
	return true;
}

int
options_add_device(struct options *options, const struct vhub_builder_ops *ops, const char *spec,
		char *error, size_t error_len)
{
	struct slot_options *slot = &options->slots[options->n_slots];
	unsigned int i;
	int ret;

	if (options->n_slots == MAX_SLOTS)
		return snprintf(error, error_len, "that is more than %d devices", MAX_SLOTS),
		       -EINVAL;
	ret = slot_spec_parse(slot, ops, spec, error, error_len);
	for (i = 0; ret == 0 && i < options->n_slots; i++) {
		if (strcmp(options->slots[i].name, slot->name) != 0)
			continue;
		snprintf(error, error_len, "another device has this name already");
		ret = -EINVAL;
	}
	if (ret != 0)
		slot_spec_free(slot);
	else
		options->n_slots++;
	return ret;
}

/* ---- the command line ---- */

static int
no_such_option(const char *option)
{
	fprintf(stderr,
			"vhubd: %s: there is no such option; --help lists them, and EAL's arguments go "
			"before --\n",
			option);
	return -EINVAL;
}

/* `value` NULL: there is none. */
static int
parse_option(struct options *options, const char *option, const char *value)
{
	const struct vhub_builder_ops *ops = vhub_builder_find(option + 2);
	char error[1024] = "";
	int ret;

	if (strncmp(option, "--", 2) != 0)
		return no_such_option(option);
	if (ops == NULL && find_key(option + 2) == NULL && strcmp(option, "--config") != 0)
		return no_such_option(option);
	if (value == NULL)
		return fprintf(stderr, "vhubd: %s: a value must follow\n", option), -EINVAL;
	if (ops != NULL)
		ret = options_add_device(options, ops, value, error, sizeof(error));
	else if (strcmp(option, "--config") == 0)
		return config_file_read(options, value);
	else
		ret = options_set(options, option + 2, value, error, sizeof(error));
	if (ret != 0)
		fprintf(stderr, "vhubd: %s %s: %s\n", option, value,
				error[0] != '\0' ? error : strerror(-ret));
	return ret;
}

/* Takes "--option value" and "--option=value". Returns how many arguments it used, or a negative errno. */
static int
parse_one(struct options *options, const char *arg, const char *next)
{
	const struct plain_key *plain;
	char option[64];
	const char *equals = strchr(arg, '=');
	size_t len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
	int used = equals != NULL ? 1 : 2;
	int ret;

	strlcpy(option, arg, RTE_MIN(sizeof(option), len + 1));
	if (strlen(option) < 2)
		return no_such_option(option);
	plain = find_key(option + 2);
	if (equals == NULL && plain != NULL && plain->is_switch) {
		next = "on";
		used = 1;
	}
	ret = parse_option(options, option, equals != NULL ? equals + 1 : next);
	return ret != 0 ? ret : used;
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
	/* Devices may come later where somebody can say so. */
	if (options->n_slots > 0 || options->control != NULL)
		return 0;
	fprintf(stderr,
			"vhubd: there is nothing to serve: give a device, such as "
			"--blk disk0,socket=/tmp/disk0.sock,driver=malloc,size=1G, or --control PATH "
			"(--help tells more)\n");
	return -EINVAL;
}

void
options_free(struct options *options)
{
	while (options->n_slots > 0)
		slot_spec_free(&options->slots[--options->n_slots]);
	while (options->n_loads > 0)
		free(options->loads[--options->n_loads]);
	free(options->control);
	options->control = NULL;
}
