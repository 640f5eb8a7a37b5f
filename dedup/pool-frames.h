/*
 * Numbers for the pages of all members of a pool ("frames", POOL_FRAME_BITS): each member has a
 * range of its own, given out first fit, so that a hint need not say whose page it is.
 */
#pragma once

#include <stdint.h>

/* Of one member, and part of the list of all. */
struct pool_frames {
	struct pool_frames *next; /* ascending */
	uint32_t first; /* POOL_FRAME_NONE: there was no room */
	uint32_t n;
	void *owner;
};

/* f->n frames, if there is a gap that is wide enough. */
void pool_frames_give(struct pool_frames **list, struct pool_frames *f);
/* Out of the list again, if it is in it. */
void pool_frames_take(struct pool_frames **list, const struct pool_frames *f);
/* Whose range a frame is in; NULL for nobody's. */
const struct pool_frames *pool_frames_find(const struct pool_frames *list, uint32_t frame);
uint64_t pool_frames_sum(const struct pool_frames *list);
