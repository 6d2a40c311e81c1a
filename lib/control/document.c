/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Finds where a JSON document ends, without reading it: brackets are counted, strings are passed
 * over. Each byte is looked at once, however small the pieces are in which it comes. Called by
 * client.c; next: dispatch.c reads the document.
 */
#include "control_pvt.h"

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Inside of brackets. Returns true when the last one closes. */
static bool
scan_inside(struct control_scan *scan, char c)
{
	if (scan->in_string) {
		if (scan->escaped)
			scan->escaped = false;
		else if (c == '\\')
			scan->escaped = true;
		else if (c == '"')
			scan->in_string = false;
		return false;
	}
	if (c == '"')
		scan->in_string = true;
	else if (c == '{' || c == '[')
		scan->depth++;
	else if (c == '}' || c == ']')
		return --scan->depth == 0;
	return false;
}

bool
control_scan(struct control_scan *scan, const char *bytes, size_t len, size_t *used)
{
	bool complete = false;
	size_t i;

	for (i = 0; i < len && !complete; i++) {
		const char c = bytes[i];

		if (scan->depth > 0) {
			complete = scan_inside(scan, c);
		} else if (!scan->started && (c == '{' || c == '[')) {
			scan->started = true;
			scan->depth = 1;
		} else if (!scan->started) {
			scan->started = !is_blank(c);
		} else {
			/* What is neither an object nor an array: a line of it. */
			complete = c == '\n';
		}
	}
	*used = i;
	if (complete)
		*scan = (struct control_scan){ 0 };
	return complete;
}
