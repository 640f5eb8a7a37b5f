/*
 * One file of the pool: POOL_FILE_PAGES slots in a memfd, which are used, and which only wait to be
 * punched. Extents of slots are handed to one member at a time, so that pages it inserts one after
 * the other lie in a row.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "memd/base/cleanup.h"
#include "memd/base/pool-proto.h"

#define POOL_EXTENT_SLOTS 512
#define POOL_FILE_EXTENTS (POOL_FILE_PAGES / POOL_EXTENT_SLOTS)
#define POOL_FILE_WORDS	  (POOL_FILE_PAGES / 64)

struct pool_slot {
	uint64_t hash;
	uint32_t refs; /* over all members; 0: free */
};

struct pool_memfd {
	int fd; /* ours, for writing */
	int read_fd; /* for members */
	dev_t device; /* with inode: which file it is */
	ino_t inode;
	bool restored; /* of an earlier memd-pool: see pool.c */
	uint32_t n_used;
	uint32_t n_stale;
	uint64_t used[POOL_FILE_WORDS];
	uint64_t stale[POOL_FILE_WORDS]; /* free, but memory is still there */
	uint16_t extent_used[POOL_FILE_EXTENTS];
	bool extent_taken[POOL_FILE_EXTENTS]; /* some member fills it */
	struct pool_slot slots[POOL_FILE_PAGES];
};

/*
 * memfd of full size without memory, mode 0400, sealed against resizing, and a second descriptor
 * that cannot write. Not F_SEAL_FUTURE_WRITE: that would forbid us to write and to punch, too. Any
 * errno.
 */
int pool_memfd_new(struct pool_memfd **ret);
/*
 * The file of an earlier memd-pool, by a descriptor that cannot write (the caller's). All slots are used, without
 * references: whoever holds them has yet to say so. -EPERM when it was not made by pool_memfd_new, or any errno.
 */
int pool_memfd_restore(int fd, struct pool_memfd **ret);
void pool_memfd_free(struct pool_memfd *f);
DEFINE_CLEANUP(struct pool_memfd *, pool_memfd_free)

bool pool_memfd_is_used(const struct pool_memfd *f, uint32_t i);
/* A free slot, anywhere; false when the file is full. */
bool pool_memfd_find_free(const struct pool_memfd *f, uint32_t *ret_i);
/* An extent that nobody uses or fills. */
bool pool_memfd_find_extent(const struct pool_memfd *f, uint32_t *ret_extent);

/*
 * Writes 4 KiB to a free slot and takes it. Any errno of pwrite (-ENOSPC, -ENOMEM): it stays free.
 */
int pool_memfd_put(struct pool_memfd *f, uint32_t i, const uint8_t *page);
int pool_memfd_get(const struct pool_memfd *f, uint32_t i, uint8_t *ret_page);
/* Frees a used slot; its memory goes with the next trim. */
void pool_memfd_drop(struct pool_memfd *f, uint32_t i);
/* Punches all stale slots, neighbours in one call. */
void pool_memfd_trim(struct pool_memfd *f);
/*
 * A member that reads where no slot is used makes a page there: if the file has more pages than we
 * put into it, everything unused waits to be punched.
 */
void pool_memfd_find_leaks(struct pool_memfd *f);
uint64_t pool_memfd_blocks_bytes(const struct pool_memfd *f);
