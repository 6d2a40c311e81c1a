/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads a configuration file. Called by options.c for --config.
 *
 * rte_cfgfile knows no line numbers, cuts names and values that are too long, and passes over lines
 * that it does not understand. So the file is looked through first, line by line, while it is
 * copied: what rte_cfgfile would not say is said here, and the copy, which nobody can change, is
 * what rte_cfgfile reads.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bsd/string.h>

#include <rte_cfgfile.h>
#include <rte_common.h>

#include "config_file.h"
#include "slot_spec.h"

/* What rte_cfgfile's buffer takes of one line. */
#define MAX_LINE (CFG_NAME_LEN + CFG_VALUE_LEN + 2)
#define MAX_LINES 100000

/* The headings and entries of the file, in their order. */
struct scan {
	const char *path;
	unsigned int line; /* the present one */
	unsigned int n;
	unsigned int *lines; /* of the n-th heading or entry */
	bool in_section;
};

/* ---- looking through ---- */

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

static int
remember(struct scan *scan)
{
	unsigned int *lines;

	if (scan->n % 64 == 0) {
		lines = reallocarray(scan->lines, scan->n + 64, sizeof(*lines));
		if (lines == NULL)
			return wrong(scan->path, scan->line, "out of memory");
		scan->lines = lines;
	}
	scan->lines[scan->n++] = scan->line;
	return 0;
}

static int
check_section(struct scan *scan, char *text)
{
	char *end = strchr(text, ']');

	if (end == NULL || end[1] != '\0')
		return wrong(scan->path, scan->line,
				"%s: a section is a line [NAME] and nothing more", text);
	if (end - text - 1 >= CFG_NAME_LEN)
		return wrong(scan->path, scan->line,
				"%s: a section's name has at most %d characters", text,
				CFG_NAME_LEN - 1);
	scan->in_section = true;
	return remember(scan);
}

static int
check_entry(struct scan *scan, char *text)
{
	char *equals = strchr(text, '=');
	char *value;

	if (text[0] == ';')
		return wrong(scan->path, scan->line, "%s: comments begin with %c", text,
				CONFIG_COMMENT);
	if (equals == NULL)
		return wrong(scan->path, scan->line,
				"%s: this is neither a [section] nor key=value", text);
	*equals = '\0';
	text = strip(text);
	value = strip(equals + 1);
	if (text[0] == '\0' || strlen(text) >= CFG_NAME_LEN)
		return wrong(scan->path, scan->line, "%s=: a key has 1 to %d characters", text,
				CFG_NAME_LEN - 1);
	if (strlen(value) >= CFG_VALUE_LEN)
		return wrong(scan->path, scan->line,
				"%s: its value has %zu characters, a file can hold %d: use the command line",
				text, strlen(value), CFG_VALUE_LEN - 1);
	if (!scan->in_section)
		return wrong(scan->path, scan->line, "%s: it stands before the first [section]",
				text);
	return remember(scan);
}

/* As rte_cfgfile takes a line apart. */
static int
check_line(struct scan *scan, char *line, size_t len)
{
	char *comment;

	scan->line++;
	if (strlen(line) != len)
		return wrong(scan->path, scan->line, "this is no text: there is a zero byte");
	if (len - (line[len - 1] == '\n') > MAX_LINE)
		return wrong(scan->path, scan->line,
				"the line has %zu characters, a file can hold %d: use the command line",
				len, MAX_LINE);
	if (scan->line > MAX_LINES)
		return wrong(scan->path, scan->line, "that is more than %d lines", MAX_LINES);
	comment = strchr(line, CONFIG_COMMENT);
	if (comment != NULL && (comment == line || comment[-1] != '\\'))
		*comment = '\0';
	line = strip(line);
	if (line[0] == '\0')
		return 0;
	return line[0] == '[' ? check_section(scan, line) : check_entry(scan, line);
}

static int
scan_lines(struct scan *scan, FILE *from, FILE *copy)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int ret = 0;

	while (ret == 0 && (len = getline(&line, &size, from)) > 0) {
		if (fwrite(line, 1, (size_t)len, copy) != (size_t)len)
			ret = wrong(scan->path, scan->line, "%s", strerror(errno));
		else
			ret = check_line(scan, line, (size_t)len);
	}
	if (ret == 0 && (ferror(from) || fflush(copy) != 0))
		ret = wrong(scan->path, scan->line, "%s", strerror(errno));
	free(line);
	return ret;
}

/* ---- what it says ---- */

/* An entry's line: the `place`-th thing in the file. */
static int
set_daemon_key(struct options *options, const struct scan *scan, unsigned int place,
		const struct rte_cfgfile_entry *entries, int i)
{
	const struct rte_cfgfile_entry *entry = &entries[i];
	const unsigned int line = scan->lines[place];
	char error[512] = "";
	const char *key;
	char keys[256] = "";
	char value[CFG_VALUE_LEN];
	int k, ret;

	for (k = 0; k < i; k++) {
		if (strcmp(entries[k].name, entry->name) == 0 && !options_key_repeats(entry->name))
			return wrong(scan->path, line, "[%s] %s=%s: %s is given twice",
					CONFIG_DAEMON_SECTION, entry->name, entry->value,
					entry->name);
	}
	ret = options_set(options, entry->name, entry->value, error, sizeof(error));
	if (ret == 0)
		return 0;
	if (ret != -ENOENT)
		return wrong(scan->path, line, "[%s] %s=%s: %s", CONFIG_DAEMON_SECTION, entry->name,
				entry->value, error);
	for (k = (int)options->n_loads;
			options_get(options, (unsigned int)k, &key, value, sizeof(value)); k++) {
		strlcat(keys, keys[0] == '\0' ? "" : ", ", sizeof(keys));
		strlcat(keys, key, sizeof(keys));
	}
	return wrong(scan->path, line, "[%s] %s=%s: there is no such key; allowed: %s",
			CONFIG_DAEMON_SECTION, entry->name, entry->value, keys);
}

/* The entry that a builder's sentence begins with, "size=64Q: ..."; else the heading. */
static unsigned int
line_of_error(const struct scan *scan, unsigned int heading,
		const struct rte_cfgfile_entry *entries, int n, const char *error)
{
	int i;

	/* The last one, for one that is given twice is wrong the second time. */
	for (i = n - 1; i >= 0; i--) {
		size_t len = strlen(entries[i].name);

		if (strncmp(error, entries[i].name, len) == 0 && strchr("= ", error[len]) != NULL)
			return scan->lines[heading + 1 + (unsigned int)i];
	}
	return scan->lines[heading];
}

static int
unknown_section(const struct scan *scan, unsigned int heading, const char *section)
{
	const struct vhub_builder_ops *ops;
	char sections[512] = "[" CONFIG_DAEMON_SECTION "]";
	unsigned int i;

	for (i = 0; (ops = vhub_builder_at(i)) != NULL; i++) {
		strlcat(sections, ", [", sizeof(sections));
		strlcat(sections, ops->name, sizeof(sections));
		strlcat(sections, " NAME]", sizeof(sections));
	}
	return wrong(scan->path, scan->lines[heading],
			"[%s]: there is no such section; allowed: %s", section, sections);
}

static int
add_device(struct options *options, const struct scan *scan, unsigned int heading,
		const char *section, const struct rte_cfgfile_entry *entries, int n)
{
	const struct vhub_builder_ops *ops;
	char kind[CFG_NAME_LEN];
	size_t kind_len = strcspn(section, " \t");
	char error[1024] = "";
	char *spec;
	int i, ret = 0;

	strlcpy(kind, section, kind_len + 1);
	ops = vhub_builder_find(kind);
	section += kind_len + strspn(section + kind_len, " \t");
	if (ops == NULL || section[0] == '\0')
		return unknown_section(scan, heading, ops == NULL ? kind : section - kind_len);
	if (strpbrk(section, ",=") != NULL)
		return wrong(scan->path, scan->lines[heading],
				"[%s %s]: a name has no comma and no =", kind, section);
	spec = strdup(section);
	for (i = 0; spec != NULL && ret == 0 && i < n; i++)
		ret = slot_spec_append(&spec, entries[i].name, entries[i].value, error,
				sizeof(error));
	if (spec != NULL && ret == 0)
		ret = options_add_device(options, ops, spec, error, sizeof(error));
	if (spec == NULL || ret != 0)
		ret = wrong(scan->path, line_of_error(scan, heading, entries, n, error),
				"[%s %s] %s", kind, section,
				error[0] != '\0' ? error : "out of memory");
	free(spec);
	return ret;
}

/* Section `index`; *place is its heading's, and moves behind it. */
static int
take_section(struct options *options, const struct scan *scan, struct rte_cfgfile *file, int index,
		unsigned int *place)
{
	struct rte_cfgfile_entry *entries;
	char section[CFG_NAME_LEN] = "";
	int n, i, ret = 0;

	n = rte_cfgfile_section_num_entries_by_index(file, section, index);
	if (n < 0 || *place + 1 + (unsigned int)n > scan->n)
		return wrong(scan->path, scan->line, "it cannot be read");
	entries = calloc((size_t)n + 1, sizeof(*entries));
	if (entries == NULL)
		return wrong(scan->path, scan->lines[*place], "out of memory");
	rte_cfgfile_section_entries_by_index(file, index, section, entries, n);
	if (strcmp(section, CONFIG_DAEMON_SECTION) == 0) {
		for (i = 0; i < n && ret == 0; i++)
			ret = set_daemon_key(options, scan, *place + 1 + (unsigned int)i, entries,
					i);
	} else {
		ret = add_device(options, scan, *place, section, entries, n);
	}
	*place += 1 + (unsigned int)n;
	free(entries);
	return ret;
}

static int
take_all(struct options *options, const struct scan *scan, int fd)
{
	struct rte_cfgfile_parameters params = { .comment_character = CONFIG_COMMENT };
	struct rte_cfgfile *file;
	unsigned int place = 0;
	char name[64];
	int i, ret = 0;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	file = rte_cfgfile_load_with_params(name, CFG_FLAG_EMPTY_VALUES, &params);
	if (file == NULL)
		return wrong(scan->path, scan->line, "it cannot be read; is /proc there?");
	for (i = 0; ret == 0 && i < rte_cfgfile_num_sections(file, "", 0); i++)
		ret = take_section(options, scan, file, i, &place);
	rte_cfgfile_close(file);
	return ret;
}

/* ---- entry ---- */

int
config_file_read(struct options *options, const char *path)
{
	struct scan scan = { .path = path };
	FILE *from = fopen(path, "re");
	FILE *copy = NULL;
	int fd, ret;

	if (from == NULL) {
		ret = -errno;
		fprintf(stderr, "vhubd: --config %s: %s\n", path, strerror(errno));
		return ret;
	}
	fd = memfd_create("vhub-config", MFD_CLOEXEC);
	if (fd >= 0)
		copy = fdopen(fd, "w+");
	if (copy == NULL) {
		ret = wrong(path, 0, "%s", strerror(errno));
		if (fd >= 0)
			close(fd);
	} else {
		ret = scan_lines(&scan, from, copy);
		if (ret == 0)
			ret = take_all(options, &scan, fd);
		fclose(copy);
	}
	fclose(from);
	free(scan.lines);
	return ret;
}

bool
config_file_can_hold(const char *name, const char *value, char *error, size_t error_len)
{
	const char *each;
	size_t n_marks = 0;

	for (each = value; each != NULL && *each != '\0'; each++)
		n_marks += *each == CONFIG_COMMENT;
	if (strlen(name) >= CFG_NAME_LEN)
		snprintf(error, error_len, "%s has more than %d characters", name,
				CFG_NAME_LEN - 1);
	else if (value == NULL)
		return true;
	else if (strlen(value) + n_marks >= CFG_VALUE_LEN)
		snprintf(error, error_len, "the value of %s has more than %d characters", name,
				CFG_VALUE_LEN - 1);
	else if (strpbrk(value, "\n\r") != NULL)
		snprintf(error, error_len, "the value of %s has more than one line", name);
	else if (value[0] != '\0' &&
			(isspace((unsigned char)value[0]) ||
					isspace((unsigned char)value[strlen(value) - 1])))
		snprintf(error, error_len, "the value of %s begins or ends with a blank", name);
	else
		return true;
	return false;
}
