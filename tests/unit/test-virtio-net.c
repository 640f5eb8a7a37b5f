/* virtio-net: frames both ways, room that lacks, several queues, what breaks it, and its options. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "fake-network.h"
#include "kvm-glue/slirp.h"
#include "kvm-glue/virtio-frames.h"
#include "kvm-glue/virtio-net.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/clock.h"

enum {
	SLOT = 3,
	WAIT_MS = 10000,
	HEADER = NET_HEADER_BYTES,
	NUM_BUFFERS = 10,
};
#define IN_GPA	(FAKE_BUFFERS_GPA + 0x20000)
#define OUT_GPA FAKE_BUFFERS_GPA

static struct fake_machine *f;
static struct pci_bus *bus;
static void *net;
static struct fake_driver driver;
static int ends[NET_PAIRS_MAX];
static unsigned n_ends;

static int setup(void **state)
{
	log_set_max_level(LOG_LEVEL_ERROR);
	f = fake_machine_new();
	assert_int_equal(pci_bus_new(&f->machine, &bus), 0);
	n_ends = 0;
	return 0;
}

static int teardown(void **state)
{
	virtio_net_kind.free(net);
	net = NULL;
	for (unsigned i = 0; i < n_ends; i++)
		close(ends[i]);
	pci_bus_free(bus);
	fake_machine_free(f);
	return 0;
}

static void plug(unsigned n_pairs, uint64_t features)
{
	struct error e = {0};

	n_ends = n_pairs;
	assert_int_equal(virtio_net_new(fake_network_new(n_pairs, ends), &net, &e), 0);
	assert_int_equal(virtio_net_kind.plug(net, &f->machine, bus, SLOT), 0);
	fake_driver_init(&driver, f, SLOT);
	fake_driver_start(&driver, features, n_pairs > 1 ? 2 * n_pairs + 1 : 2);
}

static uint8_t *ram(uint64_t gpa)
{
	return fake_ram(f, gpa, 1);
}

static void fill(uint8_t *p, size_t bytes, unsigned seed)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)(seed + i * 13 + i / 256);
}

static void assert_filled(const uint8_t *p, size_t from, size_t bytes, unsigned seed)
{
	for (size_t i = from; i < from + bytes; i++)
		assert_int_equal(p[i - from], (uint8_t)(seed + i * 13 + i / 256));
}

/* The guest sends a frame of so many bytes, header included. */
static void transmit(unsigned pair, uint32_t bytes, unsigned seed)
{
	const struct fake_buffer b = {OUT_GPA, bytes, false};

	fill(ram(OUT_GPA), bytes, seed);
	fake_request(&driver, 2 * pair + 1, &b, 1);
}

static void assert_arrives(unsigned pair, uint32_t bytes, unsigned seed)
{
	struct pollfd p = {.fd = ends[pair], .events = POLLIN};
	static uint8_t got[FRAMES_BYTES_MAX + 1];

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(recv(ends[pair], got, sizeof(got), 0), bytes);
	assert_filled(got, 0, bytes, seed);
}

/* The world sends a frame, with a header of zeros. */
static void arrive(unsigned pair, size_t bytes, unsigned seed)
{
	static uint8_t frame[FRAMES_BYTES_MAX];

	fill(frame, bytes, seed);
	memset(frame, 0, HEADER);
	assert_int_equal(send(ends[pair], frame, bytes, 0), bytes);
}

static void offer(unsigned pair, uint64_t gpa, uint32_t bytes)
{
	const struct fake_buffer b = {gpa, bytes, true};

	fake_add(&driver, 2 * pair, &b, 1);
	fake_kick(&driver, 2 * pair);
}

static uint32_t wait_received(unsigned pair)
{
	uint32_t bytes = 0;

	assert_true(fake_wait_used(&driver, 2 * pair, NULL, &bytes));
	return bytes;
}

static uint16_t num_buffers(uint64_t gpa)
{
	uint16_t n;

	memcpy(&n, ram(gpa + NUM_BUFFERS), sizeof(n));
	return n;
}

static void configuration_has_the_address_and_the_link(void **state)
{
	plug(4, UINT64_MAX);
	assert_int_equal(fake_mmio_read(f, driver.device, 4), 0x06040200);
	assert_int_equal(fake_mmio_read(f, driver.device + 6, 2), 1);
	assert_int_equal(fake_mmio_read(f, driver.device + 8, 2), 4);
}

static void frames_of_the_guest_arrive_whole(void **state)
{
	const struct fake_buffer cut[] = {
		{OUT_GPA, 5, false}, {OUT_GPA + 5, 8, false}, {OUT_GPA + 13, 100, false}};

	plug(1, UINT64_MAX);
	transmit(0, HEADER + 60, 1);
	assert_arrives(0, HEADER + 60, 1);
	transmit(0, 65536, 2);
	assert_arrives(0, 65536, 2);
	fill(ram(OUT_GPA), 113, 3);
	fake_request(&driver, 1, cut, 3);
	assert_arrives(0, 113, 3);
}

static void frame_that_is_too_long_is_dropped(void **state)
{
	plug(1, UINT64_MAX);
	transmit(0, FRAMES_BYTES_MAX + 1, 1);
	transmit(0, FRAMES_BYTES_MAX, 2);
	assert_arrives(0, FRAMES_BYTES_MAX, 2);
}

static void frames_wait_for_a_full_backend_in_order(void **state)
{
	enum {
		FRAMES = 3000,
		BYTES = 2000,
	};
	unsigned added = 0, returned = 0;

	plug(1, UINT64_MAX);
	/* all of one content, since they lie in one buffer; the first two bytes differ as sizes do */
	fill(ram(OUT_GPA), BYTES + FRAMES, 9);
	for (unsigned arrived = 0; arrived < FRAMES; arrived++) {
		while (added < FRAMES && added - returned < 200) {
			const struct fake_buffer b = {OUT_GPA, BYTES + added, false};

			fake_add(&driver, 1, &b, 1);
			fake_kick(&driver, 1);
			added++;
		}
		if (arrived == 0)
			clock_sleep_us(20000); /* so that the socket is full, most likely */
		assert_arrives(0, BYTES + arrived, 9);
		while (fake_has_used(&driver, 1) && fake_wait_used(&driver, 1, NULL, NULL))
			returned++;
	}
}

static void frame_for_the_guest_lies_in_one_buffer(void **state)
{
	plug(1, UINT64_MAX);
	offer(0, IN_GPA, 4096);
	arrive(0, HEADER + 1000, 4);
	assert_int_equal(wait_received(0), HEADER + 1000);
	assert_int_equal(num_buffers(IN_GPA), 1);
	assert_filled(ram(IN_GPA + HEADER), HEADER, 1000, 4);
	assert_true(fake_vector_take(&driver, 1) > 0);
}

static void large_frame_is_spread_over_buffers(void **state)
{
	plug(1, UINT64_MAX);
	arrive(0, HEADER + 2500, 5); /* before there is a buffer */
	offer(0, IN_GPA, 1024);
	offer(0, IN_GPA + 0x1000, 1024);
	clock_sleep_us(2000);
	assert_false(fake_has_used(&driver, 0)); /* not before all of it has room */
	offer(0, IN_GPA + 0x2000, 1024);
	assert_int_equal(wait_received(0), 1024);
	assert_int_equal(wait_received(0), 1024);
	assert_int_equal(wait_received(0), HEADER + 2500 - 2048);
	assert_int_equal(num_buffers(IN_GPA), 3);
	assert_filled(ram(IN_GPA + HEADER), HEADER, 1024 - HEADER, 5);
	assert_filled(ram(IN_GPA + 0x1000), 1024, 1024, 5);
	assert_filled(ram(IN_GPA + 0x2000), 2048, HEADER + 2500 - 2048, 5);
}

static void frame_without_room_is_dropped_where_buffers_do_not_merge(void **state)
{
	plug(1, ~VIRTIO_NET_F_MRG_RXBUF);
	offer(0, IN_GPA, 1024);
	arrive(0, 1025, 6);
	assert_int_equal(wait_received(0), 0);
	offer(0, IN_GPA, 1024);
	arrive(0, 1024, 7);
	assert_int_equal(wait_received(0), 1024);
	assert_filled(ram(IN_GPA + HEADER), HEADER, 1024 - HEADER, 7);
}

static void frame_that_needs_too_many_buffers_is_dropped(void **state)
{
	plug(1, UINT64_MAX);
	for (unsigned i = 0; i < 64; i++)
		offer(0, IN_GPA + i * 64, 16);
	arrive(0, 64 * 16 + 1, 8);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(wait_received(0), 0);
	for (unsigned i = 0; i < 64; i++)
		offer(0, IN_GPA + i * 64, 16);
	arrive(0, 64 * 16, 8);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(wait_received(0), 16);
}

static void reset_forgets_frames_that_wait(void **state)
{
	int unread = 1;

	plug(1, UINT64_MAX);
	offer(0, IN_GPA, 1024);
	arrive(0, 3000, 1); /* waits for more room, once the device has read it */
	while (unread > 0) {
		clock_sleep_us(100);
		assert_int_equal(ioctl(ends[0], TIOCOUTQ, &unread), 0);
	}
	fake_driver_start(&driver, UINT64_MAX, 2);
	offer(0, IN_GPA, 1024);
	arrive(0, 500, 2);
	assert_int_equal(wait_received(0), 500);
	assert_filled(ram(IN_GPA + HEADER), HEADER, 500 - HEADER, 2);
}

static unsigned control(
	unsigned queue, uint8_t class, uint8_t command, uint16_t pairs, uint32_t bytes)
{
	const struct fake_buffer b[] = {{OUT_GPA, bytes, false}, {OUT_GPA + 64, 1, true}};
	const struct {
		uint8_t class, command;
		uint16_t pairs;
	} m = {class, command, pairs};

	memcpy(ram(OUT_GPA), &m, sizeof(m));
	*ram(OUT_GPA + 64) = 0x77;
	fake_request(&driver, queue, b, 2);
	return *ram(OUT_GPA + 64);
}

static void driver_chooses_how_many_pairs_carry_frames(void **state)
{
	plug(3, UINT64_MAX);
	assert_int_equal(fake_network_pairs(), 1);
	offer(2, IN_GPA, 4096);
	arrive(2, 100, 1);
	clock_sleep_us(2000);
	assert_false(fake_has_used(&driver, 4));
	assert_int_equal(control(6, 4, 0, 0, 4), 1);
	assert_int_equal(control(6, 4, 0, 4, 4), 1);
	assert_int_equal(control(6, 4, 1, 2, 4), 1);
	assert_int_equal(control(6, 0, 0, 1, 4), 1);
	assert_int_equal(control(6, 4, 0, 3, 3), 1);
	assert_int_equal(fake_network_pairs(), 1);
	assert_int_equal(control(6, 4, 0, 3, 4), 0);
	assert_int_equal(fake_network_pairs(), 3);
	assert_int_equal(wait_received(2), 100);
	transmit(1, 100, 2);
	assert_arrives(1, 100, 2);
}

static void control_queue_is_the_third_without_multi_queue(void **state)
{
	plug(2, ~VIRTIO_NET_F_MQ);
	assert_int_equal(control(2, 4, 0, 2, 4), 1);
	transmit(0, 100, 1);
	assert_arrives(0, 100, 1);
}

static void assert_breaks(unsigned queue, struct fake_buffer b)
{
	fake_driver_start(&driver, UINT64_MAX, 5);
	fake_add(&driver, queue, &b, 1);
	fake_kick(&driver, queue);
	if (queue % 2 == 0)
		arrive(queue / 2, 100, 1);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
}

static void bad_chains_break_the_device(void **state)
{
	plug(2, UINT64_MAX);
	assert_breaks(1, (struct fake_buffer){OUT_GPA, HEADER - 1, false});
	assert_breaks(1, (struct fake_buffer){OUT_GPA, 100, true});
	assert_breaks(0, (struct fake_buffer){IN_GPA, HEADER - 1, true});
	assert_breaks(0, (struct fake_buffer){IN_GPA, 100, false});
	fake_driver_start(&driver, UINT64_MAX, 5);
	fake_add(&driver, 4, &(struct fake_buffer){OUT_GPA, 4, false}, 1);
	fake_kick(&driver, 4);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
	assert_int_equal(virtio_net_kind.needs_reset(net), 5);
	fake_driver_start(&driver, UINT64_MAX, 5);
	transmit(0, 100, 1);
	assert_arrives(0, 100, 1);
}

static void options_that_make_no_sense_are_refused(void **state)
{
	static const struct {
		const char *spec;
		int result;
	} bad[] = {
		{"usr", -EINVAL},
		{"tap:", -EINVAL},
		{"tap:a-name-that-is-too-long", -EINVAL},
		{"tap:x,queues=0", -ERANGE},
		{"tap:x,queues=9", -ERANGE},
		{"tap:x,tcp=1:2", -EINVAL},
		{"user,queues=2", -EINVAL},
		{"user,mac=52:54:00:12:34", -EINVAL},
		{"user,mac=53:54:00:12:34:56", -EINVAL},
		{"user,mac=52:54:00:12:34:567", -EINVAL},
		{"user,mac=", -EINVAL},
		{"user,tcp=80", -EINVAL},
		{"user,tcp=80:65536", -EINVAL},
		{"user,tcp=0:80", -EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = {0};
		void *none = NULL;

		assert_int_equal(virtio_net_kind.open(bad[i].spec, &none, &e), bad[i].result);
		assert_true(e.text[0] != '\0');
	}
}

static void forwards_are_two_ports(void **state)
{
	struct slirp_forward forward;

	assert_true(slirp_parse_forward("8022:22", &forward));
	assert_int_equal(forward.host_port, 8022);
	assert_int_equal(forward.guest_port, 22);
	assert_true(slirp_parse_forward("65535:65535", &forward));
	assert_false(slirp_parse_forward("655350:1", &forward));
	assert_false(slirp_parse_forward("1:2:3", &forward));
	assert_false(slirp_parse_forward(":2", &forward));
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(configuration_has_the_address_and_the_link),
		T(frames_of_the_guest_arrive_whole),
		T(frame_that_is_too_long_is_dropped),
		T(frames_wait_for_a_full_backend_in_order),
		T(frame_for_the_guest_lies_in_one_buffer),
		T(large_frame_is_spread_over_buffers),
		T(frame_without_room_is_dropped_where_buffers_do_not_merge),
		T(frame_that_needs_too_many_buffers_is_dropped),
		T(reset_forgets_frames_that_wait),
		T(driver_chooses_how_many_pairs_carry_frames),
		T(control_queue_is_the_third_without_multi_queue),
		T(bad_chains_break_the_device),
		T(options_that_make_no_sense_are_refused),
		T(forwards_are_two_ports),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("virtio-net", tests, NULL, NULL);
}
