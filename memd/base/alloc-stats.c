/*
 * The only file that speaks to jemalloc. A sanitizer build has another allocator: then there is
 * nothing to say.
 */
#include "memd/base/alloc-stats.h"

#include <errno.h>

#ifdef MEMD_WITH_JEMALLOC
#include <jemalloc/jemalloc.h>

static int read_size(const char *name, uint64_t *ret)
{
	size_t value, size = sizeof(value);
	int r = mallctl(name, &value, &size, NULL, 0); /* positive errno */

	if (r == ENOENT) /* built without statistics */
		return -ENODATA;
	if (r)
		return -r;
	*ret = value;
	return 0;
}

int alloc_stats_read(struct alloc_stats *ret)
{
	struct alloc_stats s;
	uint64_t epoch = 1;
	int r;

	/* The figures are a snapshot that only this refreshes (jemalloc(3), "epoch"). */
	r = mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
	if (r)
		return -r;
	r = read_size("stats.allocated", &s.allocated_bytes);
	if (r < 0)
		return r;
	r = read_size("stats.resident", &s.resident_bytes);
	if (r < 0)
		return r;
	*ret = s;
	return 0;
}
#else
int alloc_stats_read(struct alloc_stats *ret)
{
	(void)ret;
	return -ENODATA;
}
#endif
