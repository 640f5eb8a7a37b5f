/* What memctl draws: bars, sizes in few columns, and frames that fit the terminal. */
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "memd/base/units.h"
#include "memd/memctl/client.h"
#include "memd/memctl/frame.h"

static const struct style plain = {};
static const struct style coloured = {.colour = true, .unicode = true};

/* Draws a bar without colours; to be freed. */
static char *bar(
	const struct segment *segments, size_t n, uint64_t full, uint64_t marker, unsigned cells)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	draw_bar(out, &plain, segments, n, full, marker, cells);
	fclose(out);
	return text;
}

static void bar_cells_are_proportional(void **state)
{
	const struct segment segments[] = {
		{50, PAINT_PRIVATE}, {25, PAINT_SHARED}, {25, PAINT_UNTOUCHED}};
	_cleanup_free_ char *text = bar(segments, 3, 100, NO_MARKER, 8);

	assert_string_equal(text, "####==..");
}

static void bar_is_as_wide_as_asked_whatever_the_figures(void **state)
{
	static const struct segment sets[][2] = {
		{{0, PAINT_PRIVATE}, {0, PAINT_SHARED}},
		{{1, PAINT_PRIVATE}, {0, PAINT_SHARED}},
		{{33, PAINT_PRIVATE}, {33, PAINT_SHARED}},
		{{99, PAINT_PRIVATE}, {1, PAINT_SHARED}},
		{{100, PAINT_PRIVATE}, {1, PAINT_SHARED}},
		{{UINT64_MAX, PAINT_PRIVATE}, {UINT64_MAX, PAINT_SHARED}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		for (unsigned cells = 0; cells < 40; cells++)
			for (uint64_t marker = 0; marker <= 120; marker += 20) {
				_cleanup_free_ char *text = bar(sets[i], 2, 100, marker, cells);

				assert_int_equal(strlen(text), cells);
			}
}

static void bar_of_nothing_is_blank(void **state)
{
	const struct segment segments[] = {{5, PAINT_PRIVATE}};
	_cleanup_free_ char *text = bar(segments, 1, 0, NO_MARKER, 4);

	assert_string_equal(text, "    ");
}

static void marker_takes_its_cell_and_stays_inside(void **state)
{
	const struct segment segments[] = {{100, PAINT_PRIVATE}};
	_cleanup_free_ char *middle = bar(segments, 1, 100, 50, 10);
	_cleanup_free_ char *start = bar(segments, 1, 100, 0, 4);
	_cleanup_free_ char *end = bar(segments, 1, 100, 1000, 4);

	assert_string_equal(middle, "#####|####");
	assert_string_equal(start, "|###");
	assert_string_equal(end, "###|");
}

static void size_fits_five_columns(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{0, "0"},
		{1, "1B"},
		{999, "999B"},
		{1000, "1.0K"},
		{MIB, "1.0M"},
		{10 * MIB - 1, "10.0M"},
		{10 * MIB, "10M"},
		{999 * MIB, "999M"},
		{1000 * MIB, "1.0G"},
		{GIB + GIB / 2, "1.5G"},
		{9999 * (GIB << 10), "9999T"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(DRAW_SIZE(cases[i].bytes), cases[i].text);
}

static void clipping_counts_characters_and_keeps_escapes(void **state)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	draw_clipped(out, "\033[32m██ab\033[0m", 3);
	fclose(out);
	assert_string_equal(text, "\033[32m██a\033[0m");
	free(text);
}

static void key_is_the_property_in_lower_case(void **state)
{
	static const char *const cases[][2] = {
		{"UsedBytes", "used_bytes"},
		{"ScanCpuUSec", "scan_cpu_usec"},
		{"TickUSec", "tick_usec"},
		{"NGuests", "n_guests"},
		{"LedgerMismatchBasisPoints", "ledger_mismatch_basis_points"},
		{"Pid", "pid"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *key = client_key_from_property(cases[i][0]);

		assert_string_equal(key, cases[i][1]);
	}
}

static struct json_object *snapshot_of(unsigned n_guests)
{
	struct json_object *snapshot = json_object_new_object();
	struct json_object *host = json_object_new_object();
	struct json_object *guests = json_object_new_array();

	json_object_object_add(host, "version", json_object_new_string("0.1.0"));
	json_object_object_add(host, "budget_bytes", json_object_new_uint64(GIB));
	json_object_object_add(host, "configured_bytes", json_object_new_uint64(3 * GIB));
	json_object_object_add(host, "guest_private_bytes", json_object_new_uint64(GIB / 2));
	for (unsigned i = 0; i < n_guests; i++) {
		struct json_object *guest = json_object_new_object();
		char name[72];

		snprintf(name, sizeof(name), "a-name-that-is-as-long-as-a-name-may-be-and-then-%u",
			i);
		json_object_object_add(guest, "name", json_object_new_string(name));
		json_object_object_add(guest, "state", json_object_new_string("running"));
		json_object_object_add(guest, "configured_bytes", json_object_new_uint64(GIB));
		json_object_object_add(guest, "private_bytes", json_object_new_uint64(GIB / 3));
		json_object_array_add(guests, guest);
	}
	json_object_object_add(snapshot, "host", host);
	json_object_object_add(snapshot, "guests", guests);
	return snapshot;
}

/* Columns that a line takes on the terminal. */
static unsigned columns_of(const char *line, size_t n)
{
	unsigned columns = 0;

	for (size_t i = 0; i < n; i++) {
		if (line[i] == '\033')
			while (line[i] != 'm')
				i++;
		else if (((unsigned char)line[i] & 0xc0) != 0x80)
			columns++;
	}
	return columns;
}

static void frame_fits_every_terminal(void **state)
{
	_cleanup_json_ struct json_object *snapshot = snapshot_of(12);

	for (unsigned columns = 1; columns < 200; columns += 7)
		for (unsigned rows = 1; rows < 40; rows++) {
			_cleanup_free_ char *text = NULL;
			size_t size;
			FILE *out = open_memstream(&text, &size);
			unsigned lines = 1;

			frame_draw(out, &coloured, snapshot, NULL, columns, rows);
			fclose(out);
			for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
				assert_in_range(columns_of(line, (size_t)(end - line)), 0, columns);
				lines++;
			}
			assert_in_range(lines, 1, rows);
		}
}

static void frame_says_how_many_guests_it_leaves_out(void **state)
{
	_cleanup_json_ struct json_object *snapshot = snapshot_of(12);
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	frame_draw(out, &plain, snapshot, NULL, 100, 19);
	fclose(out);
	assert_non_null(strstr(text, "and 2 more"));
}

static void frame_without_colours_has_no_escapes(void **state)
{
	_cleanup_json_ struct json_object *snapshot = snapshot_of(2);
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	frame_draw(out, &plain, snapshot, NULL, 100, 30);
	fclose(out);
	assert_null(strchr(text, '\033'));
	for (const char *c = text; *c; c++)
		assert_in_range((unsigned char)*c, '\n', '~');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bar_cells_are_proportional),
		cmocka_unit_test(bar_is_as_wide_as_asked_whatever_the_figures),
		cmocka_unit_test(bar_of_nothing_is_blank),
		cmocka_unit_test(marker_takes_its_cell_and_stays_inside),
		cmocka_unit_test(size_fits_five_columns),
		cmocka_unit_test(clipping_counts_characters_and_keeps_escapes),
		cmocka_unit_test(key_is_the_property_in_lower_case),
		cmocka_unit_test(frame_fits_every_terminal),
		cmocka_unit_test(frame_says_how_many_guests_it_leaves_out),
		cmocka_unit_test(frame_without_colours_has_no_escapes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("memctl-draw", tests, NULL, NULL);
}
