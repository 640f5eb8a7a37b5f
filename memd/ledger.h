/*
 * The books: from what each memd-vmm claims and what the kernel says to figures for each guest and
 * for the host that add up, and to how far the two disagree. Pure arithmetic: no clock, no file, no
 * allocation, so that it is tested with numbers.
 *
 * DOC: what is believed
 *
 * Costs come from the kernel: anonymous memory, file memory and page tables of each process, blocks
 * of the pools' memfds, what zram occupies. Claims say what the kernel cannot know: which holes are
 * zeros, ballooned, reported or hinted, and how many of those had a page when they were given. Where both
 * know (private, shared, swapped pages of RAM), they are compared: claims are read before and after
 * the kernel's figures, and since the guest runs meanwhile, only what lies outside that bracket
 * counts, measured to its nearer end.
 *
 * Of shared pages the kernel shows only those that were touched since they were mapped. So the
 * claim counts, may not be less than what the kernel shows, and all of a group's together not more
 * than the references that memd-pool has given.
 *
 * What a guest costs: its private RAM, its part of its group's pool and of its template (in
 * proportion to the pages it maps from there), and the overhead of its memd-vmm. What swap occupies is the host's cost, since
 * nobody can say whose page compressed how.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/procfs.h"
#include "memd/base/vmm-proto.h"

/* A mismatch above this is flagged: 2 %. */
#define LEDGER_MISMATCH_LIMIT_BP 200

/* Of one guest, all read in this tick. */
struct ledger_guest_in {
	uint64_t configured_bytes;
	uint32_t group; /* index into the pools; LEDGER_NO_GROUP */
	uint32_t template; /* index into the templates; LEDGER_NO_GROUP */
	struct vmm_stats before, after; /* the claims around the kernel's figures; each adds up */
	struct smaps_rollup rollup;
	uint64_t page_table_bytes;
	uint64_t ram_anonymous_bytes; /* by the pagemap */
	uint64_t ram_swapped_bytes;
	uint64_t ram_file_bytes;
	uint64_t moved_bytes; /* paged out or back since the last sample */
};
#define LEDGER_NO_GROUP UINT32_MAX

struct ledger_guest {
	uint64_t resident_bytes; /* all that it costs: private + shared_cost + template_cost + overhead */
	uint64_t private_bytes;
	uint64_t shared_bytes; /* of its RAM, mapped from the pool */
	uint64_t shared_cost_bytes; /* its part of the pool */
	uint64_t template_bytes; /* of its RAM, mapped from its template */
	uint64_t template_cost_bytes; /* its part of what the template takes */
	uint64_t swapped_bytes;
	uint64_t hole_untouched_bytes;
	uint64_t hole_zero_bytes;
	uint64_t hole_balloon_bytes;
	uint64_t hole_reported_bytes;
	uint64_t hole_hinted_bytes;
	uint64_t overhead_bytes; /* of memd-vmm beside the RAM: its heap, code, page tables */
	uint64_t overhead_swapped_bytes; /* of memd-vmm itself, not of RAM */
	uint64_t tables_bytes; /* of the overhead: page tables */
	uint64_t swapped_occupied_bytes; /* what swapped takes of RAM, by the swap's own ratio */
	uint64_t freeable_bytes; /* private, and free by what the guest says: no paging needed */
	uint64_t saved_sharing_bytes;
	uint64_t saved_zero_bytes;
	uint64_t saved_balloon_bytes;
	uint64_t saved_paging_bytes;
	/* Private and swapped pages of RAM: our claims before and after, and the kernel's between. */
	uint64_t bracket_low_bytes, bracket_high_bytes, kernel_bytes;
	uint64_t mismatch_bytes;
	uint32_t mismatch_bp; /* of the memory that was compared */
};

struct ledger_pool_in {
	uint64_t memfd_bytes; /* fstat blocks of its files */
	uint64_t referenced_bytes; /* mappings that memd-pool granted to all members */
	uint64_t process_bytes; /* Pss_Anon + Pss_File + page tables of memd-pool */
};

struct ledger_host_in {
	uint64_t own_bytes; /* Pss_Anon + Pss_File + page tables of memd and memd-policy */
	/* over all swap devices */
	uint64_t swap_used_bytes;
	uint64_t zram_occupied_bytes;
	const uint64_t *template_bytes; /* of each template: fstat blocks of its memfd */
	size_t n_templates;
};

struct ledger_host {
	uint64_t used_bytes; /* everything: private + pools + templates + swap_occupied + overhead */
	uint64_t private_bytes;
	uint64_t pool_bytes;
	uint64_t template_bytes;
	uint64_t swap_used_bytes; /* swapped out of our guests */
	uint64_t swap_occupied_bytes; /* what that takes of RAM, in zram */
	uint64_t overhead_bytes; /* memd, memd-policy, the pools' processes, the guests' overheads */
	uint64_t configured_bytes;
	uint64_t saved_sharing_bytes;
	uint64_t saved_zero_bytes;
	uint64_t saved_balloon_bytes;
	uint64_t saved_paging_bytes;
	uint64_t pool_unmapped_bytes; /* of the pools: blocks of their files that nobody maps */
	/*
	 * Can be had now without paging: what guests say is free, and pages of the pools that
	 * nobody maps. A hint, as what guests say is.
	 */
	uint64_t freeable_bytes;
	/* Of what was compared: ours before and after, and the kernel's between. */
	uint64_t bracket_low_bytes, bracket_high_bytes, kernel_bytes;
	uint64_t mismatch_bytes;
	uint32_t mismatch_bp;
};

/* RAM a process costs: Pss_Anon + Pss_File + page tables. */
uint64_t ledger_process_bytes(const struct smaps_rollup *rollup, uint64_t page_table_bytes);

/* How far value lies outside [min(a, b), max(a, b)]. */
uint64_t ledger_bracket_distance(uint64_t a, uint64_t b, uint64_t value);

/*
 * Fills ret_guests[n] and *ret_host. A guest's group is below n_pools or LEDGER_NO_GROUP, its
 * template below host->n_templates likewise. Never
 * fails: figures that contradict each other saturate at 0 and show as mismatch.
 */
void ledger_compute(const struct ledger_guest_in *guests, size_t n,
	const struct ledger_pool_in *pools, size_t n_pools, const struct ledger_host_in *host,
	struct ledger_guest *ret_guests, struct ledger_host *ret_host);
