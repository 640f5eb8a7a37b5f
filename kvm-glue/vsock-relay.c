/*
 * See vsock-relay.h.
 *
 * DOC: flow control (virtio 1.2, 5.10.6.3)
 * What the guest sent and the local socket did not take yet is kept, up to BUFFER_BYTES for each
 * connection, which is what the guest is told it may have under way; a guest that sends more is cut
 * off. What the local end sends is read only as far as the guest has room for it. Packets for the
 * guest wait in the socket to memd-vmm, which holds back when the guest offers no buffer; so this
 * thread may wait for the guest, and then all of its connections do.
 *
 * Must never: keep more than that; reach a socket whose name the guest made up but for its number.
 */
#include "kvm-glue/vsock-relay.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "memd/base/cleanup.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

enum {
	CONNECTIONS_MAX = 256,
	BUFFER_BYTES = 65536,
	GREETING_BYTES = 32, /* "CONNECT 4294967295\n" and some */
	PACKET_BYTES_MAX = 65536 + 64,
};
#define FIRST_HOST_PORT (UINT32_C(1) << 30)

enum state {
	STATE_FREE,
	STATE_GREETING, /* of the host: has not said yet where to */
	STATE_REQUESTED, /* of the host: the guest has not answered yet */
	STATE_OPEN,
};

struct connection {
	enum state state;
	int fd;
	uint32_t host_port;
	uint32_t guest_port;
	bool guest_sends_no_more; /* it said so */
	bool guest_takes_no_more;
	bool host_sends_no_more; /* the local end is at its end, and the guest knows */
	uint32_t guest_buf_alloc;
	uint32_t guest_fwd_cnt;
	uint32_t sent; /* bytes to the guest, modulo 2^32 */
	uint32_t forwarded; /* bytes of the guest that the local end took */
	uint32_t told_forwarded; /* as the guest knows */
	size_t n_kept; /* bytes of the guest that the local end has not taken */
	uint8_t *kept; /* BUFFER_BYTES */
	char greeting[GREETING_BYTES];
	size_t n_greeting;
};

struct relay {
	int packet_fd;
	int listen_fd;
	uint64_t guest_cid;
	const char *path;
	uint32_t next_host_port;
	bool over; /* memd-vmm is gone */
	struct connection connections[CONNECTIONS_MAX];
	uint8_t packet[PACKET_BYTES_MAX];
};

/* --- to the guest */

static void send_packet(struct relay *r, struct vsock_header h, const uint8_t *data, size_t bytes)
{
	struct iovec iov[] = {{&h, sizeof(h)}, {(void *)(uintptr_t)data, bytes}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = bytes > 0 ? 2 : 1};

	h.src_cid = VSOCK_HOST_CID;
	h.dst_cid = r->guest_cid;
	h.type = VSOCK_TYPE_STREAM;
	h.len = (uint32_t)bytes;
	if (sendmsg(r->packet_fd, &m, MSG_NOSIGNAL) < 0 && errno != EINTR)
		r->over = true;
}

static void tell_data(struct relay *r, struct connection *c, enum vsock_op op, uint32_t flags,
	const uint8_t *data, size_t bytes)
{
	const struct vsock_header h = {
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.op = op,
		.flags = flags,
		.buf_alloc = BUFFER_BYTES,
		.fwd_cnt = c->forwarded,
	};

	c->told_forwarded = c->forwarded;
	send_packet(r, h, data, bytes);
}

static void tell(struct relay *r, struct connection *c, enum vsock_op op, uint32_t flags)
{
	tell_data(r, c, op, flags, NULL, 0);
}

/* Says that there is no such connection. */
static void refuse(struct relay *r, const struct vsock_header *to)
{
	const struct vsock_header h = {
		.src_port = to->dst_port, .dst_port = to->src_port, .op = VSOCK_OP_RST};

	send_packet(r, h, NULL, 0);
}

/* --- connections */

static void close_connection(struct connection *c)
{
	cleanup_closep(&c->fd);
	free(c->kept);
	*c = (struct connection){.fd = -1};
}

static void reset_connection(struct relay *r, struct connection *c)
{
	if (c->state == STATE_REQUESTED || c->state == STATE_OPEN)
		tell(r, c, VSOCK_OP_RST, 0);
	close_connection(c);
}

/* Takes fd over; NULL when there is no room, fd is closed then. */
static struct connection *new_connection(struct relay *r, int fd, enum state state)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct connection *c = &r->connections[i];

		if (c->state != STATE_FREE)
			continue;
		c->kept = malloc(BUFFER_BYTES);
		if (!c->kept)
			break;
		c->fd = fd;
		c->state = state;
		return c;
	}
	close(fd);
	return NULL;
}

static struct connection *find(struct relay *r, const struct vsock_header *h)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct connection *c = &r->connections[i];

		if ((c->state == STATE_REQUESTED || c->state == STATE_OPEN) &&
			c->host_port == h->dst_port && c->guest_port == h->src_port)
			return c;
	}
	return NULL;
}

/* A socket of the host whose name is made of ours and the port. The descriptor, or -1. */
static int connect_local(const struct relay *r, uint32_t port)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", r->path, port);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return TAKE_FD(fd);
}

/* --- from the guest */

/* Hands on what is kept; the connection is closed when the local end is gone. */
static void pass_kept(struct relay *r, struct connection *c)
{
	ssize_t n = 0;

	if (c->n_kept > 0)
		n = send(c->fd, c->kept, c->n_kept, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		reset_connection(r, c);
		return;
	}
	if (n > 0) {
		c->n_kept -= (size_t)n;
		memmove(c->kept, c->kept + n, c->n_kept);
		c->forwarded += (uint32_t)n;
	}
	if (c->n_kept == 0 && c->guest_sends_no_more) {
		if (c->guest_takes_no_more || c->host_sends_no_more)
			reset_connection(r, c); /* both ends are done: 5.10.6.5 */
		else
			shutdown(c->fd, SHUT_WR);
		return;
	}
	if ((uint32_t)(c->forwarded - c->told_forwarded) >= BUFFER_BYTES / 2)
		tell(r, c, VSOCK_OP_CREDIT_UPDATE, 0);
}

static void on_data(struct relay *r, struct connection *c, const uint8_t *data, size_t bytes)
{
	if (c->state != STATE_OPEN || c->guest_sends_no_more || bytes > BUFFER_BYTES - c->n_kept) {
		reset_connection(r, c);
		return;
	}
	memcpy(c->kept + c->n_kept, data, bytes);
	c->n_kept += bytes;
	pass_kept(r, c);
}

static void on_request(struct relay *r, const struct vsock_header *h)
{
	struct connection *c = NULL;
	int fd = connect_local(r, h->dst_port);

	if (fd >= 0)
		c = new_connection(r, fd, STATE_OPEN);
	if (!c) {
		refuse(r, h);
		return;
	}
	c->host_port = h->dst_port;
	c->guest_port = h->src_port;
	c->guest_buf_alloc = h->buf_alloc;
	c->guest_fwd_cnt = h->fwd_cnt;
	tell(r, c, VSOCK_OP_RESPONSE, 0);
}

static void on_response(struct relay *r, struct connection *c)
{
	char answer[32];
	int n = snprintf(answer, sizeof(answer), "OK %u\n", c->host_port);

	if (c->state != STATE_REQUESTED ||
		send(c->fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
		reset_connection(r, c);
	else
		c->state = STATE_OPEN;
}

static void on_shutdown(struct relay *r, struct connection *c, uint32_t flags)
{
	c->guest_takes_no_more |= !!(flags & VSOCK_SHUTDOWN_RECEIVE);
	c->guest_sends_no_more |= !!(flags & VSOCK_SHUTDOWN_SEND);
	if (c->guest_takes_no_more)
		shutdown(c->fd, SHUT_RD);
	pass_kept(r, c);
}

static void reset_all(struct relay *r)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		if (r->connections[i].state != STATE_FREE)
			close_connection(&r->connections[i]);
}

static void on_packet(
	struct relay *r, const struct vsock_header *h, const uint8_t *data, size_t bytes)
{
	struct connection *c = find(r, h);

	if (h->op == VSOCK_OP_RESET_ALL) {
		reset_all(r);
		return;
	}
	if (!c) {
		if (h->op == VSOCK_OP_REQUEST && h->type == VSOCK_TYPE_STREAM)
			on_request(r, h);
		else if (h->op != VSOCK_OP_RST)
			refuse(r, h);
		return;
	}
	c->guest_buf_alloc = h->buf_alloc;
	c->guest_fwd_cnt = h->fwd_cnt;
	switch (h->op) {
	case VSOCK_OP_RESPONSE:
		on_response(r, c);
		return;
	case VSOCK_OP_RST:
		close_connection(c);
		return;
	case VSOCK_OP_SHUTDOWN:
		on_shutdown(r, c, h->flags);
		return;
	case VSOCK_OP_RW:
		on_data(r, c, data, bytes);
		return;
	case VSOCK_OP_CREDIT_UPDATE:
		return;
	case VSOCK_OP_CREDIT_REQUEST:
		tell(r, c, VSOCK_OP_CREDIT_UPDATE, 0);
		return;
	default: /* also a second request for the same ports */
		reset_connection(r, c);
	}
}

static void take_packet(struct relay *r)
{
	ssize_t n = recv(r->packet_fd, r->packet, sizeof(r->packet), MSG_DONTWAIT);
	struct vsock_header h;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < (ssize_t)sizeof(h)) {
		r->over = true; /* memd-vmm sends whole packets, or is gone */
		return;
	}
	memcpy(&h, r->packet, sizeof(h));
	on_packet(r, &h, r->packet + sizeof(h), u64_min(h.len, (uint64_t)n - sizeof(h)));
}

/* --- from the host */

static uint32_t guest_room(const struct connection *c)
{
	uint32_t under_way = c->sent - c->guest_fwd_cnt;

	return under_way < c->guest_buf_alloc ? c->guest_buf_alloc - under_way : 0;
}

static void read_open(struct relay *r, struct connection *c)
{
	uint8_t data[VSOCK_PAYLOAD_BYTES];
	ssize_t n = recv(c->fd, data, u64_min(sizeof(data), guest_room(c)), MSG_DONTWAIT);

	if (n > 0) {
		c->sent += (uint32_t)n;
		tell_data(r, c, VSOCK_OP_RW, 0, data, (size_t)n);
	} else if (n == 0) {
		c->host_sends_no_more = true;
		if (c->guest_sends_no_more && c->n_kept == 0)
			reset_connection(r, c);
		else
			tell(r, c, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_SEND);
	} else if (errno != EAGAIN && errno != EINTR) {
		reset_connection(r, c);
	}
}

/* "CONNECT PORT\n", a byte at a time: what follows belongs to the connection. */
static void read_greeting(struct relay *r, struct connection *c)
{
	static const char connect_word[] = "CONNECT ";
	char *end = c->greeting + c->n_greeting;
	ssize_t n = recv(c->fd, end, 1, MSG_DONTWAIT);
	uint64_t port;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || ++c->n_greeting == sizeof(c->greeting)) {
		close_connection(c);
		return;
	}
	if (*end != '\n')
		return;
	*end = '\0';
	if (strncmp(c->greeting, connect_word, sizeof(connect_word) - 1) != 0 ||
		units_parse_u64(c->greeting + sizeof(connect_word) - 1, UINT32_MAX, &port, NULL) <
			0) {
		close_connection(c);
		return;
	}
	c->state = STATE_REQUESTED;
	c->host_port = r->next_host_port++;
	if (r->next_host_port == UINT32_MAX)
		r->next_host_port = FIRST_HOST_PORT;
	c->guest_port = (uint32_t)port;
	tell(r, c, VSOCK_OP_REQUEST, 0);
}

static short events_of(const struct connection *c)
{
	short events = 0;

	if (c->state == STATE_GREETING)
		return POLLIN;
	if (c->state != STATE_OPEN)
		return 0;
	if (!c->host_sends_no_more && !c->guest_takes_no_more && guest_room(c) > 0)
		events |= POLLIN;
	if (c->n_kept > 0)
		events |= POLLOUT;
	return events;
}

static void serve(struct relay *r, struct connection *c, short events)
{
	if (c->state == STATE_GREETING) {
		read_greeting(r, c);
		return;
	}
	if (c->state == STATE_REQUESTED) { /* the local end hung up */
		reset_connection(r, c);
		return;
	}
	if (c->n_kept > 0 && (events & (POLLOUT | POLLERR | POLLHUP)))
		pass_kept(r, c);
	if (c->state == STATE_OPEN && (events & POLLIN) && (events_of(c) & POLLIN))
		read_open(r, c);
	else if (c->state == STATE_OPEN && (events & (POLLERR | POLLHUP)) && c->n_kept == 0)
		reset_connection(r, c);
}

static void accept_client(struct relay *r)
{
	int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		new_connection(r, fd, STATE_GREETING);
}

static void turn(struct relay *r)
{
	enum {
		PACKETS,
		LISTENER,
		FIRST,
	};
	struct pollfd fds[FIRST + CONNECTIONS_MAX];

	fds[PACKETS] = (struct pollfd){.fd = r->packet_fd, .events = POLLIN};
	fds[LISTENER] = (struct pollfd){.fd = r->listen_fd, .events = POLLIN};
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		fds[FIRST + i] = (struct pollfd){
			.fd = r->connections[i].fd, .events = events_of(&r->connections[i])};
	if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		return;
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		if (fds[FIRST + i].revents)
			serve(r, &r->connections[i], fds[FIRST + i].revents);
	if (fds[PACKETS].revents)
		take_packet(r);
	if (fds[LISTENER].revents)
		accept_client(r);
}

int vsock_relay_run(int packet_fd, int listen_fd, uint64_t guest_cid, const char *path)
{
	_cleanup_free_ struct relay *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->packet_fd = packet_fd;
	r->listen_fd = listen_fd;
	r->guest_cid = guest_cid;
	r->path = path;
	r->next_host_port = FIRST_HOST_PORT;
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		r->connections[i].fd = -1;
	while (!r->over)
		turn(r);
	reset_all(r);
	return 0;
}
