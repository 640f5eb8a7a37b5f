/* See fault-probe.h. */
#include "memd/fault-probe.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "memd/base/fd.h"
#include "memd/base/pagemap.h"
#include "memd/base/units.h"

int fault_probe_init(struct fault_probe *p)
{
	void *page =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return -errno;
	*p = (struct fault_probe){.page = page, .seed = UINT64_C(0x9e3779b97f4a7c15)};
	return 0;
}

void fault_probe_done(struct fault_probe *p)
{
	if (p->page)
		munmap(p->page, PAGE_BYTES);
	*p = (struct fault_probe){0};
}

/* Half of it compresses: neither the zero page's short way nor a page stored as it is. */
static void fill(struct fault_probe *p)
{
	uint64_t *words = p->page;

	for (size_t i = 0; i < PAGE_BYTES / sizeof(*words); i++) {
		p->seed ^= p->seed << 13;
		p->seed ^= p->seed >> 7;
		p->seed ^= p->seed << 17;
		words[i] = i % 2 ? p->seed : i;
	}
}

static bool is_out(int pagemap_fd, const void *page)
{
	uint64_t entry;

	return pagemap_read(pagemap_fd, (uint64_t)(uintptr_t)page, 1, &entry) == 0 &&
	       (entry & PAGEMAP_SWAPPED);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

int fault_probe_run(struct fault_probe *p, uint64_t *ret_ns)
{
	_cleanup_close_ int pagemap_fd = pagemap_open(0);
	uint64_t begin_ns;

	if (pagemap_fd < 0)
		return pagemap_fd;
	fill(p);
	/* Just written, it may still be on its way to the lists that MADV_PAGEOUT looks at. */
	for (int i = 0; i < 3 && !is_out(pagemap_fd, p->page); i++)
		(void)madvise(p->page, PAGE_BYTES, MADV_PAGEOUT);
	if (!is_out(pagemap_fd, p->page))
		return -EAGAIN;
	begin_ns = now_ns();
	(void)*(volatile uint64_t *)p->page;
	*ret_ns = now_ns() - begin_ns;
	return 0;
}
