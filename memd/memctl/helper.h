/*
 * Programs of memd that memctl runs as children, because what they do (running a policy, reading a
 * journal) is not a client's business: memctl reads what they say.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

struct helper {
	pid_t pid;
	FILE *out; /* its stdout; NULL when it writes to ours */
};

enum helper_output { HELPER_OUTPUT_READ, HELPER_OUTPUT_OURS };

/*
 * Starts the program (argv[0]: a path, or a name that is looked for in PATH) with the descriptors
 * fds[n] kept, and input (-1: none) as its stdin. stderr is ours. Negative errno.
 */
int helper_start(struct helper *h, char *const *argv, int input, const int *fds, size_t n,
	enum helper_output output);
/* Reads on to its end and waits: its exit code, 128 + N for a signal, or 127 when it did not start. */
int helper_end(struct helper *h);
