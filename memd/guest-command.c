/* What is said to a running memd-vmm, and what its answers change. */
#include <string.h>
#include <sys/socket.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/units.h"
#include "memd/guest-internal.h"

#define COMMAND_TIMEOUT_US  (5 * US_PER_S)
/* A terabyte to a slow disk. */
#define SNAPSHOT_TIMEOUT_US (3600 * US_PER_S)
#define ATTACH_AGAIN_US	    (5 * US_PER_S)

struct guest_command {
	struct guest_command *next;
	struct guest *guest;
	enum vmm_message_type type;
	guest_done_fn done; /* NULL: nobody waits */
	void *context;
};

static void unlink_command(struct guest_command *command)
{
	struct guest_command **p = &command->guest->commands;

	while (*p != command)
		p = &(*p)->next;
	*p = command->next;
}

static void finish(struct guest_command *command, int result, const struct error *why)
{
	struct refusal refusal = {.kind = REFUSAL_FAILED};

	if (command->done) {
		if (why)
			refusal.error = *why;
		command->done(command->context, result, &refusal);
	}
	free(command);
}

void guest_fail_commands(struct guest *g)
{
	struct guest_command *command;
	struct error why = {0};

	error_set(&why, -ECONNRESET, "guest %s ended", g->name);
	while ((command = g->commands)) {
		g->commands = command->next;
		finish(command, -ECONNRESET, &why);
	}
}

static void apply(struct guest *g, enum vmm_message_type type, int result)
{
	switch (type) {
	case VMM_PAUSE:
		if (result == 0)
			guest_enter_state(g, GUEST_PAUSED, "");
		break;
	case VMM_RESUME:
		if (result == 0 && g->state == GUEST_PAUSED)
			guest_enter_state(g, GUEST_RUNNING, "");
		break;
	case VMM_ATTACH_POOL:
		g->attaching = false;
		break;
	case VMM_SET_BALLOON:
		guest_balloon_told(g, result);
		break;
	default:
		break;
	}
}

static void on_done(void *context, int error, const struct ipc_message *reply)
{
	struct guest_command *command = context;
	struct guest *g = command->guest;
	struct error why = {0};
	int result;

	unlink_command(command);
	result = vmm_link_parse_done(error, reply, &why);
	error_prefix(&why, "guest %s", g->name);
	if (result < 0 && !command->done)
		log_warning("%s (message %d)", why.text, (int)command->type);
	apply(g, command->type, result);
	finish(command, result, &why);
}

/* Descriptors stay the caller's. Negative errno: done is not called. */
static int send_with_fds(struct guest *g, enum vmm_message_type type, const void *payload,
	size_t size, const int *fds, size_t n_fds, uint64_t timeout_us, guest_done_fn done,
	void *context)
{
	struct guest_command *command;
	int r;

	if (!guest_is_up(g))
		return -ENOTCONN;
	command = malloc(sizeof(*command));
	if (!command)
		return -ENOMEM;
	*command = (struct guest_command){
		.guest = g,
		.type = type,
		.done = done,
		.context = context,
	};
	r = vmm_link_command(
		g->link, type, payload, size, fds, n_fds, timeout_us, on_done, command);
	if (r < 0) {
		free(command);
		return r;
	}
	command->next = g->commands;
	g->commands = command;
	return 0;
}

static int tell(struct guest *g, enum vmm_message_type type, const void *payload, size_t size,
	guest_done_fn done, void *context)
{
	return send_with_fds(g, type, payload, size, NULL, 0, COMMAND_TIMEOUT_US, done, context);
}

static int vmm_pause(struct guest *g, guest_done_fn done, void *context)
{
	return tell(g, VMM_PAUSE, NULL, 0, done, context);
}

static int vmm_resume(struct guest *g, guest_done_fn done, void *context)
{
	return tell(g, VMM_RESUME, NULL, 0, done, context);
}

void guest_unpause(struct guest *g)
{
	g->paused_by_host = g->paused_by_operator = false;
	(void)vmm_resume(g, NULL, NULL);
}

static int vmm_power_button(struct guest *g, guest_done_fn done, void *context)
{
	return tell(g, VMM_POWER_BUTTON, NULL, 0, done, context);
}

static int vmm_snapshot(struct guest *g, const int fds[2], guest_done_fn done, void *context)
{
	return send_with_fds(g, VMM_SNAPSHOT, NULL, 0, fds, 2, SNAPSHOT_TIMEOUT_US, done, context);
}

static int vmm_ask_hints(struct guest *g, guest_done_fn done, void *context)
{
	return tell(g, VMM_ASK_HINTS, NULL, 0, done, context);
}

static int vmm_open_agent(struct guest *g, guest_done_fn done, void *context)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	ours = fds[0];
	theirs = fds[1];
	r = send_with_fds(
		g, VMM_ATTACH_AGENT, NULL, 0, &theirs, 1, COMMAND_TIMEOUT_US, done, context);
	return r < 0 ? r : TAKE_FD(ours);
}

int guest_send_quit(struct guest *g)
{
	return tell(g, VMM_QUIT, NULL, 0, NULL, NULL);
}

static int vmm_set_balloon(struct guest *g, uint64_t bytes)
{
	struct vmm_set_balloon balloon = {.target_pages = bytes / PAGE_BYTES};

	return tell(g, VMM_SET_BALLOON, &balloon, sizeof(balloon), NULL, NULL);
}

static int vmm_set_scan(struct guest *g, const struct vmm_set_scan *scan)
{
	return tell(g, VMM_SET_SCAN, scan, sizeof(*scan), NULL, NULL);
}

static int vmm_set_cpus(struct guest *g, const struct vmm_set_cpus *cpus)
{
	return tell(g, VMM_SET_CPUS, cpus, sizeof(*cpus), NULL, NULL);
}

static bool vmm_is_up(const struct guest *g)
{
	return g->link && g->greeted;
}

const struct guest_ops guest_vmm_ops = {
	.provider = "memd",
	.is_up = vmm_is_up,
	.sample_begin = guest_vmm_sample_begin,
	.sample_cancel = guest_vmm_sample_cancel,
	.set_balloon = vmm_set_balloon,
	.set_scan = vmm_set_scan,
	.set_cpus = vmm_set_cpus,
	.pause = vmm_pause,
	.resume = vmm_resume,
	.power_button = vmm_power_button,
	.ask_hints = vmm_ask_hints,
	.snapshot = vmm_snapshot,
	.stop = guest_vmm_stop,
	.open_agent = vmm_open_agent,
	.cannot = "",
};

void guest_attach_pool(struct guest *g)
{
	_cleanup_close_ int fd = -1;

	if (!g->group || g->attaching || !guest_is_up(g) ||
		clock_monotonic_us() < g->attach_again_us)
		return;
	fd = pool_group_connect(g->group);
	if (fd < 0)
		return;
	g->attaching = send_with_fds(g, VMM_ATTACH_POOL, NULL, 0, &fd, 1, COMMAND_TIMEOUT_US, NULL,
			       NULL) == 0;
	g->attach_again_us = clock_monotonic_us() + ATTACH_AGAIN_US;
}
