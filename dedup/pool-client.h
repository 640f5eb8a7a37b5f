/*
 * A member's end of the pool's protocol (memd/base/pool-proto.h): one thread, one question at a
 * time. The pool is not believed more than it must be: files that could shrink under us are
 * refused, slots outside of them too. What it says is equal the caller compares before it maps. Any
 * error ends the connection: free the client.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "memd/base/cleanup.h"
#include "memd/base/pool-proto.h"

struct pool_client;

/*
 * The files that a pool sent, whichever memd-pool it was: they stay when a connection ends, since
 * guest RAM maps their slots still. Slots here are numbered by these files; what the pool calls
 * them is between it and the client.
 */
struct pool_files;
struct pool_files *pool_files_new(void); /* NULL when out of memory */
/* After the clients that use it. What is mapped over guest RAM stays valid. */
void pool_files_free(struct pool_files *f);

/*
 * Joins over a connected socket, which is taken over (closed on failure too). pidfd: of this
 * process, the caller's; the pool keeps what this process holds until it has ended, whatever
 * becomes of the connection. n_pages: that it may offer, by number. files: the caller's, of this and
 * of all earlier connections. -EPROTO for an answer that makes no sense, -ETIMEDOUT, -EPIPE, -ENOMEM.
 */
int pool_client_new(
	int fd, int pidfd, uint32_t n_pages, struct pool_files *files, struct pool_client **ret);
/* What is mapped over guest RAM stays valid. NULL is allowed. */
void pool_client_free(struct pool_client *c);
DEFINE_CLEANUP(struct pool_client *, pool_client_free)

/*
 * n: 1..POOL_LOOKUP_MAX. ret_slots[i]: a slot with a reference, POOL_SLOT_NONE or POOL_SLOT_HINTED.
 * Errors as above.
 */
int pool_client_lookup(
	struct pool_client *c, const struct pool_lookup *queries, size_t n, uint32_t *ret_slots);

/*
 * Where the caller puts the i-th of up to POOL_INSERT_MAX pages before pool_client_insert: saves a
 * copy.
 */
uint8_t *pool_client_insert_page(struct pool_client *c, size_t i);
/*
 * n: 1..POOL_INSERT_MAX. ret_slots[i]: a slot with a reference, or POOL_SLOT_NONE: there is no
 * room.
 */
int pool_client_insert(struct pool_client *c, size_t n, uint32_t *ret_slots);
/* Gives one reference back for each; n: 0..POOL_LOOKUP_MAX. slots is used up. */
int pool_client_release(struct pool_client *c, uint32_t *slots, size_t n);

/*
 * After pool_client_new, in this order: offers the files of earlier connections; says that the RAM
 * maps slots of those that the pool has taken (n: 1..POOL_LOOKUP_MAX, one entry a mapped page; slots
 * is used up); says that this was all. A pool of an earlier version takes none.
 */
int pool_client_restore_files(struct pool_client *c);
int pool_client_restore(struct pool_client *c, uint32_t *slots, size_t n);
int pool_client_restore_end(struct pool_client *c);
/* Whether the pool has the file of that slot. */
bool pool_client_has_file(const struct pool_client *c, uint32_t slot);

/*
 * The page in a slot that was granted, to compare with; NULL when the pool has not got the file.
 * *ret_fd (the client's) and *ret_offset: where it is to be mapped from.
 */
const uint8_t *pool_client_slot(
	const struct pool_client *c, uint32_t slot, int *ret_fd, uint64_t *ret_offset);

/* Reads what the pool says unasked. 0, or an error: the connection is over. */
int pool_client_poll(struct pool_client *c);
/* Whether notifications wait to be taken. */
bool pool_client_has_notify(const struct pool_client *c);
/* Takes up to max notifications that came meanwhile. */
size_t pool_client_take_notify(struct pool_client *c, struct pool_notify *ret, size_t max);
/* To poll for POLLIN; the client's. */
int pool_client_fd(const struct pool_client *c);
