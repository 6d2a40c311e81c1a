/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of vhub-blk and vhub-net, after the vhost-user specification, "Back-end program
 * conventions". Called by main.c; what comes out is the one device that is served, as if it had been
 * told to vhubd. Next: slots.c.
 *
 * The conventions ask for more than options, and what they ask for is main.c's way for vhubd too: a
 * status other than 0 when the start fails, no daemon of its own making, a quick end at SIGTERM. When
 * to end otherwise they leave open; these programs do as QEMU's own: they serve one front end and end
 * when it has gone.
 *
 * Arguments go to the builder one by one, never as a list in a text, so that a path may have any byte.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/stdlib.h>
#include <bsd/string.h>

#include <rte_common.h>
#include <rte_version.h>

#include "backend_program.h"
#include "vhub_conn.h"

/* 0, 1 and 2 are the standard streams, say the conventions. */
#define FIRST_FD 3

/** An option that becomes an argument of the builder. */
struct device_option {
	const char *name;
	const char *key;
	const char *fixed;	/* what a switch means; NULL: a value follows */
	const char *value_name; /* for the help */
	const char *help;
};

struct backend_program {
	const char *name;
	const char *kind; /* of the builder */
	const char *capabilities;
	const char *synopsis;
	const char *path_key; /* the key that names the image; NULL: there is none */
	const char *default_driver;
	const struct device_option *options;
};

static const struct device_option blk_options[] = {
	{ "--blk-file", "path", NULL, "PATH", "the image or block device" },
	{ "--read-only", "ro", "on", NULL, "refuse writes" },
	{ "--driver", "driver", NULL, "NAME", "what the disk is (default: uring)" },
	{ "--direct", "direct", NULL, "auto|on|off", "bypass the page cache (default: auto)" },
	{ "--size", "size", NULL, "SIZE", "of a disk without a file, as 64M or 1G" },
	{ "--queues", "queues", NULL, "N", "virtqueues, 1 to 128 (default: 1)" },
	{ "--serial", "serial", NULL, "TEXT",
			"1 to 20 characters that the guest sees (default: made of the file's name)" },
	{ "--block-size", "block_size", NULL, "BYTES", "512 or 4096 (default: the file's)" },
	{ NULL, NULL, NULL, NULL, NULL },
};

static const struct device_option net_options[] = {
	{ "--driver", "driver", NULL, "NAME", "what packets meet (default: echo)" },
	{ "--port", "port", NULL, "PORT", "of the driver ethdev" },
	{ "--queues", "queues", NULL, "N", "queue pairs (default: 1)" },
	{ "--mac", "mac", NULL, "ADDRESS", "for the guest" },
	{ "--mtu", "mtu", NULL, "BYTES", "for the guest" },
	{ NULL, NULL, NULL, NULL, NULL },
};

/*
 * Capabilities after VHostUserBackendCapabilities in QEMU's vhost-user.json: a type without features
 * of its own, such as net, has no list of them either.
 */
static const struct backend_program programs[] = {
	{
			.name = "vhub-blk",
			.kind = "blk",
			.capabilities = "{\n  \"type\": \"block\",\n  \"features\": [\n"
					"    \"read-only\",\n    \"blk-file\"\n  ]\n}\n",
			.synopsis = "serves one disk to one virtual machine over vhost-user",
			.path_key = "path",
			.default_driver = "uring",
			.options = blk_options,
	},
	{
			.name = "vhub-net",
			.kind = "net",
			.capabilities = "{\n  \"type\": \"net\"\n}\n",
			.synopsis = "serves one network port to one virtual machine over vhost-user",
			.default_driver = "echo",
			.options = net_options,
	},
};

/* What has been read so far. */
struct reading {
	const struct backend_program *program;
	struct options *options;
	struct slot_options *slot;
	const char *socket_path;
	const char *fd;
};

const struct backend_program *
backend_program_find(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');
	const char *name = slash != NULL ? slash + 1 : argv0;
	unsigned int i;

	for (i = 0; i < RTE_DIM(programs); i++) {
		if (strcmp(programs[i].name, name) == 0)
			return &programs[i];
	}
	return NULL;
}

/* ---- what is said ---- */

static int __attribute__((format(printf, 2, 3)))
wrong(const struct reading *r, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", r->program->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return -EINVAL;
}

static void
print_help(const struct backend_program *program)
{
	const struct device_option *each;
	char option[64];

	printf("%s %s %s, and ends when that has gone.\n\n"
	       "usage: %s --socket-path=PATH | --fd=FDNUM [options]\n\n"
	       "  --socket-path=PATH    listen there (a stale socket file is replaced)\n"
	       "  --fd=FDNUM            use an inherited socket, listening or connected\n"
	       "  --print-capabilities  print what management software may ask for, as JSON, and exit\n",
			program->name, VHUB_VERSION, program->synopsis, program->name);
	for (each = program->options; each->name != NULL; each++) {
		snprintf(option, sizeof(option), "%s%s%s", each->name,
				each->fixed != NULL ? "" : "=",
				each->fixed != NULL ? "" : each->value_name);
		printf("  %-20s  %s\n", option, each->help);
	}
	printf("  --idle=poll|adaptive  poll for ever, or sleep until somebody notifies (default: adaptive)\n"
	       "  --idle-us=N           microseconds without work before it sleeps, 0 to 1000000 (default: %d)\n"
	       "  --log-level=LEVEL     error, warning, notice, info or debug (default: info)\n"
	       "  --load=FILE           load a shared object with further drivers\n"
	       "  --version             print the version and exit\n"
	       "  --help                print this and exit\n",
			DEFAULT_IDLE_US);
}

/* Options that end the program at once, whatever the others are. Returns whether there was one. */
static bool
print_and_end(const struct backend_program *program, int argc, char **argv)
{
	int i;

	/* "Other options and arguments should be ignored." */
	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--print-capabilities") == 0) {
			fputs(program->capabilities, stdout);
			return true;
		}
	}
	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			print_help(program);
			return true;
		}
		if (strcmp(argv[i], "--version") == 0) {
			printf("%s %s (%s)\n", program->name, VHUB_VERSION, rte_version());
			return true;
		}
	}
	return false;
}

/* ---- single options ---- */

/* An argument for the builder. Both strings live as long as the program. */
static void
add_arg(struct reading *r, const char *key, const char *value)
{
	struct rte_kvargs *args = r->slot->device_args;

	/* Not const in DPDK, but nobody writes there. */
	args->pairs[args->count].key = (char *)(uintptr_t)key;
	args->pairs[args->count].value = (char *)(uintptr_t)value;
	args->count++;
}

static int
take_device_option(struct reading *r, const struct device_option *option, const char *value)
{
	if (rte_kvargs_get(r->slot->device_args, option->key) != NULL)
		return wrong(r, "%s is given twice", option->name);
	if (value[0] == '\0')
		return wrong(r, "%s: its value is empty", option->name);
	add_arg(r, option->key, value);
	return 0;
}

static int
take_connection(const struct reading *r, const char **where, const char *option, const char *value)
{
	if (*where != NULL)
		return wrong(r, "%s is given twice", option);
	*where = value;
	return 0;
}

static const struct device_option *
find_option(const struct backend_program *program, const char *name)
{
	const struct device_option *each;

	for (each = program->options; each->name != NULL; each++) {
		if (strcmp(each->name, name) == 0)
			return each;
	}
	return NULL;
}

/* Whether it is an option that vhubd has too. */
static bool
is_common(const char *option)
{
	static const char *const common[] = { "--idle", "--idle-us", "--log-level", "--load" };
	unsigned int i;

	for (i = 0; i < RTE_DIM(common); i++) {
		if (strcmp(common[i], option) == 0)
			return true;
	}
	return false;
}

static int
take_common(struct reading *r, const char *option, const char *value)
{
	char error[1024] = "";
	int ret = options_set(r->options, option + 2, value, error, sizeof(error));

	if (ret != 0)
		wrong(r, "%s %s: %s", option, value, error);
	return ret;
}

/* An option that a value follows. */
static int
take_value(struct reading *r, const struct device_option *device_option, const char *option,
		const char *value)
{
	const char **where = strcmp(option, "--socket-path") == 0 ? &r->socket_path :
			strcmp(option, "--fd") == 0		  ? &r->fd :
								    NULL;

	if (device_option == NULL && where == NULL && !is_common(option))
		return wrong(r, "%s: there is no such option; --help lists them", option);
	if (value == NULL)
		return wrong(r, "%s: a value must follow", option);
	if (device_option != NULL)
		return take_device_option(r, device_option, value);
	return where != NULL ? take_connection(r, where, option, value) :
			       take_common(r, option, value);
}

/* Takes "--option value" and "--option=value". Returns how many arguments it used, or a negative errno. */
static int
take_one(struct reading *r, const char *arg, const char *next)
{
	const struct device_option *device_option;
	const char *equals = strchr(arg, '=');
	size_t len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
	char option[64];
	int ret;

	strlcpy(option, arg, RTE_MIN(sizeof(option), len + 1));
	device_option = find_option(r->program, option);
	if (device_option != NULL && device_option->fixed != NULL) {
		if (equals != NULL)
			return wrong(r, "%s: it takes no value; leave it out instead", arg);
		ret = take_device_option(r, device_option, device_option->fixed);
		return ret != 0 ? ret : 1;
	}
	ret = take_value(r, device_option, option, equals != NULL ? equals + 1 : next);
	return ret != 0 ? ret : equals != NULL ? 1 : 2;
}

/* ---- what they make together ---- */

static int
set_connection(struct reading *r)
{
	struct slot_options *slot = r->slot;
	const char *bad = NULL;

	if ((r->socket_path != NULL) == (r->fd != NULL))
		return wrong(r, "exactly one of --socket-path=PATH and --fd=FDNUM says how the front end comes");
	if (r->fd != NULL) {
		slot->connection = CONNECTION_INHERIT;
		slot->fd = (int)strtonum(r->fd, FIRST_FD, INT32_MAX, &bad);
		return bad == NULL ?
				0 :
				wrong(r, "--fd %s: allowed is the number of an inherited socket, %d or more",
						r->fd, FIRST_FD);
	}
	if (r->socket_path[0] == '\0' || strlen(r->socket_path) > VHUB_SOCKET_PATH_MAX_BYTES)
		return wrong(r, "--socket-path %s: allowed is a path of 1 to %d bytes, which is all that a Unix socket takes",
				r->socket_path, VHUB_SOCKET_PATH_MAX_BYTES);
	slot->connection = CONNECTION_LISTEN;
	slot->listener.path = r->socket_path;
	return 0;
}

/* Logs tell programs apart by it, and so does the guest when no serial is given. */
static void
set_name(struct reading *r, const char *path)
{
	const char *slash = path != NULL ? strrchr(path, '/') : NULL;
	const char *name = path == NULL ? r->program->name : slash != NULL ? slash + 1 : path;
	char *p;

	if (name[0] == '\0')
		name = r->program->name;
	strlcpy(r->slot->name, name, sizeof(r->slot->name));
	/* As the names that vhubd takes. */
	for (p = r->slot->name; *p != '\0'; p++) {
		if (!isascii(*p) || (!isalnum(*p) && strchr("_.-", *p) == NULL))
			*p = '_';
	}
}

static int
set_driver(struct reading *r, const char *path)
{
	static const char *const joining[] = { "bridge", "patch" };
	const char *driver = rte_kvargs_get(r->slot->device_args, "driver");
	const char *wanted = r->program->default_driver;
	unsigned int i;

	for (i = 0; driver != NULL && i < RTE_DIM(joining); i++) {
		if (strcmp(driver, joining[i]) == 0)
			return wrong(r, "--driver=%s: it joins ports of one process, so vhubd has it: vhubd --net NAME,driver=%s,...",
					driver, driver);
	}
	if (r->program->path_key != NULL && path == NULL &&
			(driver == NULL || strcmp(driver, wanted) == 0))
		return wrong(r, "--blk-file=PATH is missing: it names the image or block device (without one: --driver=malloc --size=1G)");
	if (driver == NULL)
		add_arg(r, "driver", wanted);
	return 0;
}

static int
make_builder(struct reading *r)
{
	const struct vhub_builder_ops *ops = vhub_builder_find(r->program->kind);
	const char *path = r->program->path_key == NULL ?
			NULL :
			rte_kvargs_get(r->slot->device_args, r->program->path_key);
	char error[512] = "";
	int ret;

	if (ops == NULL)
		return wrong(r, "no builder of kind '%s' is registered: this vhub was built without it",
				r->program->kind);
	ret = set_driver(r, path);
	if (ret != 0)
		return ret;
	set_name(r, path);
	r->slot->ops = ops;
	ret = ops->parse(r->slot->name, r->slot->device_args, &r->slot->builder, error,
			sizeof(error));
	if (ret != 0)
		wrong(r, "%s", error[0] != '\0' ? error : strerror(-ret));
	return ret;
}

int
backend_program_parse(const struct backend_program *program, struct options *options, int argc,
		char **argv)
{
	struct reading r = { .program = program, .options = options, .slot = &options->slots[0] };
	int i, used, ret;

	options_init(options);
	if (print_and_end(program, argc, argv))
		return 1;
	options->ends_with_front_end = true;
	options->n_slots = 1;
	r.slot->fd = -1;
	r.slot->listener.owner = (uid_t)-1;
	r.slot->listener.group = (gid_t)-1;
	r.slot->device_args = calloc(1, sizeof(*r.slot->device_args));
	if (r.slot->device_args == NULL)
		return wrong(&r, "no memory"), -ENOMEM;
	for (i = 1; i < argc; i += used) {
		used = take_one(&r, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
		if (used < 0)
			return used;
	}
	ret = set_connection(&r);
	return ret == 0 ? make_builder(&r) : ret;
}
