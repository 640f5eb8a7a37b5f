/*
 * DOC: which pages count
 *
 * A guest that reads a hole gets the kernel's zero page mapped, which costs nothing, and which the
 * pagemap shows as present. The pagemap tells frame numbers to root: an entry whose frame is the
 * zero page's is a hole. Without that right such pages count as private here, and the ledger's
 * comparison with `Anonymous` shows the difference.
 */
#include "memd/sample.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/pagemap.h"
#include "memd/base/units.h"

int sample_process_new(pid_t pid, int pidfd, const struct vmm_range *ranges, uint32_t n_ranges,
	struct sample_process **ret)
{
	struct sample_process *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->n_refs = 1;
	p->pid = pid;
	p->pagemap_fd = -1;
	p->n_ranges = n_ranges;
	for (uint32_t i = 0; i < n_ranges; i++) {
		p->ranges[i] = ranges[i];
		p->n_regions += (uint32_t)(ranges[i].bytes / CHUNK_BYTES);
	}
	p->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
	r = p->pidfd < 0 ? -errno : (p->pagemap_fd = pagemap_open(pid));
	if (r < 0) {
		sample_process_unref(p);
		return r;
	}
	*ret = p;
	return 0;
}

struct sample_process *sample_process_ref(struct sample_process *p)
{
	p->n_refs++;
	return p;
}

struct sample_process *sample_process_unref(struct sample_process *p)
{
	if (!p || --p->n_refs > 0)
		return NULL;
	cleanup_closep(&p->pidfd);
	cleanup_closep(&p->pagemap_fd);
	free(p);
	return NULL;
}

uint64_t sample_region_address(const struct sample_process *p, uint32_t region)
{
	uint64_t offset = (uint64_t)region * CHUNK_BYTES;

	for (uint32_t i = 0; i < p->n_ranges; i++) {
		if (offset < p->ranges[i].bytes)
			return p->ranges[i].hva + offset;
		offset -= p->ranges[i].bytes;
	}
	return 0;
}

/* The frame of the zero page: what a read of a fresh anonymous page of our own maps. */
static uint64_t find_zero_pfn(void)
{
	volatile char *page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;
	int fd;

	if (page == MAP_FAILED)
		return 0;
	(void)*page;
	fd = pagemap_open(0);
	if (fd >= 0) {
		if (pagemap_read(fd, (uint64_t)(uintptr_t)page, 1, &entry) < 0)
			entry = 0;
		close(fd);
	}
	munmap((void *)(uintptr_t)page, PAGE_BYTES);
	return entry & PAGEMAP_PFN_MASK;
}

void sample_count_entries(
	const uint64_t *entries, size_t n, uint64_t zero_pfn, struct region_count *ret)
{
	struct region_count count = {0};

	for (size_t i = 0; i < n; i++) {
		uint64_t entry = entries[i];

		if (entry & PAGEMAP_SWAPPED)
			count.swapped++;
		else if (!(entry & PAGEMAP_PRESENT))
			continue;
		else if (entry & PAGEMAP_FILE)
			count.file++;
		else if (!zero_pfn || (entry & PAGEMAP_PFN_MASK) != zero_pfn)
			count.anonymous++;
	}
	*ret = count;
}

static uint64_t zero_pfn_of_host(void)
{
	static _Thread_local uint64_t zero_pfn; /* found once a thread, never changes */

	if (!zero_pfn)
		zero_pfn = find_zero_pfn();
	return zero_pfn;
}

bool sample_entry_is_private(uint64_t entry)
{
	struct region_count count;

	sample_count_entries(&entry, 1, zero_pfn_of_host(), &count);
	return count.anonymous;
}

int sample_read_region(const struct sample_process *p, uint32_t region, struct region_count *ret)
{
	uint64_t entries[CHUNK_PAGES];
	int r;

	r = pagemap_read(p->pagemap_fd, sample_region_address(p, region), CHUNK_PAGES, entries);
	if (r < 0)
		return r;
	sample_count_entries(entries, CHUNK_PAGES, zero_pfn_of_host(), ret);
	return 0;
}

static int read_regions(const struct sample_process *p, struct kernel_sample *s)
{
	for (uint32_t i = 0; i < p->n_regions; i++) {
		int r = sample_read_region(p, i, &s->regions[i]);

		if (r < 0)
			return r;
		s->ram_anonymous_pages += s->regions[i].anonymous;
		s->ram_swapped_pages += s->regions[i].swapped;
		s->ram_file_pages += s->regions[i].file;
	}
	return 0;
}

int kernel_sample_read(const struct sample_process *p, struct kernel_sample *ret)
{
	struct kernel_sample s = {.begin_us = clock_monotonic_us()};
	int r;

	s.regions = calloc(p->n_regions, sizeof(*s.regions));
	if (!s.regions)
		return -ENOMEM;
	r = read_regions(p, &s);
	if (r == 0)
		r = procfs_read_smaps_rollup(p->pid, &s.rollup);
	if (r == 0)
		r = procfs_read_page_table_bytes(p->pid, &s.page_table_bytes);
	if (r < 0) {
		kernel_sample_done(&s);
		return r;
	}
	s.end_us = clock_monotonic_us();
	*ret = s;
	return 0;
}

void kernel_sample_done(struct kernel_sample *s)
{
	free(s->regions);
	*s = (struct kernel_sample){0};
}
