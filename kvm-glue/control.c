/*
 * The control loop. Everything that arrives on the socket is checked; nothing here waits for the guest or touches its
 * memory, so memd gets its answers also while the guest stands still for want of memory.
 *
 * A pause is asynchronous: the order is given, and when the last vCPU has parked the answer goes out. Losing the
 * connection changes nothing for the guest; a new one gets HELLO with the present state.
 */
#include "kvm-glue/control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "kvm-glue/vmm-stats.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/log.h"

enum {
	EXIT_STATUS_DONE = 0,
	EXIT_STATUS_FAILED = 2,
};

/* An order to stand still may not wait behind the guest's own vCPUs. */
#define NICE_LEVEL	 (-10)
#define CPU_MAX_BP	 10000 /* one core */
#define SEND_PATIENCE_US (2 * US_PER_S)

struct control {
	struct vmm *vmm;
	int listen_fd;
	int connection_fd; /* -1: none */
	struct ipc_message *message;
	enum vmm_state state;
	char reason[VMM_REASON_MAX]; /* of the state */
	bool pausing; /* the order to park was given by memd */
	bool pause_answer_due;
	uint32_t pause_seq;
	bool snapshot_due; /* when the vCPUs have parked */
	bool snapshot_answer_due;
	uint32_t snapshot_seq;
	int state_fd, ram_fd; /* while snapshot_due */
	bool quit;
};

static void disconnect(struct control *c)
{
	cleanup_closep(&c->connection_fd);
	c->connection_fd = -1;
	c->pause_answer_due = c->snapshot_answer_due = false;
}

/*
 * A peer that does not read its answers loses the connection: it is told everything again when it
 * comes back.
 */
static void reply(struct control *c, uint16_t type, uint32_t seq, const void *payload, size_t size)
{
	if (c->connection_fd >= 0 &&
		ipc_send_patiently(c->connection_fd, type, seq, payload, size, NULL, 0,
			SEND_PATIENCE_US) < 0)
		disconnect(c);
}

static void done(struct control *c, uint32_t seq, int result, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static void done(struct control *c, uint32_t seq, int result, const char *format, ...)
{
	struct vmm_done d = {.result = result};
	va_list args;

	va_start(args, format);
	vsnprintf(d.reason, sizeof(d.reason), format, args);
	va_end(args);
	reply(c, VMM_DONE, seq, &d, sizeof(d));
}

static void send_event(struct control *c)
{
	struct vmm_event event = {.state = c->state};

	memcpy(event.reason, c->reason, sizeof(event.reason));
	reply(c, VMM_EVENT, 0, &event, sizeof(event));
}

static void set_state(struct control *c, enum vmm_state state, const char *reason)
{
	c->state = state;
	snprintf(c->reason, sizeof(c->reason), "%s", reason);
	send_event(c);
}

static void send_hello(struct control *c)
{
	struct vmm_hello hello = {
		.proto_version = VMM_PROTO_VERSION,
		.state = c->state,
		.n_vcpus = c->vmm->n_vcpus,
		.ram_bytes = c->vmm->memory_bytes,
	};
	const struct guest_ram_range *ranges;
	size_t n = guest_ram_ranges(c->vmm->ram, &ranges);

	_Static_assert(VMM_RANGES_MAX >= GUEST_RAM_RANGES_MAX, "all ranges fit into HELLO");
	hello.n_ranges = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		hello.ranges[i] = (struct vmm_range){
			.gpa = ranges[i].gpa,
			.hva = (uintptr_t)ranges[i].host,
			.bytes = ranges[i].bytes,
		};
	snprintf(hello.name, sizeof(hello.name), "%s", c->vmm->options->name);
	snprintf(hello.program_version, sizeof(hello.program_version), "%s", MEMD_VERSION);
	reply(c, VMM_HELLO, 0, &hello, sizeof(hello));
}

static void handle_get_stats(struct control *c, uint32_t seq)
{
	struct vmm_stats stats = {
		.time_us = clock_monotonic_us(),
		.state = c->state,
	};
	int r = vmm_stats_read(c->vmm, &stats);

	if (r < 0) {
		done(c, seq, r, "reading the page map: %s", strerror(-r));
		return;
	}
	reply(c, VMM_STATS, seq, &stats, sizeof(stats));
}

static void handle_set_balloon(struct control *c, uint32_t seq)
{
	const struct vmm_set_balloon *set = IPC_PAYLOAD(c->message, struct vmm_set_balloon);
	uint64_t ram_pages = guest_ram_pages(c->vmm->ram);

	if (!set) {
		done(c, seq, -EPROTO, "SET_BALLOON of the wrong size");
	} else if (set->target_pages > ram_pages) {
		done(c, seq, -ERANGE, "a balloon of %llu pages in a guest of %llu",
			(unsigned long long)set->target_pages, (unsigned long long)ram_pages);
	} else {
		virtio_balloon_set_target(c->vmm->balloon, set->target_pages);
		done(c, seq, 0, "%s", "");
	}
}

static void handle_ask_hints(struct control *c, uint32_t seq)
{
	int r = virtio_balloon_request_hints(c->vmm->balloon);

	if (r == -ENOTCONN)
		done(c, seq, r, "the guest has no balloon driver, or not yet");
	else if (r < 0)
		done(c, seq, r, "the guest's balloon driver does not do free page hinting");
	else
		done(c, seq, 0, "%s", "");
}

static void handle_pause(struct control *c, uint32_t seq)
{
	if (c->state == VMM_STATE_PAUSED) {
		done(c, seq, 0, "%s", "");
	} else if (c->state != VMM_STATE_RUNNING) {
		done(c, seq, -EINVAL, "the guest has ended");
	} else if (c->pause_answer_due) {
		done(c, seq, -EALREADY, "a pause is under way");
	} else {
		c->pausing = true;
		c->pause_answer_due = true;
		c->pause_seq = seq;
		vcpus_order(c->vmm->vcpus, VCPUS_PARK);
	}
}

static bool snapshot_needs_stillness(const struct control *c)
{
	return c->snapshot_due || atomic_load(&c->vmm->snapshot.phase) == VMM_SNAPSHOT_WRITING;
}

/*
 * Not when the guest has ended meanwhile: request_stop gave the order to park, which must not be
 * taken back. While a snapshot is written the guest goes on later.
 */
static void resume(struct control *c)
{
	c->pausing = false;
	if (snapshot_needs_stillness(c))
		return;
	pthread_mutex_lock(&c->vmm->stop_lock);
	if (!c->vmm->stop_asked)
		vcpus_order(c->vmm->vcpus, VCPUS_RUN);
	pthread_mutex_unlock(&c->vmm->stop_lock);
}

static void handle_resume(struct control *c, uint32_t seq)
{
	if (c->pausing && c->pause_answer_due) {
		done(c, c->pause_seq, -ECANCELED, "resumed before the pause was complete");
		c->pause_answer_due = false;
	}
	if (c->state == VMM_STATE_PAUSED || c->pausing) {
		resume(c);
		done(c, seq, 0, "%s", "");
		if (c->state == VMM_STATE_PAUSED)
			set_state(c, VMM_STATE_RUNNING, "resumed");
	} else if (c->state == VMM_STATE_RUNNING) {
		done(c, seq, 0, "%s", "");
	} else {
		done(c, seq, -EINVAL, "the guest has ended");
	}
}

static void handle_power_button(struct control *c, uint32_t seq)
{
	int r = acpi_pm_power_button(c->vmm->pm);

	if (r < 0)
		done(c, seq, r,
			"the guest does not listen to its power button (no ACPI driver, or not "
			"yet)");
	else
		done(c, seq, 0, "%s", "");
}

static void handle_attach_pool(struct control *c, uint32_t seq)
{
	if (c->message->header.size != 0 || c->message->n_fds != 1) {
		done(c, seq, -EPROTO, "ATTACH_POOL comes with one descriptor and nothing else");
		return;
	}
	scanner_attach_pool(c->vmm->scanner, TAKE_FD(c->message->fds[0]));
	done(c, seq, 0, "%s", "");
}

static void handle_attach_agent(struct control *c, uint32_t seq)
{
	int type = 0;
	socklen_t size = sizeof(type);

	if (c->message->header.size != 0 || c->message->n_fds != 1) {
		done(c, seq, -EPROTO, "ATTACH_AGENT comes with one descriptor and nothing else");
	} else if (getsockopt(c->message->fds[0], SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
		   type != SOCK_STREAM || fd_set_nonblock(c->message->fds[0], true) < 0) {
		done(c, seq, -ENOTSOCK, "ATTACH_AGENT wants a stream socket");
	} else {
		virtio_console_attach_agent(c->vmm->virtio_console, TAKE_FD(c->message->fds[0]));
		done(c, seq, 0, "%s", "");
	}
}

static void handle_set_scan(struct control *c, uint32_t seq)
{
	const struct vmm_set_scan *set = IPC_PAYLOAD(c->message, struct vmm_set_scan);
	struct scanner_settings settings = {0};

	if (!set) {
		done(c, seq, -EPROTO, "SET_SCAN of the wrong size");
		return;
	}
	switch (set->mode) {
	case VMM_SCAN_OFF:
		settings.mode = SCANNER_OFF;
		break;
	case VMM_SCAN_ZERO_ONLY:
		settings.mode = SCANNER_ZERO_ONLY;
		break;
	case VMM_SCAN_SHARE:
		settings.mode = SCANNER_SHARE;
		break;
	default:
		done(c, seq, -EINVAL, "there is no scan mode %u", set->mode);
		return;
	}
	if (set->max_cpu_bp > CPU_MAX_BP) {
		done(c, seq, -ERANGE, "a scanner is one thread: at most %d basis points, not %u",
			CPU_MAX_BP, set->max_cpu_bp);
		return;
	}
	settings.max_cpu_bp = set->max_cpu_bp;
	settings.target_time_us = set->target_time_us;
	scanner_set(c->vmm->scanner, &settings);
	done(c, seq, 0, "%s", "");
}

static void handle_set_cpus(struct control *c, uint32_t seq)
{
	const struct vmm_set_cpus *set = IPC_PAYLOAD(c->message, struct vmm_set_cpus);
	cpu_set_t cpus;
	int r;

	_Static_assert(VMM_CPUS_MAX <= CPU_SETSIZE, "every CPU of the message fits into a set");
	if (!set) {
		done(c, seq, -EPROTO, "SET_CPUS of the wrong size");
		return;
	}
	CPU_ZERO(&cpus);
	for (int i = 0; i < VMM_CPUS_MAX; i++)
		if (set->mask[i / 64] >> (i % 64) & 1)
			CPU_SET(i, &cpus);
	r = vcpus_set_cpus(c->vmm->vcpus, &cpus, set->exclusive != 0);
	done(c, seq, r, "%s", r < 0 ? strerror(-r) : "");
}

static void snapshot_answer(struct control *c, int result, const char *why)
{
	if (c->snapshot_answer_due)
		done(c, c->snapshot_seq, result, "%s", why);
	c->snapshot_answer_due = false;
}

/* All vCPUs stand still: begins the snapshot that waits for it. */
static void begin_snapshot(struct control *c)
{
	int r;

	if (!c->snapshot_due)
		return;
	c->snapshot_due = false;
	r = vmm_snapshot_begin(&c->vmm->snapshot, TAKE_FD(c->state_fd), TAKE_FD(c->ram_fd));
	if (r == 0)
		return;
	snapshot_answer(c, r, strerror(-r));
	if (!c->pausing)
		resume(c);
}

static void handle_snapshot(struct control *c, uint32_t seq)
{
	if (c->message->header.size != 0 || c->message->n_fds != 2) {
		done(c, seq, -EPROTO, "SNAPSHOT comes with two descriptors and nothing else");
	} else if (c->state != VMM_STATE_PAUSED && c->state != VMM_STATE_RUNNING) {
		done(c, seq, -EINVAL, "the guest has ended");
	} else if (c->snapshot_due || atomic_load(&c->vmm->snapshot.phase) != VMM_SNAPSHOT_NONE) {
		done(c, seq, -EBUSY, "a snapshot is being taken");
	} else {
		c->state_fd = TAKE_FD(c->message->fds[0]);
		c->ram_fd = TAKE_FD(c->message->fds[1]);
		c->snapshot_seq = seq;
		c->snapshot_due = c->snapshot_answer_due = true;
		vcpus_order(c->vmm->vcpus, VCPUS_PARK); /* settle begins it */
	}
}

static void handle_message(struct control *c)
{
	uint32_t seq = c->message->header.seq;

	switch (c->message->header.type) {
	case VMM_GET_STATS:
		handle_get_stats(c, seq);
		break;
	case VMM_SET_BALLOON:
		handle_set_balloon(c, seq);
		break;
	case VMM_ASK_HINTS:
		handle_ask_hints(c, seq);
		break;
	case VMM_PAUSE:
		handle_pause(c, seq);
		break;
	case VMM_RESUME:
		handle_resume(c, seq);
		break;
	case VMM_POWER_BUTTON:
		handle_power_button(c, seq);
		break;
	case VMM_QUIT:
		c->quit = true;
		done(c, seq, 0, "%s", "");
		break;
	case VMM_ATTACH_POOL:
		handle_attach_pool(c, seq);
		break;
	case VMM_ATTACH_AGENT:
		handle_attach_agent(c, seq);
		break;
	case VMM_SET_SCAN:
		handle_set_scan(c, seq);
		break;
	case VMM_SET_CPUS:
		handle_set_cpus(c, seq);
		break;
	case VMM_SNAPSHOT:
		handle_snapshot(c, seq);
		break;
	default:
		done(c, seq, -EOPNOTSUPP, "memd-vmm %s knows no message %u", MEMD_VERSION,
			c->message->header.type);
	}
}

static void handle_connection(struct control *c)
{
	int r = ipc_recv(c->connection_fd, c->message);

	if (r == 0) {
		handle_message(c);
		return;
	}
	if (r == -EAGAIN)
		return;
	if (r < 0)
		log_warning("control connection closed: %s", strerror(-r));
	disconnect(c);
}

static void handle_listener(struct control *c)
{
	int fd = ipc_accept(c->listen_fd);

	if (fd < 0)
		return;
	disconnect(c);
	c->connection_fd = fd;
	if (fd_set_nonblock(fd, true) < 0)
		disconnect(c);
	send_hello(c);
	if (c->state != VMM_STATE_RUNNING)
		send_event(c); /* HELLO has no room for the reason */
}

/* The snapshot's thread has come to another phase. */
static void handle_snapshot_phase(struct control *c)
{
	struct vmm_snapshot *s = &c->vmm->snapshot;
	enum vmm_snapshot_phase phase = atomic_load(&s->phase);
	struct error e;
	int r;

	if (phase < VMM_SNAPSHOT_WRITTEN)
		return;
	if (!c->pausing)
		resume(c);
	if (phase < VMM_SNAPSHOT_ENDED)
		return;
	r = vmm_snapshot_end(s, &e);
	snapshot_answer(c, r, e.text);
}

/* What the vCPUs have come to since: parked for a pause, or for good. */
static void settle(struct control *c)
{
	char reason[VMM_REASON_MAX];
	bool failed;

	if (c->state != VMM_STATE_RUNNING && c->state != VMM_STATE_PAUSED)
		return;
	if (!vcpus_parked(c->vmm->vcpus))
		return;
	begin_snapshot(c);
	if (vmm_stopped(c->vmm, &failed, reason)) {
		if (c->pause_answer_due)
			done(c, c->pause_seq, -EINVAL, "the guest has ended");
		c->pause_answer_due = false;
		set_state(c, failed ? VMM_STATE_FAILED : VMM_STATE_POWERED_OFF, reason);
		if (failed)
			log_error("guest failed: %s", reason);
		else
			log_info("guest ended: %s", reason);
	} else if (c->pausing && c->state == VMM_STATE_RUNNING) {
		if (c->pause_answer_due)
			done(c, c->pause_seq, 0, "%s", "");
		c->pause_answer_due = false;
		set_state(c, VMM_STATE_PAUSED, "paused");
	}
}

static bool ended(const struct control *c)
{
	return c->quit || c->state == VMM_STATE_POWERED_OFF ||
	       (c->state == VMM_STATE_FAILED && c->listen_fd < 0);
}

static void wait_once(struct control *c)
{
	struct pollfd fds[] = {
		{.fd = c->vmm->stop_fd, .events = POLLIN},
		{.fd = c->vmm->vcpus->parked_fd, .events = POLLIN},
		{.fd = c->listen_fd, .events = POLLIN},
		{.fd = c->connection_fd, .events = POLLIN},
		{.fd = c->vmm->snapshot.event_fd, .events = POLLIN},
	};
	eventfd_t count;

	if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		return;
	if (fds[0].revents)
		eventfd_read(fds[0].fd, &count);
	if (fds[1].revents)
		eventfd_read(fds[1].fd, &count);
	if (fds[4].revents) {
		eventfd_read(fds[4].fd, &count);
		handle_snapshot_phase(c);
	}
	settle(c);
	if (fds[3].revents)
		handle_connection(c);
	if (fds[2].revents)
		handle_listener(c);
	settle(c); /* what was asked for may be so already */
}

int control_run(struct vmm *vmm, int listen_fd)
{
	struct control c = {
		.vmm = vmm,
		.listen_fd = listen_fd,
		.connection_fd = -1,
		.state_fd = -1,
		.ram_fd = -1,
		.message = ipc_message_new(),
		.state = VMM_STATE_RUNNING,
	};

	if (!c.message) {
		log_error("out of memory");
		return EXIT_STATUS_FAILED;
	}
	(void)setpriority(PRIO_PROCESS, 0, NICE_LEVEL); /* without the right to it: as all */
	resume(&c);
	while (!ended(&c))
		wait_once(&c);
	ipc_message_free(c.message);
	disconnect(&c);
	cleanup_closep(&c.state_fd);
	cleanup_closep(&c.ram_fd);
	cleanup_closep(&c.listen_fd);
	return c.state == VMM_STATE_FAILED ? EXIT_STATUS_FAILED : EXIT_STATUS_DONE;
}
