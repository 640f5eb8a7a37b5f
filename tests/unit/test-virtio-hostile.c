/*
 * A guest that writes garbage to every queue of every device: descriptors, rings and buffers are
 * random, edges preferred. Whatever it does, the device stays alive, a reset brings it back, and
 * nothing that the guest does not own is touched (the fake machine checks every discard).
 * tests/guest does the same from within a real guest.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "kvm-glue/virtio-balloon.h"
#include "kvm-glue/virtio-console.h"
#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/clock.h"

enum {
	BALLOON_SLOT = 1,
	CONSOLE_SLOT = 2,
	BALLOON_QUEUES = 4,
	CONSOLE_QUEUES = 6,
	ROUNDS = 400,
	SETTLE_US = 1000,
};

static struct fake_machine *f;
static struct pci_bus *bus;
static struct virtio_balloon *balloon;
static struct virtio_console *console;
static struct fake_driver driver;
static _Atomic uint64_t printed_bytes;
static uint64_t random_state;

static void take_output(void *context, const uint8_t *data, size_t bytes)
{
	printed_bytes += bytes;
}

static int setup(void **state)
{
	int fds[2];

	log_set_max_level(LOG_LEVEL_ERROR);
	random_state = 1;
	f = fake_machine_new();
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(pci_bus_new(&f->machine, &bus), 0);
	assert_int_equal(virtio_balloon_new(&f->machine, bus, BALLOON_SLOT, &balloon), 0);
	assert_int_equal(virtio_console_new(&f->machine, bus, CONSOLE_SLOT, take_output, NULL,
				 fds[1], &console),
		0);
	*state = (void *)(intptr_t)fds[0];
	return 0;
}

static int teardown(void **state)
{
	close((int)(intptr_t)*state);
	virtio_console_free(console);
	virtio_balloon_free(balloon);
	pci_bus_free(bus);
	fake_machine_free(f);
	return 0;
}

/* 0..n-1; xorshift64*, the same in every run */
static uint64_t any_below(uint64_t n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * UINT64_C(0x2545f4914f6cdd1d) % n;
}

static uint64_t bad_gpa(void)
{
	static const uint64_t edges[] = {0, FAKE_LOW_BYTES - 1, FAKE_LOW_BYTES, UINT64_MAX,
		MACHINE_HIGH_RAM_BASE - 8, MACHINE_HIGH_RAM_BASE + FAKE_HIGH_BYTES - 8,
		MACHINE_PCI_MMIO_BASE, UINT64_C(1) << 63};

	if (any_below(8) == 0)
		return edges[any_below(ARRAY_SIZE(edges))];
	return FAKE_BUFFERS_GPA + any_below(0x100000);
}

static uint32_t bad_bytes(void)
{
	static const uint32_t edges[] = {0, 1, 3, 4095, 4096, 0x7fffffff, 0xfffff000, UINT32_MAX};

	return any_below(4) ? (uint32_t)any_below(64) * 4 : edges[any_below(ARRAY_SIZE(edges))];
}

/* Rings of random content, heads and flags; the driver's index is sometimes one that cannot be. */
static void fill_queue(unsigned q)
{
	struct fake_queue *queue = &driver.queues[q];

	for (unsigned i = 0; i < queue->size; i++)
		fake_put_desc(&driver, q, (uint16_t)i, bad_gpa(), bad_bytes(),
			(uint16_t)any_below(any_below(4) ? 4 : 8),
			(uint16_t)any_below(queue->size + 1U));
	for (unsigned i = any_below(queue->size); i > 0; i--)
		fake_publish(
			&driver, q, (uint16_t)any_below(queue->size + (any_below(8) ? 0U : 1U)));
	if (any_below(16) == 0)
		queue->avail_idx = (uint16_t)(queue->avail_idx + any_below(UINT16_MAX));
}

static void fill_buffers(void)
{
	uint32_t *words = fake_ram(f, FAKE_BUFFERS_GPA, 0x10000);

	for (unsigned i = 0; i < 0x10000 / sizeof(*words); i++)
		words[i] = (uint32_t)any_below(any_below(8) ? FAKE_LOW_PAGES + 2 : UINT32_MAX);
}

/*
 * Rings are filled while the device stands still, so that the thread sanitizer sees the device's
 * own races only.
 */
static void hostile_round(unsigned n_queues)
{
	fake_driver_negotiate(
		&driver, any_below(4) ? UINT64_MAX : any_below(UINT64_MAX) | UINT64_C(1) << 32);
	for (unsigned q = 0; q < n_queues; q++) {
		fake_driver_queue(&driver, q, (uint16_t)(1U << any_below(7)));
		fill_queue(q);
	}
	fill_buffers();
	fake_driver_ok(&driver);
	for (unsigned q = 0; q < n_queues; q++)
		fake_kick(&driver, q);
	for (uint64_t end = clock_monotonic_us() + SETTLE_US;
		clock_monotonic_us() < end &&
		!(fake_driver_status(&driver) & VIRTIO_STATUS_NEEDS_RESET);)
		sched_yield();
	fake_driver_reset(&driver);
	assert_int_equal(fake_driver_status(&driver), 0);
}

static void the_balloon_outlives_garbage(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 4, false};
	uint32_t pfn = 0x400;
	struct virtio_balloon_stats s;

	fake_driver_init(&driver, f, BALLOON_SLOT);
	for (unsigned i = 0; i < ROUNDS; i++) {
		hostile_round(BALLOON_QUEUES);
		virtio_balloon_stats_read(balloon, &s);
		assert_int_equal(s.actual_pages, 0);
		virtio_balloon_request_claims(balloon);
	}
	assert_in_range(s.needs_reset, ROUNDS / 10, ROUNDS); /* it noticed */
	assert_true(s.inflated_pages > 0 && s.ignored_pages > 0);
	fake_driver_start(&driver, UINT64_MAX, BALLOON_QUEUES);
	memcpy(fake_ram(f, FAKE_BUFFERS_GPA, 4), &pfn, 4);
	fake_request(&driver, 0, &buffer, 1);
	virtio_balloon_stats_read(balloon, &s);
	assert_int_equal(s.actual_pages, 1);
}

static void the_console_outlives_garbage(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 5, false};
	struct virtio_console_stats s;
	uint64_t before;

	fake_driver_init(&driver, f, CONSOLE_SLOT);
	for (unsigned i = 0; i < ROUNDS; i++)
		hostile_round(CONSOLE_QUEUES);
	virtio_console_stats_read(console, &s);
	assert_in_range(s.needs_reset, ROUNDS / 10, ROUNDS);
	assert_int_equal(s.output_bytes, printed_bytes);
	fake_driver_start(&driver, UINT64_MAX, CONSOLE_QUEUES);
	before = printed_bytes;
	fake_request(&driver, 1, &buffer, 1);
	assert_int_equal(printed_bytes, before + 5);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_balloon_outlives_garbage),
		T(the_console_outlives_garbage),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
