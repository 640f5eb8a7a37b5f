/*
 * A policy run over what a journal has recorded, without touching anything: every tick's figures are
 * shown to it as they were, but for the targets, which are its own from the tick before. What it
 * would have done to the figures themselves nobody knows.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "config/config.h"
#include "memd/base/error.h"

struct replay_options {
	const char *policy; /* NULL: the one that was recorded last */
	const struct host_config *config; /* NULL: settings as recorded, else the defaults */
	const char *program; /* memd-policy */
	const int *fds; /* n journals, the older first; stay the caller's */
	size_t n;
	FILE *out; /* lines of JSON, see memd-journal(5) */
};

/* One line a tick when ticks is wanted, then a summary. -ENODATA: no tick is in the journals. */
enum replay_detail { REPLAY_SUMMARY, REPLAY_TICKS };
int replay_run(const struct replay_options *options, enum replay_detail detail, struct error *e);

/* One line for each thing that could be otherwise: what the policy would propose for that guest. */
int replay_what_if(const struct replay_options *options, const char *guest, struct error *e);
