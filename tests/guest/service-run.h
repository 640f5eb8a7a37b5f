/*
 * Runs a program of this build that serves a socket handed to it as descriptor 3 (memd-vmm,
 * memd-pool), for tests: in a directory of its own, dying with the test, never left behind.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "memd/base/cleanup.h"

struct service_run {
	pid_t pid;
	bool reaped;
	int status; /* as waitpid says, once reaped */
	bool looked; /* the test asked how it ended */
	char directory[64];
	char socket[96];
};

/* Makes the directory. An errno of mkdtemp. */
int service_run_init(struct service_run *s);
/*
 * Kills what still runs, waits for it, and removes the directory with all files in it. A process
 * that had died of a bug before (SIGSEGV and the like) without the test having asked for its status
 * fails the test: by a line of TAP beyond its plan. {0} is allowed.
 */
void service_run_done(struct service_run *s);

/*
 * program is relative to the build directory; arguments end with NULL, "--listen-fd 3" is added.
 * Any errno.
 */
int service_run_start(struct service_run *s, const char *program, const char *const arguments[]);
/* Connects to its socket. The descriptor or an errno. */
int service_run_connect(const struct service_run *s);
/* Whether it has ended; flags as for waitpid. */
bool service_run_reap(struct service_run *s, int flags);
/* -ETIMEDOUT while it still runs. */
int service_run_wait_exit(struct service_run *s, unsigned timeout_ms, int *ret_status);

/* BUILD/tests/DIR/program -> BUILD/relative. -ENAMETOOLONG, -ENOENT. */
int service_run_build_path(const char *relative, char *buffer, size_t size);
