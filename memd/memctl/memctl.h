/*
 * memctl: what its parts share. memctl speaks D-Bus with memd and nothing else: it never reads memd's
 * configuration, sockets or processes, so that it shows exactly what any other client would see. What
 * is no question to memd (running a policy, over a journal or to try it) other programs of memd do,
 * as children.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "memd/base/cleanup.h"

/* Exit codes, documented in memctl(1). */
enum memctl_exit {
	MEMCTL_OK = 0,
	MEMCTL_REFUSED = 1, /* memd said no, or failed */
	MEMCTL_USAGE = 2,
	MEMCTL_UNREACHABLE = 3, /* no bus, or no memd on it */
};

/* Options, as bits: a verb names those that it takes. */
enum memctl_option {
	OPTION_FORCE = 1 << 0,
	OPTION_LINES = 1 << 1,
	OPTION_INTERVAL = 1 << 2,
	OPTION_COUNT = 1 << 3,
	OPTION_VERBOSE = 1 << 4,
	OPTION_REMOVE = 1 << 5,
	OPTION_PLOT = 1 << 6,
	OPTION_POLICY = 1 << 7,
	OPTION_CONFIG = 1 << 8,
};

struct memctl {
	const char *bus_name; /* system, session or an address */
	sd_bus *bus; /* NULL until connected */
	bool json;
	unsigned options; /* enum memctl_option, those given */
	uint64_t interval_us;
	uint64_t count; /* 0: for ever */
	const char *plot_path;
	const char *policy;
	const char *config_path;
};

struct verb {
	const char *name;
	const char *arguments; /* for the synopsis */
	const char *summary; /* one line */
	const char *help; /* the rest, with an example */
	int min_arguments;
	int max_arguments; /* -1: any number */
	unsigned options; /* enum memctl_option, those it takes */
	bool needs_memd; /* connect first */
	/* Returns an exit code, after saying what is to be said. argv[0] is the first argument, not the verb. */
	enum memctl_exit (*run)(struct memctl *m, int argc, char **argv);
};

/* The whole program: reads the options, runs the verb, returns the exit code. */
enum memctl_exit memctl_main(int argc, char **argv);

extern const struct verb verbs[];
extern const unsigned n_verbs;

/*
 * Says why on stderr, and with --json also as an object on stdout, and returns the exit code. `name` is
 * the D-Bus name of the error, or NULL.
 */
enum memctl_exit memctl_fail(const struct memctl *m, enum memctl_exit code, const char *name,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Connects to the bus of memd when that is not done yet; on failure says why. */
enum memctl_exit memctl_connect(struct memctl *m);

/* Prints a JSON object as one line. */
void memctl_print_json(struct json_object *object);

enum memctl_exit verb_start(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_fit(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_stop(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_list(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_show(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_set_target(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_set_cpus(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_mmu(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_snapshot(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_clone(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_pause(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_resume(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_hint(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_agent(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_top(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_status(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_ledger(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_history(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_explain(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_replay(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_policy(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_reload(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_doctor(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_import(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_setup_zram(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_version(struct memctl *m, int argc, char **argv);
enum memctl_exit verb_help(struct memctl *m, int argc, char **argv);

static inline void json_object_putp(struct json_object **object)
{
	json_object_put(*object);
}
#define _cleanup_json_ _cleanup_(json_object_putp)
