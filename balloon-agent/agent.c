/* See agent.h. */
#include "balloon-agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>

#include "memd/base/clock.h"
#include "memd/base/cleanup.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define INTERVAL_MIN_US (1 * US_PER_S)
#define INTERVAL_MAX_US (60 * US_PER_S)
#define DEADLINE_MAX_US (10 * US_PER_S)
/* A message whose end does not come. */
#define INCOMPLETE_US	(2 * US_PER_S)
/* How often a port is looked at whose host is gone. */
#define ABSENT_US	(1 * US_PER_S)
#define READS_A_TURN	16

/* Woken when all tasks stood still for a tenth of a second. Only the kernel's own file is written to. */
static int open_trigger(int root_fd)
{
	static const char trigger[] = "full 100000 1000000";
	_cleanup_close_ int fd =
		openat(root_fd, "proc/pressure/memory", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC ||
		write(fd, trigger, sizeof(trigger)) < 0)
		return -1;
	return TAKE_FD(fd);
}

int agent_init(struct agent *a, int port_fd, int signal_fd, int root_fd, uint64_t floor_bytes)
{
	struct stat st;
	int r;

	*a = (struct agent){
		.port_fd = port_fd,
		.signal_fd = signal_fd,
		.floor_bytes = floor_bytes,
		.interval_us = INTERVAL_MIN_US,
		.pressure_fd = -1,
		.port_stays = port_fd >= 0 && fstat(port_fd, &st) == 0 && S_ISCHR(st.st_mode),
	};
	room_init(&a->room, root_fd);
	r = figures_init(&a->figures, root_fd);
	if (r == 0)
		a->pressure_fd = open_trigger(root_fd);
	return r;
}

void agent_done(struct agent *a)
{
	figures_done(&a->figures);
	room_done(&a->room);
	cleanup_closep(&a->pressure_fd);
	cleanup_closep(&a->port_fd);
	cleanup_closep(&a->signal_fd);
	a->port_fd = a->signal_fd = a->pressure_fd = -1;
}

int agent_report(struct agent *a, struct agent_message *ret)
{
	int r;

	agent_message_init(ret, AGENT_REPORT, 0);
	r = figures_read(&a->figures, ret);
	if (r < 0)
		return r;
	agent_set(ret, AGENT_FLOOR, condition_floor_bytes(ret, a->floor_bytes));
	return 0;
}

/* The host is gone; what was agreed went with it. */
static void disconnect(struct agent *a)
{
	a->connected = false;
	a->version = 0;
	a->n_out = 0;
	a->in = (struct agent_stream){0};
	a->room.active = false;
}

static void flush(struct agent *a)
{
	ssize_t n = a->n_out ? write(a->port_fd, a->out, a->n_out) : 0;

	if (n <= 0)
		return; /* full: later; gone: reading says so */
	memmove(a->out, a->out + n, a->n_out - (size_t)n);
	a->n_out -= (size_t)n;
}

/* What the host does not take in time it does not get: the next one is newer. */
static void send(struct agent *a, const struct agent_message *m)
{
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n = agent_encode(m, frame);

	if (n > sizeof(a->out) - a->n_out)
		return;
	memcpy(a->out + a->n_out, frame, n);
	a->n_out += n;
	flush(a);
}

static void send_hello(struct agent *a, uint32_t number)
{
	struct agent_message m;

	agent_message_init(&m, AGENT_HELLO, number);
	agent_set(&m, AGENT_VERSION_MIN, AGENT_VERSION_OLDEST);
	agent_set(&m, AGENT_VERSION_MAX, AGENT_VERSION_NEWEST);
	agent_set_text(&m, "balloon-agent " MEMD_VERSION);
	send(a, &m);
}

static void connect_port(struct agent *a, uint64_t now_us)
{
	a->connected = true;
	a->in_us = now_us;
	send_hello(a, 0);
}

static void on_hello(struct agent *a, const struct agent_message *m, uint64_t now_us)
{
	uint64_t min = agent_get(m, AGENT_VERSION_MIN, 0), max = agent_get(m, AGENT_VERSION_MAX, 0);
	unsigned old = a->version;

	a->version = agent_version_common(min, max);
	if (!a->version && a->refused_version != max)
		log_warning(
			"the host speaks versions %llu to %llu, this agent %d to %d: nothing is "
			"reported",
			(unsigned long long)min, (unsigned long long)max, AGENT_VERSION_OLDEST,
			AGENT_VERSION_NEWEST);
	a->refused_version = a->version ? 0 : max;
	a->interval_us = u64_max(INTERVAL_MIN_US,
		u64_min(agent_get(m, AGENT_INTERVAL_MS, 0), INTERVAL_MAX_US / US_PER_MS) *
			US_PER_MS);
	if (m->number == 0)
		send_hello(a, 1);
	if (!old)
		a->next_us = now_us;
}

static void answer(struct agent *a, enum agent_verdict verdict, uint64_t bytes, const char *reason)
{
	struct agent_message m;

	agent_message_init(&m, AGENT_ANSWER, a->shrink_number);
	agent_set(&m, AGENT_VERDICT, verdict);
	agent_set(&m, AGENT_BYTES, bytes);
	if (reason)
		agent_set_text(&m, reason);
	send(a, &m);
}

static void on_shrink(struct agent *a, const struct agent_message *m, uint64_t now_us)
{
	uint64_t wanted = agent_get(m, AGENT_BYTES, 0);
	uint64_t within_us =
		u64_min(agent_get(m, AGENT_DEADLINE_MS, 0), DEADLINE_MAX_US / US_PER_MS) *
		US_PER_MS;
	struct agent_message figures;
	char reason[AGENT_TEXT_MAX + 1];

	a->room.active = false;
	a->shrink_number = m->number;
	if (!wanted)
		return;
	if (agent_report(a, &figures) < 0)
		answer(a, AGENT_REFUSED, 0, "cannot read its own figures");
	else if (condition_refuses(&a->condition, &figures, wanted, now_us, reason))
		answer(a, AGENT_REFUSED, 0, reason);
	else
		room_begin(&a->room, u64_min(wanted, condition_spare_bytes(&figures)),
			now_us + within_us);
}

static void take_message(struct agent *a, const struct agent_message *m, uint64_t now_us)
{
	if (m->type == AGENT_HELLO)
		on_hello(a, m, now_us);
	else if (m->type == AGENT_SHRINK && a->version)
		on_shrink(a, m, now_us);
}

static void take_messages(struct agent *a, uint64_t now_us)
{
	struct agent_message m;

	while (agent_stream_next(&a->in, &m))
		take_message(a, &m, now_us);
}

/* A turn of the loop at most: a host that floods does not keep the agent from reporting. */
static int receive(struct agent *a, uint64_t now_us)
{
	uint8_t bytes[256]; /* what the stream always has room for */

	for (unsigned i = 0; i < READS_A_TURN; i++) {
		ssize_t n = read(a->port_fd, bytes, sizeof(bytes));

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n == 0)
			return -EPIPE;
		a->in_us = now_us;
		for (ssize_t at = 0; at < n;) {
			at += (ssize_t)agent_stream_put(&a->in, bytes + at, (size_t)(n - at));
			take_messages(a, now_us);
		}
	}
	return 0;
}

static void say(struct agent *a, const struct condition_said *said)
{
	struct agent_message m;

	if (said->word == CONDITION_FINE)
		return;
	agent_message_init(&m, said->word == CONDITION_ASK ? AGENT_ASK : AGENT_DISTRESS, 0);
	if (said->word == CONDITION_ASK)
		agent_set(&m, AGENT_BYTES, said->bytes);
	agent_set_text(&m, said->reason);
	send(a, &m);
	log_notice("%s: %s", said->word == CONDITION_ASK ? "asks for memory" : "in distress",
		said->reason);
}

/* Looks at the figures; reports them when it is time. */
static void look(struct agent *a, bool report, uint64_t now_us)
{
	struct condition_said said;
	struct agent_message m;

	if (agent_report(a, &m) < 0)
		return;
	condition_look(&a->condition, &m, now_us, &said);
	say(a, &said);
	if (report)
		send(a, &m);
}

static void make_room(struct agent *a, uint64_t now_us)
{
	struct agent_message figures;
	bool readable = agent_report(a, &figures) == 0;
	uint64_t bytes;

	if (readable && !room_step(&a->room, &figures, now_us))
		return;
	a->room.active = false;
	bytes = readable ? u64_min(a->room.wanted_bytes, condition_spare_bytes(&figures)) : 0;
	if (bytes)
		answer(a, AGENT_DONE, bytes, NULL);
	else
		answer(a, AGENT_REFUSED, 0, "there is nothing left to spare");
}

/* A virtio port without a host hangs up all the time: it is looked at, not waited for. */
static void look_for_host(struct agent *a, uint64_t now_us)
{
	struct pollfd port = {.fd = a->port_fd, .events = POLLIN};

	if (poll(&port, 1, 0) >= 0 && !(port.revents & (POLLHUP | POLLERR)))
		connect_port(a, now_us);
	else
		a->next_us = now_us + ABSENT_US;
}

static void on_time(struct agent *a, uint64_t now_us)
{
	if (agent_stream_waits(&a->in) && now_us - a->in_us >= INCOMPLETE_US) {
		agent_stream_give_up(&a->in);
		take_messages(a, now_us);
	}
	if (a->room.active)
		make_room(a, now_us);
	if (now_us < a->next_us)
		return;
	a->next_us = now_us + a->interval_us;
	if (!a->connected)
		look_for_host(a, now_us);
	else if (a->version)
		look(a, true, now_us);
}

/* 0; positive: a signal; negative errno: the port is gone. */
static int turn(struct agent *a)
{
	uint64_t now_us = clock_monotonic_us();
	uint64_t wait_us = a->room.active ? 0 : u64_sub_or_zero(a->next_us, now_us);
	struct pollfd fds[] = {
		{.fd = a->signal_fd, .events = POLLIN},
		{.fd = a->connected ? a->port_fd : -1,
			.events = (short)(POLLIN | (a->n_out ? POLLOUT : 0))},
		{.fd = a->version ? a->pressure_fd : -1, .events = POLLPRI},
	};
	int r = 0;

	if (poll(fds, ARRAY_SIZE(fds), (int)((wait_us + 999) / US_PER_MS)) < 0)
		return errno == EINTR ? 0 : -errno;
	now_us = clock_monotonic_us();
	if (fds[0].revents)
		return 1;
	if (fds[2].revents & POLLPRI)
		look(a, false, now_us);
	if (fds[1].revents & POLLOUT)
		flush(a);
	if (fds[1].revents & (POLLIN | POLLHUP | POLLERR))
		r = receive(a, now_us);
	if (r < 0 && a->port_stays) {
		disconnect(a);
		a->next_us = now_us + ABSENT_US;
	} else if (r < 0) {
		return r;
	}
	on_time(a, now_us);
	return 0;
}

int agent_run(struct agent *a)
{
	struct agent_message bye;
	int r = 0;

	if (!a->port_stays)
		connect_port(a, clock_monotonic_us());
	while (r == 0)
		r = turn(a);
	if (r < 0)
		return r;
	agent_message_init(&bye, AGENT_BYE, 0);
	if (a->connected)
		send(a, &bye);
	return 0;
}
