/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads one device specification: its name, how its front end comes, and the rest, which is the
 * builder's. Called by options.c.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/stdlib.h>
#include <bsd/string.h>

#include "slot_spec.h"

const char slot_spec_help[] =
		"socket=PATH       listen there (a stale socket file is replaced)\n"
		"fd=N              use an inherited socket, listening or connected\n"
		"connect=PATH      connect to a front end that listens there, again and again\n"
		"mode=0660         of the socket file\n"
		"owner=USER        of the socket file, a name or a number\n"
		"group=GROUP       of the socket file, a name or a number\n"
		"peer_user=USER    accept only front ends of this user\n"
		"peer_group=GROUP  accept only front ends of this group\n";

static const char *const connection_keys[] = { "socket", "fd", "connect", "mode", "owner", "group",
	"peer_user", "peer_group", NULL };

/* ---- splitting ---- */

static bool
is_connection_key(const char *pair)
{
	size_t len = strcspn(pair, "=");
	unsigned int i;

	for (i = 0; connection_keys[i] != NULL; i++) {
		if (strlen(connection_keys[i]) == len &&
				strncmp(connection_keys[i], pair, len) == 0)
			return true;
	}
	return false;
}

static void
append(char *list, size_t len, const char *pair)
{
	if (list[0] != '\0')
		strlcat(list, ",", len);
	strlcat(list, pair, len);
}

/*
 * Cuts the next pair off "a=1,b=[c,d=2],e=3": commas within brackets are the value's. NULL at the
 * end. rte_kvargs_parse() would take every "=" for the end of a key, within brackets too.
 */
static char *
next_pair(char **rest)
{
	char *pair, *p;
	int depth = 0;

	*rest += strspn(*rest, ",");
	pair = p = *rest;
	for (; *p != '\0' && (*p != ',' || depth > 0); p++)
		depth += (*p == '[') - (*p == ']');
	*rest = p + (*p != '\0');
	*p = '\0';
	return pair == p ? NULL : pair;
}

/*
 * Sorts "a=1,b=2" into the connection's pairs and the device's. Both buffers are as long as
 * `pairs`.
 */
static void
sort_pairs(char *pairs, char *connection, char *device, size_t len)
{
	char *pair;

	while ((pair = next_pair(&pairs)) != NULL) {
		if (is_connection_key(pair))
			append(connection, len, pair);
		else
			append(device, len, pair);
	}
}

static int
check_duplicates(const struct rte_kvargs *args, char *error, size_t error_len)
{
	unsigned int i;

	for (i = 0; i < args->count; i++) {
		if (rte_kvargs_count(args, args->pairs[i].key) > 1) {
			snprintf(error, error_len, "%s is given twice", args->pairs[i].key);
			return -EINVAL;
		}
	}
	return 0;
}

/* As rte_kvargs_parse() makes it, so that rte_kvargs_free() takes it. */
static int
parse_pairs(const char *pairs, struct rte_kvargs **out, char *error, size_t error_len)
{
	struct rte_kvargs *args = calloc(1, sizeof(*args));
	char *rest, *pair;

	*out = args;
	if (args == NULL || (args->str = strdup(pairs)) == NULL)
		return -ENOMEM;
	rest = args->str;
	while ((pair = next_pair(&rest)) != NULL) {
		if (args->count == RTE_KVARGS_MAX) {
			snprintf(error, error_len, "'%s' is not a list of at most %d key=value",
					pairs, RTE_KVARGS_MAX);
			return -EINVAL;
		}
		args->pairs[args->count].key = strsep(&pair, "=");
		args->pairs[args->count].value = pair;
		args->count++;
	}
	return check_duplicates(args, error, error_len);
}

static int
split_pairs(struct slot_options *slot, const char *pairs, char *error, size_t error_len)
{
	size_t len = strlen(pairs) + 1;
	char *copy = strdup(pairs);
	char *connection = calloc(1, len);
	char *device = calloc(1, len);
	int ret = -ENOMEM;

	if (copy != NULL && connection != NULL && device != NULL) {
		sort_pairs(copy, connection, device, len);
		ret = parse_pairs(connection, &slot->connection_args, error, error_len);
		if (ret == 0)
			ret = parse_pairs(device, &slot->device_args, error, error_len);
	}
	free(copy);
	free(connection);
	free(device);
	return ret;
}

/* ---- the connection's arguments ---- */

static int
parse_user(const struct rte_kvargs *args, const char *key, uid_t *uid, char *error,
		size_t error_len)
{
	const char *text = rte_kvargs_get(args, key);
	const char *bad = NULL;
	struct passwd *pw;

	*uid = (uid_t)-1;
	if (text == NULL)
		return 0;
	pw = getpwnam(text);
	*uid = pw != NULL ? pw->pw_uid : (uid_t)strtonum(text, 0, INT32_MAX, &bad);
	if (bad == NULL)
		return 0;
	snprintf(error, error_len, "%s=%s is neither a user's name nor a number", key, text);
	return -EINVAL;
}

static int
parse_group(const struct rte_kvargs *args, const char *key, gid_t *gid, char *error,
		size_t error_len)
{
	const char *text = rte_kvargs_get(args, key);
	const char *bad = NULL;
	struct group *gr;

	*gid = (gid_t)-1;
	if (text == NULL)
		return 0;
	gr = getgrnam(text);
	*gid = gr != NULL ? gr->gr_gid : (gid_t)strtonum(text, 0, INT32_MAX, &bad);
	if (bad == NULL)
		return 0;
	snprintf(error, error_len, "%s=%s is neither a group's name nor a number", key, text);
	return -EINVAL;
}

static int
parse_mode(const struct rte_kvargs *args, mode_t *mode, char *error, size_t error_len)
{
	const char *text = rte_kvargs_get(args, "mode");
	char *end;
	unsigned long value;

	if (text == NULL)
		return 0;
	value = strtoul(text, &end, 8);
	if (text[0] == '\0' || *end != '\0' || value == 0 || value > 0777) {
		snprintf(error, error_len, "mode=%s is not an octal file mode such as 0660", text);
		return -EINVAL;
	}
	*mode = (mode_t)value;
	return 0;
}

static int
parse_fd(const char *text, int *fd, char *error, size_t error_len)
{
	const char *bad = NULL;

	*fd = (int)strtonum(text, 0, INT32_MAX, &bad);
	if (bad == NULL)
		return 0;
	snprintf(error, error_len, "fd=%s is not the number of an inherited socket", text);
	return -EINVAL;
}

static int
check_path(const char *key, const char *path, char *error, size_t error_len)
{
	if (path[0] != '\0' && strlen(path) <= 107)
		return 0;
	snprintf(error, error_len,
			"%s=%s is not a path of 1 to 107 bytes, which is all that a Unix socket takes",
			key, path);
	return -EINVAL;
}

static int
parse_kind(struct slot_options *slot, char *error, size_t error_len)
{
	const struct rte_kvargs *args = slot->connection_args;
	const char *listen_path = rte_kvargs_get(args, "socket");
	const char *dial_path = rte_kvargs_get(args, "connect");
	const char *fd = rte_kvargs_get(args, "fd");

	if ((listen_path != NULL) + (dial_path != NULL) + (fd != NULL) != 1) {
		snprintf(error, error_len,
				"exactly one of socket=PATH, connect=PATH and fd=N says how the front end comes");
		return -EINVAL;
	}
	if (fd != NULL) {
		slot->connection = CONNECTION_INHERIT;
		return parse_fd(fd, &slot->fd, error, error_len);
	}
	slot->connection = listen_path != NULL ? CONNECTION_LISTEN : CONNECTION_DIAL;
	slot->listener.path = listen_path != NULL ? listen_path : dial_path;
	return check_path(listen_path != NULL ? "socket" : "connect", slot->listener.path, error,
			error_len);
}

/* What only a socket file of ours can have. */
static int
check_listener_keys(const struct slot_options *slot, char *error, size_t error_len)
{
	static const char *const keys[] = { "mode", "owner", "group", "peer_user", "peer_group" };
	unsigned int i;

	if (slot->connection == CONNECTION_LISTEN)
		return 0;
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (rte_kvargs_get(slot->connection_args, keys[i]) != NULL) {
			snprintf(error, error_len, "%s goes with socket=PATH only", keys[i]);
			return -EINVAL;
		}
	}
	return 0;
}

static int
parse_connection(struct slot_options *slot, char *error, size_t error_len)
{
	struct vhub_listener_options *listener = &slot->listener;
	const struct rte_kvargs *args = slot->connection_args;
	int ret = parse_kind(slot, error, error_len);

	if (ret == 0)
		ret = check_listener_keys(slot, error, error_len);
	if (ret == 0)
		ret = parse_mode(args, &listener->mode, error, error_len);
	if (ret == 0)
		ret = parse_user(args, "owner", &listener->owner, error, error_len);
	if (ret == 0)
		ret = parse_group(args, "group", &listener->group, error, error_len);
	if (ret == 0)
		ret = parse_user(args, "peer_user", &listener->peer_uid, error, error_len);
	if (ret == 0)
		ret = parse_group(args, "peer_group", &listener->peer_gid, error, error_len);
	listener->check_peer = listener->peer_uid != (uid_t)-1 || listener->peer_gid != (gid_t)-1;
	return ret;
}

/* ---- entry ---- */

static int
parse_name(struct slot_options *slot, const char *text, size_t len, char *error, size_t error_len)
{
	static const char allowed[] =
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

	if (len == 0 || len >= sizeof(slot->name) || strspn(text, allowed) < len) {
		snprintf(error, error_len,
				"it begins with the device's name, 1 to %zu of A-Z a-z 0-9 _ . -, and then a comma",
				sizeof(slot->name) - 1);
		return -EINVAL;
	}
	memcpy(slot->name, text, len);
	slot->name[len] = '\0';
	return 0;
}

int
slot_spec_parse(struct slot_options *slot, const struct vhub_builder_ops *ops, const char *text,
		char *error, size_t error_len)
{
	size_t name_len = strcspn(text, ",");
	int ret;

	memset(slot, 0, sizeof(*slot));
	slot->fd = -1;
	ret = parse_name(slot, text, name_len, error, error_len);
	if (ret == 0)
		ret = split_pairs(slot, text[name_len] == ',' ? text + name_len + 1 : "", error,
				error_len);
	if (ret == 0)
		ret = parse_connection(slot, error, error_len);
	if (ret == 0)
		ret = ops->parse(slot->name, slot->device_args, &slot->builder, error, error_len);
	return ret;
}

void
slot_spec_free(struct slot_options *slot)
{
	if (slot->builder != NULL)
		slot->builder->ops->destroy(slot->builder);
	rte_kvargs_free(slot->connection_args);
	rte_kvargs_free(slot->device_args);
	memset(slot, 0, sizeof(*slot));
}
