/* See room.h. */
#include "balloon-agent/room.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

static int open_for_writing(int root_fd, const char *path)
{
	return openat(root_fd, path, O_WRONLY | O_CLOEXEC);
}

void room_init(struct room *r, int root_fd)
{
	*r = (struct room){
		.reclaim_fd = open_for_writing(root_fd, "sys/fs/cgroup/memory.reclaim"),
		.drop_fd = open_for_writing(root_fd, "proc/sys/vm/drop_caches"),
		.compact_fd = open_for_writing(root_fd, "proc/sys/vm/compact_memory"),
	};
}

void room_done(struct room *r)
{
	cleanup_closep(&r->reclaim_fd);
	cleanup_closep(&r->drop_fd);
	cleanup_closep(&r->compact_fd);
	r->reclaim_fd = r->drop_fd = r->compact_fd = -1;
}

void room_begin(struct room *r, uint64_t wanted_bytes, uint64_t deadline_us)
{
	r->active = true;
	r->reclaim_ended = false;
	r->wanted_bytes = wanted_bytes;
	r->deadline_us = deadline_us;
}

static bool write_text(int fd, const char *text)
{
	return fd >= 0 && pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text);
}

/* What may go without the kernel having to work for it. */
static uint64_t free_bytes(const struct agent_message *figures)
{
	return u64_sub_or_zero(
		agent_get(figures, AGENT_FREE, 0), agent_get(figures, AGENT_WATERMARK_HIGH, 0));
}

/* True: something was reclaimed. The kernel fails the write when it did not find all of it. */
static bool reclaim(struct room *r, uint64_t bytes)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, bytes);
	if (!write_text(r->reclaim_fd, text)) {
		r->reclaim_ended = true;
		return false;
	}
	r->reclaimed_bytes += bytes;
	return true;
}

/* All clean pages go at once, so only if they are not much more than what is wanted. */
static bool drop_cache(
	struct room *r, const struct agent_message *figures, uint64_t lacking, uint64_t now_us)
{
	uint64_t clean = u64_sub_or_zero(
		agent_get(figures, AGENT_CACHE, 0), agent_get(figures, AGENT_DIRTY, 0));

	if (r->reclaim_fd >= 0 || clean > 2 * lacking ||
		(r->dropped_ever && now_us - r->dropped_us < ROOM_DROP_US) ||
		!write_text(r->drop_fd, "1"))
		return false;
	r->dropped_ever = true;
	r->dropped_us = now_us;
	r->drops++;
	return true;
}

/* Pages that a balloon takes singly split what would have been a huge page. */
static void compact(struct room *r, uint64_t now_us)
{
	if (r->wanted_bytes < CHUNK_BYTES ||
		(r->compacted_ever && now_us - r->compacted_us < ROOM_COMPACT_US) ||
		!write_text(r->compact_fd, "1"))
		return;
	r->compacted_ever = true;
	r->compacted_us = now_us;
	r->compactions++;
}

bool room_step(struct room *r, const struct agent_message *figures, uint64_t now_us)
{
	uint64_t lacking = u64_sub_or_zero(r->wanted_bytes, free_bytes(figures));

	if (!r->active)
		return true;
	if (lacking > 0 && now_us < r->deadline_us) {
		if (!r->reclaim_ended && reclaim(r, u64_min(lacking, ROOM_STEP_BYTES)))
			return false;
		if (drop_cache(r, figures, lacking, now_us))
			return false;
	}
	compact(r, now_us);
	r->active = false;
	return true;
}
