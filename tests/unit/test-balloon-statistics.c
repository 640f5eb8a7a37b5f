/* What the driver says of the guest's memory: balloon-clauses.md says which clause each test is for. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "fake-balloon.h"
#include "wait-until.h"

static void put_stat(unsigned i, uint16_t tag, uint64_t value)
{
	uint8_t *at = fake_ram(f, FAKE_BUFFERS_GPA + 10 * i, 10);

	memcpy(at, &tag, 2);
	memcpy(at + 2, &value, 8);
}

/* Waits until the device has read statistics with that much free. */
static bool wait_free(uint64_t bytes)
{
	return COMES_TRUE(fake_balloon_stats().claims.free_bytes == bytes);
}

static void reads_statistics_in_any_order_and_skips_unknown_ones(void **state)
{
	static const uint16_t tags[] = {7, 4, 0xffff, 0, 9, 5, 6, 1, 3, 2, 8, 42};
	struct fake_buffer buffer = {
		FAKE_BUFFERS_GPA, 10 * ARRAY_SIZE(tags) + 3, false}; /* and a tail */
	struct virtio_balloon_claims c;

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	for (unsigned i = 0; i < ARRAY_SIZE(tags); i++)
		put_stat(i, tags[i], 1000 + tags[i]);
	fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(wait_free(1004));
	c = fake_balloon_stats().claims;
	assert_int_equal(c.swap_in_bytes, 1000);
	assert_int_equal(c.swap_out_bytes, 1001);
	assert_int_equal(c.major_faults, 1002);
	assert_int_equal(c.minor_faults, 1003);
	assert_int_equal(c.total_bytes, 1005);
	assert_int_equal(c.available_bytes, 1006);
	assert_int_equal(c.disk_caches_bytes, 1007);
	assert_true(c.time_us > 0);
}

static void statistics_that_are_not_given_are_unknown(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 10, false};

	assert_true(fake_balloon_stats().claims.free_bytes == UINT64_MAX);
	assert_int_equal(fake_balloon_stats().claims.time_us, 0);
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	put_stat(0, 4, 1);
	fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(wait_free(1));
	assert_true(fake_balloon_stats().claims.total_bytes == UINT64_MAX);
}

static void keeps_the_statistics_buffer_until_it_wants_fresh_ones(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 10, false};
	uint32_t id;

	fake_driver_start(&driver, VIRTIO_F_VERSION_1 | F_STATS_VQ, N_QUEUES);
	put_stat(0, 4, 1);
	fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(wait_free(1));
	assert_false(fake_has_used(&driver, STATS));
	for (unsigned round = 2; round < 5; round++) {
		virtio_balloon_request_claims(balloon);
		assert_true(fake_wait_used(&driver, STATS, &id, NULL));
		virtio_balloon_request_claims(balloon); /* while the driver works: harmless */
		put_stat(0, 4, round);
		fake_add(&driver, STATS, &buffer, 1);
		fake_kick(&driver, STATS);
		assert_true(wait_free(round));
	}
	fake_driver_reset(&driver);
	assert_true(fake_vector_take(&driver, STATS + 1) >= 3);
}

static void gives_the_older_of_two_statistics_buffers_back(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 10, false};
	uint16_t first, second;
	uint32_t id;

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	first = fake_add(&driver, STATS, &buffer, 1);
	second = fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(fake_wait_used(&driver, STATS, &id, NULL));
	assert_int_equal(id, first);
	assert_false(fake_has_used(&driver, STATS));
	virtio_balloon_request_claims(balloon);
	assert_true(fake_wait_used(&driver, STATS, &id, NULL));
	assert_int_equal(id, second);
}

static void statistics_asked_before_the_driver_is_ready_are_harmless(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 10, false};

	virtio_balloon_request_claims(balloon);
	fake_driver_negotiate(&driver, UINT64_MAX);
	virtio_balloon_request_claims(balloon);
	for (unsigned q = 0; q < N_QUEUES; q++)
		fake_driver_queue(&driver, q, 0);
	fake_driver_ok(&driver);
	virtio_balloon_request_claims(balloon);
	put_stat(0, 4, 17);
	fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(wait_free(17));
	assert_int_equal(fake_driver_status(&driver), 15);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fake_balloon_setup, fake_balloon_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(reads_statistics_in_any_order_and_skips_unknown_ones),
		T(statistics_that_are_not_given_are_unknown),
		T(keeps_the_statistics_buffer_until_it_wants_fresh_ones),
		T(gives_the_older_of_two_statistics_buffers_back),
		T(statistics_asked_before_the_driver_is_ready_are_harmless),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
