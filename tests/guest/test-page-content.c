/*
 * What the guest writes into its pages (memd-guest/page-content.h): distinct, checkable word by
 * word, and as compressible as the figures of the project assume. The compression is measured with
 * a zram device of our own, which is removed again.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"
#include "tests/guest/memd-guest/page-content.h"

#define N_SAMPLE_PAGES 4096

static struct page_content content(uint64_t seed, uint64_t index, uint64_t round, unsigned step)
{
	uint64_t key = content_key(seed, 2, index, round);

	return (struct page_content){.key = key, .noise = UINT64_MAX, .patch = ~key, .step = step};
}

static void verifies_what_was_written(void **state)
{
	uint64_t page[CONTENT_WORDS];

	for (unsigned index = 0; index < 100; index++) {
		struct page_content c = content(1, index, index % 3, index % CONTENT_STEPS);

		content_write(page, &c);
		assert_true(content_verify(page, &c));
		for (unsigned word = 0; word < CONTENT_WORDS; word++)
			assert_int_equal(page[word], content_word(&c, word));
	}
}

static void notices_any_flipped_bit(void **state)
{
	uint64_t page[CONTENT_WORDS];
	struct page_content c = content(1, 77, 3, 5);

	content_write(page, &c);
	for (unsigned bit = 0; bit < CONTENT_WORDS * 64; bit++) {
		page[bit / 64] ^= UINT64_C(1) << bit % 64;
		assert_false(content_verify(page, &c));
		page[bit / 64] ^= UINT64_C(1) << bit % 64;
	}
	assert_true(content_verify(page, &c));
}

static void step_writes_exactly_one_word(void **state)
{
	uint64_t page[CONTENT_WORDS], before[CONTENT_WORDS];
	struct page_content c = content(1, 5, 2, 0);

	content_write(page, &c);
	for (c.step = 1; c.step < CONTENT_STEPS; c.step++) {
		unsigned changed = 0;

		memcpy(before, page, sizeof(page));
		content_write_step(page, &c);
		for (unsigned i = 0; i < CONTENT_WORDS; i++)
			changed += page[i] != before[i];
		assert_int_equal(changed, 1);
		assert_true(content_verify(page, &c));
		assert_false(content_verify(before, &c));
	}
}

static int compare_keys(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void pages_are_distinct_over_seed_area_index_and_round(void **state)
{
	enum { SEEDS = 16, INDICES = 4096, ROUNDS = 4 };
	_cleanup_free_ uint64_t *keys = NULL;
	size_t n = 0;

	keys = calloc(SEEDS * INDICES * ROUNDS * 2, sizeof(*keys));
	assert_non_null(keys);
	for (unsigned seed = 0; seed < SEEDS; seed++) {
		for (unsigned index = 0; index < INDICES; index++) {
			for (unsigned round = 0; round < ROUNDS; round++) {
				keys[n++] = content_key(seed, 1, index, round);
				keys[n++] = content_key(seed, 2, index, round);
			}
		}
	}
	qsort(keys, n, sizeof(*keys), compare_keys);
	for (size_t i = 1; i < n; i++)
		assert_true(keys[i] != keys[i - 1]);
}

static void zeroes_are_the_content_without_key_and_noise(void **state)
{
	static const uint64_t zeroes[CONTENT_WORDS];
	struct page_content c = {0};

	assert_true(content_verify(zeroes, &c));
}

/* A zram device of our own: number in *ret; -1 where the kernel has none to give. */
struct zram {
	int number;
};

static void zram_donep(struct zram *z)
{
	char text[16];

	if (z->number < 0)
		return;
	(void)snprintf(text, sizeof(text), "%d", z->number);
	if (fd_write_file_at(AT_FDCWD, "/sys/class/zram-control/hot_remove", text) < 0)
		(void)fprintf(stderr, "# zram%s is left behind\n", text);
}

static int zram_init(struct zram *z)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	char path[64];
	int r;

	r = fd_read_file_at(AT_FDCWD, "/sys/class/zram-control/hot_add", 16, &text, &size);
	if (r < 0)
		return r;
	z->number = atoi(text);
	(void)snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", z->number);
	return fd_write_file_at(AT_FDCWD, path, "64M");
}

static int zram_fill(const struct zram *z)
{
	_cleanup_close_ int fd = -1;
	uint64_t page[CONTENT_WORDS] __attribute__((aligned(4096)));
	char path[64];
	int r;

	(void)snprintf(path, sizeof(path), "/dev/zram%d", z->number);
	fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (unsigned i = 0; i < N_SAMPLE_PAGES; i++) {
		struct page_content c = content(9, i, 0, i % CONTENT_STEPS);

		content_write(page, &c);
		r = fd_pwrite_full(fd, page, sizeof(page), (off_t)(i * sizeof(page)));
		if (r < 0)
			return r;
	}
	return 0;
}

static void zram_compresses_pages_about_two_to_one(void **state)
{
	_cleanup_(zram_donep) struct zram z = {-1};
	_cleanup_free_ char *text = NULL;
	struct swap_device figures = {0};
	uint64_t ratio_percent;
	char path[64];
	size_t size;
	int r;

	r = zram_init(&z);
	if (r < 0) {
		(void)printf("# skipped: no zram device to be had (%s)\n", strerror(-r));
		skip();
	}
	assert_int_equal(zram_fill(&z), 0);
	(void)snprintf(path, sizeof(path), "/sys/block/zram%d/mm_stat", z.number);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 256, &text, &size), 0);
	assert_int_equal(procfs_parse_mm_stat(text, &figures), 0);
	assert_int_equal(figures.zram_original_bytes, N_SAMPLE_PAGES * PAGE_BYTES);
	ratio_percent = 100 * figures.zram_original_bytes / figures.zram_occupied_bytes;
	(void)printf("# compression by zram: %" PRIu64 ".%02" PRIu64 "\n", ratio_percent / 100,
		ratio_percent % 100);
	assert_in_range(ratio_percent, 180, 240);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verifies_what_was_written),
		cmocka_unit_test(notices_any_flipped_bit),
		cmocka_unit_test(step_writes_exactly_one_word),
		cmocka_unit_test(pages_are_distinct_over_seed_area_index_and_round),
		cmocka_unit_test(zeroes_are_the_content_without_key_and_noise),
		cmocka_unit_test(zram_compresses_pages_about_two_to_one),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
