/* Runs in the sampling worker; see wss-probe.h. */
#include "memd/wss-probe.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/pagemap.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"

#define IDLE_BITMAP "/sys/kernel/mm/page_idle/bitmap"
#define PAGE_FLAGS  "/proc/kpageflags"
#define KPF_THP	    (UINT64_C(1) << 22)
#define BITMAP_BITS 64
/* Draws within a region before it is read whole. */
#define DRAWS_MAX   16
/* A page that was just touched may need to be asked again. */
#define ASKS_MAX    3

void wss_files_open(struct wss_files *f)
{
	f->idle_bitmap_fd = open(IDLE_BITMAP, O_RDWR | O_CLOEXEC);
	f->page_flags_fd = open(PAGE_FLAGS, O_RDONLY | O_CLOEXEC);
}

void wss_files_close(struct wss_files *f)
{
	cleanup_closep(&f->idle_bitmap_fd);
	cleanup_closep(&f->page_flags_fd);
}

struct wss_probe *wss_probe_new(uint32_t n_regions, size_t n_looks, size_t n_wanted)
{
	struct wss_probe *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->job.run = wss_probe_run;
	p->weights = calloc(n_regions + 1, sizeof(*p->weights));
	p->looks = calloc(n_looks + 1, sizeof(*p->looks));
	p->pages = calloc(n_wanted + 1, sizeof(*p->pages));
	p->n_looks = n_looks;
	p->n_wanted = n_wanted;
	if (p->weights && p->looks && p->pages)
		return p;
	wss_probe_free(p);
	return NULL;
}

void wss_probe_free(struct wss_probe *p)
{
	if (!p)
		return;
	free(p->weights);
	free(p->looks);
	free(p->pages);
	free(p);
}

static uint64_t address_of(const struct wss_probe *p, uint64_t page)
{
	return sample_region_address(p->process, (uint32_t)(page / CHUNK_PAGES)) +
	       page % CHUNK_PAGES * PAGE_BYTES;
}

static int read_entry(const struct wss_probe *p, uint64_t page, uint64_t *ret)
{
	return pagemap_read(p->process->pagemap_fd, address_of(p, page), 1, ret);
}

/* The word of the idle bitmap with the frame's bit. */
static int read_idle(const struct wss_probe *p, uint64_t frame, bool *ret_idle)
{
	uint64_t word;
	int r = fd_pread_full(p->files->idle_bitmap_fd, &word, sizeof(word),
		(off_t)(frame / BITMAP_BITS * sizeof(word)));

	if (r == 0)
		*ret_idle = word >> frame % BITMAP_BITS & 1;
	return r;
}

static bool is_huge(const struct wss_probe *p, uint64_t entry)
{
	uint64_t flags;

	return p->has_huge && p->files->page_flags_fd >= 0 &&
	       fd_pread_full(p->files->page_flags_fd, &flags, sizeof(flags),
		       (off_t)((entry & PAGEMAP_PFN_MASK) * sizeof(flags))) == 0 &&
	       (flags & KPF_THP);
}

/* The frame that the idle bit of the page belongs to: of a huge page, that of its head. */
static uint64_t frame_of(const struct wss_probe *p, uint64_t entry)
{
	uint64_t frame = entry & PAGEMAP_PFN_MASK;

	return is_huge(p, entry) ? u64_align_down(frame, CHUNK_PAGES) : frame;
}

static int look(const struct wss_probe *p, struct wss_look *l)
{
	uint64_t entry;
	bool idle;
	int r = read_entry(p, l->page, &entry);

	if (r < 0)
		return r;
	l->seen = WSS_GONE;
	if (p->method == WSS_BY_PAGE_OUT) {
		if (entry & PAGEMAP_SWAPPED)
			l->seen = WSS_IDLE;
		else if (sample_entry_is_private(entry))
			l->seen = WSS_TOUCHED;
	} else if (sample_entry_is_private(entry)) {
		r = read_idle(p, frame_of(p, entry), &idle);
		l->seen = r == 0 && idle ? WSS_IDLE : WSS_TOUCHED;
	}
	return r;
}

/* xorshift64* (Vigna 2016): good enough to draw pages, and the same everywhere. */
static uint64_t draw(struct wss_probe *p, uint64_t below)
{
	p->random ^= p->random >> 12;
	p->random ^= p->random << 25;
	p->random ^= p->random >> 27;
	return (p->random * UINT64_C(0x2545f4914f6cdd1d) >> 32) * below >> 32;
}

/* May this page be marked? */
static bool suits(const struct wss_probe *p, uint64_t entry)
{
	return sample_entry_is_private(entry) &&
	       (p->method != WSS_BY_PAGE_OUT || !is_huge(p, entry));
}

/* The k-th suitable page of a region that has few. false: there is none. */
static int draw_exactly(struct wss_probe *p, uint64_t region, uint64_t *ret_page)
{
	uint64_t entries[CHUNK_PAGES], n = 0, k;
	int r = pagemap_read(
		p->process->pagemap_fd, address_of(p, region * CHUNK_PAGES), CHUNK_PAGES, entries);

	if (r < 0)
		return r;
	for (size_t i = 0; i < CHUNK_PAGES; i++)
		n += suits(p, entries[i]);
	if (n == 0)
		return -ENOENT;
	k = draw(p, n);
	for (size_t i = 0; i < CHUNK_PAGES; i++)
		if (suits(p, entries[i]) && k-- == 0)
			*ret_page = region * CHUNK_PAGES + i;
	return 0;
}

static int draw_in_region(struct wss_probe *p, uint64_t region, uint64_t *ret_page)
{
	for (int i = 0; i < DRAWS_MAX; i++) {
		uint64_t page = region * CHUNK_PAGES + draw(p, CHUNK_PAGES), entry;
		int r = read_entry(p, page, &entry);

		if (r < 0)
			return r;
		if (suits(p, entry)) {
			*ret_page = page;
			return 0;
		}
	}
	return draw_exactly(p, region, ret_page);
}

/* 0; -ENOENT: not this time; else the process ends. */
static int draw_page(struct wss_probe *p, uint64_t weight, uint64_t *ret_page)
{
	uint64_t at = draw(p, weight), region = 0;

	while (at >= p->weights[region])
		at -= p->weights[region++];
	return draw_in_region(p, region, ret_page);
}

static int mark_idle(const struct wss_probe *p, uint64_t page)
{
	uint64_t entry, frame, word;
	int r = read_entry(p, page, &entry);

	if (r < 0)
		return r;
	frame = frame_of(p, entry);
	if (!sample_entry_is_private(entry) || !frame)
		return -ENOENT;
	/* Bits of others that are 0 stay as they are. */
	word = UINT64_C(1) << frame % BITMAP_BITS;
	return fd_pwrite_full(p->files->idle_bitmap_fd, &word, sizeof(word),
		(off_t)(frame / BITMAP_BITS * sizeof(word)));
}

static int mark_out(const struct wss_probe *p, uint64_t page)
{
	for (int i = 0; i < ASKS_MAX; i++) {
		uint64_t entry;
		ssize_t n = fd_process_madvise(
			p->process->pidfd, address_of(p, page), PAGE_BYTES, MADV_PAGEOUT);
		int r;

		if (n == -ESRCH)
			return -ESRCH;
		r = read_entry(p, page, &entry);
		if (r < 0)
			return r;
		if (entry & PAGEMAP_SWAPPED)
			return 0;
	}
	return -ENOENT;
}

static int mark(struct wss_probe *p)
{
	uint64_t weight = 0;

	for (uint32_t i = 0; i < p->process->n_regions; i++)
		weight += p->weights[i];
	for (size_t i = 0; weight && i < p->n_wanted; i++) {
		uint64_t page;
		int r = draw_page(p, weight, &page);

		if (r == 0)
			r = p->method == WSS_BY_PAGE_OUT ? mark_out(p, page) : mark_idle(p, page);
		if (r == 0)
			p->pages[p->n_pages++] = page;
		else if (r != -ENOENT)
			return r;
	}
	return 0;
}

void wss_probe_run(struct job *j)
{
	struct wss_probe *p = (struct wss_probe *)j;
	uint64_t begin_us = clock_thread_cpu_us();
	struct proc_stat stat = {0};

	for (size_t i = 0; p->result == 0 && i < p->n_looks; i++)
		p->result = look(p, &p->looks[i]);
	if (p->result == 0)
		p->result = mark(p);
	if (p->result == 0)
		p->result = procfs_read_stat(p->process->pid, &stat);
	p->major_faults = stat.major_faults;
	p->cpu_us = clock_thread_cpu_us() - begin_us;
}
