/*
 * How long an access takes that is not at once: for measuring faults as the guest sees them. Command
 * line: time_faults=1. One processor only.
 */
#pragma once

#include "tests/guest/memd-guest/arch.h"
#include "tests/guest/memd-guest/line.h"

void stopwatch_init(void);
/* Reads the first word of a page that is about to be used, and takes the time. */
void stopwatch_touch(const uint64_t *page);
/* slow_n, slow_p50_ns, slow_p99_ns: of the accesses that took longer than 1.5 us. */
void stopwatch_report(struct line *line);
