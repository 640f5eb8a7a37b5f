/* The I/O buses: who answers, moving ranges, overlaps, accesses that nobody takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "kvm-glue/bus.h"

struct device {
	uint64_t offset;
	unsigned size;
	unsigned reads;
	unsigned writes;
	uint8_t written[8];
	uint8_t seen[8]; /* what data held before a read */
};

static void device_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	struct device *d = device;

	d->offset = offset;
	d->size = size;
	d->reads++;
	memcpy(d->seen, data, size);
	memset(data, 0x5a, size);
}

static void device_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct device *d = device;

	d->offset = offset;
	d->size = size;
	d->writes++;
	memcpy(d->written, data, size);
}

static const struct bus_ops ops = {.read = device_read, .write = device_write};

static struct bus *bus;
static struct device a, b;
static struct bus_range *range_a, *range_b;

static int setup(void **state)
{
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	if (bus_new(&bus) < 0)
		return -1;
	if (bus_add(bus, BUS_MMIO, 0x1000, 0x100, &ops, &a, "a", &range_a) < 0)
		return -1;
	return bus_add(bus, BUS_MMIO, 0x2000, 0x100, &ops, &b, "b", &range_b);
}

static int teardown(void **state)
{
	bus_free(bus);
	return 0;
}

static bool reads(uint64_t address, unsigned size)
{
	uint8_t data[8];

	return bus_read(bus, BUS_MMIO, address, data, size);
}

static void hands_offset_and_bytes_to_the_device(void **state)
{
	uint8_t data[8] = {1, 2, 3, 4};

	assert_true(bus_write(bus, BUS_MMIO, 0x1010, data, 4));
	assert_int_equal(a.offset, 0x10);
	assert_int_equal(a.size, 4);
	assert_memory_equal(a.written, data, 4);
	assert_true(bus_read(bus, BUS_MMIO, 0x20f8, data, 8));
	assert_int_equal(b.offset, 0xf8);
	assert_int_equal(data[7], 0x5a);
}

static void read_data_begins_as_zeros(void **state)
{
	static const uint8_t zeros[8];
	uint8_t data[8];

	memset(data, 0xee, sizeof(data));
	assert_true(bus_read(bus, BUS_MMIO, 0x1000, data, 8));
	assert_memory_equal(a.seen, zeros, 8);
}

static void nobody_answers_with_ones(void **state)
{
	uint8_t data[8] = {0};

	assert_false(bus_read(bus, BUS_MMIO, 0x3000, data, 4));
	assert_int_equal(data[0], 0xff);
	assert_int_equal(data[3], 0xff);
	assert_int_equal(data[4], 0);
	assert_false(bus_write(bus, BUS_MMIO, 0x3000, data, 4));
}

static void kinds_are_separate(void **state)
{
	uint8_t data[8];

	assert_false(bus_read(bus, BUS_PIO, 0x1000, data, 1));
}

static void an_access_lies_in_a_range_entirely_or_not_at_all(void **state)
{
	assert_true(reads(0x10fc, 4));
	assert_false(reads(0x10fd, 4));
	assert_false(reads(0xfff, 2));
	assert_false(reads(0x1100, 1));
	assert_false(reads(UINT64_MAX, 2));
	assert_int_equal(a.reads, 1);
}

static void refuses_overlap(void **state)
{
	struct bus_range *r = NULL;

	assert_int_equal(bus_add(bus, BUS_MMIO, 0x10ff, 1, &ops, &b, "x", &r), -EEXIST);
	assert_int_equal(bus_add(bus, BUS_MMIO, 0xfff, 2, &ops, &b, "x", &r), -EEXIST);
	assert_int_equal(bus_add(bus, BUS_MMIO, 0, 0x10000, &ops, &b, "x", &r), -EEXIST);
	assert_null(r);
	assert_int_equal(bus_add(bus, BUS_MMIO, 0x1100, 1, &ops, &b, "x", &r), 0);
	assert_int_equal(bus_add(bus, BUS_MMIO, 0xfff, 1, &ops, &b, "x", &r), 0);
}

static void refuses_ranges_that_are_none(void **state)
{
	struct bus_range *r = NULL;

	assert_int_equal(bus_add(bus, BUS_MMIO, 0x3000, 0, &ops, &b, "x", &r), -EINVAL);
	assert_int_equal(bus_add(bus, BUS_MMIO, UINT64_MAX, 2, &ops, &b, "x", &r), -EINVAL);
	assert_int_equal(bus_move(bus, range_a, UINT64_MAX - 0xfe, true), -EINVAL);
	assert_false(reads(0x1000, 1));
}

static void a_moved_range_answers_only_at_its_new_place(void **state)
{
	assert_int_equal(bus_move(bus, range_a, 0x5000, true), 0);
	assert_false(reads(0x1000, 1));
	assert_true(reads(0x5000, 1));
	/* onto itself, shifted */
	assert_int_equal(bus_move(bus, range_a, 0x5080, true), 0);
	assert_true(reads(0x517f, 1));
}

static void a_disabled_range_keeps_its_handle_and_frees_its_place(void **state)
{
	struct bus_range *r;

	assert_int_equal(bus_move(bus, range_a, 0x1000, false), 0);
	assert_false(reads(0x1000, 1));
	assert_int_equal(bus_add(bus, BUS_MMIO, 0x1000, 1, &ops, &b, "x", &r), 0);
	assert_int_equal(bus_move(bus, range_a, 0x1000, true), -EEXIST);
	assert_int_equal(bus_move(bus, range_a, 0x1001, true), 0);
	assert_true(reads(0x1001, 1));
}

static void a_move_onto_another_disables(void **state)
{
	assert_int_equal(bus_move(bus, range_a, 0x20ff, true), -EEXIST);
	assert_false(reads(0x1000, 1));
	assert_true(reads(0x20ff, 1));
	assert_int_equal(b.reads, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(hands_offset_and_bytes_to_the_device),
		T(read_data_begins_as_zeros),
		T(nobody_answers_with_ones),
		T(kinds_are_separate),
		T(an_access_lies_in_a_range_entirely_or_not_at_all),
		T(refuses_overlap),
		T(refuses_ranges_that_are_none),
		T(a_moved_range_answers_only_at_its_new_place),
		T(a_disabled_range_keeps_its_handle_and_frees_its_place),
		T(a_move_onto_another_disables),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
