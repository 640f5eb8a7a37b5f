/* See pool-frames.h. A list: there are as many as guests in a group. */
#include "dedup/pool-frames.h"

#include <stddef.h>

#include "dedup/pool-hints.h"

void pool_frames_give(struct pool_frames **list, struct pool_frames *f)
{
	uint64_t first = POOL_FRAME_NONE + 1;

	for (; *list && (*list)->first - first < f->n; list = &(*list)->next)
		first = (uint64_t)(*list)->first + (*list)->n;
	f->first = POOL_FRAME_NONE;
	if (f->n == 0 || first + f->n > UINT64_C(1) << POOL_FRAME_BITS)
		return;
	f->first = (uint32_t)first;
	f->next = *list;
	*list = f;
}

void pool_frames_take(struct pool_frames **list, const struct pool_frames *f)
{
	while (*list && *list != f)
		list = &(*list)->next;
	if (*list)
		*list = f->next;
}

const struct pool_frames *pool_frames_find(const struct pool_frames *list, uint32_t frame)
{
	for (; list && frame >= list->first; list = list->next)
		if (frame - list->first < list->n)
			return list;
	return NULL;
}

uint64_t pool_frames_sum(const struct pool_frames *list)
{
	uint64_t n = 0;

	for (; list; list = list->next)
		n += list->n;
	return n;
}
