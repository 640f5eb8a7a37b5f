/*
 * What the figures of a report are called, for people and for programs that read what people read:
 * `balloon-agent --show`, `memctl agent`, the bus.
 */
#pragma once

#include "balloon-agent/protocol.h"

enum agent_unit {
	AGENT_UNIT_BYTES,
	AGENT_UNIT_COUNT,
	AGENT_UNIT_BP,
	AGENT_UNIT_US,
};

struct agent_name {
	enum agent_field field;
	const char *key; /* "available_bytes" */
	const char *words; /* "available" */
	enum agent_unit unit;
};

/* In the order in which they are shown; ended by a key of NULL. */
extern const struct agent_name agent_names[];
