/* See fake-network.h. */
#undef NDEBUG /* here asserts are the test's, in every build */
#include "fake-network.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

static unsigned pairs_used;

static void set_offloads(struct net_backend *b, uint64_t features)
{
}

static void set_pairs(struct net_backend *b, unsigned n)
{
	pairs_used = n;
}

static int send_frame(struct net_backend *b, unsigned pair, const uint8_t *frame, size_t bytes)
{
	return send(b->fds[pair], frame, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static ssize_t receive(struct net_backend *b, unsigned pair, uint8_t *ret, size_t max)
{
	ssize_t n = recv(b->fds[pair], ret, max, MSG_DONTWAIT);

	return n < 0 ? -EAGAIN : n;
}

static const struct net_backend_ops ops = {
	.set_offloads = set_offloads,
	.set_pairs = set_pairs,
	.send = send_frame,
	.receive = receive,
};

struct net_backend *fake_network_new(unsigned n_pairs, int *ret_ends)
{
	struct net_backend *b = calloc(1, sizeof(*b));

	assert(b && n_pairs <= NET_PAIRS_MAX);
	b->ops = &ops;
	b->n_pairs = n_pairs;
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++)
		b->fds[i] = -1;
	for (unsigned i = 0; i < n_pairs; i++) {
		int fds[2], r;

		r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
		assert(r == 0);
		(void)r;
		b->fds[i] = fds[0];
		ret_ends[i] = fds[1];
	}
	for (unsigned i = 0; i < NET_MAC_BYTES; i++)
		b->mac[i] = (uint8_t)(2 * i);
	return b;
}

unsigned fake_network_pairs(void)
{
	return pairs_used;
}
