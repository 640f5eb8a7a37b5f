/*
 * Starts memd-vmm and memd-pool: own session, own cgroup before the first instruction, clean
 * environment, and no descriptor but those of the contract: 0 is /dev/null, 1 and 2 are memd's log,
 * 3 the listening socket, 4 the error pipe and 5 the template of a clone (memd-vmm only). They
 * outlive memd: no parent-death signal. A memd that is killed in between leaves no process that
 * nobody knows: the program begins only with spawn_release, when the caller has noted where it is.
 */
#pragma once

#include <sys/types.h>

#include "memd/base/error.h"

#define SPAWN_SOCKET_FD 3
#define SPAWN_ERROR_FD	4
#define SPAWN_TEMPLATE_FD 5

struct spawn_request {
	char *const *argv; /* [0] is the program's path */
	int socket_fd; /* stays the caller's */
	int procs_fd; /* cgroup_open_procs() of its cgroup, -1 for none; stays the caller's */
	int template_fd; /* of a clone, 0 for none; stays the caller's */
	int own_pid_namespace; /* 1: as its first process; without the right to that: in memd's */
	int keep_error_fd; /* 1: it writes why it failed to SPAWN_ERROR_FD; 0: only exec does */
};

struct spawned {
	pid_t pid;
	int pidfd; /* the caller's */
	int go_fd; /* the caller's; -1 after spawn_release */
	int error_fd; /* the caller's, non-blocking: a line when it did not start, then EOF */
};

/*
 * Negative errno. A program that cannot be executed is reported through error_fd, and exits with
 * 127.
 */
int spawn_program(const struct spawn_request *request, struct spawned *ret, struct error *e);
/* Lets it begin. Negative errno: it ends by itself. */
int spawn_release(struct spawned *s);
