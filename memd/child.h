/*
 * A memd-vmm, memd-pool or memd-policy that memd watches: one it started, or one that a former memd
 * left running. Where it is remembered (NAME.pid beside its socket), when it ends and why.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "memd/base/error.h"
#include "memd/spawn.h"

#define CHILD_ERROR_MAX 512

struct child {
	pid_t pid; /* 0: none */
	int pidfd; /* -1: none */
	bool adopted; /* not our child: how it ended cannot be known */
	char *pid_path;
	sd_event_source *exit_source;
	sd_event_source *error_source;
	int error_fd;
	char error_text[CHILD_ERROR_MAX]; /* the line it wrote to the error pipe, "" for none */
	void (*ended)(void *context, int code, const char *reason);
	void *context;
};

#define CHILD_INIT                                                                                 \
	{                                                                                          \
		.pidfd = -1, .error_fd = -1                                                        \
	}

/*
 * Starts it, with /RUNTIME/NAME.pid at pid_path. `ended` is called once from the loop when it has
 * ended: code is its exit code, or -1 for a signal or when nobody can know; reason is for a person.
 */
int child_spawn(struct child *c, sd_event *event, const struct spawn_request *request,
	const char *pid_path, void (*ended)(void *context, int code, const char *reason),
	void *context, struct error *e);
/* Takes over the process that pid_path names. -ESRCH when it is not there any more. */
int child_adopt(struct child *c, sd_event *event, const char *pid_path,
	void (*ended)(void *context, int code, const char *reason), void *context, struct error *e);
/* The process that pid_path names, 0 when it does not live. */
pid_t child_find(const char *pid_path);
/* Nothing when there is none. */
void child_signal(const struct child *c, int signal);
/* Stops watching; the process lives on, and so does its pid file. */
void child_done(struct child *c);
/* As child_done, and removes the pid file: the process is known to be gone. */
void child_forget(struct child *c);
/*
 * As child_forget, for a process that was told to end and is of no interest any more: it is reaped
 * when it has.
 */
void child_abandon(struct child *c);
