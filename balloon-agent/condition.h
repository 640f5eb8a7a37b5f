/*
 * What the agent makes of the guest's figures: whether it could spare memory, wants some back, or is
 * in distress. Pure: figures and time come in, words go out.
 *
 * DOC: when a guest gives, asks and cries
 *
 * It keeps a sixteenth of its memory (at least 8 MiB) available above the kernel's high watermark:
 * what is above that may go. Below half of it, with tasks that wait or swap that runs out, it asks
 * for the rest. It is in distress when the kernel has killed something, when nearly nothing is
 * available, or when all tasks together stood still for a fifth of the time with little available.
 * After either it gives nothing for a while, since it would ask for it back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "balloon-agent/codec.h"

#define CONDITION_SETTLE_US UINT64_C(30000000) /* after asking or distress nothing is given */
#define CONDITION_REPEAT_US UINT64_C(5000000) /* the same word is not said again before */

enum condition_word {
	CONDITION_FINE,
	CONDITION_ASK, /* for bytes */
	CONDITION_DISTRESS,
};

struct condition_said {
	enum condition_word word;
	uint64_t bytes;
	char reason[AGENT_TEXT_MAX + 1]; /* "" when fine */
};

/* Kept from one look to the next. Zero it. */
struct condition {
	bool begun;
	uint64_t looked_us;
	uint64_t some_us, full_us, oom_kills; /* the kernel's counters then */
	uint32_t some_bp, full_bp; /* of the time between the last two looks */
	uint64_t trouble_us; /* when it last was short; 0: never */
	uint64_t said_us;
	enum condition_word said;
};

/* Takes in figures, and says what there is to be said. */
void condition_look(struct condition *c, const struct agent_message *figures, uint64_t now_us,
	struct condition_said *ret);

/* What could be taken without the guest missing it. */
uint64_t condition_spare_bytes(const struct agent_message *figures);
/* Whether it gives nothing now, of wanted_bytes, and why. reason: AGENT_TEXT_MAX + 1 bytes. */
bool condition_refuses(const struct condition *c, const struct agent_message *figures,
	uint64_t wanted_bytes, uint64_t now_us, char *reason);
/* What it needs at least: what cannot leave memory, and what it keeps; configured_bytes if more. */
uint64_t condition_floor_bytes(const struct agent_message *figures, uint64_t configured_bytes);
