/* virtio-rng: buffers come back full of different bytes, and bad requests break the device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "kvm-glue/virtio-pci.h"
#include "kvm-glue/virtio-rng.h"

enum {
	SLOT = 3,
	BYTES = 4096,
};

static struct fake_machine *f;
static struct pci_bus *bus;
static void *rng;
static struct fake_driver driver;

static int setup(void **state)
{
	struct error e = {0};

	log_set_max_level(LOG_LEVEL_ERROR);
	f = fake_machine_new();
	assert_int_equal(pci_bus_new(&f->machine, &bus), 0);
	assert_int_equal(virtio_rng_kind.open(NULL, &rng, &e), 0);
	assert_int_equal(virtio_rng_kind.plug(rng, &f->machine, bus, SLOT), 0);
	fake_driver_init(&driver, f, SLOT);
	return 0;
}

static int teardown(void **state)
{
	virtio_rng_kind.free(rng);
	pci_bus_free(bus);
	fake_machine_free(f);
	return 0;
}

static uint8_t *buffer(unsigned i)
{
	return fake_ram(f, FAKE_BUFFERS_GPA + (uint64_t)i * BYTES, BYTES);
}

static uint32_t ask(unsigned i, uint32_t bytes)
{
	const struct fake_buffer b = {FAKE_BUFFERS_GPA + (uint64_t)i * BYTES, bytes, true};

	return fake_request(&driver, 0, &b, 1);
}

static void buffers_are_filled_with_different_bytes(void **state)
{
	fake_driver_start(&driver, UINT64_MAX, 1);
	memset(buffer(0), 0, 2 * BYTES);
	assert_int_equal(ask(0, BYTES), BYTES);
	assert_int_equal(ask(1, BYTES), BYTES);
	assert_memory_not_equal(buffer(0), buffer(1), BYTES);
	/* the last of the pieces it is made of, too; 16 zeros in a row come once in 2^128 */
	assert_memory_not_equal(buffer(0) + BYTES - 16, buffer(2), 16);
	assert_memory_not_equal(buffer(0), buffer(0) + BYTES / 2, BYTES / 2);
}

static void bytes_behind_the_buffer_stay(void **state)
{
	fake_driver_start(&driver, UINT64_MAX, 1);
	memset(buffer(0), 0, BYTES);
	assert_int_equal(ask(0, 257), 257);
	assert_memory_equal(buffer(0) + 257, buffer(1), BYTES - 257);
}

static void large_buffer_is_filled_up_to_the_limit(void **state)
{
	fake_driver_start(&driver, UINT64_MAX, 1);
	assert_int_equal(
		ask(0, VIRTIO_RNG_REQUEST_MAX_BYTES - 1), VIRTIO_RNG_REQUEST_MAX_BYTES - 1);
	assert_int_equal(ask(0, VIRTIO_RNG_REQUEST_MAX_BYTES), VIRTIO_RNG_REQUEST_MAX_BYTES);
	assert_int_equal(ask(0, VIRTIO_RNG_REQUEST_MAX_BYTES + 1), VIRTIO_RNG_REQUEST_MAX_BYTES);
}

static void readable_buffer_breaks_the_device(void **state)
{
	const struct fake_buffer b = {FAKE_BUFFERS_GPA, 16, false};

	fake_driver_start(&driver, UINT64_MAX, 1);
	fake_add(&driver, 0, &b, 1);
	fake_kick(&driver, 0);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
	assert_int_equal(virtio_rng_kind.needs_reset(rng), 1);
	fake_driver_start(&driver, UINT64_MAX, 1);
	assert_int_equal(ask(0, 16), 16);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(buffers_are_filled_with_different_bytes),
		T(bytes_behind_the_buffer_stay),
		T(large_buffer_is_filled_up_to_the_limit),
		T(readable_buffer_breaks_the_device),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("virtio-rng", tests, NULL, NULL);
}
