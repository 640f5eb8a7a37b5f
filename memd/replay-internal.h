/* Between replay.c, replay-source.c and replay-print.c only. */
#pragma once

#include "memd/journal-read.h"
#include "memd/journal-record.h"
#include "memd/policy-run.h"
#include "memd/replay.h"

/* replay-source.c: several journals as one sequence of ticks. */
struct replay_source {
	const struct replay_options *options;
	size_t number; /* of the journal that is read */
	struct journal_reader *reader; /* NULL between two */
	uint64_t damaged_bytes;
};
#define REPLAY_END 1
/* The next tick, to be ended with journal_record_done. REPLAY_END, negative errno with *e. */
int replay_next(struct replay_source *s, struct journal_record *ret, struct error *e);
void replay_source_done(struct replay_source *s);
/*
 * Which policy is to be run, with which settings: a configuration of its own, to be ended with
 * host_config_done.
 */
int replay_choose_policy(
	const struct replay_options *options, struct host_config *ret, struct error *e);

/* replay-print.c */
struct replay_guest_sum {
	char name[256];
	uint64_t n; /* ticks */
	unsigned __int128 recorded_bytes, replayed_bytes; /* sums of targets */
	uint64_t recorded_last_bytes, replayed_last_bytes;
	uint64_t most_bytes; /* that they differed by */
};
struct replay_summary {
	const char *policy;
	uint64_t n_ticks, n_decisions, n_differ, n_restarts;
	uint64_t first_us, last_us; /* since 1970 */
	uint64_t damaged_bytes;
	struct replay_guest_sum *guests;
	size_t n_guests;
};
void replay_print_text(FILE *out, const char *text);
void replay_print_tick(
	FILE *out, const struct journal_record *r, const struct policy_decision *decisions);
void replay_print_summary(FILE *out, const struct replay_summary *s);
