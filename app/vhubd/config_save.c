/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes what runs as a configuration file. Called by control_daemon.c; config_file.c reads it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bsd/string.h>

#include "config_file.h"
#include "config_save.h"
#include "slot_spec.h"
#include "vhub_file.h"

/* As many as the kernel follows. */
#define MAX_LINKS 40

/* ---- text ---- */

static int
put_entry(FILE *out, const char *key, const char *value, char *error, size_t error_len)
{
	if (!config_file_can_hold(key, value, error, error_len))
		return -EINVAL;
	fprintf(out, "%s = ", key);
	for (; *value != '\0'; value++) {
		if (*value == CONFIG_COMMENT)
			fputc('\\', out);
		fputc(*value, out);
	}
	fputc('\n', out);
	return 0;
}

static int
put_daemon(FILE *out, const struct options *options, char *error, size_t error_len)
{
	char value[PATH_MAX];
	const char *key;
	unsigned int i;
	int ret = 0;

	fprintf(out, "[%s]\n", CONFIG_DAEMON_SECTION);
	for (i = 0; ret == 0 && options_get(options, i, &key, value, sizeof(value)); i++) {
		if (value[0] != '\0')
			ret = put_entry(out, key, value, error, error_len);
	}
	return ret;
}

static void
put_effective(void *arg, const char *key, uint64_t value)
{
	fprintf(arg, "%s = %" PRIu64 "\n", key, value);
}

static int
put_device(FILE *out, const struct slot *slot, char *error, size_t error_len)
{
	const struct slot_options *options = &slot->options;
	const size_t len = strlen(options->pairs) + 1;
	const char *pairs = options->pairs;
	char *pair = malloc(len);
	char *value;
	int ret = 0;

	if (pair == NULL)
		return -ENOMEM;
	fprintf(out, "\n[%s %s]\n", options->ops->name, options->name);
	while (ret == 0 && slot_spec_next(&pairs, pair, len)) {
		value = strchr(pair, '=');
		if (value != NULL)
			*value++ = '\0';
		ret = put_entry(out, pair, value != NULL ? value : "", error, error_len);
	}
	/* Also of one that nobody can listen for yet. */
	if (slot_device(slot) != NULL)
		vhub_net_effective_args(slot->device, put_effective, out);
	free(pair);
	return ret;
}

/* One that is being added may not come to that, and a file with it would start nothing. */
static bool
is_to_be_saved(const struct slot *slot)
{
	if (slot->removing)
		return false;
	return slot->state == SLOT_SERVING ||
			(slot->options.of_start &&
					(slot->state < SLOT_SERVING || slot->options.retries));
}

int
config_save_text(const struct options *options, const struct slots *slots, char **out, char *error,
		size_t error_len)
{
	const struct slot *slot;
	size_t len;
	FILE *file;
	char why[256] = "";
	int ret;

	if (slots_are_stopping(slots))
		return snprintf(error, error_len, "vhubd is stopping"), -ESHUTDOWN;
	file = open_memstream(out, &len);
	if (file == NULL)
		return snprintf(error, error_len, "out of memory"), -ENOMEM;
	fprintf(file, "# vhubd %s\n", VHUB_VERSION);
	ret = put_daemon(file, options, why, sizeof(why));
	if (ret != 0)
		snprintf(error, error_len, "a configuration file cannot hold it: %s", why);
	for (slot = slots_first(slots); ret == 0 && slot != NULL; slot = slots_next(slot)) {
		if (!is_to_be_saved(slot))
			continue;
		ret = put_device(file, slot, why, sizeof(why));
		if (ret != 0)
			snprintf(error, error_len, "a configuration file cannot hold %s: %s",
					slot->options.name, why);
	}
	if (fclose(file) != 0 && ret == 0) {
		snprintf(error, error_len, "out of memory");
		ret = -ENOMEM;
	}
	if (ret != 0) {
		free(*out);
		*out = NULL;
	}
	return ret;
}

/* ---- file ---- */

/*
 * What is at a name: returns 0 for a file, 1 for a link, which is read, else a negative errno with one sentence. A
 * link of somebody else's may lead to any file that we can write.
 */
static int
look_at(const char *path, int fd, struct stat *there, char *link, char *error, size_t error_len)
{
	ssize_t len;

	if (fstat(fd, there) == 0 && S_ISREG(there->st_mode))
		return 0;
	if (!S_ISLNK(there->st_mode)) {
		snprintf(error, error_len, "%s is no file", path);
		return -EINVAL;
	}
	if (there->st_uid != geteuid() && there->st_uid != 0) {
		snprintf(error, error_len,
				"%s is a link that user %u has made, which is not followed", path,
				there->st_uid);
		return -EPERM;
	}
	len = readlinkat(fd, "", link, PATH_MAX - 1);
	link[len > 0 ? len : 0] = '\0';
	return 1;
}

/*
 * The name of the file itself, where `target` is a link to it, or to where it is to be. What is there is in *old;
 * nothing: old->st_mode is 0. Returns 0, or a negative errno with one sentence.
 */
static int
follow_links(char *target, struct stat *old, char *error, size_t error_len)
{
	char link[PATH_MAX], *name;
	unsigned int hops;
	int fd, ret;

	for (hops = 0; hops < MAX_LINKS; hops++) {
		fd = open(target, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			/* The making of a file says why, if it cannot be. */
			memset(old, 0, sizeof(*old));
			return 0;
		}
		ret = look_at(target, fd, old, link, error, error_len);
		close(fd);
		if (ret <= 0)
			return ret;
		name = strrchr(target, '/');
		name = name == NULL || link[0] == '/' ? target : name + 1;
		if (strlcpy(name, link, (size_t)(target + PATH_MAX - name)) >=
				(size_t)(target + PATH_MAX - name))
			break;
	}
	snprintf(error, error_len, "%s is a link that leads too far", target);
	return -ELOOP;
}

/* Of the file that was there. Its owner last, for whom alone the rest is to change then. */
static int
keep_rights(int fd, const struct stat *old)
{
	const bool has_group = fchown(fd, (uid_t)-1, old->st_gid) == 0;

	/* What its group may do is nothing for another. */
	if (fchmod(fd, old->st_mode & (has_group ? 0777 : 0707)) != 0)
		return -errno;
	/* Who may not give files away keeps this one. */
	(void)!fchown(fd, old->st_uid, (gid_t)-1);
	return 0;
}

/* A name that is always the same: what a vhubd that was killed has left, the next save takes away. */
static int
make_temporary(const char *target, char *temporary, char *error, size_t error_len)
{
	int fd;

	if ((size_t)snprintf(temporary, PATH_MAX, "%s.saving", target) >= PATH_MAX)
		return snprintf(error, error_len, "%s: the path is too long", target),
		       -ENAMETOOLONG;
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	fd = -errno;
	snprintf(error, error_len, "%s cannot be made: %s", temporary, strerror(-fd));
	return fd;
}

int
config_save_write(const char *path, const char *text, char *error, size_t error_len)
{
	char target[PATH_MAX], temporary[PATH_MAX];
	struct stat old = { 0 };
	int fd, ret;

	if (strlcpy(target, path, sizeof(target)) >= sizeof(target))
		return snprintf(error, error_len, "%s: the path is too long", path), -ENAMETOOLONG;
	ret = follow_links(target, &old, error, error_len);
	if (ret != 0)
		return ret;
	fd = make_temporary(target, temporary, error, error_len);
	if (fd < 0)
		return fd;
	if (old.st_mode != 0)
		ret = keep_rights(fd, &old);
	if (ret == 0)
		ret = vhub_file_write(fd, text, strlen(text), 0);
	if (ret == 0 && fsync(fd) != 0)
		ret = -errno;
	close(fd);
	if (ret == 0 && rename(temporary, target) != 0)
		ret = -errno;
	if (ret != 0) {
		unlink(temporary);
		snprintf(error, error_len, "%s cannot be written: %s", target, strerror(-ret));
		return ret;
	}
	/* The new name outlives a crash of the host only with its folder. */
	(void)vhub_file_sync_folder(target);
	return 0;
}
