/*
 * The sharing scanner of one guest: one thread that looks for zero pages and for pages that the
 * trust group's pool holds, within a CPU budget, and maps or drops them (freeze, decide, then map,
 * drop or thaw: freeze.c).
 */
#pragma once

#include <stdint.h>

#include "dedup/guest-ram.h"
#include "dedup/wait-histogram.h"

struct scanner;

enum scanner_mode {
	SCANNER_OFF = 0,
	SCANNER_ZERO_ONLY = 1,
	SCANNER_SHARE = 2,
};

struct scanner_settings {
	enum scanner_mode mode;
	uint32_t max_cpu_bp; /* of one core */
	uint64_t
		/* one pass shall take about this long; 0: as fast as the budget allows */
		target_time_us;
};

struct scanner_stats {
	uint64_t passes;
	uint64_t pages_hashed;
	uint64_t pages_frozen;
	uint64_t pages_mapped;
	uint64_t pages_dropped;
	uint64_t pages_thawed;
	uint64_t pages_broken;
	uint64_t pages_inserted;
	uint64_t cpu_us;
	uint64_t pool_attached;
	struct wait_histogram frozen; /* how long pages were frozen at once: what a writer waits */
};

/*
 * How many mappings a guest's RAM may consist of, by the kernel's limit (vm.max_map_count): asked
 * while /proc is there.
 */
uint64_t scanner_mappings_max(void);
/* ram outlives the scanner. The thread starts idle in SCANNER_OFF. */
int scanner_new(
	struct guest_ram *ram, uint64_t mappings_max, struct scanner **ret, struct error *e);
/* Stops and joins the thread; pages stay as they are. */
void scanner_free(struct scanner *s);
DEFINE_CLEANUP(struct scanner *, scanner_free)

void scanner_set(struct scanner *s, const struct scanner_settings *settings);
/*
 * Hands over a connection to memd-pool (TAKE: the scanner closes it); replaces the former. Thread
 * safe, returns at once.
 */
void scanner_attach_pool(struct scanner *s, int fd);
void scanner_stats_read(struct scanner *s, struct scanner_stats *ret);
