/* The state file of a snapshot: what was put comes out, and nothing else is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "kvm-glue/snapshot.h"

#define TAG_A SNAPSHOT_TAG('a', 'a', 'a', 'a')
#define TAG_B SNAPSHOT_TAG('b', 'b', 'b', 'b')

static const uint8_t odd[5] = {1, 2, 3, 4, 5};
static const uint64_t array[3] = {7, 8, 9};

static void write_both(struct snapshot_writer *w)
{
	snapshot_writer_init(w);
	snapshot_put(w, TAG_A, odd, sizeof(odd));
	snapshot_put(w, TAG_B, array, sizeof(array));
	assert_int_equal(snapshot_finish(w), 0);
}

static void what_was_put_comes_out_in_order(void **state)
{
	struct snapshot_writer w;
	struct snapshot_reader r;
	uint8_t got[sizeof(odd)];
	const void *elements;
	size_t n;

	write_both(&w);
	assert_int_equal(snapshot_reader_init(&r, w.bytes, w.size, NULL), 0);
	assert_int_equal(snapshot_get(&r, TAG_A, got, sizeof(got)), 0);
	assert_memory_equal(got, odd, sizeof(odd));
	assert_false(snapshot_reader_at_end(&r));
	assert_int_equal(snapshot_get_array(&r, TAG_B, sizeof(array[0]), 3, &elements, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal((uintptr_t)elements % 8, 0);
	assert_memory_equal(elements, array, sizeof(array));
	assert_true(snapshot_reader_at_end(&r));
	assert_int_equal(snapshot_get(&r, TAG_A, got, 0), -EINVAL);
	snapshot_writer_done(&w);
}

static void another_tag_size_or_count_is_refused(void **state)
{
	struct snapshot_writer w;
	struct snapshot_reader r;
	uint8_t got[8];
	const void *elements;
	size_t n;

	write_both(&w);
	assert_int_equal(snapshot_reader_init(&r, w.bytes, w.size, NULL), 0);
	assert_int_equal(snapshot_get(&r, TAG_B, got, sizeof(odd)), -EINVAL);
	assert_int_equal(snapshot_get(&r, TAG_A, got, sizeof(odd) - 1), -EINVAL);
	assert_int_equal(snapshot_get(&r, TAG_A, got, sizeof(odd) + 1), -EINVAL);
	assert_int_equal(snapshot_get(&r, TAG_A, got, sizeof(odd)), 0);
	assert_int_equal(snapshot_get_array(&r, TAG_B, 8, 2, &elements, &n), -EINVAL);
	assert_int_equal(snapshot_get_array(&r, TAG_B, 7, 9, &elements, &n), -EINVAL);
	assert_int_equal(snapshot_get_array(&r, TAG_B, 8, 3, &elements, &n), 0);
	snapshot_writer_done(&w);
}

static void every_cut_and_every_changed_byte_is_noticed(void **state)
{
	struct snapshot_writer w;
	struct snapshot_reader r;

	write_both(&w);
	for (size_t size = 0; size < w.size; size++)
		assert_true(snapshot_reader_init(&r, w.bytes, size, NULL) < 0);
	for (size_t i = 0; i < w.size; i++) {
		if (i >= 12 && i < 16)
			continue; /* reserved in the header */
		w.bytes[i] ^= 0x40;
		assert_true(snapshot_reader_init(&r, w.bytes, w.size, NULL) < 0);
		w.bytes[i] ^= 0x40;
	}
	assert_int_equal(snapshot_reader_init(&r, w.bytes, w.size, NULL), 0);
	snapshot_writer_done(&w);
}

static void another_version_says_so(void **state)
{
	struct snapshot_writer w;
	struct snapshot_reader r;
	struct error e = {0};

	write_both(&w);
	w.bytes[8]++;
	assert_int_equal(snapshot_reader_init(&r, w.bytes, w.size, &e), -EPROTO);
	assert_non_null(strstr(e.text, "version 2"));
	snapshot_writer_done(&w);
}

static void more_than_the_largest_file_is_refused(void **state)
{
	static uint8_t mib[MIB];
	struct snapshot_writer w;

	snapshot_writer_init(&w);
	for (unsigned i = 0; i < SNAPSHOT_BYTES_MAX / MIB; i++)
		snapshot_put(&w, TAG_A, mib, sizeof(mib));
	assert_int_equal(snapshot_finish(&w), -EFBIG);
	snapshot_writer_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_comes_out_in_order),
		cmocka_unit_test(another_tag_size_or_count_is_refused),
		cmocka_unit_test(every_cut_and_every_changed_byte_is_noticed),
		cmocka_unit_test(another_version_says_so),
		cmocka_unit_test(more_than_the_largest_file_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
