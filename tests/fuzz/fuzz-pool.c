/*
 * memd-pool towards two members and the bytes they send. Each step of the input is one message: a
 * byte that says who, of which type and how broken, two bytes of size, the payload. Pages are
 * spelled by one byte each, so that equal ones occur.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dedup/pool-memfd.h"
#include "dedup/pool-server.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"

#define N_PEERS 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint16_t types[] = {POOL_JOIN, POOL_LOOKUP, POOL_INSERT, POOL_RELEASE, POOL_GET_STATS,
	POOL_SLOTS, 0, POOL_LOOKUP,
	/* with bit 4 of the first byte: */
	POOL_JOIN, POOL_RESTORE_FILE, POOL_RESTORE, POOL_RESTORE_END, POOL_RELEASE, POOL_INSERT,
	POOL_RESTORE, POOL_LOOKUP};

static size_t make_payload(uint16_t type, const uint8_t *data, size_t n, uint8_t *payload)
{
	const struct pool_join join = {.proto_version = POOL_PROTO_VERSION, .n_pages = 1 << 20};
	const struct pool_insert insert = {.n_pages = (uint32_t)n};

	if (type == POOL_JOIN && n == 0) {
		memcpy(payload, &join, sizeof(join));
		return sizeof(join);
	}
	if (type == POOL_INSERT && n > 0 && n <= POOL_INSERT_MAX) {
		memcpy(payload, &insert, sizeof(insert));
		for (size_t i = 0; i < n; i++)
			memset(payload + sizeof(insert) + i * PAGE_BYTES, data[i], PAGE_BYTES);
		return sizeof(insert) + n * PAGE_BYTES;
	}
	memcpy(payload, data, n);
	return n;
}

static void drain(int fd, struct ipc_message *m)
{
	while (fd >= 0 && ipc_recv(fd, m) == 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t payload[IPC_PAYLOAD_MAX];
	_cleanup_(ipc_message_freep) struct ipc_message *m = ipc_message_new();
	_cleanup_(pool_freep) struct pool *pool = NULL;
	_cleanup_(pool_server_freep) struct pool_server *server = NULL;
	_cleanup_close_ int stop_fd = eventfd(1, EFD_CLOEXEC);
	_cleanup_close_ int pidfd = fd_pidfd_open(getpid());
	_cleanup_(pool_memfd_freep) struct pool_memfd *old = NULL; /* of an earlier pool */
	int fds[N_PEERS] = {-1, -1};

	if (pool_new(&(struct pool_limits){.max_pages = 64}, &pool) < 0 ||
		pool_server_new(pool, -1, &server) < 0 || pool_memfd_new(&old) < 0 ||
		pool_server_expect(server, getpid()) < 0)
		abort();
	for (unsigned i = 0; i < N_PEERS; i++) {
		int pair[2];

		if (ipc_pair(pair) < 0 || pool_server_add(server, pair[0]) < 0 ||
			fd_set_nonblock(pair[1], true) < 0)
			abort();
		fds[i] = pair[1];
	}
	for (size_t at = 0; at + 3 <= size;) {
		uint8_t op = data[at];
		size_t n = data[at + 1] | (size_t)data[at + 2] << 8;
		int fd = fds[op & 1];

		at += 3;
		if (n > size - at)
			n = size - at;
		if (op & 0x80) {
			send(fd, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		} else {
			uint16_t type = types[(op >> 1) % ARRAY_SIZE(types)];
			const int *file = op & 0x40		      ? &stop_fd
					  : type == POOL_RESTORE_FILE ? &old->read_fd
								      : &pidfd;

			ipc_send(fd, type, op, payload, make_payload(type, data + at, n, payload),
				file, file != &pidfd || type == POOL_JOIN);
		}
		at += n;
		if (pool_server_run(server, stop_fd) < 0)
			abort();
		if (!(op & 0x20))
			drain(fd, m);
	}
	for (unsigned i = 0; i < N_PEERS; i++)
		cleanup_closep(&fds[i]);
	return 0;
}
