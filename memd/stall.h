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

#include <stdbool.h>
#include <stdint.h>

/* Averages in basis points of the time, totals in microseconds since the start. */
struct stall_figures {
	uint32_t some_10_bp, some_60_bp, some_300_bp;
	uint32_t full_10_bp, full_60_bp, full_300_bp;
	uint64_t some_us, full_us;
};

/* Kept between calls. Zero it. */
struct stall {
	double some[3], full[3]; /* averages, as parts of the time */
	double some_us, full_us;
	uint64_t last_some_us, last_full_us; /* totals of the kernel, as last given */
	uint64_t last_faults, last_paused_us;
	bool begun;
	struct stall_figures figures;
};

struct stall_in {
	uint64_t wall_us; /* since the last call */
	uint64_t paused_us; /* total: paused by memd for want of memory */
	uint64_t faults; /* total: major faults of the process */
	double fault_us; /* what one takes now */
	uint32_t n_vcpus;
	bool by_kernel; /* the totals of memory.pressure are known */
	uint64_t some_us, full_us;
};

/*
 * Takes in what happened since the last call; a total that went back counts as 0. The first call
 * only remembers. Returns the part of the time that an average vCPU could run for all that memory
 * did, 0 to 1.
 */
double stall_advance(struct stall *s, const struct stall_in *in);

/*
 * The guest's critical level after this second: it is what the guest costs when it thrashes (a
 * third of its time is gone), and it goes down when the guest does well with less for a minute.
 * now: the former level, 0 for none.
 */
uint64_t stall_critical(const struct stall *s, uint64_t now, uint64_t resident_bytes);
