/*
 * Guest RAM: its ranges, what each page is, busy pages, discarding, the census. Never reads or
 * writes what is in a page, and never decides which pages to share.
 *
 * RAM gets MADV_NOHUGEPAGE: mapping over or dropping a part of a huge page frees nothing until the
 * kernel splits it, so as long as sharing does not choose between "wholly, split, or left alone"
 * small pages are the ones that save memory.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "dedup/guest-ram-private.h"
#include "memd/base/overflow.h"
#include "memd/base/pagemap.h"

#define CENSUS_BATCH_PAGES 4096

#ifndef PR_SET_VMA
#define PR_SET_VMA	     0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/*
 * PAGEFAULT_FLAG_WP (5.7) freezes anonymous memory, WP_HUGETLBFS_SHMEM (5.19) COW-broken pages of
 * pool mappings, THREAD_ID (4.14) names who waits (freeze_waiting). Not UFFD_USER_MODE_ONLY: KVM itself must wait too. Needs CAP_SYS_PTRACE, the
 * sysctl, or access to /dev/userfaultfd (6.1).
 */
static int open_uffd(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
			    UFFD_FEATURE_THREAD_ID,
	};
	_cleanup_close_ int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == EPERM) {
		_cleanup_close_ int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

		if (dev >= 0)
			fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int guest_ram_register(const struct guest_ram *ram, uint8_t *address, uint64_t bytes)
{
	struct uffdio_register reg = {
		.range = {.start = (uintptr_t)address, .len = bytes},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(ram->uffd, UFFDIO_REGISTER, &reg) < 0 ? -errno : 0;
}

/* Everything that anonymous guest memory is, so that neighbours merge into one mapping again. */
static int prepare_anonymous(const struct guest_ram *ram, uint8_t *host, uint64_t bytes)
{
	if (madvise(host, bytes, MADV_DONTFORK) < 0)
		return -errno;
	/*
	 * Absent in kernels without transparent huge pages; names (5.17) are for people who read
	 * maps.
	 */
	madvise(host, bytes, MADV_NOHUGEPAGE);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, host, bytes, "memd-ram");
	return ram->uffd < 0 ? 0 : guest_ram_register(ram, host, bytes);
}

/* host: 2 MiB aligned, with an inaccessible page before and after it. */
static int map_range(struct guest_ram *ram, struct guest_ram_range *range)
{
	uint64_t reserved_bytes;
	uintptr_t reserved, host, end;
	void *p;

	if (u64_add_overflows(range->bytes, CHUNK_BYTES + 2 * PAGE_BYTES, &reserved_bytes))
		return -ENOMEM;
	p = mmap(NULL, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		0);
	if (p == MAP_FAILED)
		return -errno;
	reserved = (uintptr_t)p;
	host = u64_align_up(reserved + PAGE_BYTES, CHUNK_BYTES);
	end = host + range->bytes + PAGE_BYTES;
	if (host - PAGE_BYTES > reserved)
		munmap(p, host - PAGE_BYTES - reserved);
	if (reserved + reserved_bytes > end)
		munmap((void *)end, reserved + reserved_bytes - end);
	range->host = (uint8_t *)host;
	/* Overcommit is what this is for: the host budget is kept by memd, not by a reservation. */
	p = mmap(range->host, range->bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	return p == MAP_FAILED ? -errno : prepare_anonymous(ram, range->host, range->bytes);
}

static int check_layout(const struct guest_ram_layout *layout, size_t n, uint64_t *ret_pages)
{
	uint64_t end = 0, pages = 0;

	if (n == 0 || n > GUEST_RAM_RANGES_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (layout[i].bytes == 0 || layout[i].bytes % CHUNK_BYTES ||
			layout[i].gpa % CHUNK_BYTES || layout[i].gpa < end)
			return -EINVAL;
		if (u64_add_overflows(layout[i].gpa, layout[i].bytes, &end))
			return -EINVAL;
		pages += layout[i].bytes / PAGE_BYTES; /* disjoint, so less than 2^52 */
	}
	if (pages > UINT32_MAX) /* page numbers are 32 bits in pool-proto.h: 16 TiB */
		return -EINVAL;
	*ret_pages = pages;
	return 0;
}

static int allocate_tables(struct guest_ram *ram)
{
	ram->meta = calloc(ram->n_pages, sizeof(*ram->meta));
	ram->busy = calloc(ram->n_pages, sizeof(*ram->busy));
	ram->chunks = calloc(ram->n_chunks, sizeof(*ram->chunks));
	ram->written = calloc(ram->n_pages / 64, sizeof(*ram->written));
	if (!ram->meta || !ram->busy || !ram->chunks || !ram->written)
		return -ENOMEM;
	for (uint64_t i = 0; i < ram->n_chunks; i++)
		pthread_mutex_init(&ram->chunks[i].lock, NULL);
	return 0;
}

int guest_ram_new(
	const struct guest_ram_layout *layout, size_t n, struct guest_ram **ret, struct error *e)
{
	_cleanup_(guest_ram_freep) struct guest_ram *ram = calloc(1, sizeof(*ram));
	int r;

	if (!ram)
		return -ENOMEM;
	ram->uffd = ram->pagemap_fd = -1;
	pthread_mutex_init(&ram->released_lock, NULL);
	r = check_layout(layout, n, &ram->n_pages);
	if (r < 0)
		return error_set(
			e, r, "guest memory must be ranges of whole 2 MiB, ascending and disjoint");
	ram->n_chunks = ram->n_pages / CHUNK_PAGES;
	r = allocate_tables(ram);
	if (r < 0)
		return error_set(e, r, "no memory for the page tables of the guest");
	ram->pagemap_fd = pagemap_open(0);
	if (ram->pagemap_fd < 0)
		return error_set(
			e, ram->pagemap_fd, "cannot open /proc/self/pagemap: %s", strerror(errno));
	ram->uffd = open_uffd();

	for (size_t i = 0, page = 0; i < n; i++) {
		struct guest_ram_range *range = &ram->ranges[i];

		*range = (struct guest_ram_range){
			.gpa = layout[i].gpa, .bytes = layout[i].bytes, .first_page = page};
		r = map_range(ram, range);
		if (range->host)
			ram->n_ranges++;
		if (r < 0)
			return error_set(e, r, "cannot map %s of guest memory: %s",
				UNITS_BYTES(range->bytes), strerror(-r));
		page += range->bytes / PAGE_BYTES;
	}
	atomic_init(&ram->mappings, (int64_t)n);
	*ret = TAKE_PTR(ram);
	return 0;
}

void guest_ram_free(struct guest_ram *ram)
{
	if (!ram)
		return;
	for (size_t i = 0; i < ram->n_ranges; i++)
		munmap(ram->ranges[i].host - PAGE_BYTES, ram->ranges[i].bytes + 2 * PAGE_BYTES);
	if (ram->template)
		munmap((void *)(uintptr_t)ram->template, ram->n_pages * PAGE_BYTES);
	cleanup_closep(&ram->uffd);
	cleanup_closep(&ram->pagemap_fd);
	if (ram->chunks)
		for (uint64_t i = 0; i < ram->n_chunks; i++)
			pthread_mutex_destroy(&ram->chunks[i].lock);
	pthread_mutex_destroy(&ram->released_lock);
	free(ram->chunks);
	free(ram->meta);
	free(ram->busy);
	free(ram->written);
	free(ram->released);
	free(ram);
}

/* mlock2() without flags is mlock(), but that one does nothing where a sanitizer is. */
int guest_ram_lock(const struct guest_ram *ram)
{
	for (size_t i = 0; i < ram->n_ranges; i++)
		if (mlock2(ram->ranges[i].host, ram->ranges[i].bytes, 0) < 0)
			return -errno;
	return 0;
}

size_t guest_ram_ranges(const struct guest_ram *ram, const struct guest_ram_range **ret)
{
	*ret = ram->ranges;
	return ram->n_ranges;
}

uint64_t guest_ram_pages(const struct guest_ram *ram)
{
	return ram->n_pages;
}

bool guest_ram_can_freeze(const struct guest_ram *ram)
{
	return ram->uffd >= 0;
}

static const struct guest_ram_range *find_range(
	const struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	for (size_t i = 0; i < ram->n_ranges; i++)
		if (u64_range_within(gpa.v, bytes, ram->ranges[i].gpa, ram->ranges[i].bytes))
			return &ram->ranges[i];
	return NULL;
}

void *guest_ram_ptr(const struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	const struct guest_ram_range *range = find_range(ram, gpa, bytes);

	return range ? range->host + (gpa.v - range->gpa) : NULL;
}

bool guest_ram_page_of(const struct guest_ram *ram, gpa_t gpa, uint64_t *ret_page)
{
	const struct guest_ram_range *range = find_range(ram, gpa, 1);

	if (!range)
		return false;
	*ret_page = range->first_page + (gpa.v - range->gpa) / PAGE_BYTES;
	return true;
}

uint8_t *guest_ram_page_ptr(const struct guest_ram *ram, uint64_t page)
{
	const struct guest_ram_range *range = &ram->ranges[ram->n_ranges - 1];

	while (page < range->first_page)
		range--;
	return range->host + (page - range->first_page) * PAGE_BYTES;
}

/*
 * Adds by (+1 or -1) to the busy count of pages [page, page + n) of one chunk. -EBUSY when a count
 * would overflow.
 */
static int add_busy(struct guest_ram *ram, uint64_t page, uint64_t n, int by)
{
	struct guest_ram_chunk *chunk = &ram->chunks[page / CHUNK_PAGES];
	int r = 0;

	pthread_mutex_lock(&chunk->lock);
	for (uint64_t i = page; by > 0 && i < page + n; i++)
		if (ram->busy[i] == UINT16_MAX)
			r = -EBUSY;
	for (uint64_t i = page; r == 0 && i < page + n; i++)
		ram->busy[i] = (uint16_t)(ram->busy[i] + by);
	if (r == 0)
		chunk->n_busy += (uint32_t)((int64_t)n * by);
	pthread_mutex_unlock(&chunk->lock);
	return r;
}

/* How many of the n pages from `page` on lie in its chunk. */
static uint64_t pages_in_chunk(uint64_t page, uint64_t n)
{
	return u64_min(n, CHUNK_PAGES - page % CHUNK_PAGES);
}

static uint64_t pages_touched(gpa_t gpa, uint64_t bytes)
{
	return (gpa.v % PAGE_BYTES + bytes + PAGE_BYTES - 1) / PAGE_BYTES;
}

static void remove_busy(struct guest_ram *ram, uint64_t page, uint64_t n)
{
	for (uint64_t done = 0, some; done < n; done += some) {
		some = pages_in_chunk(page + done, n - done);
		add_busy(ram, page + done, some, -1);
	}
}

int guest_ram_busy(struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	uint64_t page, n;

	if (!find_range(ram, gpa, bytes) || !guest_ram_page_of(ram, gpa, &page))
		return -EFAULT;
	guest_ram_wrote(ram, gpa, bytes);
	n = pages_touched(gpa, bytes);
	for (uint64_t done = 0, some; done < n; done += some) {
		int r;

		some = pages_in_chunk(page + done, n - done);
		r = add_busy(ram, page + done, some, 1);
		if (r < 0) {
			remove_busy(ram, page, done);
			return r;
		}
	}
	return 0;
}

void guest_ram_done(struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	uint64_t page;

	if (find_range(ram, gpa, bytes) && guest_ram_page_of(ram, gpa, &page))
		remove_busy(ram, page, pages_touched(gpa, bytes));
}

/*
 * Mappings that begin at pages [first, first + n]; the last one may be of the next chunk (then it
 * may be out of date).
 */
static int64_t count_boundaries(const struct guest_ram *ram, uint64_t first, uint64_t n)
{
	int64_t count = 0;

	for (uint64_t i = first; i <= first + n && i < ram->n_pages; i++)
		if (i > 0)
			count += meta_is_boundary(
				guest_ram_meta(ram, i - 1), guest_ram_meta(ram, i));
	return count;
}

/* Without memory for the list the reference stays held until the connection to the pool ends. */
static void note_released(struct guest_ram *ram, uint32_t slot)
{
	pthread_mutex_lock(&ram->released_lock);
	if (ram->n_released == ram->released_size) {
		size_t size = ram->released_size ? 2 * ram->released_size : 512;
		uint32_t *p = reallocarray(ram->released, size, sizeof(*p));

		if (p) {
			ram->released = p;
			ram->released_size = size;
		}
	}
	if (ram->n_released < ram->released_size)
		ram->released[ram->n_released++] = slot;
	pthread_mutex_unlock(&ram->released_lock);
}

void guest_ram_set_meta(struct guest_ram *ram, uint64_t first, uint64_t n, uint32_t meta)
{
	int64_t before = count_boundaries(ram, first, n);

	for (uint64_t i = first; i < first + n; i++) {
		uint32_t old = atomic_exchange_explicit(&ram->meta[i], meta, memory_order_relaxed);

		if ((old & META_POOL) && !(old & META_ORPHAN))
			note_released(ram, old & META_SLOT_MASK);
		if (meta & META_POOL)
			meta++;
	}
	atomic_fetch_add(&ram->mappings, count_boundaries(ram, first, n) - before);
}

void guest_ram_set_registered(struct guest_ram *ram, uint64_t first, uint64_t n)
{
	int64_t before = count_boundaries(ram, first, n);

	for (uint64_t i = first; i < first + n; i++)
		atomic_fetch_or_explicit(&ram->meta[i], META_REGISTERED, memory_order_relaxed);
	atomic_fetch_add(&ram->mappings, count_boundaries(ram, first, n) - before);
}

size_t guest_ram_take_released(struct guest_ram *ram, uint32_t *ret_slots, size_t max)
{
	size_t n;

	pthread_mutex_lock(&ram->released_lock);
	n = u64_min(max, ram->n_released);
	ram->n_released -= n;
	if (n)
		memcpy(ret_slots, ram->released + ram->n_released, n * sizeof(*ret_slots));
	pthread_mutex_unlock(&ram->released_lock);
	return n;
}

void guest_ram_orphan_slots(struct guest_ram *ram)
{
	for (uint64_t page = 0; page < ram->n_pages; page++) {
		pthread_mutex_t *lock = &ram->chunks[page / CHUNK_PAGES].lock;

		if (page % CHUNK_PAGES == 0)
			pthread_mutex_lock(lock);
		if (guest_ram_meta(ram, page) & META_POOL)
			atomic_fetch_or_explicit(
				&ram->meta[page], META_ORPHAN, memory_order_relaxed);
		if (page % CHUNK_PAGES == CHUNK_PAGES - 1)
			pthread_mutex_unlock(lock);
	}
	pthread_mutex_lock(&ram->released_lock);
	ram->n_released = 0;
	pthread_mutex_unlock(&ram->released_lock);
}

size_t guest_ram_restore_slots(struct guest_ram *ram, uint64_t chunk,
	bool (*is_there)(void *context, uint32_t slot), void *context, uint32_t *ret_slots)
{
	pthread_mutex_t *lock = &ram->chunks[chunk].lock;
	uint64_t first = chunk * CHUNK_PAGES;
	size_t n = 0;

	pthread_mutex_lock(lock);
	for (uint64_t page = first; page < first + CHUNK_PAGES; page++) {
		uint32_t meta = guest_ram_meta(ram, page);

		if (!(meta & META_POOL) || !is_there(context, meta & META_SLOT_MASK))
			continue;
		atomic_fetch_and_explicit(&ram->meta[page], ~META_ORPHAN, memory_order_relaxed);
		ret_slots[n++] = meta & META_SLOT_MASK;
	}
	pthread_mutex_unlock(lock);
	return n;
}

int guest_ram_map_anonymous(struct guest_ram *ram, uint64_t first, uint64_t n)
{
	uint8_t *host = guest_ram_page_ptr(ram, first);
	int r = guest_ram_map_over(host, n * PAGE_BYTES, MAP_ANONYMOUS, -1, 0);

	if (r < 0)
		return r;
	/*
	 * What fails here costs sharing, not the guest: a page that cannot be frozen is left alone.
	 */
	prepare_anonymous(ram, host, n * PAGE_BYTES);
	return 0;
}

/* Makes holes of n pages of one chunk whose mappings are all of files or all anonymous. */
static int discard_stretch(struct guest_ram *ram, uint64_t first, uint64_t n, enum hole_reason why)
{
	uint8_t *host = guest_ram_page_ptr(ram, first);
	uint64_t entries[CHUNK_PAGES];
	int r;

	if (meta_is_file(guest_ram_meta(ram, first))) {
		r = guest_ram_map_anonymous(ram, first, n);
		if (r == 0)
			guest_ram_set_meta(ram, first, n, (uint32_t)why | META_FREED);
		return r;
	}
	r = pagemap_read(ram->pagemap_fd, (uintptr_t)host, n, entries);
	if (r < 0)
		return r;
	if (madvise(host, n * PAGE_BYTES, MADV_DONTNEED) < 0)
		return -errno;
	for (uint64_t i = 0; i < n; i++) {
		uint32_t old = guest_ram_meta(ram, first + i), freed = old & META_FREED;

		if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
			freed = META_FREED;
		else if (why == HOLE_REPORTED && (old & META_WHY_MASK) == HOLE_HINTED)
			continue; /* reported as well, later: the hint is what freed it */
		atomic_store_explicit(
			&ram->meta[first + i], (uint32_t)why | freed, memory_order_relaxed);
	}
	return 0;
}

static bool is_file_page(const struct guest_ram *ram, uint64_t page)
{
	return meta_is_file(guest_ram_meta(ram, page));
}

int guest_ram_discard(struct guest_ram *ram, uint64_t page, uint64_t n_pages, enum hole_reason why,
	uint64_t *ret_calls)
{
	int result = 0;

	if (!u64_range_within(page, n_pages, 0, ram->n_pages))
		return -EINVAL;
	for (uint64_t begin = page, end; begin < page + n_pages; begin = end) {
		pthread_mutex_t *lock = &ram->chunks[begin / CHUNK_PAGES].lock;
		uint64_t n;

		end = begin + pages_in_chunk(begin, page + n_pages - begin);
		pthread_mutex_lock(lock);
		for (uint64_t i = begin; i < end; i += n) {
			bool file = is_file_page(ram, i);
			int r;

			if (ram->busy[i]) {
				n = 1;
				continue;
			}
			for (n = 1; i + n < end && !ram->busy[i + n] &&
				    is_file_page(ram, i + n) == file;)
				n++;
			r = discard_stretch(ram, i, n, why);
			if (r < 0)
				result = r;
			if (ret_calls)
				(*ret_calls)++;
		}
		pthread_mutex_unlock(lock);
	}
	return result;
}

void guest_ram_undiscard(struct guest_ram *ram, uint64_t page, uint64_t n_pages)
{
	if (!u64_range_within(page, n_pages, 0, ram->n_pages))
		return;
	for (uint64_t i = page; i < page + n_pages; i++) {
		pthread_mutex_t *lock = &ram->chunks[i / CHUNK_PAGES].lock;

		if (i == page || i % CHUNK_PAGES == 0)
			pthread_mutex_lock(lock);
		if (!is_file_page(ram, i))
			atomic_store_explicit(&ram->meta[i], HOLE_UNTOUCHED, memory_order_relaxed);
		if (i == page + n_pages - 1 || i % CHUNK_PAGES == CHUNK_PAGES - 1)
			pthread_mutex_unlock(lock);
	}
}

uint64_t guest_ram_mappings(const struct guest_ram *ram)
{
	int64_t n = atomic_load(&ram->mappings);

	return n > 0 ? (uint64_t)n : 0;
}

int guest_ram_pagemap(const struct guest_ram *ram, uint64_t page, uint64_t n, uint64_t *ret_entries)
{
	return pagemap_read(
		ram->pagemap_fd, (uintptr_t)guest_ram_page_ptr(ram, page), n, ret_entries);
}

/*
 * A present page of no file that is mapped more than once is the kernel's zero page (guests are
 * never forked): it is what a read of a hole leaves behind.
 */
static void count_page(struct guest_ram_census *c, uint32_t meta, uint64_t entry)
{
	bool file = meta_is_file(meta);

	if (entry & PAGEMAP_SWAPPED) {
		c->swapped_pages++;
		c->broken_pages += file;
	} else if (file && (!(entry & PAGEMAP_PRESENT) || (entry & PAGEMAP_FILE))) {
		c->shared_pages += !!(meta & META_POOL);
		c->template_pages += !(meta & META_POOL);
	} else if ((entry & PAGEMAP_PRESENT) &&
		   (file || (entry & (PAGEMAP_EXCLUSIVE | PAGEMAP_FILE)))) {
		c->private_pages++;
		c->broken_pages += file;
	} else {
		c->hole_pages[meta & META_WHY_MASK]++;
		c->freed_pages[meta & META_WHY_MASK] += !!(meta & META_FREED);
	}
}

int guest_ram_census(struct guest_ram *ram, struct guest_ram_census *ret)
{
	_cleanup_free_ uint64_t *entries = calloc(CENSUS_BATCH_PAGES, sizeof(*entries));
	struct guest_ram_census c = {.mappings = ram->n_ranges};

	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < ram->n_ranges; i++) {
		const struct guest_ram_range *range = &ram->ranges[i];
		uint64_t range_pages = range->bytes / PAGE_BYTES, n;

		for (uint64_t done = 0; done < range_pages; done += n) {
			uint64_t page = range->first_page + done;
			int r;

			n = u64_min(CENSUS_BATCH_PAGES, range_pages - done);
			r = pagemap_read(ram->pagemap_fd,
				(uintptr_t)range->host + done * PAGE_BYTES, n, entries);
			if (r < 0)
				return r;
			for (uint64_t j = 0; j < n; j++) {
				uint32_t meta = guest_ram_meta(ram, page + j);

				count_page(&c, meta, entries[j]);
				if (done + j > 0)
					c.mappings += meta_is_boundary(
						guest_ram_meta(ram, page + j - 1), meta);
			}
		}
	}
	atomic_store(&ram->mappings, (int64_t)c.mappings);
	*ret = c;
	return 0;
}
