/* See fault-probe.h. */
#include "memd/fault-probe.h"

#include <errno.h>
#include <fcntl.h>
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

static uint64_t draw(struct fault_probe *p)
{
	p->seed ^= p->seed << 13;
	p->seed ^= p->seed >> 7;
	p->seed ^= p->seed << 17;
	return p->seed;
}

/* Half of it compresses: neither the zero page's short way nor a page stored as it is. */
static void fill(struct fault_probe *p)
{
	uint64_t *words = p->page;

	for (size_t i = 0; i < PAGE_BYTES / sizeof(*words); i++) {
		uint64_t noise = draw(p);

		words[i] = i % 2 ? noise : i;
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

static int read_device(
	struct fault_probe *p, const char *device, uint64_t device_bytes, uint64_t *ret_ns)
{
	_cleanup_close_ int fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
	off_t at = (off_t)(draw(p) % (device_bytes / PAGE_BYTES + 1) * PAGE_BYTES);
	uint64_t begin_ns = now_ns();
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pread(fd, p->page, PAGE_BYTES,
		at); /* what it reads is nobody's business: not looked at */
	if (n < 0)
		return -errno;
	*ret_ns = now_ns() - begin_ns;
	return 0;
}

static int touch_page(struct fault_probe *p, uint64_t *ret_ns)
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

int fault_probe_run(
	struct fault_probe *p, const char *device, uint64_t device_bytes, uint64_t *ret_ns)
{
	return device ? read_device(p, device, device_bytes, ret_ns) : touch_page(p, ret_ns);
}
