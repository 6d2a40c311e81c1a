/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads a configuration file, section by section. Called by options.c for --config.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include "config_file.h"
#include "slot_spec.h"

struct entry {
	unsigned int line;
	char *key;   /* heap */
	char *value; /* in the same piece */
};

/* What was read of a section. */
struct section {
	const char *path;  /* of the file */
	unsigned int line; /* of the heading */
	char *name;	   /* heap; NULL: no section has begun */
	unsigned int n;
	struct entry *entries;
};

static int __attribute__((format(printf, 3, 4)))
wrong(const char *path, unsigned int line, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "vhubd: %s:%u: ", path, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return -EINVAL;
}

/* ---- what a section says ---- */

static int
set_daemon_key(struct options *options, const struct section *section, unsigned int i)
{
	const struct entry *entry = &section->entries[i];
	char error[512] = "";
	const char *key;
	char keys[256] = "";
	char value[PATH_MAX];
	unsigned int k;
	int ret;

	for (k = 0; k < i; k++) {
		if (strcmp(section->entries[k].key, entry->key) == 0 &&
				!options_key_repeats(entry->key))
			return wrong(section->path, entry->line, "[%s] %s=%s: %s is given twice",
					CONFIG_DAEMON_SECTION, entry->key, entry->value,
					entry->key);
	}
	ret = options_set(options, entry->key, entry->value, error, sizeof(error));
	if (ret == 0)
		return 0;
	if (ret != -ENOENT) {
		wrong(section->path, entry->line, "[%s] %s=%s: %s", CONFIG_DAEMON_SECTION,
				entry->key, entry->value, error);
		return ret;
	}
	for (k = options->n_loads; options_get(options, k, &key, value, sizeof(value)); k++) {
		strlcat(keys, keys[0] == '\0' ? "" : ", ", sizeof(keys));
		strlcat(keys, key, sizeof(keys));
	}
	return wrong(section->path, entry->line, "[%s] %s=%s: there is no such key; allowed: %s",
			CONFIG_DAEMON_SECTION, entry->key, entry->value, keys);
}

/* The entry that a builder's sentence begins with, "size=64Q: ..."; else the heading. */
static unsigned int
line_of_error(const struct section *section, const char *error)
{
	unsigned int i;

	/* The last one, for one that is given twice is wrong the second time. */
	for (i = section->n; i-- > 0;) {
		const struct entry *entry = &section->entries[i];
		size_t len = strlen(entry->key);

		if (strncmp(error, entry->key, len) == 0 && strchr("= ", error[len]) != NULL)
			return entry->line;
	}
	return section->line;
}

static int
unknown_section(const struct section *section, const char *name)
{
	const struct vhub_builder_ops *ops;
	char sections[512] = "[" CONFIG_DAEMON_SECTION "]";
	unsigned int i;

	for (i = 0; (ops = vhub_builder_at(i)) != NULL; i++) {
		strlcat(sections, ", [", sizeof(sections));
		strlcat(sections, ops->name, sizeof(sections));
		strlcat(sections, " NAME]", sizeof(sections));
	}
	return wrong(section->path, section->line, "[%s]: there is no such section; allowed: %s",
			name, sections);
}

/* [KIND NAME]. The kind is cut off the section's name. */
static int
add_device(struct options *options, const struct section *section)
{
	char *kind = section->name, *name = kind + strcspn(kind, " \t");
	const struct vhub_builder_ops *ops;
	char error[1024] = "";
	char *spec;
	unsigned int i;
	int ret;

	if (*name != '\0')
		*name++ = '\0';
	name += strspn(name, " \t");
	ops = vhub_builder_find(kind);
	if (ops == NULL || name[0] == '\0')
		return unknown_section(section, kind);
	if (strpbrk(name, ",=") != NULL)
		return wrong(section->path, section->line,
				"[%s %s]: a name has no comma and no =", kind, name);
	spec = strdup(name);
	ret = spec != NULL ? 0 : -ENOMEM;
	for (i = 0; ret == 0 && i < section->n; i++)
		ret = slot_spec_append(&spec, section->entries[i].key, section->entries[i].value,
				error, sizeof(error));
	if (ret == 0)
		ret = options_add_device(options, ops, spec, error, sizeof(error));
	if (ret != 0)
		wrong(section->path, line_of_error(section, error), "[%s %s] %s", kind, name,
				error[0] != '\0' ? error : strerror(-ret));
	free(spec);
	return ret;
}

static int
take_section(struct options *options, const struct section *section)
{
	unsigned int i;
	int ret = 0;

	if (section->name == NULL)
		return 0;
	if (strcmp(section->name, CONFIG_DAEMON_SECTION) != 0)
		return add_device(options, section);
	for (i = 0; ret == 0 && i < section->n; i++)
		ret = set_daemon_key(options, section, i);
	return ret;
}

static void
empty_section(struct section *section)
{
	while (section->n > 0)
		free(section->entries[--section->n].key);
	free(section->entries);
	free(section->name);
	section->entries = NULL;
	section->name = NULL;
}

/* ---- lines ---- */

static char *
strip(char *text)
{
	size_t len;

	while (isspace((unsigned char)*text))
		text++;
	len = strlen(text);
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		text[--len] = '\0';
	return text;
}

/* And what marks a CONFIG_COMMENT that begins none. */
static void
cut_comment(char *line)
{
	char *to = line;

	for (; *line != '\0' && *line != CONFIG_COMMENT; line++) {
		if (line[0] == '\\' && line[1] == CONFIG_COMMENT)
			line++;
		*to++ = *line;
	}
	*to = '\0';
}

/* The section before has ended. */
static int
begin_section(struct options *options, struct section *section, unsigned int line, char *text)
{
	char *end = strchr(text, ']');
	int ret;

	if (end == NULL || end[1] != '\0')
		return wrong(section->path, line, "%s: a section is a line [NAME] and nothing more",
				text);
	ret = take_section(options, section);
	if (ret != 0)
		return ret;
	*end = '\0';
	empty_section(section);
	section->line = line;
	section->name = strdup(strip(text + 1));
	if (section->name == NULL)
		return wrong(section->path, line, "out of memory"), -ENOMEM;
	return 0;
}

static int
add_entry(struct section *section, unsigned int line, char *text)
{
	char *equals = strchr(text, '=');
	struct entry *entries, entry = { .line = line };

	if (text[0] == ';')
		return wrong(section->path, line, "%s: comments begin with %c", text,
				CONFIG_COMMENT);
	if (equals == NULL)
		return wrong(section->path, line, "%s: this is neither a [section] nor key=value",
				text);
	*equals = '\0';
	text = strip(text);
	if (text[0] == '\0')
		return wrong(section->path, line, "=%s: there is no key", strip(equals + 1));
	if (section->name == NULL)
		return wrong(section->path, line, "%s: it stands before the first [section]", text);
	entries = reallocarray(section->entries, section->n + 1, sizeof(*entries));
	if (entries != NULL)
		section->entries = entries;
	if (entries == NULL || asprintf(&entry.key, "%s=%s", text, strip(equals + 1)) < 0)
		return wrong(section->path, line, "out of memory"), -ENOMEM;
	entry.value = strchr(entry.key, '=');
	*entry.value++ = '\0';
	entries[section->n++] = entry;
	return 0;
}

static int
take_line(struct options *options, struct section *section, unsigned int number, char *line,
		size_t len)
{
	if (strlen(line) != len)
		return wrong(section->path, number, "this is no text: there is a zero byte");
	cut_comment(line);
	line = strip(line);
	if (line[0] == '\0')
		return 0;
	return line[0] == '[' ? begin_section(options, section, number, line) :
				add_entry(section, number, line);
}

static int
take_lines(struct options *options, struct section *section, FILE *file)
{
	unsigned int number = 0;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int ret = 0;

	while (ret == 0 && (len = getline(&line, &size, file)) > 0)
		ret = take_line(options, section, ++number, line, (size_t)len);
	if (ret == 0 && !feof(file)) {
		ret = -errno;
		wrong(section->path, number, "%s", strerror(-ret));
	}
	free(line);
	return ret != 0 ? ret : take_section(options, section);
}

/* ---- entry ---- */

int
config_file_read(struct options *options, const char *path)
{
	struct section section = { .path = path };
	FILE *file = fopen(path, "re");
	int ret;

	if (file == NULL) {
		ret = -errno;
		fprintf(stderr, "vhubd: --config %s: %s\n", path, strerror(errno));
		return ret;
	}
	ret = take_lines(options, &section, file);
	empty_section(&section);
	fclose(file);
	return ret;
}

bool
config_file_can_hold(const char *key, const char *value, char *error, size_t error_len)
{
	if (strpbrk(value, "\n\r") != NULL)
		snprintf(error, error_len, "the value of %s has more than one line", key);
	else if (value[0] != '\0' &&
			(isspace((unsigned char)value[0]) ||
					isspace((unsigned char)value[strlen(value) - 1])))
		snprintf(error, error_len, "the value of %s begins or ends with a blank", key);
	else
		return true;
	return false;
}
