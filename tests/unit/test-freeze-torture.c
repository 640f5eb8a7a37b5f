/*
 * Everything at once, on one guest's RAM: writers that verify every word they wrote, direct I/O
 * into busy pages, discards, page-out, and a sharer that maps, drops and restores as fast as it
 * can. A page that ever holds what its owner did not write is counted. The second test leaves the
 * freeze out (it thaws at once): it must see corruption, or the first one proves nothing.
 * MEMD_TORTURE_MS sets how long each runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "dedup/freeze.h"
#include "dedup/guest-ram-private.h"
#include "dedup/page-hash.h"
#include "memd/base/clock.h"
#include "memd/base/pagemap.h"
#include "tests/guest/zram.h"

#define RAM_CHUNKS   8
#define RAM_PAGES    (RAM_CHUNKS * CHUNK_PAGES)
#define N_WRITERS    3
#define N_OWNERS     (N_WRITERS + 1) /* the last one is the device */
#define OWNED_RUN    8 /* pages in a row that one owner has, so that runs occur */
#define POOL_SLOTS   64
#define IO_PAGES_MAX 4
#define PAGE_WORDS   (PAGE_BYTES / sizeof(uint64_t))
#define STILL_US     (3 * US_PER_S)

/*
 * Guest memory is written by some and read by others at the same time on purpose: not the
 * sanitizer's business.
 */
#define GUEST_ACCESS __attribute__((no_sanitize("thread"), noinline))

/* What is left out, so that it is seen that the torture would see it. */
enum left_out {
	NOTHING,
	THE_FREEZE,
	THE_COMPARISON,
	THE_WAKE,
	THE_BUSY_RULE,
};

struct torture {
	enum left_out left_out;
	struct guest_ram *ram;
	int pagemap_fd;
	int pool_fd;
	uint8_t *pool;
	int io_fd; /* a file of the pool's content, O_DIRECT; -1: none here */
	bool with_pageout;
	atomic_bool stop;
	_Atomic uint64_t verified, corrupt, io, discarded;
	_Atomic uint64_t mapped, dropped, restored, thawed;
	uint64_t verified_before, moved_us; /* of the thread that waits */
	bool stood_still;
};

struct thread {
	struct torture *t;
	pthread_t id;
	unsigned number;
	uint64_t random;
	/*
	 * What each page of this owner must hold: content, and one word that was changed since
	 * (PAGE_WORDS: none).
	 */
	uint64_t content[RAM_PAGES];
	uint32_t word[RAM_PAGES];
};

/* xorshift64*, any state but 0 */
static uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/*
 * Content 0 is the zero page, 1..POOL_SLOTS the pool's slots, everything above is unique. Word 0
 * names it.
 */
static uint64_t content_word(uint64_t content, unsigned i)
{
	if (content == 0)
		return 0;
	return i == 0 ? content : (content + i) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t changed_word(uint64_t content, unsigned i)
{
	return ~content_word(content, i);
}

GUEST_ACCESS static void page_write(volatile uint64_t *page, uint64_t content)
{
	for (unsigned i = 0; i < PAGE_WORDS; i++)
		page[i] = content_word(content, i);
}

GUEST_ACCESS static bool page_holds(const volatile uint64_t *page, uint64_t content, unsigned word)
{
	bool good = true;

	for (unsigned i = 0; i < PAGE_WORDS; i++)
		good &= page[i] ==
			(i == word ? changed_word(content, i) : content_word(content, i));
	return good;
}

GUEST_ACCESS static void word_write(volatile uint64_t *page, unsigned word, uint64_t value)
{
	page[word] = value;
}

GUEST_ACCESS static uint64_t word_read(const volatile uint64_t *page, unsigned word)
{
	return page[word];
}

static uint64_t pick_content(struct thread *th)
{
	uint64_t r = random_next(&th->random);

	switch (r % 8) {
	case 0:
	case 1:
		return 0;
	case 2:
	case 3:
		return r | UINT64_C(1) << 63;
	default:
		return 1 + (r >> 32) % POOL_SLOTS;
	}
}

/* The first page of a run that this thread owns. */
static uint64_t pick_run(struct thread *th)
{
	uint64_t runs = RAM_PAGES / OWNED_RUN / N_OWNERS;

	return (random_next(&th->random) % runs * N_OWNERS + th->number) * OWNED_RUN;
}

static void verify(struct thread *th, uint64_t page)
{
	const uint64_t *p = (const uint64_t *)(void *)guest_ram_page_ptr(th->t->ram, page);

	atomic_fetch_add(&th->t->verified, 1);
	if (page_holds(p, th->content[page], th->word[page]))
		return;
	atomic_fetch_add(&th->t->corrupt, 1);
	/* counted once: from now on it is to be what the next write makes it */
	th->content[page] = 0;
	th->word[page] = PAGE_WORDS;
	page_write((uint64_t *)(void *)guest_ram_page_ptr(th->t->ram, page), 0);
}

static void write_pages(struct thread *th, uint64_t page, unsigned n, uint64_t content)
{
	for (unsigned i = 0; i<n; i++, content += content> 0 && content < POOL_SLOTS) {
		page_write((uint64_t *)(void *)guest_ram_page_ptr(th->t->ram, page + i), content);
		th->content[page + i] = content;
		th->word[page + i] = PAGE_WORDS;
	}
}

/* Changes one word, or changes it back: what breaks a shared page, and makes it equal again. */
static void write_word(struct thread *th, uint64_t page)
{
	uint64_t *p = (uint64_t *)(void *)guest_ram_page_ptr(th->t->ram, page);
	uint32_t word = th->word[page];

	if (word < PAGE_WORDS) {
		word_write(p, word, content_word(th->content[page], word));
		th->word[page] = PAGE_WORDS;
	} else {
		word = 1 + (uint32_t)(random_next(&th->random) % (PAGE_WORDS - 1));
		word_write(p, word, changed_word(th->content[page], word));
		th->word[page] = word;
	}
}

static void discard(struct thread *th, uint64_t page, unsigned n)
{
	if (guest_ram_discard(th->t->ram, page, n, HOLE_BALLOON, NULL) < 0)
		return;
	for (unsigned i = 0; i < n; i++) {
		th->content[page + i] = 0;
		th->word[page + i] = PAGE_WORDS;
	}
	atomic_fetch_add(&th->t->discarded, n);
}

static void *writer_main(void *arg)
{
	struct thread *th = arg;

	while (!atomic_load(&th->t->stop)) {
		uint64_t page = pick_run(th), r = random_next(&th->random);
		unsigned n = 1 + (unsigned)(r >> 8) % OWNED_RUN;

		for (unsigned i = 0; i < n; i++)
			verify(th, page + i);
		if (r % 64 == 0)
			discard(th, page, n);
		else if (r % 64 < 16)
			write_pages(th, page, n, pick_content(th));
		else
			for (unsigned i = 0; i < n; i++)
				write_word(th, page + i);
	}
	return NULL;
}

/* The file holds the pool's slots in order, after a zero page: content c lies at page c. */
static void *device_main(void *arg)
{
	struct thread *th = arg;
	struct torture *t = th->t;

	while (!atomic_load(&t->stop)) {
		uint64_t page = pick_run(th), r = random_next(&th->random);
		unsigned n = 1 + (unsigned)(r >> 8) % IO_PAGES_MAX;
		uint64_t content = (r >> 16) % (POOL_SLOTS - IO_PAGES_MAX);
		gpa_t gpa = GPA(page * PAGE_BYTES);

		for (unsigned i = 0; i < n; i++)
			verify(th, page + i);
		if (t->left_out != THE_BUSY_RULE && guest_ram_busy(t->ram, gpa, n * PAGE_BYTES) < 0)
			break;
		if (pread(t->io_fd, guest_ram_page_ptr(t->ram, page), n * PAGE_BYTES,
			    (off_t)(content * PAGE_BYTES)) == (ssize_t)(n * PAGE_BYTES))
			for (unsigned i = 0; i < n; i++) {
				th->content[page + i] = content + i;
				th->word[page + i] = PAGE_WORDS;
				atomic_fetch_add(&t->io, 1);
			}
		if (t->left_out != THE_BUSY_RULE)
			guest_ram_done(t->ram, gpa, n * PAGE_BYTES);
	}
	return NULL;
}

static void *pageout_main(void *arg)
{
	struct thread *th = arg;

	while (!atomic_load(&th->t->stop)) {
		uint64_t page = random_next(&th->random) % RAM_CHUNKS * CHUNK_PAGES;

		madvise(guest_ram_page_ptr(th->t->ram, page), CHUNK_BYTES, MADV_PAGEOUT);
		clock_sleep_us(2000);
	}
	return NULL;
}

enum fate {
	FATE_NONE,
	FATE_DROP,
	FATE_MAP,
	FATE_RESTORE,
};

/*
 * What a page looks like. Asked twice, before the freeze and under it: only the second answer
 * counts.
 */
static enum fate judge(const struct torture *t, uint64_t page, uint32_t *ret_slot)
{
	const uint8_t *p = guest_ram_page_ptr(t->ram, page);
	uint64_t name = word_read((const uint64_t *)(const void *)p, 0);
	uint32_t mapped;

	if (page_is_zero(p))
		return FATE_DROP;
	if (name == 0 || name > POOL_SLOTS)
		return FATE_NONE;
	if (t->left_out != THE_COMPARISON && !page_equal(p, t->pool + (name - 1) * PAGE_BYTES))
		return FATE_NONE;
	*ret_slot = (uint32_t)name - 1;
	return freeze_slot_of(t->ram, page, &mapped) && mapped == *ret_slot ? FATE_RESTORE
									    : FATE_MAP;
}

/* How many pages from i on, frozen, have the same fate; slots must grow with them. */
static unsigned run_of(
	const struct torture *t, const struct freeze *f, unsigned i, enum fate fate, uint32_t slot)
{
	unsigned n = 1;
	uint32_t next;

	while (i + n < CHUNK_PAGES && freeze_is_frozen(f, i + n) &&
		judge(t, f->first_page + i + n, &next) == fate &&
		(fate != FATE_MAP || next == slot + n))
		n++;
	return n;
}

static unsigned decide(struct torture *t, struct freeze *f, unsigned i)
{
	uint32_t slot = 0;
	enum fate fate = judge(t, f->first_page + i, &slot);
	unsigned n = fate == FATE_NONE ? 1 : run_of(t, f, i, fate, slot);
	int r = -EINVAL;

	if (fate == FATE_MAP)
		r = freeze_map(f, i, n, t->pool_fd, slot * PAGE_BYTES, slot);
	else if (fate == FATE_DROP)
		r = freeze_drop(f, i, n);
	else if (fate == FATE_RESTORE)
		r = freeze_restore(f, i, n);
	if (r < 0)
		atomic_fetch_add(&t->thawed, n);
	else
		atomic_fetch_add(fate == FATE_MAP    ? &t->mapped
				 : fate == FATE_DROP ? &t->dropped
						     : &t->restored,
			n);
	return n;
}

/* What the sharer would be without the primitive: the pages count as frozen and are not. */
static void leave_the_freeze_out(struct torture *t, uint64_t chunk)
{
	for (uint64_t i = 0; i < CHUNK_PAGES; i++) {
		struct uffdio_writeprotect wp = {
			.range = {(uintptr_t)guest_ram_page_ptr(t->ram, chunk * CHUNK_PAGES + i),
				PAGE_BYTES},
		};

		ioctl(t->ram->uffd, UFFDIO_WRITEPROTECT, &wp);
	}
}

static void share_chunk(struct torture *t, struct freeze *f, uint64_t chunk)
{
	uint64_t entries[CHUNK_PAGES], wanted[FREEZE_WORDS] = {0};
	uint64_t first = chunk * CHUNK_PAGES;
	uint32_t slots[POOL_SLOTS];
	uint32_t slot;

	if (pagemap_read(t->pagemap_fd, (uintptr_t)guest_ram_page_ptr(t->ram, first), CHUNK_PAGES,
		    entries) < 0)
		return;
	for (unsigned i = 0; i < CHUNK_PAGES; i++)
		if ((entries[i] & (PAGEMAP_PRESENT | PAGEMAP_FILE)) == PAGEMAP_PRESENT &&
			judge(t, first + i, &slot) != FATE_NONE)
			wanted[i / 64] |= UINT64_C(1) << (i % 64);
	if (freeze_begin(f, t->ram, first) < 0)
		return;
	freeze_pages(f, wanted);
	if (t->left_out == THE_FREEZE)
		leave_the_freeze_out(t, chunk);
	for (unsigned i = 0, n; i < CHUNK_PAGES; i += n)
		n = freeze_is_frozen(f, i) ? decide(t, f, i) : 1;
	if (t->left_out == THE_WAKE)
		f->wake_end = 0;
	freeze_end(f);
	while (guest_ram_take_released(t->ram, slots, POOL_SLOTS) == POOL_SLOTS)
		;
}

static void *sharer_main(void *arg)
{
	struct thread *th = arg;
	struct freeze *f = calloc(1, sizeof(*f));

	while (f && !atomic_load(&th->t->stop))
		share_chunk(th->t, f, random_next(&th->random) % RAM_CHUNKS);
	free(f);
	return NULL;
}

static int make_pool(struct torture *t)
{
	t->pool_fd = memfd_create("pool", MFD_CLOEXEC);
	if (t->pool_fd < 0 || ftruncate(t->pool_fd, POOL_SLOTS * PAGE_BYTES) < 0)
		return -errno;
	t->pool = mmap(
		NULL, POOL_SLOTS * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, t->pool_fd, 0);
	if (t->pool == MAP_FAILED)
		return -errno;
	for (unsigned i = 0; i < POOL_SLOTS; i++)
		page_write((uint64_t *)(void *)(t->pool + i * PAGE_BYTES), i + 1);
	return 0;
}

/* -1 where the file system has no direct I/O. */
static int make_io_file(const struct torture *t)
{
	static const uint8_t zeros[PAGE_BYTES];
	char path[] = "memd-torture-XXXXXX";
	_cleanup_close_ int fd = mkstemp(path);
	int direct;

	if (fd < 0)
		return -1;
	direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	unlink(path);
	if (fd_pwrite_full(fd, zeros, PAGE_BYTES, 0) < 0 ||
		fd_pwrite_full(fd, t->pool, POOL_SLOTS * PAGE_BYTES, PAGE_BYTES) < 0 ||
		fsync(fd) < 0)
		cleanup_closep(&direct);
	return direct;
}

/* What is left out is seen as late as a busy machine makes it. */
static uint64_t run_ms(const struct torture *t)
{
	const char *text = getenv("MEMD_TORTURE_MS");

	return text ? strtoull(text, NULL, 10) : t->left_out ? 60000 : 4000;
}

/* Whoever still waits for a frozen page goes on, so that the test can end. */
static void wake_all(const struct torture *t)
{
	struct uffdio_range range = {
		.start = (uintptr_t)guest_ram_page_ptr(t->ram, 0),
		.len = RAM_PAGES * PAGE_BYTES,
	};

	ioctl(t->ram->uffd, UFFDIO_WAKE, &range);
}

/* Nobody has verified a page since the last call but one. */
static bool stands_still(struct torture *t)
{
	uint64_t verified = atomic_load(&t->verified), now_us = clock_monotonic_us();

	if (verified != t->verified_before) {
		t->verified_before = verified;
		t->moved_us = now_us;
	}
	return now_us - t->moved_us > STILL_US;
}

/* Whether what the test waits for has come about. */
static bool is_seen(struct torture *t)
{
	if (t->left_out == THE_WAKE)
		t->stood_still |= stands_still(t);
	return t->left_out && (t->stood_still || atomic_load(&t->corrupt));
}

static void run(struct torture *t)
{
	static void *(*const mains[])(void *) = {
		writer_main, writer_main, writer_main, device_main, sharer_main, pageout_main};
	struct thread *threads[ARRAY_SIZE(mains)] = {0};
	uint64_t end_us = clock_monotonic_us() + run_ms(t) * US_PER_MS;

	for (unsigned i = 0; i < ARRAY_SIZE(mains); i++) {
		struct thread *th;

		if ((mains[i] == device_main && (t->io_fd < 0 || t->left_out == THE_WAKE)) ||
			(mains[i] == pageout_main && !t->with_pageout))
			continue;
		th = threads[i] = calloc(1, sizeof(*th));
		assert_non_null(th);
		*th = (struct thread){.t = t, .number = i, .random = 88172645463325252 + i};
		for (unsigned page = 0; page < RAM_PAGES; page++)
			th->word[page] = PAGE_WORDS;
		assert_int_equal(pthread_create(&th->id, NULL, mains[i], th), 0);
	}
	t->moved_us = clock_monotonic_us();
	while (clock_monotonic_us() < end_us && !is_seen(t))
		clock_sleep_us(10000);
	atomic_store(&t->stop, true);
	t->moved_us = clock_monotonic_us();
	while (t->left_out == THE_WAKE && !stands_still(t)) {
		wake_all(t); /* a freeze that is still under way may hold up somebody again */
		clock_sleep_us(10000);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(mains); i++) {
		if (threads[i])
			pthread_join(threads[i]->id, NULL);
		free(threads[i]);
	}
}

static void torture(struct torture *t)
{
	const struct guest_ram_layout layout = {.bytes = RAM_PAGES * PAGE_BYTES};
	_cleanup_(zram_swap_done) struct zram_swap z = ZRAM_SWAP_NONE;
	struct guest_ram_census census;

	assert_int_equal(guest_ram_new(&layout, 1, &t->ram, NULL), 0);
	assert_true(guest_ram_can_freeze(t->ram));
	assert_int_equal(make_pool(t), 0);
	t->pagemap_fd = pagemap_open(0);
	t->io_fd = make_io_file(t);
	t->with_pageout = zram_swap_init(&z, 256 * MIB) == 0;
	printf("# direct I/O: %s, page-out: %s\n", t->io_fd >= 0 ? "yes" : "not here",
		t->with_pageout ? "yes" : "not here");

	run(t);
	assert_int_equal(guest_ram_census(t->ram, &census), 0);
	printf("# verified %lu corrupt %lu, mapped %lu dropped %lu restored %lu thawed %lu, "
	       "discarded %lu, direct I/O %lu\n",
		t->verified, t->corrupt, t->mapped, t->dropped, t->restored, t->thawed,
		t->discarded, t->io);
	printf("# at the end: %lu private, %lu shared, %lu swapped, %lu mappings\n",
		census.private_pages, census.shared_pages, census.swapped_pages, census.mappings);
	guest_ram_free(t->ram);
	munmap(t->pool, POOL_SLOTS * PAGE_BYTES);
	cleanup_closep(&t->pool_fd);
	cleanup_closep(&t->pagemap_fd);
	cleanup_closep(&t->io_fd);
}

static void nothing_is_lost_while_pages_are_exchanged(void **state)
{
	struct torture t = {0};

	torture(&t);
	assert_int_equal(t.corrupt, 0);
	assert_true(t.verified > 1000);
	assert_true(t.mapped > 100);
	assert_true(t.dropped > 100);
	assert_true(t.restored > 0);
	assert_true(t.discarded > 0);
}

static void corruption_is_seen_when_the_freeze_is_left_out(void **state)
{
	struct torture t = {.left_out = THE_FREEZE};

	torture(&t);
	assert_true(t.corrupt > 0);
}

static void corruption_is_seen_when_the_comparison_is_left_out(void **state)
{
	struct torture t = {.left_out = THE_COMPARISON};

	torture(&t);
	assert_true(t.corrupt > 0);
}

static void writers_stand_still_when_the_wake_is_left_out(void **state)
{
	struct torture t = {.left_out = THE_WAKE};

	torture(&t);
	assert_true(t.stood_still);
}

static void corruption_is_seen_when_direct_io_is_not_announced(void **state)
{
	struct torture t = {.left_out = THE_BUSY_RULE};

	torture(&t);
	assert_true(t.corrupt > 0 || t.io == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_while_pages_are_exchanged),
		cmocka_unit_test(corruption_is_seen_when_the_freeze_is_left_out),
		cmocka_unit_test(corruption_is_seen_when_the_comparison_is_left_out),
		cmocka_unit_test(writers_stand_still_when_the_wake_is_left_out),
		cmocka_unit_test(corruption_is_seen_when_direct_io_is_not_announced),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("freeze-torture", tests, NULL, NULL);
}
