/*
 * Claims about the sharing primitive, one at a time; all at once with threads is
 * test-freeze-torture.c.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "dedup/freeze.h"
#include "dedup/page-hash.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/pool-proto.h"
#include "tests/guest/zram.h"

#define POOL_PAGES 1024

struct world {
	struct guest_ram *ram;
	int pool_fd;
	uint8_t *pool; /* writable here: the test is the pool */
	struct freeze f;
};

static int setup(void **state)
{
	const struct guest_ram_layout layout = {.gpa = 0, .bytes = 2 * CHUNK_BYTES};
	struct world *w = calloc(1, sizeof(*w));

	if (!w || guest_ram_new(&layout, 1, &w->ram, NULL) < 0)
		return -1;
	w->pool_fd = memfd_create("pool", MFD_CLOEXEC);
	if (ftruncate(w->pool_fd, POOL_PAGES * PAGE_BYTES) < 0)
		return -1;
	w->pool = mmap(
		NULL, POOL_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, w->pool_fd, 0);
	for (unsigned i = 0; i < POOL_PAGES; i++)
		memset(w->pool + i * PAGE_BYTES, (int)(i % 251) + 1, PAGE_BYTES);
	*state = w;
	return guest_ram_can_freeze(w->ram) ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	guest_ram_free(w->ram);
	munmap(w->pool, POOL_PAGES * PAGE_BYTES);
	close(w->pool_fd);
	free(w);
	return 0;
}

/* Pages [page, page + n) of the guest get the content of the pool's slots from slot on. */
static void fill(struct world *w, uint64_t page, unsigned n, uint32_t slot)
{
	memcpy(guest_ram_page_ptr(w->ram, page), w->pool + slot * PAGE_BYTES, n * PAGE_BYTES);
}

static void freeze(struct world *w, uint64_t page, unsigned n)
{
	uint64_t wanted[FREEZE_WORDS] = {0};

	for (uint64_t i = page % CHUNK_PAGES; i < page % CHUNK_PAGES + n; i++)
		wanted[i / 64] |= UINT64_C(1) << (i % 64);
	assert_int_equal(freeze_begin(&w->f, w->ram, page), 0);
	freeze_pages(&w->f, wanted);
}

static int map(struct world *w, unsigned i, unsigned n, uint32_t slot)
{
	return freeze_map(&w->f, i, n, w->pool_fd, slot * PAGE_BYTES, slot);
}

static void share(struct world *w, uint64_t page, unsigned n, uint32_t slot)
{
	fill(w, page, n, slot);
	freeze(w, page, n);
	assert_int_equal(map(w, page % CHUNK_PAGES, n, slot), 0);
	freeze_end(&w->f);
}

static struct guest_ram_census census(struct world *w)
{
	struct guest_ram_census c;

	assert_int_equal(guest_ram_census(w->ram, &c), 0);
	return c;
}

/* A thread that writes one byte and says when it got through. */
struct writer {
	pthread_t thread;
	volatile uint8_t *p;
	_Atomic pid_t tid; /* 0: not there yet */
	atomic_bool through;
};

/* As a guest would: the kernel is what orders it, which the thread sanitizer does not see. */
__attribute__((no_sanitize("thread"))) static void *write_byte(void *arg)
{
	struct writer *writer = arg;

	atomic_store(&writer->tid, gettid());
	*writer->p = 0xee;
	atomic_store(&writer->through, true);
	return NULL;
}

static bool sleeps(pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	const char *state;
	char path[64];
	size_t size;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	if (fd_read_file_at(AT_FDCWD, path, 1024, &text, &size) < 0)
		return false;
	state = strrchr(text, ')');
	return state && state[1] == ' ' && state[2] != 'R';
}

/* Returns when it has come as far as it comes: it waits for the page, or is through. */
static void writer_start(struct writer *writer, uint8_t *p)
{
	writer->p = p;
	atomic_init(&writer->through, false);
	atomic_init(&writer->tid, 0);
	assert_int_equal(pthread_create(&writer->thread, NULL, write_byte, writer), 0);
	while (!atomic_load(&writer->tid))
		clock_sleep_us(1000);
	while (!atomic_load(&writer->through) && !sleeps(atomic_load(&writer->tid)))
		clock_sleep_us(1000);
}

static void holds_a_writer_until_the_end(void **state)
{
	struct world *w = *state;
	struct writer writer;

	fill(w, 5, 1, 0);
	freeze(w, 5, 1);
	writer_start(&writer, guest_ram_page_ptr(w->ram, 5));
	clock_sleep_us(50000);
	assert_false(atomic_load(&writer.through));
	assert_int_equal(*guest_ram_page_ptr(w->ram, 5), 1);
	freeze_end(&w->f);
	pthread_join(writer.thread, NULL);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 5), 0xee);
}

static void names_each_waiting_writer_once_for_each_wait(void **state)
{
	struct world *w = *state;
	uint64_t end_us = clock_monotonic_us() + 10 * US_PER_S;
	struct writer writer;
	uint32_t tids[4];
	size_t n = 0;

	for (unsigned turn = 0; turn < 2; turn++) {
		fill(w, 5, 1, 0);
		freeze(w, 5, 1);
		assert_int_equal(freeze_waiting(w->ram, tids, 4), 0);
		writer_start(&writer, guest_ram_page_ptr(w->ram, 5));
		while (n == 0 && clock_monotonic_us() < end_us)
			n = freeze_waiting(w->ram, tids, 4);
		assert_int_equal(n, 1);
		assert_int_not_equal(tids[0], gettid());
		assert_int_equal(freeze_waiting(w->ram, tids, 4), 0);
		assert_false(atomic_load(&writer.through)); /* looking wakes nobody */
		freeze_end(&w->f);
		pthread_join(writer.thread, NULL);
		n = 0;
	}
}

static void a_writer_that_slept_through_a_map_writes_its_own_copy(void **state)
{
	struct world *w = *state;
	struct writer writer;

	fill(w, 5, 1, 0);
	freeze(w, 5, 1);
	writer_start(&writer, guest_ram_page_ptr(w->ram, 5));
	clock_sleep_us(20000);
	assert_int_equal(map(w, 5, 1, 0), 0);
	clock_sleep_us(20000);
	assert_false(atomic_load(&writer.through));
	freeze_end(&w->f);
	pthread_join(writer.thread, NULL);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 5), 0xee);
	assert_int_equal(w->pool[0], 1);
	assert_int_equal(census(w).broken_pages, 1);
}

static void a_writer_that_slept_through_a_drop_writes_a_fresh_page(void **state)
{
	struct world *w = *state;
	struct writer writer;

	memset(guest_ram_page_ptr(w->ram, 5), 0, PAGE_BYTES);
	freeze(w, 5, 1);
	writer_start(&writer, guest_ram_page_ptr(w->ram, 5));
	clock_sleep_us(20000);
	assert_int_equal(freeze_drop(&w->f, 5, 1), 0);
	freeze_end(&w->f);
	pthread_join(writer.thread, NULL);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 5), 0xee);
	assert_int_equal(guest_ram_page_ptr(w->ram, 5)[1], 0);
}

static void freezes_no_hole_and_no_page_of_the_pool(void **state)
{
	struct world *w = *state;
	const volatile uint8_t *p = guest_ram_page_ptr(w->ram, 12);

	share(w, 0, 4, 0);
	fill(w, 10, 1, 0);
	(void)*p; /* now the kernel's zero page is there */
	(void)*(volatile uint8_t *)guest_ram_page_ptr(w->ram, 1); /* and here the pool's */
	freeze(w, 0, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(freeze_is_frozen(&w->f, i), i == 10);
	freeze_end(&w->f);
	for (unsigned i = 0; i < 20; i++)
		*guest_ram_page_ptr(w->ram, i) =
			1; /* hangs for ever when something stayed protected */
}

/*
 * As when the kernel was out of memory for the registration, or when a hole is filled between the
 * freeze and the look at the pagemap: the page is there, and nothing holds its writers.
 */
static void a_page_that_is_not_protected_is_not_frozen(void **state)
{
	struct world *w = *state;
	uint8_t *p = guest_ram_page_ptr(w->ram, 1);

	fill(w, 0, 3, 0);
	assert_ptr_equal(mmap(p, PAGE_BYTES, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		p);
	fill(w, 1, 1, 1);
	freeze(w, 0, 3);
	assert_true(freeze_is_frozen(&w->f, 0));
	assert_false(freeze_is_frozen(&w->f, 1));
	assert_true(freeze_is_frozen(&w->f, 2));
	freeze_end(&w->f);
	memset(guest_ram_page_ptr(w->ram, 0), 1, 3 * PAGE_BYTES); /* nobody stays held */
}

static void freezes_no_busy_page(void **state)
{
	struct world *w = *state;

	fill(w, 0, 3, 0);
	assert_int_equal(guest_ram_busy(w->ram, GPA(PAGE_BYTES), 1), 0);
	freeze(w, 0, 3);
	assert_true(freeze_is_frozen(&w->f, 0));
	assert_false(freeze_is_frozen(&w->f, 1));
	assert_true(freeze_is_frozen(&w->f, 2));
	freeze_end(&w->f);
	guest_ram_done(w->ram, GPA(PAGE_BYTES), 1);
}

struct io {
	pthread_t thread;
	struct guest_ram *ram;
	atomic_bool busy;
};

static void *begin_io(void *arg)
{
	struct io *io = arg;

	if (guest_ram_busy(io->ram, GPA(0), 1) == 0)
		atomic_store(&io->busy, true);
	return NULL;
}

static void direct_io_waits_for_the_end(void **state)
{
	struct world *w = *state;
	struct io io = {.ram = w->ram};

	fill(w, 0, 1, 0);
	freeze(w, 0, 1);
	assert_int_equal(pthread_create(&io.thread, NULL, begin_io, &io), 0);
	clock_sleep_us(20000);
	assert_false(atomic_load(&io.busy));
	freeze_end(&w->f);
	pthread_join(io.thread, NULL);
	assert_true(atomic_load(&io.busy));
	guest_ram_done(w->ram, GPA(0), 1);
}

static void refuses_what_is_not_frozen(void **state)
{
	struct world *w = *state;

	fill(w, 0, 3, 0);
	fill(w, 509, 3, 0);
	freeze(w, 0, 2);
	assert_int_equal(map(w, 0, 3, 0), -EINVAL);
	assert_int_equal(map(w, 0, 0, 0), -EINVAL);
	assert_int_equal(map(w, CHUNK_PAGES, 1, 0), -EINVAL);
	assert_int_equal(freeze_drop(&w->f, 1, 2), -EINVAL);
	assert_int_equal(freeze_restore(&w->f, 0, 1), -EINVAL); /* no pool mapping there */
	assert_int_equal(map(w, 0, 2, 0), 0);
	assert_int_equal(map(w, 0, 2, 0), -EINVAL);
	freeze_end(&w->f);
	freeze(w, 509, 3);
	assert_int_equal(map(w, 509, 4, 0), -EINVAL);
	assert_int_equal(map(w, 509, 3, 0), 0);
	freeze_end(&w->f);
	assert_int_equal(census(w).shared_pages, 5);
}

static void counts_mappings_and_pages_as_they_are(void **state)
{
	struct world *w = *state;
	struct guest_ram_census c;

	share(w, 10, 4, 100);
	c = census(w);
	assert_int_equal(c.mappings, 3);
	assert_int_equal(c.shared_pages, 4);
	assert_int_equal(c.private_pages, 0);
	share(w, 14, 4, 104); /* goes on where the other ends: the kernel joins them */
	assert_int_equal(census(w).mappings, 3);
	share(w, 18, 1, 7);
	assert_int_equal(census(w).mappings, 4);
	*guest_ram_page_ptr(w->ram, 12) = 0xee;
	c = census(w);
	assert_int_equal(c.shared_pages, 8);
	assert_int_equal(c.broken_pages, 1);
	assert_int_equal(c.private_pages, 1);
}

static void a_broken_page_goes_back_and_can_be_written_again(void **state)
{
	struct world *w = *state;
	uint8_t *p = guest_ram_page_ptr(w->ram, 11);

	share(w, 10, 4, 100);
	for (unsigned round = 0; round < 3; round++) {
		p[7] = 0xee;
		assert_int_equal(census(w).broken_pages, 1);
		p[7] = 102;
		freeze(w, 11, 1);
		assert_true(freeze_is_frozen(&w->f, 11));
		assert_true(page_equal(p, w->pool + 101 * PAGE_BYTES));
		assert_int_equal(freeze_restore(&w->f, 11, 1), 0);
		freeze_end(&w->f);
		assert_int_equal(census(w).broken_pages, 0);
		assert_int_equal(census(w).shared_pages, 4);
		assert_int_equal(p[7], 102);
	}
}

static void a_zero_page_in_a_pool_mapping_becomes_a_hole(void **state)
{
	struct world *w = *state;
	uint8_t *p = guest_ram_page_ptr(w->ram, 11);
	struct guest_ram_census c;
	uint32_t slot;

	share(w, 10, 4, 100);
	memset(p, 0, PAGE_BYTES);
	freeze(w, 11, 1);
	assert_int_equal(freeze_drop(&w->f, 11, 1), 0);
	freeze_end(&w->f);
	c = census(w);
	assert_int_equal(c.hole_pages[HOLE_ZERO], 1);
	assert_int_equal(c.freed_pages[HOLE_ZERO], 1);
	assert_int_equal(c.shared_pages, 3);
	assert_int_equal(guest_ram_take_released(w->ram, &slot, 1), 1);
	assert_int_equal(slot, 101);
	assert_int_equal(guest_ram_take_released(w->ram, &slot, 1), 0);
	assert_int_equal(p[0], 0);
	/* The anonymous page there can be frozen like any other. */
	p[0] = 1;
	freeze(w, 11, 1);
	assert_true(freeze_is_frozen(&w->f, 11));
	freeze_end(&w->f);
	p[0] = 2;
}

static void a_discard_releases_what_was_mapped(void **state)
{
	struct world *w = *state;
	uint32_t slots[8];
	uint64_t calls = 0;

	share(w, 10, 4, 100);
	assert_int_equal(guest_ram_discard(w->ram, 8, 4, HOLE_BALLOON, &calls), 0);
	assert_int_equal(calls, 2);
	assert_int_equal(guest_ram_take_released(w->ram, slots, ARRAY_SIZE(slots)), 2);
	assert_int_equal(slots[0] + slots[1], 100 + 101);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 10), 0);
	assert_int_equal(*guest_ram_page_ptr(w->ram, 12), 103);
	assert_int_equal(census(w).freed_pages[HOLE_BALLOON], 2);
}

static void an_orphaned_page_stays_and_is_released_to_nobody(void **state)
{
	struct world *w = *state;
	uint32_t slot;

	share(w, 10, 4, 100);
	guest_ram_orphan_slots(w->ram);
	assert_int_equal(census(w).shared_pages, 4);
	assert_false(freeze_slot_of(w->ram, 10, &slot));
	assert_int_equal(guest_ram_discard(w->ram, 10, 4, HOLE_BALLOON, NULL), 0);
	assert_int_equal(guest_ram_take_released(w->ram, &slot, 1), 0);
}

/* All RAM is paged out between the freeze and the decision, as memd may do. */
static void a_frozen_page_stays_frozen_through_swap(void **state)
{
	struct world *w = *state;
	_cleanup_(zram_swap_done) struct zram_swap z = ZRAM_SWAP_NONE;
	struct writer writer;
	uint8_t *p = guest_ram_page_ptr(w->ram, 5);
	int r = zram_swap_init(&z, 64 * MIB);

	if (r < 0) {
		printf("# skipped: no zram for swap here (%s)\n", strerror(-r));
		skip();
	}
	fill(w, 4, 3, 4);
	freeze(w, 4, 3);
	writer_start(&writer, p);
	for (unsigned i = 0; i < 100 && census(w).swapped_pages < 3; i++)
		assert_int_equal(
			madvise(guest_ram_page_ptr(w->ram, 0), CHUNK_BYTES, MADV_PAGEOUT), 0);
	assert_int_equal(census(w).swapped_pages, 3);
	assert_true(page_equal(p, w->pool + 5 * PAGE_BYTES)); /* comes back */
	clock_sleep_us(20000);
	assert_false(atomic_load(&writer.through));
	assert_int_equal(map(w, 4, 3, 4), 0); /* the two others are swapped still */
	freeze_end(&w->f);
	pthread_join(writer.thread, NULL);
	assert_int_equal(census(w).shared_pages, 2);
	assert_int_equal(p[0], 0xee);
	assert_int_equal(p[1], 6);
	assert_int_equal(p[PAGE_BYTES], 7);
}

#define WITH_WORLD(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WORLD(holds_a_writer_until_the_end),
		WITH_WORLD(names_each_waiting_writer_once_for_each_wait),
		WITH_WORLD(a_writer_that_slept_through_a_map_writes_its_own_copy),
		WITH_WORLD(a_writer_that_slept_through_a_drop_writes_a_fresh_page),
		WITH_WORLD(freezes_no_hole_and_no_page_of_the_pool),
		WITH_WORLD(a_page_that_is_not_protected_is_not_frozen),
		WITH_WORLD(freezes_no_busy_page),
		WITH_WORLD(direct_io_waits_for_the_end),
		WITH_WORLD(refuses_what_is_not_frozen),
		WITH_WORLD(counts_mappings_and_pages_as_they_are),
		WITH_WORLD(a_broken_page_goes_back_and_can_be_written_again),
		WITH_WORLD(a_zero_page_in_a_pool_mapping_becomes_a_hole),
		WITH_WORLD(a_discard_releases_what_was_mapped),
		WITH_WORLD(an_orphaned_page_stays_and_is_released_to_nobody),
		WITH_WORLD(a_frozen_page_stays_frozen_through_swap),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("freeze", tests, NULL, NULL);
}
