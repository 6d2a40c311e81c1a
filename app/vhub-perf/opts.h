/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of a subcommand, as tables: one row an option, which says how it is written, what is
 * allowed, where its value goes and what --help tells of it. Implemented in opts.c; used by the
 * subcommands, before anything else.
 *
 *	static const struct opt load_opts[] = {
 *		{ .name = "rate", .arg = "N", .kind = OPT_RATE, .to = &config.rate,
 *				.max = 1000000000,
 *				.help = "items a second, of all queues (0: as fast as it goes)" },
 *		{ .name = "packed", .kind = OPT_SWITCH, .to = &config.packed,
 *				.help = "packed rings" },
 *	};
 *
 * Written as --name value or --name=value; a dash in a name may be an underscore, as fio has it.
 * Defaults are what stands in the fields before; the last one counts.
 */
#ifndef PERF_OPTS_H
#define PERF_OPTS_H

#include <stddef.h>
#include <stdint.h>

enum opt_kind {
	OPT_SWITCH, /* bool: without a value, or =on, =off */
	OPT_ON_OFF, /* bool: on or off must follow */
	OPT_UINT,   /* uint32_t, min .. max */
	OPT_SIZE,   /* uint64_t bytes, min .. max (parse_size()) */
	OPT_RATE,   /* uint64_t per second, min .. max (parse_rate()) */
	OPT_TIME,   /* uint64_t ns, min .. max (parse_time()) */
	OPT_TEXT,   /* const char *, not empty */
	OPT_CHOICE, /* unsigned int: place in `choices` */
	OPT_PARSE,  /* `parse` does it, each time that the option comes */
};

struct opt {
	const char *name; /* without the dashes */
	const char *arg;  /* what --help calls the value; not for a switch */
	enum opt_kind kind;
	void *to; /* the field of that type, outlives the run */
	uint64_t min;
	uint64_t max;		    /* 0: no limit but the type's */
	const char *const *choices; /* NULL-terminated */
	/* 0, or -EINVAL with what is allowed, as in "1 to 9", in `allowed`. */
	int (*parse)(void *to, const char *value, char *allowed, size_t len);
	const char *help; /* lines, without the name; defaults included */
};

/* Options that belong together in --help. */
struct opt_group {
	const char *title;
	const struct opt *opts;
	unsigned int n_opts;
};

struct opt_set {
	const char *command;
	const char *usage;		/* what follows "vhub-perf COMMAND " */
	const char *about;		/* sentences for --help */
	const struct opt_group *groups; /* NULL-terminated by their title */
};

/*
 * argv[0] is the command. Returns 0; 1: --help has said all; -EINVAL: one line on standard error
 * names the option, the value and what is allowed. Thread: main.
 */
int
opts_parse(const struct opt_set *set, int argc, char **argv);

#endif /* PERF_OPTS_H */
