/*
 * The pool of one trust group: its files, its slots, its index, and who holds what. No sockets
 * here: pool-server.c speaks the protocol (memd/base/pool-proto.h), tests call this. Single
 * threaded. Believes nobody: hashes and compares its own copies.
 */
#pragma once

#include <stdbool.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/base/pool-proto.h"
#include "memd/base/units.h"

#define POOL_MEMBERS_MAX 1024

struct pool;
struct pool_member; /* a process that joined; owned by the pool */

struct pool_limits {
	uint64_t
		/* that the pool holds; 0: no limit but the slot numbers of the protocol */
		max_pages;
	uint64_t
		/* different slots that one member may hold; 0: 2^24, 64 GiB of them */
		max_member_slots;
};

/* -ENOMEM. Makes no file yet. */
int pool_new(const struct pool_limits *limits, struct pool **ret);
/* Members too. NULL is allowed. */
void pool_free(struct pool *p);
DEFINE_CLEANUP(struct pool *, pool_free)

/*
 * n_pages: what it may offer are pages 0..n_pages-1; others are offered in vain. -EMFILE when there
 * are POOL_MEMBERS_MAX, -ENOMEM.
 */
int pool_member_new(struct pool *p, uint32_t n_pages, struct pool_member **ret);
/*
 * The connection of m is gone, its process is not: it keeps its references, since what it maps is
 * still mapped, and is told nothing any more.
 */
void pool_member_detach(struct pool *p, struct pool_member *m);
/*
 * Gives back all of its references: only once its process has ended, or a slot that it still maps
 * would be reused.
 */
void pool_member_free(struct pool *p, struct pool_member *m);
uint32_t pool_member_id(const struct pool_member *m);

/*
 * ret_slots[i]: a slot that holds a page with that hash, one reference granted; or POOL_SLOT_NONE,
 * POOL_SLOT_HINTED.
 */
void pool_lookup(struct pool *p, struct pool_member *m, const struct pool_lookup *queries, size_t n,
	uint32_t *ret_slots);
/*
 * ret_slots[i]: a slot that holds exactly that page, one reference granted; or POOL_SLOT_NONE: no
 * room, or a limit. pages: n of 4 KiB in memory that nobody else can write, 64 byte aligned or not.
 * Pages that are new get slots in a row where it can be.
 */
void pool_insert(
	struct pool *p, struct pool_member *m, const uint8_t *pages, size_t n, uint32_t *ret_slots);
/*
 * Gives one reference back for each. -EPROTO when the member does not hold one (the rest is not
 * looked at).
 */
int pool_release(struct pool *p, struct pool_member *m, const uint32_t *slots, size_t n);
/*
 * What waits to be told to the member, in the order in which it was inserted, the caller's until
 * the next call of pool_insert; and that the first n of them were.
 */
size_t pool_member_notify(const struct pool_member *m, const struct pool_notify **ret);
void pool_member_drop_notify(struct pool_member *m, size_t n);

/*
 * Files of an earlier memd-pool are taken from now on, until _end: then what nobody has claimed is
 * freed. See DOC in pool.c.
 */
void pool_restore_begin(struct pool *p);
void pool_restore_end(struct pool *p);
/*
 * A file that a member holds, by its descriptor (the caller's): 0 when it is one of this pool's now,
 * or was. -ESTALE outside of a restoration, -EPERM for a file that no pool made, any errno.
 */
int pool_restore_file(struct pool *p, int fd);
/* References that m says it holds. -EPROTO, -EDQUOT, ...: then m is not to be served any more. */
int pool_restore(struct pool *p, struct pool_member *m, const uint32_t *slots, size_t n);

/*
 * The files, in order; descriptors stay the pool's and are for reading only: to be sent to members.
 */
size_t pool_files(const struct pool *p);
int pool_file_fd(const struct pool *p, size_t index);

/* Gives the memory of pages that nobody holds any more back to the system, neighbours at once. */
void pool_trim(struct pool *p);
/* Finds memory that members made in our files by reading where nothing is: for the next trim. */
void pool_find_leaks(struct pool *p);
/* Whether pool_trim has something to do. */
bool pool_wants_trim(const struct pool *p);

void pool_stats_read(const struct pool *p, struct pool_stats *ret);
