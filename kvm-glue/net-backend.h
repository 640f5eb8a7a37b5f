/*
 * Where a network device's frames go: a tap interface of the host, or a user-mode network, which is
 * a program of its own (memd-slirp) at the other end of a socket, so that what opens connections to
 * the world is not what runs the guest.
 *
 *   tap:NAME[,mac=M][,queues=N]
 *   user[,mac=M][,tcp=HOST:GUEST]...   HOST: a port of 127.0.0.1 that leads to the guest's port
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"

#define NET_PAIRS_MAX	 8
#define NET_HEADER_BYTES 12 /* struct virtio_net_hdr_v1 */
#define NET_MAC_BYTES	 6

struct net_backend;

/*
 * offloads: features of virtio-net (virtio 1.2, 5.1.3) that it can serve.
 * set_offloads: the driver agreed on these.
 * set_pairs: so many queue pairs carry traffic from now on.
 * send: a frame with its header, nonblocking: 0, or -EAGAIN when it is to be tried again when the
 *   descriptor is writable; any other error means that the frame is lost.
 * receive: the next frame with its header; its size, or -EAGAIN.
 */
struct net_backend_ops {
	uint64_t offloads;
	void (*set_offloads)(struct net_backend *b, uint64_t features);
	void (*set_pairs)(struct net_backend *b, unsigned n);
	int (*send)(struct net_backend *b, unsigned pair, const uint8_t *frame, size_t bytes);
	ssize_t (*receive)(struct net_backend *b, unsigned pair, uint8_t *ret, size_t max);
};

struct net_backend {
	const struct net_backend_ops *ops;
	unsigned n_pairs;
	int fds[NET_PAIRS_MAX]; /* of each pair, nonblocking */
	uint8_t mac[NET_MAC_BYTES];
};

/* -EINVAL for a bad spec, any errno of what it takes. */
int net_backend_open(const char *spec, struct net_backend **ret, struct error *e);
/* Of a user-mode network: its program ends. NULL is allowed. */
void net_backend_free(struct net_backend *b);
DEFINE_CLEANUP(struct net_backend *, net_backend_free)
