/* Messages over SOCK_SEQPACKET: whole or not at all, and a hostile peer leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"

struct fixture {
	int a, b;
	struct ipc_message *m;
	int n_fds; /* open in this process before the test */
};

static int count_fds(void)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	return n;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	assert_non_null(f);
	assert_int_equal(ipc_pair(fds), 0);
	f->a = fds[0];
	f->b = fds[1];
	f->m = ipc_message_new();
	assert_non_null(f->m);
	f->n_fds = count_fds();
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ipc_message_free(f->m);
	cleanup_closep(&f->a);
	cleanup_closep(&f->b);
	free(f);
	return 0;
}

static void carries_type_seq_and_payload(void **state)
{
	struct fixture *f = *state;
	const uint64_t value = 42;

	assert_int_equal(ipc_send(f->a, 7, 9, &value, sizeof(value), NULL, 0), 0);
	assert_int_equal(ipc_recv(f->b, f->m), 0);
	assert_int_equal(f->m->header.type, 7);
	assert_int_equal(f->m->header.seq, 9);
	assert_non_null(IPC_PAYLOAD(f->m, uint64_t));
	assert_int_equal(*IPC_PAYLOAD(f->m, uint64_t), 42);
	assert_null(IPC_PAYLOAD(f->m, uint32_t));
	assert_int_equal(f->m->n_fds, 0);
}

static void carries_payloads_up_to_the_largest(void **state)
{
	static const size_t sizes[] = {0, 1, IPC_PAYLOAD_MAX - 1, IPC_PAYLOAD_MAX};
	static uint8_t payload[IPC_PAYLOAD_MAX + 1];
	struct fixture *f = *state;

	memset(payload, 0xa5, sizeof(payload));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(ipc_send(f->a, 1, 0, payload, sizes[i], NULL, 0), 0);
		assert_int_equal(ipc_recv(f->b, f->m), 0);
		assert_int_equal(f->m->header.size, sizes[i]);
		assert_memory_equal(f->m->payload, payload, sizes[i]);
	}
	assert_int_equal(ipc_send(f->a, 1, 0, payload, IPC_PAYLOAD_MAX + 1, NULL, 0), -EMSGSIZE);
}

static void holds_three_of_the_largest_before_it_blocks(void **state)
{
	static uint8_t payload[IPC_PAYLOAD_MAX];
	struct fixture *f = *state;

	assert_int_equal(fd_set_nonblock(f->a, true), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ipc_send(f->a, 1, 0, payload, sizeof(payload), NULL, 0), 0);
	for (int i = 0; i < 100; i++)
		if (ipc_send(f->a, 1, 0, payload, sizeof(payload), NULL, 0) == -EAGAIN)
			return;
	fail_msg("a peer that does not read takes memory without end");
}

static void passes_descriptors_and_owns_them(void **state)
{
	struct fixture *f = *state;
	int sent[IPC_FDS_MAX + 1];
	struct stat original, received;
	int taken;

	for (size_t i = 0; i < ARRAY_SIZE(sent); i++)
		sent[i] = STDIN_FILENO;
	assert_int_equal(ipc_send(f->a, 1, 0, NULL, 0, sent, IPC_FDS_MAX + 1), -EINVAL);
	assert_int_equal(ipc_send(f->a, 1, 0, NULL, 0, sent, IPC_FDS_MAX), 0);
	assert_int_equal(ipc_recv(f->b, f->m), 0);
	assert_int_equal(f->m->n_fds, IPC_FDS_MAX);
	assert_int_equal(count_fds(), f->n_fds + IPC_FDS_MAX);

	taken = TAKE_FD(f->m->fds[0]);
	assert_int_equal(fstat(STDIN_FILENO, &original), 0);
	assert_int_equal(fstat(taken, &received), 0);
	assert_int_equal(original.st_ino, received.st_ino);
	assert_true(fcntl(taken, F_GETFD) & FD_CLOEXEC);
	close(taken);

	/* the next message closes those that nobody took */
	assert_int_equal(ipc_send(f->a, 1, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(ipc_recv(f->b, f->m), 0);
	assert_int_equal(f->m->n_fds, 0);
	assert_int_equal(count_fds(), f->n_fds);
}

/* A packet of any bytes with descriptors, as a hostile peer would write it. */
static void send_raw(int fd, const void *bytes, size_t size, size_t n_fds)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(64 * sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds) {
		struct cmsghdr *c;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memset(CMSG_DATA(c), 0, n_fds * sizeof(int)); /* descriptor 0 each time */
	}
	assert_true(sendmsg(fd, &message, 0) == (ssize_t)size);
}

struct packet {
	struct ipc_header header;
	uint8_t payload[8];
};

static void refuses_a_packet_that_breaks_the_framing(void **state)
{
	const struct packet good = {{IPC_MAGIC, IPC_VERSION, 1, 0, 8}, {0}};
	struct fixture *f = *state;
	struct packet bad;

	send_raw(f->a, &good, sizeof(good), 1);
	assert_int_equal(ipc_recv(f->b, f->m), 0);

	bad = good;
	bad.header.magic++;
	send_raw(f->a, &bad, sizeof(bad), 1);
	assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);
	assert_int_equal(f->m->header.size, 0);

	bad = good;
	bad.header.version++;
	send_raw(f->a, &bad, sizeof(bad), 1);
	assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);

	for (int difference = -1; difference <= 1; difference += 2) {
		bad = good;
		bad.header.size = (uint32_t)(8 + difference);
		send_raw(f->a, &bad, sizeof(bad), 1);
		assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);
	}
	bad = good;
	bad.header.size = UINT32_MAX;
	send_raw(f->a, &bad, sizeof(bad), 1);
	assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);

	send_raw(f->a, &good, sizeof(good.header) - 1, 1);
	assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);
	send_raw(f->a, "", 0, 1);
	assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);
	assert_int_equal(count_fds(), f->n_fds);
}

static void refuses_a_packet_larger_than_the_largest(void **state)
{
	static struct {
		struct ipc_header header;
		uint8_t payload[IPC_PAYLOAD_MAX + 1];
	} packet = {{IPC_MAGIC, IPC_VERSION, 1, 0, IPC_PAYLOAD_MAX + 1}, {0}};
	struct fixture *f = *state;

	send_raw(f->a, &packet, sizeof(packet.header) + IPC_PAYLOAD_MAX + 1, 1);
	assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);
	assert_int_equal(count_fds(), f->n_fds);
}

static void refuses_more_descriptors_than_allowed(void **state)
{
	const struct packet good = {{IPC_MAGIC, IPC_VERSION, 1, 0, 8}, {0}};
	struct fixture *f = *state;

	send_raw(f->a, &good, sizeof(good), IPC_FDS_MAX + 1);
	assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);
	send_raw(f->a, &good, sizeof(good), 64);
	assert_int_equal(ipc_recv(f->b, f->m), -EPROTO);
	assert_int_equal(count_fds(), f->n_fds);
}

static void tells_a_closed_peer_from_an_empty_queue(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(fd_set_nonblock(f->b, true), 0);
	assert_int_equal(ipc_recv(f->b, f->m), -EAGAIN);
	close(TAKE_FD(f->a));
	assert_int_equal(ipc_recv(f->b, f->m), IPC_CLOSED);
	assert_int_equal(ipc_send(f->b, 1, 0, NULL, 0, NULL, 0), -EPIPE); /* and no SIGPIPE */
}

static void listens_where_nobody_does_and_only_there(void **state)
{
	struct fixture *f = *state;
	char dir[] = "/tmp/memd-test-ipc-XXXXXX";
	char path[64];
	_cleanup_close_ int listener = -1;
	_cleanup_close_ int client = -1;
	_cleanup_close_ int server = -1;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	assert_int_equal(ipc_connect(path), -ENOENT);
	listener = ipc_listen(path, 0600);
	assert_true(listener >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(ipc_listen(path, 0600), -EADDRINUSE);

	client = ipc_connect(path);
	assert_true(client >= 0);
	server = ipc_accept(listener); /* the first probe of ipc_listen may be in the queue */
	assert_true(server >= 0);
	close(TAKE_FD(server));
	server = ipc_accept(listener);
	assert_true(server >= 0);
	assert_int_equal(ipc_send(client, 3, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(ipc_recv(server, f->m), 0);

	close(TAKE_FD(listener));
	assert_int_equal(ipc_connect(path), -ECONNREFUSED);
	listener = ipc_listen(path, 0600); /* the dead one's place */
	assert_true(listener >= 0);
	assert_int_equal(unlink(path), 0);

	/* what is no socket is left alone */
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	assert_int_equal(ipc_listen(path, 0600), -EADDRINUSE);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void refuses_paths_that_do_not_fit(void **state)
{
	char path[128] = "/tmp/";

	memset(path + 5, 'x', 103);
	assert_int_equal(strlen(path), 108);
	assert_int_equal(ipc_listen(path, 0600), -ENAMETOOLONG);
	assert_int_equal(ipc_connect(path), -ENAMETOOLONG);
	path[107] = '\0';
	assert_int_equal(ipc_connect(path), -ENOENT);
	assert_int_equal(ipc_connect(""), -EINVAL);
}

static void what_was_said_before_a_reset_is_heard(void **state)
{
	struct ipc_message *m = ipc_message_new();
	int fds[2];

	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(ipc_send(fds[0], 1, 0, "ask", 3, NULL, 0), 0); /* is never read */
	assert_int_equal(ipc_send(fds[1], 2, 0, "last", 4, NULL, 0), 0);
	close(fds[1]);
	assert_int_equal(ipc_recv(fds[0], m), 0);
	assert_int_equal(m->header.type, 2);
	assert_int_equal(ipc_recv(fds[0], m), IPC_CLOSED);
	close(fds[0]);
	ipc_message_free(m);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_said_before_a_reset_is_heard),
		TEST(carries_type_seq_and_payload),
		TEST(carries_payloads_up_to_the_largest),
		TEST(holds_three_of_the_largest_before_it_blocks),
		TEST(passes_descriptors_and_owns_them),
		TEST(refuses_a_packet_that_breaks_the_framing),
		TEST(refuses_a_packet_larger_than_the_largest),
		TEST(refuses_more_descriptors_than_allowed),
		TEST(tells_a_closed_peer_from_an_empty_queue),
		TEST(listens_where_nobody_does_and_only_there),
		TEST(refuses_paths_that_do_not_fit),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
