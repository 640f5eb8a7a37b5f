/*
 * What is dropped of hinted memory, and the log of writes that decides it: real guest RAM, real
 * freezing, a dirty log that the test writes.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "dedup/freeze.h"
#include "dedup/hinted.h"
#include "memd/base/clock.h"
#include "tests/guest/zram.h"

#define CHUNKS	     80
#define SLOT_CHUNKS  32
#define N_SLOTS	     3 /* the last one is shorter */
#define SLOT_PAGES   (SLOT_CHUNKS * CHUNK_PAGES)
#define SECOND_GPA   UINT64_C(0x100000000)
#define SECOND_PAGES CHUNK_PAGES

struct world {
	struct guest_ram *ram;
	struct write_log *log;
	struct hinted *hinted;
	struct hinted_counts counts;
	/* what the backend is told and tells */
	bool on[N_SLOTS];
	unsigned fail_slot;
	uint64_t dirty[N_SLOTS][SLOT_PAGES / 64];
	unsigned settles, fetches;
	int settle_result;
	void (*at_settle)(struct world *w);
};

static int backend_start(void *context, unsigned slot)
{
	struct world *w = context;

	assert_false(w->on[slot]);
	if (slot == w->fail_slot)
		return -ENOMEM;
	memset(w->dirty[slot], 0, sizeof(w->dirty[slot]));
	w->on[slot] = true;
	return 0;
}

static void backend_stop(void *context, unsigned slot)
{
	struct world *w = context;

	assert_true(w->on[slot]);
	w->on[slot] = false;
}

static int backend_fetch(void *context, unsigned slot, uint64_t *ret_bits)
{
	struct world *w = context;
	size_t bytes = slot == N_SLOTS - 1 ? (CHUNKS + 1) * CHUNK_PAGES / 8 - 2 * SLOT_PAGES / 8
					   : SLOT_PAGES / 8;

	assert_true(w->on[slot]);
	w->fetches++;
	memcpy(ret_bits, w->dirty[slot], bytes);
	memset(w->dirty[slot], 0, sizeof(w->dirty[slot]));
	return 0;
}

static int backend_settle(void *context)
{
	struct world *w = context;

	w->settles++;
	if (w->at_settle)
		w->at_settle(w);
	return w->settle_result;
}

static int setup(void **state)
{
	static const struct write_log_backend backend = {
		backend_start, backend_stop, backend_fetch, backend_settle};
	static const struct guest_ram_layout layout[] = {
		{.gpa = 0, .bytes = CHUNKS * CHUNK_BYTES},
		{.gpa = SECOND_GPA, .bytes = SECOND_PAGES * PAGE_BYTES},
	};
	static const struct write_log_slot slots[N_SLOTS] = {{0, SLOT_PAGES},
		{SLOT_PAGES, SLOT_PAGES},
		{2 * SLOT_PAGES, (CHUNKS + 1) * CHUNK_PAGES - 2 * SLOT_PAGES}};
	struct world *w = calloc(1, sizeof(*w));

	w->fail_slot = N_SLOTS;
	if (!w || guest_ram_new(layout, 2, &w->ram, NULL) < 0 ||
		write_log_new(w->ram, &backend, w, slots, N_SLOTS, &w->log) < 0 ||
		hinted_new(w->ram, w->log, &w->hinted) < 0)
		return -1;
	*state = w;
	return guest_ram_can_freeze(w->ram) ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	hinted_free(w->hinted);
	write_log_free(w->log);
	for (unsigned i = 0; i < N_SLOTS; i++)
		assert_false(w->on[i]);
	guest_ram_free(w->ram);
	free(w);
	return 0;
}

/* The guest writes, and KVM notes it when it logs. */
static void guest_writes(struct world *w, uint64_t page, uint8_t value)
{
	memset(guest_ram_page_ptr(w->ram, page), value, PAGE_BYTES);
	if (w->on[page / SLOT_PAGES])
		w->dirty[page / SLOT_PAGES][page % SLOT_PAGES / 64] |= UINT64_C(1) << page % 64;
}

static void fill(struct world *w, uint64_t page, uint64_t n)
{
	for (uint64_t i = page; i < page + n; i++)
		guest_writes(w, i, (uint8_t)(i | 1));
}

static void drop(struct world *w, uint64_t page, uint64_t n)
{
	struct hinted_range range = {page, n};

	hinted_drop(w->hinted, &range, 1, &w->counts);
}

static struct guest_ram_census census(struct world *w)
{
	struct guest_ram_census c;

	assert_int_equal(guest_ram_census(w->ram, &c), 0);
	return c;
}

static bool is_dropped(struct world *w, uint64_t page)
{
	uint64_t entry;

	assert_int_equal(guest_ram_pagemap(w->ram, page, 1, &entry), 0);
	return !(entry >> 62);
}

static void drops_what_was_not_written_since(void **state)
{
	struct world *w = *state;

	fill(w, 0, 1024);
	assert_int_equal(hinted_begin(w->hinted), 0);
	drop(w, 100, 800);
	assert_int_equal(w->counts.dropped_pages, 800);
	assert_int_equal(census(w).hole_pages[HOLE_HINTED], 800);
	assert_int_equal(census(w).freed_pages[HOLE_HINTED], 800);
	assert_int_equal(census(w).private_pages, 224);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 99), 99 | 1);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 900), (uint8_t)(900 | 1));
	assert_int_equal(*guest_ram_page_ptr(w->ram, 100), 0);
	hinted_end(w->hinted);
}

static void keeps_what_the_guest_wrote_since(void **state)
{
	struct world *w = *state;

	fill(w, 0, 512);
	assert_int_equal(hinted_begin(w->hinted), 0);
	guest_writes(w, 7, 0xaa);
	guest_writes(w, 9, 0xbb);
	drop(w, 0, 512);
	assert_int_equal(w->counts.dropped_pages, 510);
	assert_int_equal(w->counts.written_pages, 2);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 7), 0xaa);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 9), 0xbb);
	assert_true(is_dropped(w, 8));
	hinted_end(w->hinted);
}

static void keeps_what_was_written_however_often_it_is_hinted(void **state)
{
	struct world *w = *state;

	fill(w, 0, 64);
	assert_int_equal(hinted_begin(w->hinted), 0);
	guest_writes(w, 7, 0xaa);
	drop(w, 0, 1); /* fetches the bit of page 7 too */
	drop(w, 0, 64);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 7), 0xaa);
	assert_int_equal(w->counts.dropped_pages, 63);
	hinted_end(w->hinted);
	/* the next run knows nothing of it: the guest hinted it after that */
	assert_int_equal(hinted_begin(w->hinted), 0);
	drop(w, 0, 64);
	assert_int_equal(w->counts.dropped_pages, 64);
	hinted_end(w->hinted);
}

static void keeps_what_a_device_wrote_since(void **state)
{
	struct world *w = *state;

	fill(w, 0, 512);
	fill(w, CHUNKS * CHUNK_PAGES, 8);
	assert_int_equal(hinted_begin(w->hinted), 0);
	guest_ram_wrote(w->ram, GPA(5 * PAGE_BYTES + 4095), 2); /* two pages */
	guest_ram_wrote(w->ram, GPA(SECOND_GPA), 1);
	drop(w, 0, 512);
	drop(w, CHUNKS * CHUNK_PAGES, 8);
	assert_int_equal(w->counts.written_pages, 3);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 5), 5);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 6), 7);
	assert_true(is_dropped(w, 4) && is_dropped(w, 7));
	assert_true(is_dropped(w, CHUNKS * CHUNK_PAGES + 1));
	assert_false(is_dropped(w, CHUNKS * CHUNK_PAGES));
	hinted_end(w->hinted);
}

static void forgets_what_was_written_before_it_began(void **state)
{
	struct world *w = *state;

	fill(w, 0, 8);
	guest_ram_wrote(w->ram, GPA(0), 8 * PAGE_BYTES);
	assert_int_equal(hinted_begin(w->hinted), 0);
	drop(w, 0, 8);
	assert_int_equal(w->counts.dropped_pages, 8);
	hinted_end(w->hinted);
}

static void direct_io_keeps_pages_while_and_after(void **state)
{
	struct world *w = *state;

	fill(w, 0, 8);
	assert_int_equal(hinted_begin(w->hinted), 0);
	assert_int_equal(guest_ram_busy(w->ram, GPA(PAGE_BYTES), PAGE_BYTES), 0);
	drop(w, 0, 4);
	assert_false(is_dropped(w, 1));
	guest_ram_done(w->ram, GPA(PAGE_BYTES), PAGE_BYTES);
	drop(w, 0, 4);
	assert_false(is_dropped(w, 1));
	assert_int_equal(w->counts.dropped_pages, 3);
	hinted_end(w->hinted);
}

/* A vCPU whose write is done but not yet noted: the note is there when it has settled. */
static void note_late(struct world *w)
{
	w->dirty[0][0] |= 1 << 3;
}

static void waits_for_notes_of_vcpus_after_the_freeze(void **state)
{
	struct world *w = *state;

	fill(w, 0, 8);
	assert_int_equal(hinted_begin(w->hinted), 0);
	w->at_settle = note_late;
	drop(w, 0, 8);
	assert_int_equal(w->settles, 1);
	assert_false(is_dropped(w, 3));
	assert_int_equal(w->counts.dropped_pages, 7);
	hinted_end(w->hinted);
}

struct writer {
	struct world *w;
	pthread_t thread;
	atomic_bool through;
};

static struct writer writer;

/* As a vCPU would; the kernel is what orders it, which the thread sanitizer does not see. */
__attribute__((no_sanitize("thread"))) static void *write_word(void *arg)
{
	*(volatile uint64_t *)guest_ram_page_ptr(writer.w->ram, 2) = 0x1234;
	atomic_store(&writer.through, true);
	return NULL;
}

static void start_writer(struct world *w)
{
	writer.w = w;
	atomic_init(&writer.through, false);
	assert_int_equal(pthread_create(&writer.thread, NULL, write_word, NULL), 0);
	clock_sleep_us(20000);
	assert_false(atomic_load(&writer.through)); /* frozen */
}

static void a_write_that_comes_late_goes_to_the_new_page(void **state)
{
	struct world *w = *state;

	fill(w, 0, 8);
	assert_int_equal(hinted_begin(w->hinted), 0);
	w->at_settle = start_writer;
	drop(w, 0, 8);
	pthread_join(writer.thread, NULL);
	assert_int_equal(w->counts.dropped_pages, 8);
	assert_int_equal(*(uint64_t *)guest_ram_page_ptr(w->ram, 2), 0x1234);
	assert_int_equal(((uint64_t *)guest_ram_page_ptr(w->ram, 2))[1], 0);
	hinted_end(w->hinted);
}

static void drops_nothing_when_a_vcpu_does_not_settle(void **state)
{
	struct world *w = *state;

	fill(w, 0, 1024);
	assert_int_equal(hinted_begin(w->hinted), 0);
	w->settle_result = -ETIMEDOUT;
	drop(w, 0, 1024);
	assert_int_equal(w->counts.dropped_pages, 0);
	assert_int_equal(w->counts.unsettled_pages, 1024);
	guest_writes(w, 5, 1); /* thawed, or this would wait for ever */
	hinted_end(w->hinted);
}

static void settles_and_fetches_once_for_many_blocks(void **state)
{
	struct world *w = *state;
	struct hinted_range ranges[] = {
		{40 * CHUNK_PAGES, CHUNK_PAGES}, {CHUNK_PAGES / 2, CHUNK_PAGES}, {8, 8}, {12, 8}};

	fill(w, 0, 2 * CHUNK_PAGES);
	fill(w, 40 * CHUNK_PAGES, CHUNK_PAGES);
	assert_int_equal(hinted_begin(w->hinted), 0);
	hinted_drop(w->hinted, ranges, ARRAY_SIZE(ranges), &w->counts);
	assert_int_equal(w->counts.dropped_pages, 2 * CHUNK_PAGES + 12);
	assert_int_equal(w->settles, 1);
	assert_int_equal(w->fetches, 2); /* two slots */
	/* nothing is there any more: nobody is held up for it */
	hinted_drop(w->hinted, ranges, ARRAY_SIZE(ranges), &w->counts);
	assert_int_equal(w->settles, 1);
	hinted_end(w->hinted);
}

static void handles_more_than_a_batch(void **state)
{
	struct world *w = *state;

	fill(w, 0, CHUNKS * CHUNK_PAGES);
	assert_int_equal(hinted_begin(w->hinted), 0);
	guest_writes(w, 79 * CHUNK_PAGES, 0xcc);
	drop(w, 0, CHUNKS * CHUNK_PAGES);
	assert_int_equal(w->counts.dropped_pages, CHUNKS * CHUNK_PAGES - 1);
	assert_int_equal(w->settles, 3);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 79 * CHUNK_PAGES), 0xcc);
	hinted_end(w->hinted);
}

static void begins_not_at_all_or_everywhere(void **state)
{
	struct world *w = *state;

	w->fail_slot = 2;
	assert_int_equal(hinted_begin(w->hinted), -ENOMEM);
	assert_false(w->on[0] || w->on[1] || w->on[2]);
	w->fail_slot = N_SLOTS;
	assert_int_equal(hinted_begin(w->hinted), 0);
	assert_true(w->on[0] && w->on[1] && w->on[2]);
	hinted_end(w->hinted);
	assert_false(w->on[0] || w->on[1] || w->on[2]);
}

static void users_of_the_log_do_not_take_from_each_other(void **state)
{
	struct world *w = *state;
	uint64_t bits[1], end;

	fill(w, 0, 64);
	assert_int_equal(write_log_start(w->log, WRITE_LOG_SCANNER, 0, 64), 0);
	assert_true(w->on[0] && !w->on[1]);
	guest_writes(w, 1, 1);
	guest_ram_wrote(w->ram, GPA(2 * PAGE_BYTES), 1);
	assert_int_equal(hinted_begin(w->hinted), 0); /* forgets these, for itself */
	guest_writes(w, 3, 3);
	drop(w, 0, 64);
	assert_int_equal(w->counts.dropped_pages, 63);
	assert_int_equal(write_log_fetch(w->log, 0, &end), 0);
	assert_int_equal(end, SLOT_PAGES);
	write_log_take(w->log, WRITE_LOG_SCANNER, 0, 64, bits);
	assert_int_equal(bits[0], 1 << 1 | 1 << 2 | 1 << 3);
	write_log_take(w->log, WRITE_LOG_SCANNER, 0, 64, bits);
	assert_int_equal(bits[0], 0);
	hinted_end(w->hinted);
	assert_true(w->on[0] && !w->on[1]); /* the scanner's */
	write_log_stop(w->log, WRITE_LOG_SCANNER, 0, 64);
	assert_false(w->on[0]);
}

static void drops_swapped_pages_too(void **state)
{
	struct world *w = *state;
	struct zram_swap swap;

	if (zram_swap_init(&swap, 64 * MIB) < 0) {
		print_message("# skipped: no zram for swap here\n");
		zram_swap_done(&swap);
		skip();
	}
	fill(w, 0, CHUNK_PAGES);
	assert_int_equal(
		madvise(guest_ram_page_ptr(w->ram, 0), CHUNK_BYTES, MADV_PAGEOUT), 0);
	assert_true(census(w).swapped_pages > 0);
	assert_int_equal(hinted_begin(w->hinted), 0);
	guest_writes(w, 3, 0xdd);
	assert_int_equal(
		madvise(guest_ram_page_ptr(w->ram, 0), CHUNK_BYTES, MADV_PAGEOUT), 0);
	drop(w, 0, CHUNK_PAGES);
	assert_int_equal(w->counts.dropped_pages, CHUNK_PAGES - 1);
	assert_int_equal(census(w).hole_pages[HOLE_HINTED], CHUNK_PAGES - 1);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 3), 0xdd);
	hinted_end(w->hinted);
	zram_swap_done(&swap);
}

#define of_world(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		of_world(drops_what_was_not_written_since),
		of_world(keeps_what_the_guest_wrote_since),
		of_world(keeps_what_was_written_however_often_it_is_hinted),
		of_world(keeps_what_a_device_wrote_since),
		of_world(forgets_what_was_written_before_it_began),
		of_world(direct_io_keeps_pages_while_and_after),
		of_world(waits_for_notes_of_vcpus_after_the_freeze),
		of_world(a_write_that_comes_late_goes_to_the_new_page),
		of_world(drops_nothing_when_a_vcpu_does_not_settle),
		of_world(settles_and_fetches_once_for_many_blocks),
		of_world(handles_more_than_a_batch),
		of_world(begins_not_at_all_or_everywhere),
		of_world(users_of_the_log_do_not_take_from_each_other),
		of_world(drops_swapped_pages_too),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("hinted", tests, NULL, NULL);
}
