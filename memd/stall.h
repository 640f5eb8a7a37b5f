/*
 * The price of overcommit: the time in which a guest waited for memory, or for memd, as averages
 * like those of PSI (Documentation/accounting/psi.rst). Pure: totals and time come in.
 *
 * DOC: where the time comes from
 *
 * With cgroup v2 the kernel says it: `memory.pressure` of the guest's cgroup. Else it is put
 * together: major faults of the process, times what one takes now (measured on a page of memd's
 * own, fault-probe.c), spread over its vCPUs. `some` is the time in which at least one of n vCPUs
 * waited, `full` that in which all did; with a share p of each one's time, independent of each
 * other, these are 1 - (1 - p)^n and p^n. A paused guest waits with all of them.
 */
#pragma once

#include <stdint.h>

/* Averages in basis points of the time, totals in microseconds since the start. */
struct stall_figures {
	uint32_t some_10_bp, some_60_bp, some_300_bp;
	uint32_t full_10_bp, full_60_bp, full_300_bp;
	uint64_t some_us, full_us;
};
