/*
 * memd-slirp: a user-mode network for one guest, by libslirp. It gets the guest's Ethernet frames
 * over a socket and makes connections of its own for them, so the guest reaches what its host's user
 * reaches, but for the host's own 127.0.0.1; nobody reaches the guest but through the ports that are
 * arguments. It is no part of memd-vmm since it opens sockets as the guest asks, which memd-vmm must
 * not be able to. It has no privileges, and ends when the guest does.
 *
 * Must never: touch a file, or believe that what the guest sends is well formed (libslirp's job).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "kvm-glue/helper.h"
#include "kvm-glue/sandbox.h"
#include "kvm-glue/slirp.h"
#include "memd/base/clock.h"
#include "memd/base/log.h"

#define FDS_MAX		1024
#define FRAME_BYTES_MAX 65536
#define NS_PER_US	1000

struct polls {
	struct pollfd fds[FDS_MAX];
	size_t n;
};

/* Waits for room: the guest reads, or is gone. */
static ssize_t send_packet(const void *frame, size_t bytes, void *opaque)
{
	return send(HELPER_FD, frame, bytes, MSG_NOSIGNAL);
}

static void guest_error(const char *message, void *opaque)
{
	static struct log_ratelimit limit = LOG_RATELIMIT_INIT;

	if (log_ratelimit_pass(&limit))
		log_warning("user-mode network: %s", message);
}

static int64_t clock_ns(void *opaque)
{
	return (int64_t)clock_monotonic_us() * NS_PER_US;
}

/* Timers are for IPv6 router advertisements only, and there is no IPv6 here. */
static void *timer_new(SlirpTimerCb callback, void *callback_opaque, void *opaque)
{
	return NULL;
}

static void timer_free(void *timer, void *opaque)
{
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
}

/* Descriptors are asked for before each poll. */
static void ignore_fd(int fd, void *opaque)
{
}

static void notify(void *opaque)
{
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = ignore_fd,
	.unregister_poll_fd = ignore_fd,
	.notify = notify,
};

static Slirp *new_network(void)
{
	const SlirpConfig config = {
		.version = 4,
		.in_enabled = true,
		.vnetwork.s_addr = inet_addr("10.0.2.0"),
		.vnetmask.s_addr = inet_addr("255.255.255.0"),
		.vhost.s_addr = inet_addr("10.0.2.2"),
		.vdhcp_start.s_addr = inet_addr("10.0.2.15"),
		.vnameserver.s_addr = inet_addr("10.0.2.3"),
		.disable_host_loopback = true,
	};

	return slirp_new(&config, &callbacks, NULL);
}

static int add_forward(Slirp *slirp, const char *argument)
{
	struct in_addr host = {.s_addr = htonl(INADDR_LOOPBACK)};
	struct in_addr guest = {.s_addr = inet_addr("10.0.2.15")};
	struct slirp_forward f;

	if (!slirp_parse_forward(argument, &f)) {
		log_error("user-mode network: %s is not HOSTPORT:GUESTPORT", argument);
		return -EINVAL;
	}
	if (slirp_add_hostfwd(slirp, 0, host, f.host_port, guest, f.guest_port) < 0) {
		log_error("user-mode network: port %u of 127.0.0.1: %s", f.host_port,
			strerror(errno));
		return -EADDRINUSE;
	}
	return 0;
}

static int add_poll(int fd, int events, void *opaque)
{
	struct polls *p = opaque;
	short wanted = 0;

	if (p->n == FDS_MAX)
		return -1; /* looked at when there is room again */
	wanted |= events & SLIRP_POLL_IN ? POLLIN : 0;
	wanted |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
	wanted |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
	p->fds[p->n] = (struct pollfd){.fd = fd, .events = wanted};
	return (int)p->n++;
}

static int get_revents(int index, void *opaque)
{
	const struct polls *p = opaque;
	int events = 0;
	short got;

	if (index < 0)
		return 0;
	got = p->fds[index].revents;
	events |= got & POLLIN ? SLIRP_POLL_IN : 0;
	events |= got & POLLOUT ? SLIRP_POLL_OUT : 0;
	events |= got & POLLPRI ? SLIRP_POLL_PRI : 0;
	events |= got & POLLERR ? SLIRP_POLL_ERR : 0;
	events |= got & POLLHUP ? SLIRP_POLL_HUP : 0;
	return events;
}

/* Takes what the guest sent. False: the guest is gone. */
static bool take_frames(Slirp *slirp)
{
	static uint8_t frame[FRAME_BYTES_MAX];
	ssize_t n;

	while ((n = recv(HELPER_FD, frame, sizeof(frame), MSG_DONTWAIT)) > 0)
		slirp_input(slirp, frame, (int)n);
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void serve(Slirp *slirp)
{
	static struct polls p;
	bool alive = true;

	while (alive) {
		uint32_t timeout_ms = INT_MAX;
		int r;

		p.fds[0] = (struct pollfd){.fd = HELPER_FD, .events = POLLIN};
		p.n = 1;
		slirp_pollfds_fill(slirp, &timeout_ms, add_poll, &p);
		r = poll(p.fds, p.n, (int)timeout_ms);
		slirp_pollfds_poll(slirp, r < 0, get_revents, &p);
		if (r > 0 && p.fds[0].revents)
			alive = take_frames(slirp);
	}
}

int main(int argc, char *argv[])
{
	const int keep[] = {HELPER_FD};
	struct error e = {0};
	Slirp *slirp;

	log_open(SLIRP_PROGRAM);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sandbox_close_stray(keep, 1, &e) < 0 || sandbox_drop_privileges(&e) < 0) {
		log_error("%s", e.text);
		return EXIT_FAILURE;
	}
	slirp = new_network();
	for (int i = 1; slirp && i < argc; i++)
		if (add_forward(slirp, argv[i]) < 0)
			return EXIT_FAILURE;
	if (!slirp)
		return EXIT_FAILURE;
	if (send_packet("", HELPER_READY, NULL) < 0)
		return EXIT_FAILURE;
	serve(slirp);
	slirp_cleanup(slirp);
	return EXIT_SUCCESS;
}
