/*
 * What tests of memctl stand on: a private bus with fake-memd on it, in a directory of their own. All of it
 * ends with the test, also when the test is killed.
 */
#pragma once

#include <sys/types.h>

#define MEMCTL_ENV_BUILD_MAX 1024
#define MEMCTL_ENV_TEXT_MAX                                                                        \
	(4 * MEMCTL_ENV_BUILD_MAX) /* a path below the build, with what is around it */

struct memctl_env {
	char build[MEMCTL_ENV_BUILD_MAX]; /* build/PRESET */
	char directory[64]; /* the bus's socket, and output of what was spawned */
	char address[96];
	pid_t bus, memd;
};

/* Starts bus and fake-memd with n_guests. 0 or -1; memctl_env_stop() in both cases. */
int memctl_env_start(struct memctl_env *env, unsigned n_guests);
/* 0, or -1 when something is left in the directory. */
int memctl_env_stop(struct memctl_env *env);

/* Starts a program with stdin empty and its output in two files of the directory. Returns its pid. */
pid_t memctl_env_spawn(struct memctl_env *env, const char *const argv[], const char *out_name,
	const char *err_name);
/* In a child process: what each program of the environment is given. */
void memctl_env_child(const struct memctl_env *env);

/* The contents of a file of the directory, to be freed; NULL when there is none. */
char *memctl_env_read(struct memctl_env *env, const char *name);
