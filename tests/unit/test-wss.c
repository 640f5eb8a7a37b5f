/* Working sets of guests whose pages are touched as told here, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/wss.h"

#define PAGES	65536 /* 256 MiB */
#define LOOKS	4096
#define FAULT	10.0
#define UNKNOWN UINT64_MAX

/* Page p is touched every period(p) seconds of guest time, by a phase of its own. */
struct world {
	struct wss w;
	uint64_t random;
	uint64_t marked_us[PAGES]; /* guest time; UNKNOWN: not marked */
	double hot_part,
		warm_part; /* of the pages: touched all the time, every 40 s; the rest never */
	double speed; /* guest time per time */
	uint64_t clock_us; /* the guest's time, as the world has it */
	struct wss_limits limits;
	unsigned holes; /* this many of a hundred looks find a hole */
};

static uint64_t draw(struct world *w, uint64_t below)
{
	w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (w->random >> 33) % below;
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	wss_init(&w->w);
	w->random = 42;
	w->speed = 1;
	w->limits = (struct wss_limits){
		.width_bp = 500, .cpu_bp = 50, .stall_bp = 10, .fault_us = FAULT};
	for (size_t i = 0; i < PAGES; i++)
		w->marked_us[i] = UNKNOWN;
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	wss_done(&w->w);
	free(w);
	return 0;
}

static bool touched_since(const struct world *w, uint64_t page, uint64_t since_us)
{
	/* scattered, so that nothing depends on the order */
	double part = (double)(page * UINT64_C(2654435761) % PAGES) / PAGES;
	uint64_t age_us = w->clock_us - since_us, phase = page * 7919 % (40 * US_PER_S);

	if (part < w->hot_part)
		return age_us > 0;
	if (part < w->hot_part + w->warm_part)
		return (w->clock_us + phase) / (40 * US_PER_S) !=
		       (since_us + phase) / (40 * US_PER_S);
	return false;
}

/* Those that are not out; who was touched is in again, also when nobody looks any more. */
static uint64_t present_pages(struct world *w)
{
	uint64_t n = 0;

	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t since_us = w->marked_us[page];

		n += since_us == UNKNOWN || touched_since(w, page, since_us);
	}
	return n;
}

static bool is_followed(const struct world *w, uint64_t page)
{
	for (size_t i = 0; i < w->w.n_samples; i++)
		if (w->w.samples[i].page == page)
			return true;
	return false;
}

/* May it be marked? It is present, and if it was marked once, that is forgotten. */
static bool is_free(struct world *w, uint64_t page)
{
	uint64_t since_us = w->marked_us[page];

	return since_us == UNKNOWN || (touched_since(w, page, since_us) && !is_followed(w, page));
}

static void look(struct world *w)
{
	static struct wss_look looks[LOOKS];
	size_t n = wss_due(&w->w, looks, LOOKS);

	for (size_t i = 0; i < n; i++) {
		uint64_t page = looks[i].page;

		looks[i].seen = touched_since(w, page, w->marked_us[page]) ? WSS_TOUCHED : WSS_IDLE;
		if (w->holes && draw(w, 100) < w->holes)
			looks[i].seen = WSS_GONE;
		if (looks[i].seen != WSS_IDLE)
			w->marked_us[page] = UNKNOWN;
	}
	wss_saw(&w->w, looks, n, FAULT);
}

static void mark(struct world *w)
{
	size_t n = wss_wanted(&w->w, &w->limits, US_PER_S, 256), n_marked = 0;
	uint64_t pages[256];

	while (n_marked < n) {
		uint64_t page = draw(w, PAGES);

		if (!is_free(w, page))
			continue;
		w->marked_us[page] = w->clock_us;
		pages[n_marked++] = page;
	}
	assert_int_equal(wss_add(&w->w, pages, n_marked), 0);
	wss_spent(&w->w, 25 * n_marked, n_marked);
}

static void second(struct world *w)
{
	w->clock_us += (uint64_t)(US_PER_S * w->speed);
	wss_advance(&w->w, US_PER_S, (uint64_t)(US_PER_S * w->speed));
	wss_estimate(&w->w, "test", present_pages(w) * PAGE_BYTES, 0);
	look(w);
	mark(w);
}

static void seconds(struct world *w, unsigned n)
{
	while (n-- > 0)
		second(w);
}

static double part_of(uint64_t bytes)
{
	return (double)bytes / (double)(PAGES * PAGE_BYTES);
}

static double estimate(const struct world *w)
{
	return part_of(w->w.figures.bytes);
}

#define assert_near(value, expected, within)                                                       \
	do {                                                                                       \
		if (fabs((value) - (expected)) > (within))                                         \
			fail_msg("%s is %f, not %f", #value, (value), (expected));                 \
	} while (0)

static void says_nothing_before_the_window_is_over(void **state)
{
	struct world *w = *state;

	w->hot_part = 0.5;
	seconds(w, 14);
	assert_false(w->w.figures.valid);
	seconds(w, 1);
	assert_true(w->w.figures.valid);
	assert_string_equal(w->w.figures.source, "test");
}

static void settles_within_its_error_at_any_size(void **state)
{
	static const double parts[] = {0, 0.05, 0.3, 0.5, 0.9, 1};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		w->hot_part = parts[i];
		seconds(w, 60);
		for (int n = 0; n < 60; n++) {
			second(w);
			assert_near(estimate(w), parts[i], 0.05);
			assert_near(estimate(w), parts[i],
				1.5 * part_of(w->w.figures.error_bytes) + 0.01);
			assert_true(part_of(w->w.figures.error_bytes) < 0.06);
		}
	}
}

static void has_no_bias(void **state)
{
	struct world *w = *state;
	double sum = 0;

	w->hot_part = 0.4;
	seconds(w, 60);
	for (int n = 0; n < 600; n++) {
		second(w);
		sum += estimate(w);
	}
	assert_near(sum / 600, 0.4, 0.01);
}

static void more_samples_where_the_width_asked_for_is_smaller(void **state)
{
	struct world *w = *state;
	uint64_t before;

	w->hot_part = 0.5;
	seconds(w, 60);
	before = w->w.figures.samples;
	seconds(w, 30);
	/* 900 for 5 points in an average of 15 s, which holds 30 s of them */
	assert_in_range(w->w.figures.samples - before, 850, 950);
	w->limits.width_bp = 1000;
	before = w->w.figures.samples;
	seconds(w, 30);
	assert_in_range(w->w.figures.samples - before, 200, 250);
}

static void rises_at_once_and_falls_when_it_lasts(void **state)
{
	struct world *w = *state;

	w->hot_part = 0.2;
	seconds(w, 60);
	w->hot_part = 0.7;
	seconds(w, 6);
	assert_true(estimate(w) > 0.63);
	seconds(w, 2);
	assert_near(estimate(w), 0.7, 0.07);
	seconds(w, 60);
	/* a rest of 6 s changes little */
	w->hot_part = 0.1;
	seconds(w, 6);
	assert_true(estimate(w) > 0.4);
	w->hot_part = 0.7;
	seconds(w, 6);
	assert_true(estimate(w) > 0.55);
	seconds(w, 30);
	w->hot_part = 0.1;
	seconds(w, 26);
	assert_near(estimate(w), 0.1, 0.1);
	seconds(w, 20);
	assert_near(estimate(w), 0.1, 0.05);
}

static void age_classes_tell_warm_from_cold(void **state)
{
	struct world *w = *state;
	double out;

	w->hot_part = 0.3;
	w->warm_part = 0.3;
	seconds(w, 1500);
	out = 1 -
	      (double)present_pages(w) / PAGES; /* idle, too, but in no class of what is present */
	/* of what is touched every 40 s, 39 of 40 parts are idle for 1 s, 25 for 15 s, none for 60 */
	assert_near(part_of(w->w.figures.idle_bytes[0]), 0.7 - 0.3 / 40 - out, 0.05);
	assert_near(part_of(w->w.figures.idle_bytes[2]), 0.7 - 0.3 * 15 / 40 - out, 0.05);
	assert_near(part_of(w->w.figures.idle_bytes[3]), 0.4 - out, 0.05);
	assert_near(part_of(w->w.figures.idle_bytes[4]), 0.4 - out, 0.05);
	assert_near(part_of(w->w.figures.idle_bytes[5]), 0.4 - out, 0.05);
}

static void a_guest_that_waits_does_not_look_idle(void **state)
{
	struct world *w = *state;

	w->hot_part = 0.1;
	w->warm_part = 0.5;
	w->speed = 1;
	seconds(w, 120);
	w->speed = 0.05; /* it thrashes: a warm page is touched every 800 s */
	seconds(w, 200);
	assert_near(estimate(w), 0.1 + 0.5 * 15 / 40, 0.08);
	w->speed = 0; /* it is paused */
	seconds(w, 300);
	assert_near(estimate(w), 0.1 + 0.5 * 15 / 40, 0.08);
}

static void stall_and_cpu_bound_the_rate(void **state)
{
	struct world *w = *state;
	uint64_t before;

	w->hot_part = 0.5;
	w->limits.fault_us = 1000; /* a slow disk: 0.1 % is one fault a second */
	seconds(w, 60);
	before = w->w.figures.samples;
	seconds(w, 100);
	assert_in_range(w->w.figures.samples - before, 150, 250);
	w->limits.fault_us = FAULT;
	w->limits.cpu_bp = 5; /* 500 us a second at 25 us each */
	before = w->w.figures.samples;
	seconds(w, 100);
	assert_in_range(w->w.figures.samples - before, 1900, 2100);
	assert_in_range(w->w.figures.cost_bp, 4, 6);
}

/* As a swapoff of the host does, or a walk over everything. */
static void a_touch_of_everything_leaves_no_trace(void **state)
{
	struct world *w = *state;

	w->hot_part = 0.25;
	seconds(w, 120);
	for (int i = 0; i < 3; i++) {
		w->hot_part = 1;
		second(w);
		w->hot_part = 0.25;
		seconds(w, 29);
		assert_near(estimate(w), 0.25, 0.05);
	}
}

static void counts_what_it_costs_the_guest(void **state)
{
	struct world *w = *state;

	w->hot_part = 0.5;
	seconds(w, 200);
	assert_int_equal(w->w.figures.stall_us, (uint64_t)(FAULT * (double)w->w.figures.touched));
	assert_int_equal(w->w.figures.cpu_us, 25 * w->w.figures.samples);
	/* 15 faults of 10 us a second */
	assert_in_range(w->w.figures.stall_bp, 1, 2);
	assert_near((double)w->w.figures.touched / (double)w->w.figures.samples, 0.5, 0.05);
}

static void holes_tell_nothing(void **state)
{
	struct world *w = *state;

	w->hot_part = 0.5;
	w->holes = 50;
	seconds(w, 120);
	assert_near(estimate(w), 0.5, 0.08);
}

static void what_was_paged_out_as_a_whole_is_forgotten(void **state)
{
	struct world *w = *state;
	const uint64_t pages[] = {511, 512, 1023, 1024};

	assert_int_equal(wss_add(&w->w, pages, 4), 0);
	wss_forget(&w->w, 512, 512);
	assert_int_equal(w->w.n_samples, 2);
	assert_int_equal(w->w.samples[0].page, 511);
	assert_int_equal(w->w.samples[1].page, 1024);
}

static void a_late_look_counts_for_all_strata_it_passed(void **state)
{
	struct world *w = *state;
	const uint64_t pages[] = {1, 2};
	struct wss_look looks[4];

	assert_int_equal(wss_add(&w->w, pages, 2), 0);
	wss_advance(&w->w, 6 * US_PER_S, 6 * US_PER_S);
	assert_int_equal(wss_due(&w->w, looks, 4), 2);
	looks[0].seen = WSS_IDLE;
	looks[1].seen = WSS_TOUCHED;
	wss_saw(&w->w, looks, 2, FAULT);
	assert_int_equal(w->w.n_samples, 1);
	assert_int_equal(w->w.samples[0].stratum, 2);
	assert_near(w->w.strata[0].entered, 2.0, 0);
	assert_near(w->w.strata[0].touched, 1.0, 0);
	assert_near(w->w.strata[1].entered, 1.0, 0);
	assert_int_equal(wss_due(&w->w, looks, 4), 0);
}

static void keeps_few_of_the_old(void **state)
{
	struct world *w = *state;

	seconds(w, 2000); /* nothing is ever touched */
	assert_true(w->w.n_samples < 15 * 31 + 600 * 31 / 4);
	assert_near(part_of(w->w.figures.idle_bytes[5]), (double)present_pages(w) / PAGES, 0.02);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(says_nothing_before_the_window_is_over),
		TEST(settles_within_its_error_at_any_size),
		TEST(has_no_bias),
		TEST(more_samples_where_the_width_asked_for_is_smaller),
		TEST(rises_at_once_and_falls_when_it_lasts),
		TEST(age_classes_tell_warm_from_cold),
		TEST(a_guest_that_waits_does_not_look_idle),
		TEST(stall_and_cpu_bound_the_rate),
		TEST(a_touch_of_everything_leaves_no_trace),
		TEST(counts_what_it_costs_the_guest),
		TEST(holes_tell_nothing),
		TEST(what_was_paged_out_as_a_whole_is_forgotten),
		TEST(a_late_look_counts_for_all_strata_it_passed),
		TEST(keeps_few_of_the_old),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
