/* See agent-peer.h. */
#include "tests/unit/agent-peer.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"

int agent_peer_init(struct agent_peer *peer)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	*peer = (struct agent_peer){.fd = fds[0]};
	return fds[1];
}

void agent_peer_done(struct agent_peer *peer)
{
	cleanup_closep(&peer->fd);
	peer->fd = -1;
}

size_t agent_peer_send_bytes(struct agent_peer *peer, const void *bytes, size_t n)
{
	ssize_t sent = send(peer->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	return sent < 0 ? 0 : (size_t)sent;
}

void agent_peer_send(struct agent_peer *peer, const struct agent_message *m)
{
	uint8_t frame[AGENT_FRAME_MAX];

	(void)agent_peer_send_bytes(peer, frame, agent_encode(m, frame));
}

void agent_peer_hello(struct agent_peer *peer, uint32_t number, uint64_t min, uint64_t max)
{
	struct agent_message m;

	agent_message_init(&m, AGENT_HELLO, number);
	agent_set(&m, AGENT_VERSION_MIN, min);
	agent_set(&m, AGENT_VERSION_MAX, max);
	agent_set(&m, AGENT_INTERVAL_MS, 1000);
	agent_set_text(&m, "test");
	agent_peer_send(peer, &m);
}

bool agent_peer_wait(struct agent_peer *peer, enum agent_type type, unsigned timeout_ms,
	struct agent_message *ret)
{
	uint64_t end_us = clock_monotonic_us() + timeout_ms * US_PER_MS;

	for (;;) {
		struct pollfd p = {.fd = peer->fd, .events = POLLIN};
		uint64_t now_us = clock_monotonic_us();
		uint8_t byte;

		while (agent_stream_next(&peer->in, ret))
			if (ret->type == type)
				return true;
		if (poll(&p, 1, now_us < end_us ? (int)((end_us - now_us) / US_PER_MS) + 1 : 0) <=
			0)
			return false;
		/* one at a time: what follows stays in the socket for the next wait */
		if (recv(peer->fd, &byte, 1, MSG_DONTWAIT) != 1)
			return false;
		(void)agent_stream_put(&peer->in, &byte, 1);
	}
}
