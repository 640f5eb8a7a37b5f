/*
 * virtio-vsock with its relay in a thread: connections from the host and from the guest, data both
 * ways with credit, ends, and guests that break the rules.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "kvm-glue/virtio-pci.h"
#include "kvm-glue/virtio-vsock.h"
#include "kvm-glue/vsock-relay.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"

enum {
	SLOT = 3,
	CID = 7,
	RX = 0,
	TX = 1,
	N_QUEUES = 3,
	RX_BUFFERS = 32,
	RX_BYTES = 4096,
	WAIT_US = 10000000,
	GUEST_PORT = 1024,
};
#define TX_GPA FAKE_BUFFERS_GPA
#define RX_GPA (FAKE_BUFFERS_GPA + 0x40000)

static char directory[32], path[64], service[80];
static struct fake_machine *f;
static struct pci_bus *bus;
static void *vsock;
static struct fake_driver driver;
static pthread_t thread;
static int relay_fd, listen_fd, service_fd;
static uint8_t data[RX_BYTES]; /* of the last packet */

static void *run_relay(void *arg)
{
	vsock_relay_run(relay_fd, listen_fd, CID, path);
	return NULL;
}

static void offer_all(void)
{
	for (unsigned i = 0; i < RX_BUFFERS; i++) {
		const struct fake_buffer b = {RX_GPA + i * RX_BYTES, RX_BYTES, true};

		fake_add(&driver, RX, &b, 1);
	}
	fake_kick(&driver, RX);
}

static int setup(void **state)
{
	struct error e = {0};
	int fds[2];

	log_set_max_level(LOG_LEVEL_ERROR);
	snprintf(directory, sizeof(directory), "/tmp/memd-vsock.XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/v", directory);
	snprintf(service, sizeof(service), "%s_5000", path);
	listen_fd = ipc_listen_stream(path, 0600);
	service_fd = ipc_listen_stream(service, 0600);
	assert_true(listen_fd >= 0 && service_fd >= 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	relay_fd = fds[1];
	f = fake_machine_new();
	assert_int_equal(pci_bus_new(&f->machine, &bus), 0);
	assert_int_equal(virtio_vsock_new(CID, fds[0], &vsock, &e), 0);
	assert_int_equal(virtio_vsock_kind.plug(vsock, &f->machine, bus, SLOT), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_relay, NULL), 0);
	fake_driver_init(&driver, f, SLOT);
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	offer_all();
	return 0;
}

static int teardown(void **state)
{
	virtio_vsock_kind.free(vsock);
	pthread_join(thread, NULL);
	pci_bus_free(bus);
	fake_machine_free(f);
	close(relay_fd);
	close(listen_fd);
	close(service_fd);
	unlink(path);
	unlink(service);
	return rmdir(directory);
}

static struct vsock_header header(enum vsock_op op, uint32_t guest_port, uint32_t host_port)
{
	return (struct vsock_header){
		.src_cid = CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = 65536,
	};
}

static void guest_sends(struct vsock_header h, const void *bytes, uint32_t n)
{
	struct fake_buffer b[] = {{TX_GPA, sizeof(h), false}, {TX_GPA + 4096, n, false}};

	h.len = n;
	memcpy(fake_ram(f, TX_GPA, sizeof(h)), &h, sizeof(h));
	if (n > 0)
		memcpy(fake_ram(f, TX_GPA + 4096, n), bytes, n);
	fake_request(&driver, TX, b, n > 0 ? 2 : 1);
}

/* The next packet for the guest; its payload is in data. The buffer is offered again. */
static struct vsock_header guest_gets(void)
{
	uint32_t id = 0, bytes = 0;
	struct vsock_header h;
	uint64_t gpa;

	assert_true(fake_wait_used(&driver, RX, &id, &bytes));
	gpa = RX_GPA + id % RX_BUFFERS * RX_BYTES;
	assert_true(bytes >= sizeof(h));
	memcpy(&h, fake_ram(f, gpa, sizeof(h)), sizeof(h));
	assert_int_equal(h.len, bytes - sizeof(h));
	assert_int_equal(h.src_cid, VSOCK_HOST_CID);
	assert_int_equal(h.dst_cid, CID);
	memcpy(data, fake_ram(f, gpa + sizeof(h), 1), h.len);
	return h;
}

static int host_connects(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = {.tv_sec = 10};

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static void host_says(int fd, const char *text)
{
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
}

static void assert_host_reads(int fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(fd_read_full(fd, got, strlen(text)), 0);
	assert_string_equal(got, text);
}

static void assert_host_end(int fd)
{
	char byte;

	assert_true(recv(fd, &byte, 1, 0) <= 0 && errno != EAGAIN);
}

/* A connection that the host made; the port it has. */
static int open_from_host(uint32_t *ret_port)
{
	int fd = host_connects();
	struct vsock_header h;
	char answer[32];

	host_says(fd, "CONNECT 1024\n");
	h = guest_gets();
	assert_int_equal(h.op, VSOCK_OP_REQUEST);
	assert_int_equal(h.dst_port, GUEST_PORT);
	assert_true(h.buf_alloc > 0);
	guest_sends(header(VSOCK_OP_RESPONSE, GUEST_PORT, h.src_port), NULL, 0);
	snprintf(answer, sizeof(answer), "OK %u\n", h.src_port);
	assert_host_reads(fd, answer);
	*ret_port = h.src_port;
	return fd;
}

static int open_from_guest(void)
{
	struct vsock_header h;
	struct pollfd p = {.fd = service_fd, .events = POLLIN};
	int fd;

	guest_sends(header(VSOCK_OP_REQUEST, GUEST_PORT, 5000), NULL, 0);
	assert_int_equal(poll(&p, 1, WAIT_US / 1000), 1);
	fd = accept4(service_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	h = guest_gets();
	assert_int_equal(h.op, VSOCK_OP_RESPONSE);
	assert_int_equal(h.src_port, 5000);
	assert_int_equal(h.dst_port, GUEST_PORT);
	return fd;
}

static void guest_knows_its_number(void **state)
{
	assert_int_equal(fake_mmio_read(f, driver.device, 8), CID);
}

static void host_reaches_a_port_of_the_guest(void **state)
{
	_cleanup_close_ int fd = -1;
	struct vsock_header h;
	uint32_t port;

	fd = open_from_host(&port);
	host_says(fd, "hello");
	h = guest_gets();
	assert_int_equal(h.op, VSOCK_OP_RW);
	assert_memory_equal(data, "hello", 5);
	guest_sends(header(VSOCK_OP_RW, GUEST_PORT, port), "world", 5);
	assert_host_reads(fd, "world");
}

static void guest_reaches_a_service_of_the_host(void **state)
{
	_cleanup_close_ int fd = open_from_guest();

	guest_sends(header(VSOCK_OP_RW, GUEST_PORT, 5000), "query", 5);
	assert_host_reads(fd, "query");
	host_says(fd, "answer");
	assert_int_equal(guest_gets().op, VSOCK_OP_RW);
	assert_memory_equal(data, "answer", 6);
}

static void ports_without_anybody_are_refused(void **state)
{
	_cleanup_close_ int fd = host_connects();
	struct vsock_header h;

	guest_sends(header(VSOCK_OP_REQUEST, GUEST_PORT, 5001), NULL, 0);
	h = guest_gets();
	assert_int_equal(h.op, VSOCK_OP_RST);
	assert_int_equal(h.dst_port, GUEST_PORT);
	host_says(fd, "CONNECT 99\n");
	h = guest_gets();
	guest_sends(header(VSOCK_OP_RST, 99, h.src_port), NULL, 0);
	assert_host_end(fd);
}

static void greetings_that_are_none_are_cut_off(void **state)
{
	static const char *const bad[] = {"HELLO\n", "CONNECT \n", "CONNECT x\n",
		"CONNECT 4294967296\n", "CONNECT 000000000000000000000000000000\n"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_close_ int fd = host_connects();

		host_says(fd, bad[i]);
		assert_host_end(fd);
	}
}

static void host_sends_no_more_than_the_guest_has_room_for(void **state)
{
	_cleanup_close_ int fd = open_from_guest();
	struct vsock_header h = header(VSOCK_OP_CREDIT_REQUEST, GUEST_PORT, 5000);
	char text[100];

	memset(text, 'x', sizeof(text));
	h.buf_alloc = 10;
	guest_sends(h, NULL, 0);
	/* the answer says that the relay, which runs beside the device, has heard of it */
	assert_int_equal(guest_gets().op, VSOCK_OP_CREDIT_UPDATE);
	h.op = VSOCK_OP_CREDIT_UPDATE;
	assert_int_equal(fd_write_full(fd, text, sizeof(text)), 0);
	assert_int_equal(guest_gets().len, 10);
	clock_sleep_us(5000);
	assert_false(fake_has_used(&driver, RX));
	h.fwd_cnt = 4;
	guest_sends(h, NULL, 0);
	assert_int_equal(guest_gets().len, 4);
	h.buf_alloc = 65536;
	guest_sends(h, NULL, 0);
	assert_int_equal(guest_gets().len, sizeof(text) - 14);
}

static void guest_gets_credit_back_and_keeps_to_it(void **state)
{
	static uint8_t block[4096];
	_cleanup_close_ int fd = open_from_guest();
	uint64_t sent = 0, received = 0;
	uint32_t fwd_cnt = 0;

	/* as fast as credit allows, with a local end that reads all the time: nothing is lost */
	while (received < 1000000) {
		static uint8_t got[65536];
		ssize_t n;

		while (fake_has_used(&driver, RX)) {
			struct vsock_header h = guest_gets();
			const struct fake_buffer b = {RX_GPA, RX_BYTES, true};

			assert_int_equal(h.op, VSOCK_OP_CREDIT_UPDATE);
			assert_int_equal(h.buf_alloc, 65536);
			fwd_cnt = h.fwd_cnt;
			fake_add(&driver, RX, &b, 1);
		}
		if ((uint32_t)sent - fwd_cnt + sizeof(block) <= 65536) {
			memset(block, (int)(sent / sizeof(block)), sizeof(block));
			guest_sends(header(VSOCK_OP_RW, GUEST_PORT, 5000), block, sizeof(block));
			sent += sizeof(block);
		}
		n = recv(fd, got, sizeof(got), MSG_DONTWAIT);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(
				got[i], (uint8_t)((received + (uint64_t)i) / sizeof(block)));
		received += n > 0 ? (uint64_t)n : 0;
	}
}

static void guest_that_sends_beyond_its_credit_is_cut_off(void **state)
{
	static uint8_t block[32768];
	_cleanup_close_ int fd = open_from_guest();
	enum vsock_op op = VSOCK_OP_RW;

	/* nobody reads: the socket takes some, 64 KiB are kept, more is too much */
	for (unsigned i = 0; i < 100 && op != VSOCK_OP_RST; i++) {
		guest_sends(header(VSOCK_OP_RW, GUEST_PORT, 5000), block, sizeof(block));
		while (op != VSOCK_OP_RST && fake_has_used(&driver, RX))
			op = guest_gets().op;
	}
	while (op != VSOCK_OP_RST) /* the relay may be behind */
		op = guest_gets().op;
}

static void ends_are_told_both_ways(void **state)
{
	struct vsock_header h = header(VSOCK_OP_SHUTDOWN, GUEST_PORT, 5000);
	int fd = open_from_guest();

	guest_sends(header(VSOCK_OP_RW, GUEST_PORT, 5000), "last", 4);
	h.flags = VSOCK_SHUTDOWN_SEND;
	guest_sends(h, NULL, 0);
	assert_host_reads(fd, "last");
	assert_host_end(fd);
	host_says(fd, "more"); /* the other way is still open */
	assert_int_equal(guest_gets().op, VSOCK_OP_RW);
	close(fd);
	assert_int_equal(guest_gets().op, VSOCK_OP_RST);

	fd = open_from_guest();
	shutdown(fd, SHUT_WR);
	h = guest_gets();
	assert_int_equal(h.op, VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUTDOWN_SEND);
	h = header(VSOCK_OP_SHUTDOWN, GUEST_PORT, 5000);
	h.flags = VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RECEIVE;
	guest_sends(h, NULL, 0);
	assert_int_equal(guest_gets().op, VSOCK_OP_RST);
	close(fd);
}

static void packets_of_no_connection_are_answered_by_a_reset(void **state)
{
	guest_sends(header(VSOCK_OP_RW, 1, 2), "x", 1);
	assert_int_equal(guest_gets().op, VSOCK_OP_RST);
	guest_sends(header(VSOCK_OP_RST, 1, 2), NULL, 0); /* but not this one */
	guest_sends(header(VSOCK_OP_CREDIT_REQUEST, 3, 4), NULL, 0);
	assert_int_equal(guest_gets().dst_port, 3);
}

static void packets_from_or_to_others_are_dropped(void **state)
{
	struct vsock_header h = header(VSOCK_OP_RW, 1, 2);

	h.src_cid = CID + 1;
	guest_sends(h, "x", 1);
	h = header(VSOCK_OP_RW, 1, 2);
	h.dst_cid = CID;
	guest_sends(h, "x", 1);
	guest_sends(header(VSOCK_OP_RESET_ALL, 1, 2), NULL, 0);
	guest_sends(header(VSOCK_OP_RW, 5, 6), "x", 1);
	assert_int_equal(guest_gets().dst_port, 5);
}

static void device_reset_ends_all_connections(void **state)
{
	_cleanup_close_ int from_guest = open_from_guest(), from_host = -1;
	uint32_t port;

	from_host = open_from_host(&port);
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	offer_all();
	assert_host_end(from_guest);
	assert_host_end(from_host);
	from_host = (close(from_host), open_from_host(&port));
}

static void short_packet_breaks_the_device(void **state)
{
	const struct fake_buffer b = {TX_GPA, VSOCK_HEADER_BYTES - 1, false};

	fake_add(&driver, TX, &b, 1);
	fake_kick(&driver, TX);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
	assert_int_equal(virtio_vsock_kind.needs_reset(vsock), 1);
}

static void options_that_make_no_sense_are_refused(void **state)
{
	static const char *const bad[] = {"3", "2,/tmp/v", "x,/tmp/v", "3,v", "4294967295,/tmp/v"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = {0};
		void *none = NULL;

		assert_true(virtio_vsock_kind.open(bad[i], &none, &e) < 0);
		assert_true(e.text[0] != '\0');
	}
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(guest_knows_its_number),
		T(host_reaches_a_port_of_the_guest),
		T(guest_reaches_a_service_of_the_host),
		T(ports_without_anybody_are_refused),
		T(greetings_that_are_none_are_cut_off),
		T(host_sends_no_more_than_the_guest_has_room_for),
		T(guest_gets_credit_back_and_keeps_to_it),
		T(guest_that_sends_beyond_its_credit_is_cut_off),
		T(ends_are_told_both_ways),
		T(packets_of_no_connection_are_answered_by_a_reset),
		T(packets_from_or_to_others_are_dropped),
		T(device_reset_ends_all_connections),
		T(short_packet_breaks_the_device),
		T(options_that_make_no_sense_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vsock", tests, NULL, NULL);
}
