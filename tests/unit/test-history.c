/* The ring on disk: what is written is read, what is old or broken is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memd/base/cleanup.h"
#include "memd/base/history-file.h"
#include "memd/base/units.h"
#include "memd/guest.h"
#include "memd/history.h"

#define NOW 1800000000u

struct world {
	char directory[64];
	char path[96];
	int fd;
	struct history_record *records;
	size_t n;
};

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	snprintf(w->directory, sizeof(w->directory), "/tmp/memd-history-XXXXXX");
	assert_non_null(mkdtemp(w->directory));
	snprintf(w->path, sizeof(w->path), "%s/g", w->directory);
	w->fd = history_file_open(w->path);
	assert_true(w->fd >= 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	char command[96];

	close(w->fd);
	free(w->records);
	snprintf(command, sizeof(command), "rm -rf %s", w->directory);
	assert_int_equal(system(command), 0);
	free(w);
	return 0;
}

static int read_at(struct world *w, uint64_t from, uint64_t to, uint32_t step, uint64_t now)
{
	struct error e = {0};

	free(w->records);
	w->records = NULL;
	return history_file_read(w->fd, from, to, step, now, &w->records, &w->n, &e);
}

static void put(struct world *w, uint32_t time_s)
{
	struct history_record r = {.time_s = time_s, .resident_kib = time_s % 1000};

	assert_int_equal(history_file_put_second(w->fd, &r), 0);
}

static void reads_what_was_written_in_order(void **state)
{
	struct world *w = *state;

	for (uint32_t t = NOW - 5; t <= NOW; t++)
		if (t != NOW - 2)
			put(w, t);
	assert_int_equal(read_at(w, NOW - 4, NOW - 1, 1, NOW), 0);
	assert_int_equal(w->n, 3);
	assert_int_equal(w->records[0].time_s, NOW - 4);
	assert_int_equal(w->records[1].time_s, NOW - 3);
	assert_int_equal(w->records[2].time_s, NOW - 1);
	assert_int_equal(w->records[2].resident_kib, (NOW - 1) % 1000);
}

static void passes_the_end_of_the_ring(void **state)
{
	const uint32_t end = NOW / HISTORY_SECONDS * HISTORY_SECONDS;
	struct world *w = *state;

	for (uint32_t t = end - 1500; t < end + 1500; t++)
		put(w, t);
	assert_int_equal(read_at(w, end - 1500, end + 1499, 1, end + 1499), 0);
	assert_int_equal(w->n, 3000);
	for (uint32_t i = 0; i < 3000; i++)
		assert_int_equal(w->records[i].time_s, end - 1500 + i);
}

static void forgets_after_a_day(void **state)
{
	struct world *w = *state;

	put(w, NOW);
	assert_int_equal(read_at(w, 0, UINT32_MAX, 1, NOW + HISTORY_SECONDS - 1), 0);
	assert_int_equal(w->n, 1);
	assert_int_equal(read_at(w, 0, UINT32_MAX, 1, NOW + HISTORY_SECONDS), 0);
	assert_int_equal(w->n, 0);
	/* The same place a day later is another record. */
	put(w, NOW + HISTORY_SECONDS);
	assert_int_equal(read_at(w, 0, UINT32_MAX, 1, NOW + HISTORY_SECONDS), 0);
	assert_int_equal(w->n, 1);
	assert_int_equal(w->records[0].time_s, NOW + HISTORY_SECONDS);
}

static void keeps_minutes_for_a_month(void **state)
{
	const uint32_t minute = NOW / 60 * 60;
	struct world *w = *state;
	struct history_record r = {.time_s = minute};

	assert_int_equal(history_file_put_minute(w->fd, &r), 0);
	assert_int_equal(read_at(w, 0, UINT32_MAX, 1, NOW), 0);
	assert_int_equal(w->n, 0); /* not among the seconds */
	assert_int_equal(read_at(w, minute + 59, UINT32_MAX, 60, NOW + 29 * 86400), 0);
	assert_int_equal(w->n, 1);
	assert_int_equal(read_at(w, 0, UINT32_MAX, 60, NOW + 31 * 86400), 0);
	assert_int_equal(w->n, 0);
}

static void nothing_in_an_empty_span(void **state)
{
	struct world *w = *state;

	put(w, NOW);
	assert_int_equal(read_at(w, NOW + 1, NOW, 1, NOW + 1), 0);
	assert_int_equal(w->n, 0);
	assert_int_equal(read_at(w, NOW + 5, NOW + 9, 1, NOW), 0); /* of the future */
	assert_int_equal(w->n, 0);
}

static void refuses_what_is_no_history(void **state)
{
	struct world *w = *state;
	struct history_record r = {0};

	assert_int_equal(history_file_put_second(w->fd, &r), -EINVAL);
	put(w, NOW);
	assert_int_equal(pwrite(w->fd, "X", 1, 9), 1); /* another version */
	assert_int_equal(read_at(w, 0, NOW, 1, NOW), -EPROTO);
	/* who writes begins anew */
	close(w->fd);
	w->fd = history_file_open(w->path);
	assert_true(w->fd >= 0);
	assert_int_equal(read_at(w, 0, NOW, 1, NOW), 0);
	assert_int_equal(w->n, 0);
	assert_int_equal(ftruncate(w->fd, 70), 0); /* cut off */
	assert_int_equal(read_at(w, NOW - 5, NOW, 1, NOW), -EIO);
}

static void follows_no_link(void **state)
{
	struct world *w = *state;
	char link_path[96];

	snprintf(link_path, sizeof(link_path), "%s/link", w->directory);
	assert_int_equal(symlink(w->path, link_path), 0);
	assert_int_equal(history_file_open(link_path), -ELOOP);
	assert_int_equal(history_open_read(w->directory, "../g"), -EINVAL);
	assert_int_equal(history_open_read(w->directory, "nobody"), -ENOENT);
}

static void averages_and_takes_the_worst_stall(void **state)
{
	const struct history_record records[] = {
		{.time_s = 60,
			.resident_kib = 10,
			.working_set_kib = HISTORY_UNKNOWN,
			.stall_some_bp = 7,
			.refault_kib = 1},
		{.time_s = 61,
			.resident_kib = 20,
			.working_set_kib = 30,
			.working_set_error_kib = 4,
			.stall_some_bp = 90,
			.refault_kib = 2},
		{.time_s = 62,
			.resident_kib = 30,
			.working_set_kib = 50,
			.working_set_error_kib = 6,
			.stall_full_bp = 3,
			.refault_kib = 4},
	};
	struct history_record a = history_average(records, 3);

	assert_int_equal(a.time_s, 60);
	assert_int_equal(a.resident_kib, 20);
	assert_int_equal(a.working_set_kib, 40);
	assert_int_equal(a.working_set_error_kib, 5);
	assert_int_equal(a.stall_some_bp, 90);
	assert_int_equal(a.stall_full_bp, 3);
	assert_int_equal(a.refault_kib, 7);
	assert_int_equal(history_average(records, 1).working_set_kib, HISTORY_UNKNOWN);
}

/* A guest with some figures, noted each half second for 130 s. */
static void a_guest_is_noted_by_the_second_and_by_the_minute(void **state)
{
	struct world *w = *state;
	struct guest *g = calloc(1, sizeof(*g));
	struct history h = {0};
	const uint32_t begin = NOW / 60 * 60;

	assert_non_null(g);
	snprintf(g->name, sizeof(g->name), "web1");
	for (uint32_t i = 0; i < 260; i++) {
		g->ledger.resident_bytes = (i / 2) * MIB;
		history_note(&h, w->directory, g, begin + i / 2);
	}
	history_done(&h);
	close(w->fd);
	w->fd = history_open_read(w->directory, "web1");
	assert_true(w->fd >= 0);
	assert_int_equal(read_at(w, 0, NOW + 1000, 1, begin + 130), 0);
	assert_int_equal(w->n, 130);
	assert_int_equal(w->records[129].resident_kib, 129 * 1024);
	assert_int_equal(w->records[0].working_set_kib, HISTORY_UNKNOWN);
	assert_int_equal(read_at(w, 0, NOW + 1000, 60, begin + 130), 0);
	assert_int_equal(w->n, 2);
	assert_int_equal(w->records[0].time_s, begin);
	assert_int_equal(w->records[0].resident_kib, 59 * 1024 / 2);
	free(g);
}

static void a_history_that_cannot_be_written_is_tried_again_later(void **state)
{
	struct world *w = *state;
	struct guest *g = calloc(1, sizeof(*g));
	struct history h = {0};

	assert_non_null(g);
	snprintf(g->name, sizeof(g->name), "web1");
	history_note(&h, w->path, g, NOW); /* a file is no directory */
	assert_false(h.open);
	assert_int_equal(h.again_s, NOW + 60);
	history_note(&h, w->directory, g, NOW + 59);
	assert_false(h.open);
	history_note(&h, w->directory, g, NOW + 60);
	assert_true(h.open);
	history_done(&h);
	free(g);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(reads_what_was_written_in_order),
		TEST(passes_the_end_of_the_ring),
		TEST(forgets_after_a_day),
		TEST(keeps_minutes_for_a_month),
		TEST(nothing_in_an_empty_span),
		TEST(refuses_what_is_no_history),
		TEST(follows_no_link),
		TEST(averages_and_takes_the_worst_stall),
		TEST(a_guest_is_noted_by_the_second_and_by_the_minute),
		TEST(a_history_that_cannot_be_written_is_tried_again_later),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
