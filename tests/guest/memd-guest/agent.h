/*
 * The guest's side of the agent protocol (balloon-agent/protocol.h), well-behaved or not. The boot
 * processor calls agent_service often; it never waits.
 *
 * Command line:
 *   agent=polite           reports, gives what it has free
 *   agent=refuses          gives nothing, and says why
 *   agent=flood            sends reports as fast as they are taken
 *   agent=garbage          bytes of any kind between its reports, and messages that lie
 *   agent_version=N        speaks only that version
 *   agent_floor_mib=N      says that it needs so much
 *   agent_distress_mib=N   cries once, when its balloon has grown that large
 *   agent_ask_mib=N        asks for 4 MiB once, when its balloon has grown that large
 *   agent_reports=N        is killed after so many reports: says nothing more, its port is closed
 * Without agent= there is none.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct line;

/* Ring 3. */
void agent_init(void);
/* Returns whether there is more to do at once. */
bool agent_service(uint64_t now_ns);
/* Adds what was asked and given. */
void agent_counters(struct line *l);
