/*
 * Guest RAM as a copy of a template: one sealed memfd, mapped MAP_PRIVATE at the same page numbers.
 * Reads no page but to compare (through a mapping of its own).
 *
 * DOC: what is mapped
 * Reading a hole of the memfd would allocate a page in it, so long holes stay anonymous memory, and
 * only what has data is mapped, with the short holes in between: a mapping costs more than the few
 * zero pages that a guest may read there, once for all clones. The longer the RAM, the longer a hole
 * must be, so that the mappings of a fresh clone stay well below the kernel's limit.
 */
#include <string.h>
#include <sys/mman.h>

#include "dedup/guest-ram-private.h"
#include "memd/base/overflow.h"
#include "memd/base/template-file.h"

#define HOLE_MIN_PAGES	  64
#define MAPPINGS_AT_START 8192

/* Maps pages [first, first + n) of one range. Before anybody else uses the RAM: no locks. */
static int map_template(struct guest_ram *ram, int fd, uint64_t first, uint64_t n)
{
	int r = guest_ram_map_over(
		guest_ram_page_ptr(ram, first), n * PAGE_BYTES, 0, fd, first * PAGE_BYTES);

	if (r < 0)
		return r;
	for (uint64_t done = 0, some; done < n; done += some) {
		some = u64_min(n - done, CHUNK_PAGES - (first + done) % CHUNK_PAGES);
		guest_ram_set_meta(ram, first + done, some, META_TEMPLATE);
	}
	return 0;
}

/*
 * The next run of data in [page, end), in page numbers, holes shorter than hole_min_pages counted
 * in. 0, or 1 when there is none. An errno of lseek.
 */
static int next_run(int fd, uint64_t page, uint64_t end, uint64_t hole_min_pages,
	uint64_t *ret_first, uint64_t *ret_end)
{
	const uint64_t end_bytes = end * PAGE_BYTES;
	off_t data = lseek(fd, (off_t)(page * PAGE_BYTES), SEEK_DATA), hole;

	if (data < 0 && errno != ENXIO)
		return -errno;
	if (data < 0 || (uint64_t)data >= end_bytes)
		return 1;
	*ret_first = (uint64_t)data / PAGE_BYTES;
	do {
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		hole = (off_t)u64_min((uint64_t)hole, end_bytes);
		data = lseek(fd, hole, SEEK_DATA);
	} while (data >= 0 && (uint64_t)data < end_bytes &&
		 (uint64_t)(data - hole) < hole_min_pages * PAGE_BYTES);
	*ret_end = u64_align_up((uint64_t)hole, PAGE_BYTES) / PAGE_BYTES;
	return 0;
}

static int map_range(struct guest_ram *ram, int fd, const struct guest_ram_range *range)
{
	const uint64_t hole_min = u64_max(HOLE_MIN_PAGES, ram->n_pages / MAPPINGS_AT_START);
	const uint64_t end = range->first_page + range->bytes / PAGE_BYTES;
	uint64_t first, run_end;
	int r;

	for (uint64_t page = range->first_page;
		page < end && (r = next_run(fd, page, end, hole_min, &first, &run_end)) <= 0;
		page = run_end) {
		if (r == 0)
			r = map_template(ram, fd, first, run_end - first);
		if (r < 0)
			return r;
	}
	return 0;
}

int guest_ram_set_template(struct guest_ram *ram, int fd, struct error *e)
{
	uint64_t bytes = ram->n_pages * PAGE_BYTES;
	void *p;
	int r;

	if (!template_file_is_sealed(fd, bytes))
		return error_set(e, -EINVAL, "the template is no sealed memfd of %llu bytes",
			(unsigned long long)bytes);
	p = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return error_set(e, -errno, "mapping the template: %s", strerror(errno));
	ram->template = p;
	for (size_t i = 0; i < ram->n_ranges; i++) {
		r = map_range(ram, fd, &ram->ranges[i]);
		if (r < 0)
			return error_set(e, r, "mapping the template: %s", strerror(-r));
	}
	return 0;
}

const uint8_t *guest_ram_template_page(const struct guest_ram *ram, uint64_t page)
{
	uint32_t meta = guest_ram_meta(ram, page);

	return !(meta & META_POOL) && meta & META_TEMPLATE ? ram->template + page * PAGE_BYTES
							   : NULL;
}

void guest_ram_mark_holes(
	struct guest_ram *ram, uint64_t page, uint64_t n_pages, enum hole_reason why)
{
	for (uint64_t i = page; i < page + n_pages && i < ram->n_pages; i++)
		if (guest_ram_meta(ram, i) == HOLE_UNTOUCHED)
			atomic_store_explicit(&ram->meta[i], (uint32_t)why, memory_order_relaxed);
}
