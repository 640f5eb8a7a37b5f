/*
 * memd-vmm (a member) and memd <-> memd-pool. memd binds /run/memd/pool/GROUP.sock and hands the listening
 * descriptor to memd-pool; it connects on a member's behalf and passes the connection to the member
 * (VMM_ATTACH_POOL), whose sandbox has no file system.
 *
 * The pool is a list of files (memfds) of POOL_FILE_PAGES pages each; slot s is page s % POOL_FILE_PAGES of file
 * s / POOL_FILE_PAGES. Members get read-only descriptors. The pool believes nobody: it hashes its own copy of each
 * page it is given. A member compares before it maps, so it need not believe the pool's index either.
 *
 * References belong to members: LOOKUP and INSERT grant one reference for each slot they return, before the member maps
 * it; RELEASE gives back. JOIN carries a pidfd of the member's process: a connection that closes while that process lives
 * gives nothing back, since what it maps is still mapped; the end of the process gives back all. A slot is reused when
 * nobody holds it.
 *
 * A member that joins again, or another memd-pool, announces what it has mapped: RESTORE_FILE for each file that it
 * holds, RESTORE for each slot, RESTORE_END. See dedup/pool.c.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define POOL_PROTO_VERSION 2
#define POOL_FILE_PAGES    16384 /* 64 MiB: several small files, so that no one's interval tree grows deep */
#define POOL_SLOT_NONE     UINT32_MAX
#define POOL_SLOT_HINTED   (UINT32_MAX - 1) /* somebody offered this hash before: insert it */
#define POOL_LOOKUP_MAX    4096
#define POOL_INSERT_MAX    32
#define POOL_NOTIFY_MAX    4096
#define POOL_FEATURE_RESTORE 1 /* understands RESTORE_* */

enum pool_message_type {
	/* a member says */
	POOL_JOIN = 1,       /* struct pool_join, one descriptor: a pidfd of the member's own process
				-> POOL_WELCOME, then POOL_FILE for each file */
	POOL_LOOKUP = 2,     /* struct pool_lookup[n] -> POOL_SLOTS, one uint32_t each, references granted */
	POOL_INSERT = 3,     /* struct pool_insert, then n pages -> POOL_SLOTS (NONE: refused, no room) */
	POOL_RELEASE = 4,    /* uint32_t slots[n], one reference each; no reply */
	POOL_RESTORE_FILE = 5, /* one descriptor, of a file that a memd-pool sent before -> POOL_SLOTS without any; the
				  file, when it is taken, arrives as POOL_FILE before that */
	POOL_RESTORE = 6,    /* uint32_t slots[n] that this member maps, one reference each -> POOL_SLOTS without any */
	POOL_RESTORE_END = 7, /* that was all: what this process held before is given back -> POOL_SLOTS without any */
	/* memd asks */
	POOL_GET_STATS = 10, /* -> POOL_STATS; allowed without JOIN */
	/* memd-pool says */
	POOL_WELCOME = 100,  /* struct pool_welcome */
	POOL_SLOTS = 101,
	POOL_FILE = 102,     /* struct pool_file, one descriptor; always before the first slot of that file */
	POOL_NOTIFY = 103,   /* struct pool_notify[n]: pages this member offered are now in the pool; no reference yet */
	POOL_STATS = 104,    /* struct pool_stats */
};

struct pool_join {
	uint32_t proto_version;
	uint32_t n_pages; /* of the member: numbers 0..n_pages-1 are offered by LOOKUP */
};

struct pool_welcome {
	uint32_t proto_version;
	uint32_t member;  /* id of this connection */
	uint32_t n_files;
	uint32_t features; /* POOL_FEATURE_* of the pool; 0 for one that knows none */
};

struct pool_lookup {
	uint64_t hash; /* XXH3 64 of the page */
	uint32_t page; /* the member's own number of the page, told back by NOTIFY */
	uint32_t reserved;
};

struct pool_insert {
	uint32_t n_pages; /* 1..POOL_INSERT_MAX; adjacent pages get adjacent slots where there is room */
	uint32_t reserved;
	/* uint8_t pages[n_pages][4096] follow */
};

struct pool_file {
	uint32_t index;
	uint32_t reserved;
};

struct pool_notify {
	uint64_t hash;
	uint32_t page;
	uint32_t reserved;
};

struct pool_stats {
	uint64_t pages_used;       /* slots that hold a page */
	uint64_t references;       /* over all members: mappings granted */
	uint64_t memfd_bytes;      /* blocks of the pool's files, by fstat */
	uint64_t members;
	uint64_t index_bytes;
	uint64_t hints;
	uint64_t lookups;
	uint64_t inserts;
	uint64_t collisions;       /* equal hash, different bytes */
	uint64_t cpu_us;
	/* since 0.2; a pool that does not say sends 0 */
	uint64_t held_pages;       /* that an earlier memd-pool may have granted to a member that has not said so yet */
};
#define POOL_STATS_MIN_BYTES offsetof(struct pool_stats, held_pages)
