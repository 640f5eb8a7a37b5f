/*
 * Looking at pages of a real process, and marking them: this one. Whether they can go out depends on
 * the host having swap; that what was not marked is not followed does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memd/base/fd.h"
#include "memd/base/pagemap.h"
#include "memd/base/units.h"
#include "memd/fault-probe.h"
#include "memd/wss-probe.h"

#define REGIONS	 4
#define PAGES	 (REGIONS * CHUNK_PAGES)
#define N_WANTED 64

struct world {
	uint8_t *memory;
	struct sample_process *process;
	struct wss_files files;
	struct wss_probe *probe;
};

/* Region 0 is full, of region 1 every 64th page is there, of 2 only a hole's zero page, 3 is empty. */
static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	_cleanup_close_ int pidfd = fd_pidfd_open(getpid());
	struct vmm_range range = {.bytes = REGIONS * CHUNK_BYTES};

	assert_non_null(w);
	w->memory = mmap(NULL, (REGIONS + 1) * CHUNK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(w->memory != MAP_FAILED);
	assert_int_equal(madvise(w->memory, (REGIONS + 1) * CHUNK_BYTES, MADV_NOHUGEPAGE), 0);
	for (size_t i = 0; i < CHUNK_PAGES; i++)
		memset(w->memory + i * PAGE_BYTES, 1 + (int)i % 255, PAGE_BYTES);
	for (size_t i = 0; i < CHUNK_PAGES; i += 64)
		w->memory[CHUNK_BYTES + i * PAGE_BYTES] = 1;
	(void)*(volatile uint8_t *)(w->memory + 2 * CHUNK_BYTES);
	range.hva = (uint64_t)(uintptr_t)w->memory;
	assert_int_equal(sample_process_new(getpid(), pidfd, &range, 1, &w->process), 0);
	wss_files_open(&w->files);
	w->probe = wss_probe_new(REGIONS, 8, N_WANTED);
	assert_non_null(w->probe);
	w->probe->n_looks = 0;
	w->probe->process = w->process;
	w->probe->files = &w->files;
	w->probe->random = 1;
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	wss_probe_free(w->probe);
	wss_files_close(&w->files);
	sample_process_unref(w->process);
	munmap(w->memory, (REGIONS + 1) * CHUNK_BYTES);
	free(w);
	return 0;
}

static uint64_t entry_of(const struct world *w, uint64_t page)
{
	uint64_t entry;

	assert_int_equal(pagemap_read(w->process->pagemap_fd,
				 (uint64_t)(uintptr_t)w->memory + page * PAGE_BYTES, 1, &entry),
		0);
	return entry;
}

static void tells_what_is_there_from_what_is_not(void **state)
{
	static const uint64_t pages[] = {
		5, CHUNK_PAGES, CHUNK_PAGES + 1, 2 * CHUNK_PAGES, 3 * CHUNK_PAGES};
	struct world *w = *state;

	if (geteuid() != 0)
		return; /* the zero page cannot be told from others */
	w->probe->n_looks = ARRAY_SIZE(pages);
	w->probe->n_wanted = 0;
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		w->probe->looks[i].page = pages[i];
	wss_probe_run(&w->probe->job);
	assert_int_equal(w->probe->result, 0);
	assert_int_equal(w->probe->looks[0].seen, WSS_TOUCHED);
	assert_int_equal(w->probe->looks[1].seen, WSS_TOUCHED);
	for (size_t i = 2; i < ARRAY_SIZE(pages); i++)
		assert_int_equal(w->probe->looks[i].seen, WSS_GONE);
	assert_int_equal(w->probe->n_pages, 0);
}

static void marks_pages_by_weight_and_sees_them_come_back(void **state)
{
	struct world *w = *state;
	struct wss_probe *p = w->probe;
	size_t n_sparse = 0;

	p->weights[0] = CHUNK_PAGES;
	p->weights[1] = CHUNK_PAGES / 2; /* it has fewer now: every one of them is found */
	wss_probe_run(&p->job);
	assert_int_equal(p->result, 0);
	assert_true(p->major_faults < UINT64_MAX);
	for (size_t i = 0; i < p->n_pages; i++) {
		assert_true(entry_of(w, p->pages[i]) & PAGEMAP_SWAPPED);
		n_sparse += p->pages[i] >= CHUNK_PAGES;
		assert_true(p->pages[i] < 2 * CHUNK_PAGES);
	}
	if (p->n_pages == 0)
		return; /* the host has no swap */
	assert_true(n_sparse > 0 && n_sparse <= 8);
	p->n_looks = 2;
	p->n_wanted = 0;
	p->looks[0].page = p->pages[0];
	p->looks[1].page = p->pages[1];
	assert_int_not_equal(w->memory[p->pages[1] * PAGE_BYTES], 0);
	wss_probe_run(&p->job);
	assert_int_equal(p->looks[0].seen, WSS_IDLE);
	assert_int_equal(p->looks[1].seen, WSS_TOUCHED);
}

static void marks_nothing_where_nothing_is(void **state)
{
	struct world *w = *state;

	w->probe->weights[2] = w->probe->weights[3] = 1; /* of an older look */
	wss_probe_run(&w->probe->job);
	assert_int_equal(w->probe->result, 0);
	if (geteuid() == 0)
		assert_int_equal(w->probe->n_pages, 0);
}

/* The kernel's bitmap is a file here: bits are set in it, and cleared as an access would. */
static void marks_idle_bits_and_sees_them_cleared(void **state)
{
	struct world *w = *state;
	struct wss_probe *p = w->probe;
	int bitmap = memfd_create("bitmap", MFD_CLOEXEC);

	assert_true(bitmap >= 0);
	if (w->files.idle_bitmap_fd >= 0)
		close(w->files.idle_bitmap_fd);
	w->files.idle_bitmap_fd = bitmap;
	assert_int_equal(ftruncate(bitmap, 1L << 40), 0);
	p->method = WSS_BY_IDLE_BITS;
	p->weights[0] = CHUNK_PAGES;
	p->n_wanted = 1;
	wss_probe_run(&p->job);
	assert_int_equal(p->result, 0);
	if (geteuid() != 0)
		return; /* frames are hidden */
	assert_int_equal(p->n_pages, 1);
	assert_false(entry_of(w, p->pages[0]) & PAGEMAP_SWAPPED);
	p->looks[0].page = p->pages[0];
	p->n_looks = 1;
	p->n_wanted = 0;
	wss_probe_run(&p->job);
	assert_int_equal(p->looks[0].seen, WSS_IDLE);
	assert_int_equal(ftruncate(bitmap, 0), 0);
	assert_int_equal(ftruncate(bitmap, 1L << 40), 0);
	wss_probe_run(&p->job);
	assert_int_equal(p->looks[0].seen, WSS_TOUCHED);
}

static void measures_a_fault_or_says_that_it_cannot(void **state)
{
	struct fault_probe p;
	uint64_t ns = 0;
	int r;

	assert_int_equal(fault_probe_init(&p), 0);
	r = fault_probe_run(&p, NULL, 0, &ns);
	if (r == 0)
		assert_true(ns > 0);
	else
		assert_int_equal(r, -EAGAIN);
	assert_int_equal(fault_probe_run(&p, "/nowhere", GIB, &ns), -ENOENT);
	ns = 0;
	/* A file that is there, as a swap file would be; not every file system reads past its cache. */
	r = fault_probe_run(&p, "/proc/self/exe", PAGE_BYTES, &ns);
	assert_true(r == -EINVAL || (r == 0 && ns > 0));
	fault_probe_done(&p);
	fault_probe_done(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(tells_what_is_there_from_what_is_not),
		TEST(marks_pages_by_weight_and_sees_them_come_back),
		TEST(marks_idle_bits_and_sees_them_cleared),
		TEST(marks_nothing_where_nothing_is),
		TEST(measures_a_fault_or_says_that_it_cannot),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
