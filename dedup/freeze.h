/*
 * Freeze, decide, then map, drop or thaw: how a guest page is exchanged for an equal one while the
 * guest runs. The argument why nothing is lost is in freeze.c. The order of calls is
 *
 *   freeze_begin, freeze_pages, { decide by reading; freeze_map, freeze_drop, freeze_restore } ...,
 *   freeze_end
 *
 * for one 2 MiB chunk; between begin and end the chunk is locked, and the caller reads frozen pages
 * only, does not write any guest page, does not wait for anybody, and is quick: whoever writes a
 * frozen page stands still.
 */
#pragma once

#include "dedup/guest-ram.h"

#define FREEZE_WORDS (CHUNK_PAGES / 64)

/* One chunk under decision. Pages are numbered from the start of the chunk: 0..CHUNK_PAGES-1. */
struct freeze {
	struct guest_ram *ram;
	uint64_t first_page; /* of the chunk */
	uint64_t frozen[FREEZE_WORDS]; /* frozen, present, and nothing decided yet */
	uint64_t swapped[FREEZE_WORDS]; /* the same, but in swap: to be given, not to be read */
	/* private */
	uint64_t protected[FREEZE_WORDS]; /* write-protected by us and to be thawed at the end */
	unsigned wake_first; /* pages that somebody may wait for; none while wake_end is 0 */
	unsigned wake_end;
	uint64_t entries[CHUNK_PAGES]; /* of the pagemap */
};

/*
 * Locks the chunk that page lies in. -EOPNOTSUPP when pages cannot be frozen here (nothing to end
 * then).
 */
int freeze_begin(struct freeze *f, struct guest_ram *ram, uint64_t page);
/*
 * Freezes the pages whose bits are set in `wanted`, and says in f->frozen which of them are frozen
 * now. Not frozen are busy pages, holes and pages that are (unbroken) the pool's. Swapped pages are
 * frozen too, and named apart in f->swapped.
 * Neighbours that were not asked for may be held up too. Once between begin and end.
 */
void freeze_pages(struct freeze *f, const uint64_t wanted[FREEZE_WORDS]);
static inline bool freeze_is_frozen(const struct freeze *f, unsigned i)
{
	return f->frozen[i / 64] >> (i % 64) & 1;
}

/*
 * Each of the three takes pages [i, i + n), n > 0, all of them in f->frozen (-EINVAL otherwise, and
 * for an i + n beyond the chunk), which leave it. On failure nothing is changed and the pages are
 * thawed at the end.
 *
 * freeze_map: they equal the pool's slots from `slot` on, all of one file, which lie in fd from
 * offset on: maps these over them. The caller holds a reference for each slot, which the RAM takes
 * over. -ENOMEM: too many mappings.
 * freeze_drop: they are zero: holes from now on. -ENOMEM: too many mappings (only for pages in file
 * mappings).
 * freeze_restore: they were broken by a write in a mapping of the pool or of the template, and equal
 * the page that is mapped there again: back to it.
 */
int freeze_map(struct freeze *f, unsigned i, unsigned n, int fd, uint64_t offset, uint32_t slot);
int freeze_drop(struct freeze *f, unsigned i, unsigned n);
int freeze_restore(struct freeze *f, unsigned i, unsigned n);
/*
 * The guest gave the pages [i, i + n), n > 0, and did not write them since; each is in f->frozen or
 * f->swapped (-EINVAL otherwise), which they leave. They are holes for that reason from now on.
 * Fails as freeze_drop does.
 */
int freeze_give(struct freeze *f, unsigned i, unsigned n, enum hole_reason why);

/* Thaws what was not decided, wakes all who wait, unlocks. */
void freeze_end(struct freeze *f);

/* Whether the mapping at a page is of a file, so that a hole there needs a mapping of its own. */
bool freeze_is_file(const struct guest_ram *ram, uint64_t page);
/*
 * Threads (gettid) that were found waiting for a frozen page, each of them once for each wait; up to
 * max. Any thread, but who asks takes it from others who do.
 */
size_t freeze_waiting(const struct guest_ram *ram, uint32_t *ret_tids, size_t max);

/*
 * The slot that is mapped at a page, whether or not it was written since; false when the mapping is
 * anonymous or of a pool that is gone. No lock needed.
 */
bool freeze_slot_of(const struct guest_ram *ram, uint64_t page, uint32_t *ret_slot);
