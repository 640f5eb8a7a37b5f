/*
 * Making room in the guest before its balloon takes it, where it costs least: what is free comes
 * first, then proactive reclaim by the kernel's own choice (memory.reclaim of cgroup v2, Linux
 * 5.19), or, without it, the clean file cache when it is no more than what is wanted; at last
 * compaction, so that huge pages come back whole. Step by step: nothing here takes long.
 *
 * Writes only to memory.reclaim, drop_caches and compact_memory.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "balloon-agent/codec.h"

#define ROOM_STEP_BYTES (UINT64_C(16) << 20)
#define ROOM_DROP_US	UINT64_C(60000000) /* the cache is not dropped more often */
#define ROOM_COMPACT_US UINT64_C(60000000)

struct room {
	int reclaim_fd, drop_fd, compact_fd; /* -1: not there, or not allowed */
	bool reclaim_ended; /* it gives no more for this request */
	bool dropped_ever, compacted_ever;
	uint64_t dropped_us, compacted_us;
	bool active;
	uint64_t wanted_bytes;
	uint64_t deadline_us;
	/* since the start */
	uint64_t reclaimed_bytes, drops, compactions;
};

/* root_fd: the directory that has proc/ and sys/. What is not there is not used. */
void room_init(struct room *r, int root_fd);
void room_done(struct room *r);
/* Takes the place of a request under way. */
void room_begin(struct room *r, uint64_t wanted_bytes, uint64_t deadline_us);
/* Does a little, by fresh figures. True: that is all, by success, deadline or want of means. */
bool room_step(struct room *r, const struct agent_message *figures, uint64_t now_us);
