/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes what runs as a configuration file. Called by control_daemon.c; config_file.c reads it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_file.h"
#include "config_save.h"
#include "slot_spec.h"

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
	if (slot->state == SLOT_SERVING)
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

static int
write_all(int fd, const char *text)
{
	size_t left = strlen(text);
	ssize_t n;

	while (left > 0) {
		n = write(fd, text, left);
		if (n < 0 && errno != EINTR)
			return -errno;
		text += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	return fsync(fd) != 0 ? -errno : 0;
}

/* The new name outlives a power failure only with its folder. */
static void
sync_folder(const char *path)
{
	char copy[PATH_MAX];
	int fd;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

int
config_save_write(const char *path, const char *text, char *error, size_t error_len)
{
	char temporary[PATH_MAX];
	struct stat old;
	int fd, ret;

	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= sizeof(temporary))
		return snprintf(error, error_len, "%s: the path is too long", path), -ENAMETOOLONG;
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		snprintf(error, error_len, "%s cannot be made: %s", temporary, strerror(-ret));
		return ret;
	}
	/* A file that was there keeps its mode; a new one is its owner's. */
	ret = stat(path, &old) == 0 && fchmod(fd, old.st_mode & 0777) != 0 ? -errno : 0;
	if (ret == 0)
		ret = write_all(fd, text);
	close(fd);
	if (ret == 0 && rename(temporary, path) != 0)
		ret = -errno;
	if (ret != 0) {
		unlink(temporary);
		snprintf(error, error_len, "%s cannot be written: %s", path, strerror(-ret));
		return ret;
	}
	sync_folder(path);
	return 0;
}
