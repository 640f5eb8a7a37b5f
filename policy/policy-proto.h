/*
 * What memd and memd-policy say to each other, in the framing of memd/base/ipc.h, and the memory
 * that they share.
 *
 * memd sends the settings, then OPEN, and gets READY or REFUSED. Then, for each tick, EVALUATE and,
 * within the time limit, DONE. Figures and proposals lie in a memfd of fixed, sealed size, which
 * comes with the first EVALUATE and with every one for which the former was too small:
 *
 *     0                 the host's record (view-record.h), then n_guests guests' records
 *     proposals_offset  n_guests of struct memd_proposal, in the same order
 *
 * memd-policy is not trusted: memd writes the records and never reads them, and takes of each
 * proposal a copy of a number and of a text.
 */
#pragma once

#include <stdint.h>

#include "memd/policy.h"

#define POLICY_TEXT_MAX 256 /* with the NUL */

enum policy_message {
	/* from memd */
	POLICY_SETTING = 1, /* "KEY\0VALUE\0" */
	POLICY_OPEN = 2, /* nothing */
	POLICY_EVALUATE = 3, /* struct policy_evaluate, perhaps a memfd */
	/* from memd-policy */
	POLICY_READY = 100, /* struct policy_text: the description */
	POLICY_REFUSED = 101, /* struct policy_text: why */
	POLICY_DONE = 102, /* struct policy_done */
	POLICY_LOG = 103, /* struct policy_text */
};

struct policy_evaluate {
	uint64_t area_bytes; /* of the memfd */
	uint64_t proposals_offset;
	uint32_t n_guests;
	uint32_t reserved;
};

struct policy_done {
	int32_t result; /* of the policy's evaluate */
	uint32_t reserved;
	uint64_t cpu_us; /* that it took of memd-policy's thread; a claim */
};

struct policy_text {
	int32_t code; /* of LOG the level, of REFUSED a negative errno */
	char text[POLICY_TEXT_MAX];
};
