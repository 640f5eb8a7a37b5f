/*
 * What a host must have for memd, checked one by one. Reads below a root directory that a test may
 * choose; changes nothing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum doctor_status {
	DOCTOR_OK,
	DOCTOR_NOTE, /* works, and could be better */
	DOCTOR_PROBLEM, /* something of memd does not work */
};

#define DOCTOR_TEXT_MAX 512

struct doctor_finding {
	const char *name;
	enum doctor_status status;
	char found[DOCTOR_TEXT_MAX];
	char advice[DOCTOR_TEXT_MAX]; /* what to do; "" when there is nothing */
};

/* Looks at the host below root_fd (an open directory, "/"). Fills up to max; returns how many. */
size_t doctor_examine(int root_fd, struct doctor_finding *ret, size_t max);
