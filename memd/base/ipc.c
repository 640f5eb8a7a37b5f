/*
 * Framing on SOCK_SEQPACKET: one message a packet, so a peer cannot stall us in the middle of one.
 * What breaks the framing is -EPROTO, with every descriptor that came along closed. Never
 * interprets payloads.
 */
#include "memd/base/ipc.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "memd/base/clock.h"

/*
 * unix(7): a packet must fit in the *sender's* buffer, whose size the kernel doubles for its
 * bookkeeping. Four of the largest messages, so that a burst does not stop the sender at each one.
 */
#define BUFFER_BYTES (4 * (int)(sizeof(struct ipc_header) + IPC_PAYLOAD_MAX))
#define BACKLOG	     64
#define RETRY_US     (5 * US_PER_MS)

/*
 * The forced form passes net.core.wmem_max and needs CAP_NET_ADMIN; a sandboxed process takes what
 * it gets.
 */
static int raise_buffers(int fd)
{
	static const struct {
		int forced, plain;
	} options[] = {{SO_SNDBUFFORCE, SO_SNDBUF}, {SO_RCVBUFFORCE, SO_RCVBUF}};
	int size = BUFFER_BYTES;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (setsockopt(fd, SOL_SOCKET, options[i].forced, &size, sizeof(size)) < 0 &&
			setsockopt(fd, SOL_SOCKET, options[i].plain, &size, sizeof(size)) < 0)
			return -errno;
	return 0;
}

static int new_socket(int type, int *ret_fd)
{
	_cleanup_close_ int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = raise_buffers(fd);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int make_address(const char *path, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (!*path)
		return -EINVAL;
	if (strlen(path) >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	strcpy(ret->sun_path, path);
	return 0;
}

struct ipc_message *ipc_message_new(void)
{
	/* Not cleared: the payload is defined up to header.size only. */
	struct ipc_message *m = malloc(sizeof(*m));

	if (!m)
		return NULL;
	m->header = (struct ipc_header){0};
	m->n_fds = 0;
	m->sender = 0;
	for (size_t i = 0; i < IPC_FDS_MAX; i++)
		m->fds[i] = -1;
	return m;
}

static void close_fds(struct ipc_message *m)
{
	for (size_t i = 0; i < IPC_FDS_MAX; i++) {
		cleanup_closep(&m->fds[i]);
		m->fds[i] = -1;
	}
	m->n_fds = 0;
}

void ipc_message_free(struct ipc_message *m)
{
	if (!m)
		return;
	close_fds(m);
	free(m);
}

/*
 * 0 when the socket at the address is dead or gone (and is then removed), -EADDRINUSE when it
 * lives.
 */
static int remove_stale(const struct sockaddr_un *address, int type)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	r = new_socket(type | SOCK_NONBLOCK, &fd);
	if (r < 0)
		return r;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
		errno != ECONNREFUSED)
		return -EADDRINUSE;
	if (unlink(address->sun_path) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static int listen_on(const char *path, int type, mode_t mode)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un address;
	int r;

	r = make_address(path, &address);
	if (r < 0)
		return r;
	r = new_socket(type, &fd);
	if (r < 0)
		return r;
	r = remove_stale(&address, type);
	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	/*
	 * Between bind and listen a connect is refused, so nobody gets in before the mode is set.
	 */
	if (chmod(path, mode) < 0 || listen(fd, BACKLOG) < 0) {
		r = -errno;
		unlink(path);
		return r;
	}
	return TAKE_FD(fd);
}

int ipc_listen(const char *path, mode_t mode)
{
	return listen_on(path, SOCK_SEQPACKET, mode);
}

int ipc_listen_stream(const char *path, mode_t mode)
{
	return listen_on(path, SOCK_STREAM, mode);
}

int ipc_accept(int listen_fd)
{
	_cleanup_close_ int fd = -1;
	int r;

	do
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -errno;
	r = raise_buffers(fd);
	if (r < 0)
		return r;
	return TAKE_FD(fd);
}

int ipc_connect(const char *path)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un address;
	int r;

	r = make_address(path, &address);
	if (r < 0)
		return r;
	r = new_socket(SOCK_SEQPACKET, &fd);
	if (r < 0)
		return r;
	do
		r = connect(fd, (struct sockaddr *)&address, sizeof(address));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return TAKE_FD(fd);
}

int ipc_pair(int ret_fds[2])
{
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	r = raise_buffers(fds[0]);
	if (r == 0)
		r = raise_buffers(fds[1]);
	if (r < 0) {
		cleanup_closep(&fds[0]);
		cleanup_closep(&fds[1]);
		return r;
	}
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

int ipc_want_sender(int fd)
{
	int on = 1;

	return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ? -errno : 0;
}

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(IPC_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

int ipc_send(int fd, uint16_t type, uint32_t seq, const void *payload, size_t size, const int *fds,
	size_t n_fds)
{
	struct ipc_header header = {
		.magic = IPC_MAGIC,
		.version = IPC_VERSION,
		.type = type,
		.seq = seq,
		.size = (uint32_t)size,
	};
	struct iovec iov[2] = {
		{.iov_base = &header, .iov_len = sizeof(header)},
		{.iov_base = (void *)(uintptr_t)payload, .iov_len = size}, /* sendmsg only reads */
	};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = size ? 2 : 1};
	union control control = {0};
	ssize_t n;

	if (size > IPC_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (n_fds > IPC_FDS_MAX)
		return -EINVAL;
	if (n_fds) {
		struct cmsghdr *c;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do
		n = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return 0; /* a packet goes whole or not at all */
}

int ipc_send_patiently(int fd, uint16_t type, uint32_t seq, const void *payload, size_t size,
	const int *fds, size_t n_fds, uint64_t patience_us)
{
	uint64_t end_us = clock_monotonic_us() + patience_us;
	int r;

	while ((r = ipc_send(fd, type, seq, payload, size, fds, n_fds)) == -ENOBUFS || r == -ENOMEM) {
		if (clock_monotonic_us() >= end_us)
			break;
		clock_sleep_us(RETRY_US);
	}
	return r;
}

/*
 * Takes over every descriptor that came with the message, and who sent it. False when there were
 * more than IPC_FDS_MAX (of which the kernel may have cut off some: MSG_CTRUNC).
 */
static bool take_control(struct msghdr *message, struct ipc_message *m)
{
	bool fits = true;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred sender;

			memcpy(&sender, CMSG_DATA(c), sizeof(sender));
			m->sender = sender.pid;
		}
		if (c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int received;

			memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof(received));
			if (m->n_fds < IPC_FDS_MAX) {
				m->fds[m->n_fds++] = received;
			} else {
				close(received);
				fits = false;
			}
		}
	}
	return fits;
}

int ipc_recv(int fd, struct ipc_message *m)
{
	struct iovec iov[2] = {
		{.iov_base = &m->header, .iov_len = sizeof(m->header)},
		{.iov_base = m->payload, .iov_len = sizeof(m->payload)},
	};
	union control control;
	struct msghdr message = {
		.msg_iov = iov,
		.msg_iovlen = ARRAY_SIZE(iov),
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	unsigned n_resets = 0;
	bool fits;
	ssize_t n;

	close_fds(m);
	m->sender = 0;
	/*
	 * A peer that ends with something of ours unread resets the connection. The kernel says so once,
	 * before it hands out what that peer said last.
	 */
	do
		n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !n_resets++)));
	if (n < 0)
		return errno == ECONNRESET ? IPC_CLOSED : -errno;
	fits = take_control(&message, m);
	if (n == 0 && m->n_fds == 0)
		return IPC_CLOSED;
	if (!fits || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
		(size_t)n < sizeof(m->header) || m->header.magic != IPC_MAGIC ||
		m->header.version != IPC_VERSION ||
		m->header.size != (size_t)n - sizeof(m->header)) {
		close_fds(m);
		m->header = (struct ipc_header){0};
		return -EPROTO;
	}
	return 0;
}

bool ipc_payload_copy(const struct ipc_message *m, size_t min_bytes, void *ret, size_t bytes)
{
	size_t n = m->header.size < bytes ? m->header.size : bytes;

	if (m->header.size < min_bytes)
		return false;
	memcpy(ret, m->payload, n);
	memset((uint8_t *)ret + n, 0, bytes - n);
	return true;
}
