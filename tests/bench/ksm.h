/*
 * The kernel's own page sharing, for comparison: its settings, kept and put back whatever becomes of
 * the benchmark, its counters, and what a file of it says.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "memd/base/error.h"

struct ksm {
	int alive_fd; /* closed: the guardian puts the settings back */
	pid_t guardian;
	pid_t ksmd;
};
#define KSM_NONE ((struct ksm){.alive_fd = -1, .guardian = -1})

struct ksm_counters {
	uint64_t freed_pages; /* pages_sharing and ksm_zero_pages */
	uint64_t full_scans;
};

/*
 * Keeps what is set, undoes all merging, and sets: stopped, no pauses, no advisor, smart scan, zero
 * pages. Needs root and CONFIG_KSM: any errno.
 */
int ksm_begin(struct ksm *k, struct error *e);
/* Everything as it was. KSM_NONE is allowed. */
void ksm_end(struct ksm *k);

/* "run", "pages_to_scan", ... */
int ksm_set(const char *name, uint64_t value);
struct ksm_counters ksm_counters_read(void);
/* From now on memory of this process, and of those it starts, is merged (PR_SET_MEMORY_MERGE). */
int ksm_merge_children(int on);
/* Whether that process' memory is. */
int ksm_is_merged(pid_t pid);
