/* The two kinds of network (net-backend.h). */
#include "kvm-glue/net-backend.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "kvm-glue/device.h"
#include "kvm-glue/helper.h"
#include "kvm-glue/slirp.h"
#include "kvm-glue/virtio-net.h"

#define FORWARDS_MAX 16

/* --- tap */

static void tap_set_offloads(struct net_backend *b, uint64_t features)
{
	unsigned offloads = 0;

	if (features & VIRTIO_NET_F_GUEST_CSUM) {
		offloads |= TUN_F_CSUM;
		offloads |= features & VIRTIO_NET_F_GUEST_TSO4 ? TUN_F_TSO4 : 0;
		offloads |= features & VIRTIO_NET_F_GUEST_TSO6 ? TUN_F_TSO6 : 0;
		offloads |= features & VIRTIO_NET_F_GUEST_ECN ? TUN_F_TSO_ECN : 0;
	}
	for (unsigned i = 0; i < b->n_pairs; i++)
		ioctl(b->fds[i], TUNSETOFFLOAD, offloads);
}

/* The kernel spreads flows over the queues that are attached. */
static void tap_set_pairs(struct net_backend *b, unsigned n)
{
	for (unsigned i = 0; b->n_pairs > 1 && i < b->n_pairs; i++) {
		struct ifreq request = {.ifr_flags = i < n ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

		ioctl(b->fds[i], TUNSETQUEUE, &request); /* EINVAL: it is so already */
	}
}

static int tap_send(struct net_backend *b, unsigned pair, const uint8_t *frame, size_t bytes)
{
	return write(b->fds[pair], frame, bytes) < 0 ? -errno : 0;
}

static ssize_t tap_receive(struct net_backend *b, unsigned pair, uint8_t *ret, size_t max)
{
	ssize_t n = read(b->fds[pair], ret, max);

	return n < 0 ? -EAGAIN : n;
}

static const struct net_backend_ops tap_ops = {
	.offloads = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 |
		    VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_GUEST_ECN | VIRTIO_NET_F_HOST_TSO4 |
		    VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_ECN,
	.set_offloads = tap_set_offloads,
	.set_pairs = tap_set_pairs,
	.send = tap_send,
	.receive = tap_receive,
};

static int open_queue(const char *name, bool several, int *ret_fd, struct error *e)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq request = {
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0)};
	int header_bytes = NET_HEADER_BYTES;

	if (fd < 0)
		return error_set(e, -errno, "/dev/net/tun: %s", strerror(errno));
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return error_set(e, -errno, "tap interface %s: %s", name,
			errno == EINVAL ? "it was made for one queue, or for several (`ip tuntap "
					  "add ... multi_queue`), and this is the other"
					: strerror(errno));
	if (ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0)
		return error_set(e, -errno, "tap interface %s: %s", name, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int open_tap(struct net_backend *b, const char *name, struct error *e)
{
	if (name[0] == '\0' || strlen(name) >= IFNAMSIZ)
		return error_set(e, -EINVAL, "'%s' is no name of an interface", name);
	b->ops = &tap_ops;
	for (unsigned i = 0; i < b->n_pairs; i++) {
		int r = open_queue(name, b->n_pairs > 1, &b->fds[i], e);

		if (r < 0)
			return r;
	}
	tap_set_pairs(b, 1);
	return 0;
}

/* --- user mode */

static void user_set_offloads(struct net_backend *b, uint64_t features)
{
}

static void user_set_pairs(struct net_backend *b, unsigned n)
{
}

static int user_send(struct net_backend *b, unsigned pair, const uint8_t *frame, size_t bytes)
{
	ssize_t n = send(b->fds[pair], frame + NET_HEADER_BYTES, bytes - NET_HEADER_BYTES,
		MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 ? -errno : 0;
}

static ssize_t user_receive(struct net_backend *b, unsigned pair, uint8_t *ret, size_t max)
{
	ssize_t n =
		recv(b->fds[pair], ret + NET_HEADER_BYTES, max - NET_HEADER_BYTES, MSG_DONTWAIT);

	if (n <= 0)
		return -EAGAIN; /* also when the program is gone: a cable that was pulled */
	memset(ret, 0, NET_HEADER_BYTES);
	return n + NET_HEADER_BYTES;
}

static const struct net_backend_ops user_ops = {
	.set_offloads = user_set_offloads,
	.set_pairs = user_set_pairs,
	.send = user_send,
	.receive = user_receive,
};

/* forwards: HOST:GUEST each. */
static int open_user(struct net_backend *b, char (*forwards)[16], unsigned n, struct error *e)
{
	char *argv[FORWARDS_MAX + 2] = {NULL};

	if (b->n_pairs > 1)
		return error_set(e, -EINVAL, "a user-mode network has one queue");
	for (unsigned i = 0; i < n; i++)
		argv[1 + i] = forwards[i];
	b->ops = &user_ops;
	return helper_start(SLIRP_PROGRAM, argv, -1, &b->fds[0], e);
}

/* --- what both have */

static int parse_mac(const char *text, uint8_t ret[NET_MAC_BYTES], struct error *e)
{
	unsigned m[NET_MAC_BYTES];
	int end = -1;

	if (!text ||
		sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5],
			&end) != NET_MAC_BYTES ||
		end < 0 || text[end] != '\0' || strlen(text) != 17 || (m[0] & 1))
		return error_set(
			e, -EINVAL, "mac: six bytes as in 52:54:00:12:34:56, the first even");
	for (unsigned i = 0; i < NET_MAC_BYTES; i++)
		ret[i] = (uint8_t)m[i];
	return 0;
}

/* The same for the same spec in each run (FNV-1a), so that the guest knows its interface again. */
static void make_mac(const char *spec, uint8_t ret[NET_MAC_BYTES])
{
	static const uint8_t prefix[] = {0x52, 0x54, 0x00};
	uint32_t hash = UINT32_C(2166136261);

	for (const char *p = spec; *p; p++)
		hash = (hash ^ (uint8_t)*p) * UINT32_C(16777619);
	memcpy(ret, prefix, sizeof(prefix));
	memcpy(ret + sizeof(prefix), &hash, NET_MAC_BYTES - sizeof(prefix));
}

int net_backend_open(const char *spec, struct net_backend **ret, struct error *e)
{
	_cleanup_(net_backend_freep) struct net_backend *b = calloc(1, sizeof(*b));
	char kind[64], forwards[FORWARDS_MAX][16];
	unsigned n_forwards = 0;
	const char *cursor = spec;
	struct device_spec_word w;
	uint64_t pairs = 1;
	bool user, tap;
	int r;

	if (!b)
		return error_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++)
		b->fds[i] = -1;
	make_mac(spec, b->mac);
	r = device_spec_first(spec, kind, sizeof(kind), e);
	if (r < 0)
		return r;
	user = strcmp(kind, "user") == 0;
	tap = strncmp(kind, "tap:", 4) == 0;
	while (r >= 0 && (r = device_spec_next(&cursor, &w, e)) > 0) {
		if (strcmp(w.text, "mac") == 0)
			r = parse_mac(w.value, b->mac, e);
		else if (tap && strcmp(w.text, "queues") == 0)
			r = device_spec_number(&w, 1, NET_PAIRS_MAX, &pairs, e);
		else if (!user || strcmp(w.text, "tcp") != 0 || !w.value)
			r = device_spec_unknown(
				&w, user ? "mac=M, tcp=HOSTPORT:GUESTPORT" : "mac=M, queues=N", e);
		else if (n_forwards == FORWARDS_MAX ||
			 !slirp_parse_forward(w.value, &(struct slirp_forward){0}))
			r = error_set(
				e, -EINVAL, "tcp: at most %d of HOSTPORT:GUESTPORT", FORWARDS_MAX);
		else
			snprintf(forwards[n_forwards++], sizeof(forwards[0]), "%.15s", w.value);
	}
	if (r < 0)
		return r;
	b->n_pairs = (unsigned)pairs;
	if (user)
		r = open_user(b, forwards, n_forwards, e);
	else if (tap)
		r = open_tap(b, kind + 4, e);
	else
		r = error_set(e, -EINVAL, "'%s' is neither user nor tap:NAME", kind);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

void net_backend_free(struct net_backend *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++)
		cleanup_closep(&b->fds[i]);
	free(b);
}
