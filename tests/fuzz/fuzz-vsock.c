/*
 * Packets of any content to the relay of vsock. The input is a list of them: op (1 byte), ports (1
 * byte each, few different ones so that they meet), flags (1), buf_alloc in KiB (1), payload bytes
 * (1), payload.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvm-glue/vsock-relay.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"

enum {
	CID = 3,
	PACKETS_MAX = 64,
	FIELDS = 6,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[] = "/tmp/memd-fuzz-vsock.XXXXXX";
static char path[64], service[80];

static void remove_sockets(void)
{
	unlink(path);
	unlink(service);
	rmdir(directory);
}

static void send_packet(int fd, const uint8_t *fields, const uint8_t *payload, size_t bytes)
{
	uint8_t packet[VSOCK_HEADER_BYTES + 256] = {0};
	const struct vsock_header h = {
		.src_cid = CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = fields[1] % 4,
		.dst_port = fields[2] % 4,
		.type = VSOCK_TYPE_STREAM,
		.op = fields[0] % 10,
		.flags = fields[3],
		.buf_alloc = fields[4] * UINT32_C(1024),
		.len = fields[5] == 255 ? UINT32_MAX : (uint32_t)bytes,
	};

	memcpy(packet, &h, sizeof(h));
	memcpy(packet + sizeof(h), payload, bytes);
	if (send(fd, packet, sizeof(h) + bytes, MSG_DONTWAIT) < 0)
		return; /* full: the relay has enough to do */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int listen_fd = -1, service_fd;
	char got[4096];
	int fds[2], fd;

	if (listen_fd < 0) {
		if (!mkdtemp(directory))
			abort();
		snprintf(path, sizeof(path), "%s/v", directory);
		snprintf(service, sizeof(service), "%s_1", path);
		listen_fd = ipc_listen_stream(path, 0600);
		service_fd = ipc_listen_stream(service, 0600);
		if (listen_fd < 0 || service_fd < 0 || fd_set_nonblock(service_fd, true) < 0)
			abort();
		atexit(remove_sockets);
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	for (unsigned i = 0; i < PACKETS_MAX && size >= FIELDS; i++) {
		size_t bytes = data[5] < size - FIELDS ? data[5] : size - FIELDS;

		send_packet(fds[0], data, data + FIELDS, bytes);
		data += FIELDS + bytes;
		size -= FIELDS + bytes;
	}
	shutdown(fds[0], SHUT_WR);
	vsock_relay_run(fds[1], listen_fd, CID, path);
	while (recv(fds[0], got, sizeof(got), MSG_DONTWAIT) > 0)
		;
	close(fds[0]);
	close(fds[1]);
	while ((fd = accept4(service_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
	return 0;
}
