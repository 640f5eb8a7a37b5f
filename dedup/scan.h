/*
 * What a scanner does with a batch of pages: find candidates, ask the pool, exchange. No thread, no
 * clock, no waiting but for the pool's answers: scanner.c decides when and how much.
 */
#pragma once

#include "dedup/freeze.h"
#include "dedup/pool-client.h"
#include "dedup/scanner.h"

/* Whole chunks; few, since the arrays below are memory of each guest. */
#define SCAN_BATCH_PAGES (2 * CHUNK_PAGES)

enum scan_fate {
	SCAN_LEAVE = 0,
	SCAN_OFFER, /* the pool is to say whether it has it */
	SCAN_DROP, /* looked zero */
	SCAN_MAP, /* looked like the slot */
	SCAN_RESTORE, /* looked like the slot that is mapped there and was broken */
};

struct scan_candidate {
	uint32_t page;
	uint32_t slot; /* with SCAN_MAP: we hold a reference */
	uint64_t hash;
	enum scan_fate fate;
};

struct scan {
	struct guest_ram *ram;
	struct pool_client *pool; /* NULL: none, or none any more; owned */
	struct pool_files *files; /* of this and of all former pools */
	uint64_t mappings_max; /* the RAM may consist of so many */
	/*
	 * 16 bits of each page's last hash, 0 for never seen or mapped: 0.05 % of the RAM. A page
	 * that differs is volatile and not offered. A change that goes unseen (1 in 65536) costs a
	 * useless offer.
	 */
	uint16_t *checksums;
	struct scanner_stats stats;
	uint64_t
		/*
		 * pages found new, written, or to be exchanged: 0 more in a pass means a quiet
		 * guest
		 */
		changes;

	unsigned window_runs; /* exchanged in one freeze, at most: see DOC in scan.c */
	int nice; /* of the thread, outside of windows */

	size_t n;
	struct scan_candidate candidates[SCAN_BATCH_PAGES]; /* by page, ascending */
	struct pool_lookup queries[SCAN_BATCH_PAGES];
	uint32_t slots[SCAN_BATCH_PAGES];
	struct pool_notify notify[SCAN_BATCH_PAGES];
	size_t n_unwanted;
	uint32_t unwanted[SCAN_BATCH_PAGES]; /* references to give back */
	struct freeze freeze;
};

/* ram outlives it. mappings_max as above. -ENOMEM. */
int scan_new(struct guest_ram *ram, uint64_t mappings_max, struct scan **ret);
void scan_free(struct scan *s);
DEFINE_CLEANUP(struct scan *, scan_free)

/*
 * Another pool, or none (NULL): the references to the former are nobody's any more. What is mapped
 * stays.
 */
void scan_set_pool(struct scan *s, struct pool_client *pool);
/*
 * Leaves the pool, joins over a connected socket (taken over) and announces what is mapped. pidfd:
 * of this process, the caller's. On failure as scan_set_pool(NULL), with the errno of pool_client_new.
 */
int scan_join_pool(struct scan *s, int fd, int pidfd);

/*
 * Scans pages [page, page + n), whole chunks, at most SCAN_BATCH_PAGES: drops zero pages, and with
 * SCANNER_SHARE restores broken ones and maps what the pool has. When the pool fails it is set to
 * NULL as by scan_set_pool.
 */
void scan_pages(struct scan *s, uint64_t page, uint64_t n, enum scanner_mode mode);
/*
 * Maps pages that the pool said it has got by now. Returns how many it looked at; there may be
 * more.
 */
size_t scan_notified(struct scan *s);
