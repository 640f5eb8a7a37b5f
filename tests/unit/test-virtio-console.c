/*
 * virtio-console with two ports: output, control messages, the agent's channel and its flow
 * control.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "wait-until.h"
#include "kvm-glue/virtio-console.h"
#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"

enum {
	SLOT = 2,
	CONSOLE_RX = 0,
	CONSOLE_TX = 1,
	CONTROL_RX = 2,
	CONTROL_TX = 3,
	AGENT_RX = 4,
	AGENT_TX = 5,
	N_QUEUES = 6,

	/* many times what a socket takes */
	FULL_BYTES = 0x8000,
	FULL_CHAINS = 32,

	DEVICE_READY = 0,
	DEVICE_ADD = 1,
	PORT_READY = 3,
	CONSOLE_PORT = 4,
	PORT_OPEN = 6,
	PORT_NAME = 7,
};

struct message {
	uint32_t id;
	uint16_t event;
	uint16_t value;
	char name[32];
};

static struct fake_machine *f;
static struct pci_bus *bus;
static struct virtio_console *console;
static struct fake_driver driver;
static int agent; /* the peer's end */
static int device_end; /* the other, the console's own */
static char output[65536];
static _Atomic size_t output_bytes;

static void take_output(void *context, const uint8_t *data, size_t bytes)
{
	memcpy(output + output_bytes, data, bytes);
	output_bytes += bytes;
}

static int new_agent(void)
{
	const int room_bytes = FULL_BYTES;
	int fds[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(
		setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room_bytes, sizeof(room_bytes)), 0);
	agent = fds[0];
	device_end = fds[1];
	return fds[1];
}

static void setup_with(int fd)
{
	log_set_max_level(LOG_LEVEL_ERROR);
	output_bytes = 0;
	f = fake_machine_new();
	assert_int_equal(pci_bus_new(&f->machine, &bus), 0);
	assert_int_equal(
		virtio_console_new(&f->machine, bus, SLOT, take_output, NULL, fd, &console), 0);
	fake_driver_init(&driver, f, SLOT);
}

static int setup(void **state)
{
	setup_with(new_agent());
	return 0;
}

static int setup_alone(void **state)
{
	agent = -1;
	setup_with(-1);
	return 0;
}

static int teardown(void **state)
{
	virtio_console_free(console);
	cleanup_closep(&agent);
	pci_bus_free(bus);
	fake_machine_free(f);
	return 0;
}

static struct virtio_console_stats stats(void)
{
	struct virtio_console_stats s;

	virtio_console_stats_read(console, &s);
	return s;
}

static void start(void)
{
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
}

/* Sends bytes on a queue and waits until they are taken. */
static void send_bytes(unsigned q, const void *data, uint32_t n)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, n, false};

	memcpy(fake_ram(f, FAKE_BUFFERS_GPA, n), data, n);
	assert_int_equal(fake_request(&driver, q, &buffer, 1), 0);
}

static void tell_device(uint32_t id, uint16_t event, uint16_t value)
{
	struct message m = {id, event, value, ""};

	send_bytes(CONTROL_TX, &m, 8);
}

/* Offers a buffer for a control message and waits for it. */
static struct message next_message(uint32_t *ret_bytes)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x10000, sizeof(struct message), true};
	struct message m;

	memset(fake_ram(f, buffer.gpa, buffer.bytes), 0, buffer.bytes);
	*ret_bytes = fake_request(&driver, CONTROL_RX, &buffer, 1);
	memcpy(&m, fake_ram(f, buffer.gpa, buffer.bytes), sizeof(m));
	return m;
}

static void assert_told(uint32_t id, uint16_t event, uint16_t value)
{
	uint32_t bytes;
	struct message m = next_message(&bytes);

	assert_int_equal(m.id, id);
	assert_int_equal(m.event, event);
	assert_int_equal(m.value, value);
	if (event == PORT_NAME) {
		assert_string_equal(m.name, VIRTIO_CONSOLE_AGENT_NAME);
		assert_int_equal(bytes, 8 + strlen(VIRTIO_CONSOLE_AGENT_NAME));
	} else {
		assert_int_equal(bytes, 8);
	}
}

/* The conversation that sets both ports up. */
static void start_ports(bool agent_attached)
{
	start();
	tell_device(0, DEVICE_READY, 1);
	assert_told(0, DEVICE_ADD, 0);
	assert_told(1, DEVICE_ADD, 0);
	tell_device(0, PORT_READY, 1);
	assert_told(0, CONSOLE_PORT, 1);
	assert_told(0, PORT_OPEN, 1);
	tell_device(0, PORT_OPEN, 1);
	tell_device(1, PORT_READY, 1);
	assert_told(1, PORT_NAME, 1);
	if (agent_attached)
		assert_told(1, PORT_OPEN, 1);
}

static void has_two_ports(void **state)
{
	assert_int_equal(fake_mmio_read(f, driver.device + 4, 4), 2);
	fake_mmio_write(f, driver.device + 4, 4, 7);
	assert_int_equal(fake_mmio_read(f, driver.device + 4, 4), 2);
}

static void sets_its_ports_up(void **state)
{
	start_ports(true);
	assert_int_equal(stats().ignored_messages, 0);
}

static void announces_a_port_once(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x10000, 64, true};

	start_ports(true);
	tell_device(0, DEVICE_READY, 1);
	fake_add(&driver, CONTROL_RX, &buffer, 1);
	fake_kick(&driver, CONTROL_RX);
	tell_device(0, DEVICE_READY, 1);
	assert_false(fake_has_used(&driver, CONTROL_RX));
}

static void keeps_what_it_has_to_tell_until_there_is_a_buffer(void **state)
{
	start();
	for (unsigned i = 0; i < 100; i++) /* many times, told once */
		tell_device(0, DEVICE_READY, 1);
	tell_device(1, PORT_READY, 1);
	tell_device(1, PORT_READY, 1);
	assert_told(0, DEVICE_ADD, 0);
	assert_told(1, DEVICE_ADD, 0);
	assert_told(1, PORT_NAME, 1);
	assert_told(1, PORT_OPEN, 1);
}

static void prints_on_the_console(void **state)
{
	static const struct fake_buffer parts[] = {
		{FAKE_BUFFERS_GPA, 6, false}, {FAKE_BUFFERS_GPA + 0x1000, 5, false}};

	start();
	memcpy(fake_ram(f, parts[0].gpa, 6), "hello ", 6);
	memcpy(fake_ram(f, parts[1].gpa, 5), "world", 5);
	fake_request(&driver, CONSOLE_TX, parts, 2);
	assert_int_equal(output_bytes, 11);
	assert_memory_equal(output, "hello world", 11);
	assert_int_equal(stats().output_bytes, 11);
}

static void prints_without_multiport(void **state)
{
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, 2);
	send_bytes(CONSOLE_TX, "abc", 3);
	assert_memory_equal(output, "abc", 3);
}

static void prints_more_than_a_page_in_order(void **state)
{
	static uint8_t data[10000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	start();
	send_bytes(CONSOLE_TX, data, sizeof(data));
	assert_int_equal(output_bytes, sizeof(data));
	assert_memory_equal(output, data, sizeof(data));
}

static void passes_agent_data_both_ways(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x20000, 64, true};
	char got[16] = "";
	uint32_t bytes = 0;

	start_ports(true);
	tell_device(1, PORT_OPEN, 1);
	send_bytes(AGENT_TX, "ping", 4);
	assert_int_equal(recv(agent, got, sizeof(got), 0), 4);
	assert_memory_equal(got, "ping", 4);
	fake_add(&driver, AGENT_RX, &buffer, 1);
	fake_kick(&driver, AGENT_RX);
	assert_int_equal(send(agent, "pong!", 5, 0), 5);
	assert_true(fake_wait_used(&driver, AGENT_RX, NULL, &bytes));
	assert_int_equal(bytes, 5);
	assert_memory_equal(fake_ram(f, buffer.gpa, 5), "pong!", 5);
	assert_int_equal(stats().agent.rx_bytes, 5);
	assert_int_equal(stats().agent.tx_bytes, 4);
}

static void splits_data_over_the_guests_buffers(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x20000, 3, true};
	char got[11] = "";

	start_ports(true);
	assert_int_equal(send(agent, "0123456789", 10, 0), 10);
	tell_device(1, PORT_OPEN, 1);
	for (unsigned at = 0; at < 10;) {
		uint32_t bytes = fake_request(&driver, AGENT_RX, &buffer, 1);

		assert_in_range(bytes, 1, 3);
		memcpy(got + at, fake_ram(f, buffer.gpa, 3), bytes);
		at += bytes;
	}
	assert_string_equal(got, "0123456789");
}

static void leaves_data_with_the_peer_until_the_guest_opens(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x20000, 64, true};
	uint32_t bytes = 0;

	start_ports(true);
	fake_add(&driver, AGENT_RX, &buffer, 1);
	fake_kick(&driver, AGENT_RX);
	assert_int_equal(send(agent, "x", 1, 0), 1);
	clock_sleep_us(2000);
	assert_false(fake_has_used(&driver, AGENT_RX));
	tell_device(1, PORT_OPEN, 1);
	assert_true(fake_wait_used(&driver, AGENT_RX, NULL, &bytes));
	assert_int_equal(bytes, 1);
}

static void does_not_spin_while_the_guest_has_no_buffer(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x20000, 64, true};
	uint64_t before;

	start_ports(true);
	tell_device(1, PORT_OPEN, 1);
	assert_int_equal(send(agent, "x", 1, 0), 1);
	clock_sleep_us(5000);
	before = clock_process_cpu_us();
	clock_sleep_us(100000);
	assert_in_range(clock_process_cpu_us() - before, 0, 25000);
	assert_int_equal(fake_request(&driver, AGENT_RX, &buffer, 1), 1); /* and wakes up for one */
}

/*
 * Makes more chains available than the socket takes, whose peer does not read. Returns when it is
 * full, with the bytes that were sent; FULL_CHAINS are outstanding or used.
 */
static uint64_t fill_socket(void)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x40000, FULL_BYTES, false};
	struct pollfd p = {.fd = device_end, .events = POLLOUT};

	for (unsigned i = 0; i < FULL_CHAINS; i++)
		fake_add(&driver, AGENT_TX, &buffer, 1);
	fake_kick(&driver, AGENT_TX);
	WAIT_UNTIL(poll(&p, 1, 0) == 0);
	return FULL_CHAINS * FULL_BYTES;
}

static void take_full_chains(void)
{
	for (unsigned i = 0; i < FULL_CHAINS; i++)
		assert_true(fake_wait_used(&driver, AGENT_TX, NULL, NULL));
}

/* Reads what is there from the peer's end. */
static uint64_t read_all(void)
{
	static char got[65536];
	uint64_t total = 0;

	for (ssize_t n; (n = recv(agent, got, sizeof(got), 0)) > 0;)
		total += (uint64_t)n;
	return total;
}

static void a_peer_that_does_not_read_holds_the_guest_back(void **state)
{
	uint64_t sent, got = 0;

	start_ports(true);
	sent = fill_socket();
	assert_true(stats().agent.tx_bytes < sent);
	send_bytes(CONSOLE_TX, "meanwhile", 9); /* the other port goes on */
	WAIT_UNTIL((got += read_all()) >= sent);
	assert_int_equal(got, sent);
	take_full_chains();
	assert_int_equal(stats().agent.dropped_bytes, 0);
}

static void a_reset_lets_the_held_chain_go(void **state)
{
	start_ports(true);
	fill_socket();
	fake_driver_reset(&driver);
	read_all();
	clock_sleep_us(2000);
	start_ports(true);
	read_all();
	send_bytes(AGENT_TX, "again", 5);
}

static void drops_and_counts_what_nobody_reads(void **state)
{
	start_ports(false);
	send_bytes(AGENT_TX, "nobody", 6);
	assert_int_equal(stats().agent.dropped_bytes, 6);
	virtio_console_attach_agent(console, new_agent());
	assert_told(1, PORT_OPEN, 1);
	send_bytes(AGENT_TX, "x", 1);
	assert_int_equal(stats().agent.dropped_bytes, 6);
	assert_int_equal(stats().agent.tx_bytes, 1);
}

static void tells_the_guest_that_the_peer_went(void **state)
{
	uint64_t sent;

	start_ports(true);
	sent = fill_socket();
	close(TAKE_FD(agent));
	take_full_chains(); /* what was held comes back */
	assert_told(1, PORT_OPEN, 0);
	assert_int_equal(stats().agent.dropped_bytes + stats().agent.tx_bytes, sent);
}

static void notices_a_peer_that_goes_while_it_listens(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x20000, 64, true};

	start_ports(true);
	tell_device(1, PORT_OPEN, 1);
	fake_add(&driver, AGENT_RX, &buffer, 1);
	fake_kick(&driver, AGENT_RX);
	close(TAKE_FD(agent));
	assert_told(1, PORT_OPEN, 0);
	assert_false(fake_has_used(&driver, AGENT_RX)); /* the buffer is kept for the next one */
}

static void a_new_peer_replaces_the_old_one(void **state)
{
	int old;
	char got[4];

	start_ports(true);
	old = TAKE_FD(agent);
	virtio_console_attach_agent(console, new_agent());
	assert_told(1, PORT_OPEN, 0);
	assert_told(1, PORT_OPEN, 1);
	assert_int_equal(recv(old, got, sizeof(got), 0), 0);
	close(old);
	send_bytes(AGENT_TX, "new", 3);
	assert_int_equal(recv(agent, got, sizeof(got), 0), 3);
}

static void ignores_messages_that_make_no_sense(void **state)
{
	static const struct message bad[] = {
		{2, PORT_READY, 1, ""},
		{UINT32_MAX, PORT_OPEN, 1, ""},
		{0, DEVICE_ADD, 1, ""},
		{1, PORT_NAME, 1, ""},
		{1, 8, 0, ""},
		{1, UINT16_MAX, UINT16_MAX, ""},
	};

	start();
	tell_device(0, PORT_READY, 1); /* of a port that was not announced */
	assert_int_equal(stats().ignored_messages, 1);
	start_ports(true);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		tell_device(bad[i].id, bad[i].event, bad[i].value);
	assert_int_equal(stats().ignored_messages, 1 + ARRAY_SIZE(bad));
	assert_int_equal(fake_driver_status(&driver), 15);
	tell_device(0, DEVICE_READY, 0); /* the driver failed: nothing to say */
}

/* Sends one buffer to a queue of a fresh device, which then needs a reset. */
static void assert_breaks(unsigned q, struct fake_buffer buffer)
{
	uint64_t before = stats().needs_reset;

	start();
	tell_device(0, DEVICE_READY, 1);
	fake_add(&driver, q, &buffer, 1);
	fake_kick(&driver, q);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
	assert_int_equal(stats().needs_reset, before + 1);
}

static void malformed_requests_need_a_reset(void **state)
{
	assert_breaks(CONSOLE_TX, (struct fake_buffer){FAKE_BUFFERS_GPA, 4, true});
	assert_breaks(CONTROL_TX, (struct fake_buffer){FAKE_BUFFERS_GPA, 7, false});
	assert_breaks(CONTROL_TX, (struct fake_buffer){FAKE_BUFFERS_GPA, 8, true});
	assert_breaks(CONTROL_RX, (struct fake_buffer){FAKE_BUFFERS_GPA, 7, true});
	assert_breaks(CONTROL_RX, (struct fake_buffer){FAKE_BUFFERS_GPA, 64, false});
	assert_breaks(AGENT_TX, (struct fake_buffer){FAKE_BUFFERS_GPA, 4, true});
	assert_breaks(AGENT_TX, (struct fake_buffer){FAKE_LOW_BYTES, 4, false});
}

static void a_readable_receive_buffer_needs_a_reset(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 64, false};

	start_ports(true);
	tell_device(1, PORT_OPEN, 1);
	fake_add(&driver, AGENT_RX, &buffer, 1);
	fake_kick(&driver, AGENT_RX);
	assert_int_equal(send(agent, "x", 1, 0), 1);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
	start_ports(true); /* the byte is still there */
	buffer.writable = true;
	tell_device(1, PORT_OPEN, 1);
	assert_int_equal(fake_request(&driver, AGENT_RX, &buffer, 1), 1);
}

static void a_name_needs_room(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x10000, 8, true};

	start();
	tell_device(0, DEVICE_READY, 1);
	assert_told(0, DEVICE_ADD, 0);
	assert_told(1, DEVICE_ADD, 0);
	tell_device(1, PORT_READY, 1);
	fake_add(&driver, CONTROL_RX, &buffer, 1);
	fake_kick(&driver, CONTROL_RX);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
}

static void *attach_thread(void *arg)
{
	for (unsigned i = 0; i < 100; i++) {
		int fds[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
			break;
		virtio_console_attach_agent(console, fds[1]);
		if (write(fds[0], "data", 4) != 4)
			break;
		close(fds[0]);
		stats();
	}
	return NULL;
}

/* For the thread sanitizer: peers that come and go while the guest talks and resets. */
static void survives_peers_that_come_and_go(void **state)
{
	pthread_t thread;

	start();
	assert_int_equal(pthread_create(&thread, NULL, attach_thread, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		send_bytes(AGENT_TX, "payload", 7);
		send_bytes(CONSOLE_TX, "line\n", 5);
		if (i % 20 == 19)
			start();
	}
	pthread_join(thread, NULL);
	assert_int_equal(stats().needs_reset, 0);
}

#define T(name)	      cmocka_unit_test_setup_teardown(name, setup, teardown)
#define T_ALONE(name) cmocka_unit_test_setup_teardown(name, setup_alone, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(has_two_ports),
		T(sets_its_ports_up),
		T(announces_a_port_once),
		T(keeps_what_it_has_to_tell_until_there_is_a_buffer),
		T(prints_on_the_console),
		T(prints_without_multiport),
		T(prints_more_than_a_page_in_order),
		T(passes_agent_data_both_ways),
		T(splits_data_over_the_guests_buffers),
		T(leaves_data_with_the_peer_until_the_guest_opens),
		T(does_not_spin_while_the_guest_has_no_buffer),
		T(a_peer_that_does_not_read_holds_the_guest_back),
		T(a_reset_lets_the_held_chain_go),
		T_ALONE(drops_and_counts_what_nobody_reads),
		T(tells_the_guest_that_the_peer_went),
		T(notices_a_peer_that_goes_while_it_listens),
		T(a_new_peer_replaces_the_old_one),
		T(ignores_messages_that_make_no_sense),
		T(malformed_requests_need_a_reset),
		T(a_readable_receive_buffer_needs_a_reset),
		T(a_name_needs_room),
		T(survives_peers_that_come_and_go),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
