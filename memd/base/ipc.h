/*
 * Messages between memd, memd-vmm and memd-pool: SOCK_SEQPACKET Unix sockets, one message a packet,
 * a fixed header before a payload whose size the receiver checks. Both ends treat the other as
 * hostile: wrong magic, version, size or an unexpected descriptor ends the connection, never the
 * process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memd/base/cleanup.h"

#define IPC_MAGIC	UINT32_C(0x3164656d) /* "med1" */
#define IPC_VERSION	1
#define IPC_PAYLOAD_MAX (132 * 1024) /* 32 pages and their descriptions */
#define IPC_FDS_MAX	8

struct ipc_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type; /* of the protocol that speaks on this socket */
	uint32_t seq; /* a reply repeats its request's; 0 for what was not asked for */
	uint32_t size; /* of the payload in bytes */
};

struct ipc_message {
	struct ipc_header header;
	size_t n_fds;
	int fds[IPC_FDS_MAX]; /* the receiver's; -1 once taken */
	pid_t sender; /* the process that sent it, by the kernel's word; 0 unless ipc_want_sender */
	uint8_t payload[IPC_PAYLOAD_MAX] __attribute__((aligned(8)));
};

/* Heap, because of its size. */
struct ipc_message *ipc_message_new(void);
/* Closes descriptors that nobody took. NULL is allowed. */
void ipc_message_free(struct ipc_message *m);
DEFINE_CLEANUP(struct ipc_message *, ipc_message_free)

/*
 * Binds and listens on path (at most 107 bytes), replacing a socket that nobody listens on.
 * -EADDRINUSE when somebody does. Returns the descriptor or negative errno.
 */
int ipc_listen(const char *path, mode_t mode);
/* The same with a stream socket, for those who speak no messages of ours. */
int ipc_listen_stream(const char *path, mode_t mode);
/* Accepts one connection, close-on-exec, with buffers for the largest message. -EAGAIN, ... */
int ipc_accept(int listen_fd);
int ipc_connect(const char *path);
/* A connected pair, close-on-exec, for tests and for handing one end to a child. */
int ipc_pair(int ret_fds[2]);

/*
 * From now on messages say which process sent them. On a listening socket: for all connections accepted later,
 * what was sent before they were included. Any errno of setsockopt.
 */
int ipc_want_sender(int fd);

/*
 * Sends one message with n_fds descriptors (which stay the caller's). -EAGAIN, -EPIPE, -EMSGSIZE,
 * ...
 */
int ipc_send(int fd, uint16_t type, uint32_t seq, const void *payload, size_t size, const int *fds,
	size_t n_fds);
/*
 * The same for a process whose memory cgroup may be full: then there is no memory for the message
 * (-ENOBUFS, -ENOMEM), which passes. Waits for that, at most patience_us, never for the peer.
 */
int ipc_send_patiently(int fd, uint16_t type, uint32_t seq, const void *payload, size_t size,
	const int *fds, size_t n_fds, uint64_t patience_us);
#define IPC_CLOSED 1
/*
 * Receives one message into *m (descriptors left from before are closed first). 0, IPC_CLOSED when
 * the peer is gone, -EAGAIN on a non-blocking socket, -EPROTO for a message that breaks the framing
 * (the connection is then to be closed).
 */
int ipc_recv(int fd, struct ipc_message *m);

/*
 * Copies a payload whose type has grown since it was first used: a peer of another version sends less or more. At
 * least min_bytes must be there (else false, and *ret is as it was); what is missing reads 0, what is unknown is cut off.
 */
bool ipc_payload_copy(const struct ipc_message *m, size_t min_bytes, void *ret, size_t bytes);

/* The payload as a T when it is exactly that large, else NULL. */
#define IPC_PAYLOAD(m, T)                                                                          \
	((m)->header.size == sizeof(T) ? (const T *)(const void *)(m)->payload : (const T *)NULL)
