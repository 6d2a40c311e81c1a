/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads one device specification: its name, how its front end comes, where its queues begin, and the rest,
 * which is the builder's. Called by options.c.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/stdlib.h>
#include <bsd/string.h>
#include <jansson.h>

#include <rte_common.h>

#include "config_file.h"
#include "slot_spec.h"
#include "vhub_conn.h"

/* Longest entry of a user or a group. */
#define MAX_ENTRY_BYTES (1u << 24)

const char slot_spec_help[] =
		"socket=PATH       listen there (a stale socket file is replaced)\n"
		"fd=N              use an inherited socket, listening or connected\n"
		"connect=PATH      connect to a front end that listens there, again and again\n"
		"mode=0660         of the socket file\n"
		"owner=USER        of the socket file, a name or a number\n"
		"group=GROUP       of the socket file, a name or a number\n"
		"peer_user=USER    accept only front ends of this user\n"
		"peer_group=GROUP  accept only front ends of this group\n";

const char slot_spec_common_help[] =
		"affinity=LIST     workers that its queues take in turn: " AFFINITY_LIST "\n"
		"                  (those that the fewest devices have)\n";

static const char *const connection_keys[] = { "socket", "fd", "connect", "mode", "owner", "group",
	"peer_user", "peer_group", NULL };
static const char affinity_key[] = "affinity";

/* ---- splitting ---- */

static bool
is_connection_key(const char *key)
{
	unsigned int i;

	for (i = 0; connection_keys[i] != NULL; i++) {
		if (strcmp(connection_keys[i], key) == 0)
			return true;
	}
	return false;
}

/* Length of the pair at `text`, up to a comma outside of brackets; SIZE_MAX: a '[' stays open. */
static size_t
pair_len(const char *text)
{
	unsigned int depth = 0;
	size_t i;

	for (i = 0; text[i] != '\0' && (text[i] != ',' || depth > 0); i++) {
		if (text[i] == '[')
			depth++;
		else if (text[i] == ']' && depth > 0)
			depth--;
	}
	return depth == 0 ? i : SIZE_MAX;
}

/* Takes off the brackets of "[...]" where they are one pair around everything. */
static char *
strip_brackets(char *value)
{
	const size_t len = strlen(value);
	unsigned int depth = 0;
	size_t i;

	if (value[0] != '[')
		return value;
	for (i = 0; i < len; i++) {
		if (value[i] == '[')
			depth++;
		else if (value[i] == ']' && --depth == 0)
			break;
	}
	if (i + 1 != len)
		return value;
	value[i] = '\0';
	return value + 1;
}

/* An empty list, with room for strings of `len` bytes; as rte_kvargs_free() takes it. */
static struct rte_kvargs *
new_list(size_t len)
{
	struct rte_kvargs *list = calloc(1, sizeof(*list));

	if (list == NULL)
		return NULL;
	list->str = calloc(1, len);
	if (list->str == NULL) {
		free(list);
		return NULL;
	}
	return list;
}

/*
 * Adds the pair in `text`, which is the list's own string, to the list. Not by rte_kvargs_parse(),
 * which takes every '=' for the end of a key, also one in a value.
 */
static int
add_pair(struct rte_kvargs *list, char *text, char *error, size_t error_len)
{
	char *value = strchr(text, '=');

	if (value != NULL)
		*value++ = '\0';
	if (rte_kvargs_count(list, text) != 0) {
		snprintf(error, error_len, "%s is given twice", text);
		return -EINVAL;
	}
	if (list->count == RTE_KVARGS_MAX) {
		snprintf(error, error_len, "%s is one too many: a device has at most %d keys", text,
				RTE_KVARGS_MAX);
		return -EINVAL;
	}
	list->pairs[list->count].key = text;
	list->pairs[list->count].value = value != NULL ? strip_brackets(value) : NULL;
	list->count++;
	return 0;
}

/* As JSON has to be, in which clients are shown the pairs. */
static bool
is_utf8(const char *text, size_t len)
{
	json_t *string = json_stringn(text, len);
	const bool is = string != NULL;

	json_decref(string);
	return is;
}

/* Sorts "a=1,b=[2,3]" into the slot's own pairs and the device's. */
static int
sort_pairs(struct slot_options *slot, const char *pairs, char *error, size_t error_len)
{
	char *own = slot->own_args->str;
	char *device = slot->device_args->str;
	size_t len;
	int ret = 0;

	for (; *pairs != '\0' && ret == 0; pairs += len + (pairs[len] == ',')) {
		char key[32];
		char **to, *value;

		len = pair_len(pairs);
		if (len == SIZE_MAX) {
			snprintf(error, error_len, "%s: a '[' is not closed", pairs);
			return -EINVAL;
		}
		if (len == 0)
			continue;
		strlcpy(key, pairs, RTE_MIN(sizeof(key), strcspn(pairs, "=,") + 1));
		if (!is_utf8(pairs, len)) {
			snprintf(error, error_len, "%s has bytes that are not UTF-8", key);
			return -EINVAL;
		}
		to = is_connection_key(key) || strcmp(key, affinity_key) == 0 ? &own : &device;
		memcpy(*to, pairs, len);
		value = strchr(*to, '=');
		if (value != NULL && !config_file_can_hold(key, value + 1, error, error_len)) {
			strlcat(error, "; allowed: one line, in brackets where blanks are around it",
					error_len);
			return -EINVAL;
		}
		ret = add_pair(to == &own ? slot->own_args : slot->device_args, *to, error,
				error_len);
		*to += len + 1;
	}
	return ret;
}

static int
split_pairs(struct slot_options *slot, const char *pairs, char *error, size_t error_len)
{
	size_t len = strlen(pairs) + 2;

	slot->pairs = strdup(pairs);
	slot->own_args = new_list(len);
	slot->device_args = new_list(len);
	if (slot->pairs == NULL || slot->own_args == NULL || slot->device_args == NULL) {
		snprintf(error, error_len, "out of memory");
		return -ENOMEM;
	}
	return sort_pairs(slot, pairs, error, error_len);
}

int
slot_spec_append(char **spec, const char *key, const char *value, char *error, size_t error_len)
{
	const size_t len = pair_len(value);
	char *longer;

	if (key[0] == '\0' || strpbrk(key, "=,[]") != NULL) {
		snprintf(error, error_len, "'%s' is not the name of a key", key);
		return -EINVAL;
	}
	if (len == SIZE_MAX) {
		snprintf(error, error_len, "%s=%s: a '[' is not closed", key, value);
		return -EINVAL;
	}
	if (value[len] != '\0') {
		snprintf(error, error_len,
				"%s=%s: a value with a comma goes into brackets: %s=[%s]", key,
				value, key, value);
		return -EINVAL;
	}
	if (asprintf(&longer, "%s,%s=%s", *spec, key, value) < 0) {
		snprintf(error, error_len, "out of memory");
		return -ENOMEM;
	}
	free(*spec);
	*spec = longer;
	return 0;
}

bool
slot_spec_next(const char **pairs, char *pair, size_t len)
{
	size_t n;

	*pairs += strspn(*pairs, ",");
	if (**pairs == '\0')
		return false;
	n = pair_len(*pairs);
	strlcpy(pair, *pairs, RTE_MIN(len, n + 1));
	*pairs += n;
	return true;
}

/* ---- the connection's arguments ---- */

/* A number, or -1 for a name, which slot_spec_find_ids() looks up, and for a key that is not given. */
static int
parse_id(const struct rte_kvargs *args, const char *key, uint32_t *id, char *error,
		size_t error_len)
{
	const char *text = rte_kvargs_get(args, key);
	const char *bad = NULL;

	*id = UINT32_MAX;
	if (text == NULL)
		return 0;
	if (text[0] == '\0') {
		snprintf(error, error_len, "%s is empty", key);
		return -EINVAL;
	}
	*id = (uint32_t)strtonum(text, 0, INT32_MAX, &bad);
	if (bad != NULL)
		*id = UINT32_MAX;
	return 0;
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
	if (path[0] != '\0' && strlen(path) <= VHUB_SOCKET_PATH_MAX_BYTES)
		return 0;
	snprintf(error, error_len,
			"%s=%s is not a path of 1 to %d bytes, which is all that a Unix socket takes",
			key, path, VHUB_SOCKET_PATH_MAX_BYTES);
	return -EINVAL;
}

static int
parse_no_front_end(struct slot_options *slot, char *error, size_t error_len)
{
	const struct rte_kvargs *args = slot->own_args;
	unsigned int i;

	slot->connection = CONNECTION_NONE;
	for (i = 0; i < args->count; i++) {
		if (is_connection_key(args->pairs[i].key)) {
			snprintf(error, error_len, "%s: this kind of device has no front end",
					args->pairs[i].key);
			return -EINVAL;
		}
	}
	return 0;
}

static int
parse_kind(struct slot_options *slot, char *error, size_t error_len)
{
	const struct rte_kvargs *args = slot->own_args;
	const char *listen_path = rte_kvargs_get(args, "socket");
	const char *dial_path = rte_kvargs_get(args, "connect");
	const char *fd = rte_kvargs_get(args, "fd");

	if (slot->ops->standalone)
		return parse_no_front_end(slot, error, error_len);
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
	for (i = 0; i < RTE_DIM(keys); i++) {
		if (rte_kvargs_get(slot->own_args, keys[i]) != NULL) {
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
	const struct rte_kvargs *args = slot->own_args;
	int ret = parse_kind(slot, error, error_len);

	if (ret == 0)
		ret = check_listener_keys(slot, error, error_len);
	if (ret == 0)
		ret = parse_mode(args, &listener->mode, error, error_len);
	if (ret == 0)
		ret = parse_id(args, "owner", &listener->owner, error, error_len);
	if (ret == 0)
		ret = parse_id(args, "group", &listener->group, error, error_len);
	if (ret == 0)
		ret = parse_id(args, "peer_user", &listener->peer_uid, error, error_len);
	if (ret == 0)
		ret = parse_id(args, "peer_group", &listener->peer_gid, error, error_len);
	listener->check_peer = rte_kvargs_get(args, "peer_user") != NULL ||
			rte_kvargs_get(args, "peer_group") != NULL;
	return ret;
}

/* ---- names of users and groups ---- */

/* One look-up with room for as many bytes. Returns 0, -ERANGE (more are wanted), -ENOENT, or another errno. */
typedef int (*find_id_fn)(const char *name, char *room, size_t len, uint32_t *id);

static int
find_user(const char *name, char *room, size_t len, uint32_t *id)
{
	struct passwd entry, *found;
	int err = getpwnam_r(name, &entry, room, len, &found);

	if (err != 0 || found == NULL)
		return err != 0 ? -err : -ENOENT;
	*id = found->pw_uid;
	return 0;
}

static int
find_group(const char *name, char *room, size_t len, uint32_t *id)
{
	struct group entry, *found;
	int err = getgrnam_r(name, &entry, room, len, &found);

	if (err != 0 || found == NULL)
		return err != 0 ? -err : -ENOENT;
	*id = found->gr_gid;
	return 0;
}

/* A group of thousands needs more room than most. */
static int
find_id(find_id_fn find, const char *name, uint32_t *id)
{
	size_t len = 1024;
	char *room = NULL, *more;
	int ret = -ERANGE;

	for (; ret == -ERANGE && len <= MAX_ENTRY_BYTES; len *= 4) {
		more = realloc(room, len);
		if (more == NULL) {
			ret = -ENOMEM;
			break;
		}
		room = more;
		ret = find(name, room, len, id);
	}
	free(room);
	return ret;
}

static int
set_id(const struct slot_options *slot, const char *key, uint32_t *id, find_id_fn find, char *error,
		size_t error_len)
{
	const char *name = rte_kvargs_get(slot->own_args, key);
	int ret;

	if (name == NULL || *id != UINT32_MAX)
		return 0;
	ret = find_id(find, name, id);
	if (ret == -ENOENT)
		snprintf(error, error_len, "%s=%s is neither a %s's name nor a number", key, name,
				find == find_user ? "user" : "group");
	else if (ret != 0)
		snprintf(error, error_len, "%s=%s cannot be looked up: %s", key, name,
				strerror(-ret));
	return ret;
}

int
slot_spec_find_ids(struct slot_options *slot, char *error, size_t error_len)
{
	struct vhub_listener_options *listener = &slot->listener;
	int ret;

	/* One that has no specification (backend_program.c) names nobody. */
	if (slot->own_args == NULL)
		return 0;
	ret = set_id(slot, "owner", &listener->owner, find_user, error, error_len);
	if (ret == 0)
		ret = set_id(slot, "group", &listener->group, find_group, error, error_len);
	if (ret == 0)
		ret = set_id(slot, "peer_user", &listener->peer_uid, find_user, error, error_len);
	if (ret == 0)
		ret = set_id(slot, "peer_group", &listener->peer_gid, find_group, error, error_len);
	return ret;
}

/* ---- entry ---- */

/* Of a key that nobody knows the builder has named those that it knows, and a typing error may be in one of ours. */
static int
parse_device(struct slot_options *slot, char *error, size_t error_len)
{
	int ret = slot->ops->parse(slot->name, slot->device_args, &slot->builder, error, error_len);
	unsigned int i;

	if (ret != -ENOKEY)
		return ret;
	strlcat(error, ", ", error_len);
	strlcat(error, affinity_key, error_len);
	for (i = 0; connection_keys[i] != NULL && !slot->ops->standalone; i++) {
		strlcat(error, ", ", error_len);
		strlcat(error, connection_keys[i], error_len);
	}
	strlcat(error, "; a value with a comma goes into brackets: KEY=[A,B]", error_len);
	return -EINVAL;
}

static int
parse_affinity(struct slot_options *slot, char *error, size_t error_len)
{
	const char *text = rte_kvargs_get(slot->own_args, affinity_key);

	return rte_kvargs_count(slot->own_args, affinity_key) == 0 ?
			0 :
			affinity_parse(text != NULL ? text : "", &slot->affinity, error, error_len);
}

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
	slot->ops = ops;
	ret = parse_name(slot, text, name_len, error, error_len);
	if (ret == 0)
		ret = split_pairs(slot, text[name_len] == ',' ? text + name_len + 1 : "", error,
				error_len);
	if (ret == 0)
		ret = parse_device(slot, error, error_len);
	if (ret == 0)
		ret = parse_connection(slot, error, error_len);
	if (ret == 0)
		ret = parse_affinity(slot, error, error_len);
	return ret;
}

int
slot_spec_set(struct slot_options *slot, const char *key, const char *value)
{
	const size_t len = strlen(slot->pairs) + strlen(key) + strlen(value) + 3;
	const size_t key_len = strlen(key);
	const char *pairs = slot->pairs;
	char *text = calloc(1, len), *pair = malloc(len);

	if (text == NULL || pair == NULL) {
		free(text);
		free(pair);
		return -ENOMEM;
	}
	while (slot_spec_next(&pairs, pair, len)) {
		if (strncmp(pair, key, key_len) == 0 && pair[key_len] == '=')
			continue;
		strlcat(text, pair, len);
		strlcat(text, ",", len);
	}
	strlcat(text, key, len);
	strlcat(text, "=", len);
	strlcat(text, value, len);
	free(pair);
	free(slot->pairs);
	slot->pairs = text;
	return 0;
}

void
slot_spec_free(struct slot_options *slot)
{
	if (slot->builder != NULL)
		slot->builder->ops->destroy(slot->builder);
	free(slot->pairs);
	rte_kvargs_free(slot->own_args);
	rte_kvargs_free(slot->device_args);
	memset(slot, 0, sizeof(*slot));
}
