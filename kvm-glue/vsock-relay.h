/*
 * The connections of a guest's vsock, on Unix sockets of the host: memd-vsock, a program beside
 * memd-vmm, runs this, so that what connects to sockets by name is not what runs the guest.
 *
 *   host to guest: connect to PATH, send "CONNECT PORT\n"; "OK PORT\n" comes back when the guest
 *                  accepted, and from then on it is the connection; else it is closed
 *   guest to host: a connect to port N of CID 2 reaches who listens on PATH_N
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "memd/base/error.h"

/* HELPER_FD (helper.h) carries one packet a message, both ways; HELPER_SECOND_FD listens at PATH. */
#define VSOCK_PROGRAM "memd-vsock"

#define VSOCK_HOST_CID	    2
/* Of a packet to the guest: drivers offer buffers of 4 KiB with the header in them. */
#define VSOCK_PAYLOAD_BYTES 3072

/* virtio 1.2, 5.10.6, little endian. */
struct vsock_header {
	uint64_t src_cid;
	uint64_t dst_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t len;
	uint16_t type;
	uint16_t op;
	uint32_t flags;
	uint32_t buf_alloc;
	uint32_t fwd_cnt;
} __attribute__((packed));
#define VSOCK_HEADER_BYTES 44
_Static_assert(sizeof(struct vsock_header) == VSOCK_HEADER_BYTES, "as virtio 1.2, 5.10.6 has it");

#define VSOCK_TYPE_STREAM 1

enum vsock_op {
	VSOCK_OP_RESET_ALL = 0, /* ours: the device was reset, all connections are gone */
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};
#define VSOCK_SHUTDOWN_RECEIVE 1
#define VSOCK_SHUTDOWN_SEND    2

/*
 * Serves until the other end of packet_fd is closed. path: at most 96 bytes. Takes no descriptor
 * over. -ENOMEM.
 */
int vsock_relay_run(int packet_fd, int listen_fd, uint64_t guest_cid, const char *path);
