/*
 * Construction, start, adoption and end of a guest of memd-vmm. What is said to a running one is in
 * guest-command.c, samples in guest-sample.c, what holds for all providers in guest-verbs.c. Never blocks, and never touches guest memory.
 */
#include "memd/guest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/log.h"
#include "memd/base/text.h"
#include "memd/base/units.h"
#include "memd/guest-agent.h"
#include "memd/guest-devices.h"
#include "memd/guest-internal.h"
#include "memd/template.h"

#define START_TIMEOUT_US (60 * US_PER_S)
#define QUIT_TIMEOUT_US	 (3 * US_PER_S)
#define CONSOLE_MAX	 "4194304"

const char *guest_state_name(enum guest_state state)
{
	static const char *const names[] = {
		[GUEST_STARTING] = "starting",
		[GUEST_RUNNING] = "running",
		[GUEST_PAUSED] = "paused",
		[GUEST_POWERED_OFF] = "powered-off",
		[GUEST_FAILED] = "failed",
	};

	return names[state];
}

static char *runtime_path(const struct guest *g, const char *suffix)
{
	char *path;

	return asprintf(&path, "%s/guest/%s.%s", g->environment->runtime_dir, g->name, suffix) < 0
		       ? NULL
		       : path;
}

int guest_new_of(const struct guest_environment *environment, const struct guest_ops *ops,
	uint64_t id, const char *name, struct guest_config *config, struct guest **ret)
{
	_cleanup_(guest_freep) struct guest *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->environment = environment;
	g->ops = ops;
	g->id = id;
	g->child = (struct child)CHILD_INIT;
	g->state = GUEST_STARTING;
	snprintf(g->name, sizeof(g->name), "%s", name);
	g->target_path = runtime_path(g, "target");
	if (!g->target_path)
		return -ENOMEM;
	g->placement.mode = (enum placement_mode)config->cpu_placement;
	g->min_bytes = guest_config_min_bytes(config);
	g->max_bytes = guest_config_max_bytes(config);
	g->config = *config;
	*config = (struct guest_config){0};
	*ret = TAKE_PTR(g);
	return 0;
}

int guest_new(const struct guest_environment *environment, uint64_t id, const char *name,
	struct guest_config *config, struct guest **ret)
{
	_cleanup_(guest_freep) struct guest *g = NULL;
	_cleanup_free_ char *devices = NULL;
	int r;

	r = guest_devices_text(config, &devices, NULL);
	if (r == 0)
		r = guest_new_of(environment, &guest_vmm_ops, id, name, config, &g);
	if (r < 0)
		return r;
	g->devices = TAKE_PTR(devices);
	g->socket_path = runtime_path(g, "sock");
	g->settings_path = runtime_path(g, "guest");
	g->pid_path = runtime_path(g, "pid");
	g->console_path =
		g->config.console ? strdup(g->config.console) : runtime_path(g, "console");
	if (!g->socket_path || !g->settings_path || !g->pid_path || !g->console_path)
		return -ENOMEM;
	if (g->config.snapshot) /* the balloon's target comes with it: unknown, so sent again */
		g->balloon_target_bytes = UINT64_MAX;
	*ret = TAKE_PTR(g);
	return 0;
}

void guest_free(struct guest *g)
{
	struct refusal refusal = {.kind = REFUSAL_NOT_RUNNING};

	if (!g)
		return;
	error_set(&refusal.error, -ECANCELED, "guest %s is gone", g->name);
	guest_disconnect(g);
	guest_agent_free(g);
	guest_answer_waiters(&g->start_waiters, -ECANCELED, &refusal);
	guest_answer_waiters(&g->stop_waiters, 0, NULL);
	sd_event_source_disable_unref(g->timer);
	child_done(&g->child);
	sample_process_unref(g->process);
	kernel_sample_done(&g->sample.kernel);
	reclaim_done(&g->reclaim);
	template_release(g->template, g);
	wss_done(&g->wss);
	history_done(&g->history);
	cgroup_free(g->cgroup);
	guest_config_done(&g->config);
	free(g->bus);
	free(g->console_path);
	free(g->devices);
	free(g->socket_path);
	free(g->settings_path);
	free(g->target_path);
	free(g->pid_path);
	free(g);
}

void guest_set_state(struct guest *g, enum guest_state state, const char *reason)
{
	enum guest_state old = g->state;

	if (old == state && strcmp(g->state_reason, reason) == 0)
		return;
	g->state = state;
	snprintf(g->state_reason, sizeof(g->state_reason), "%s", reason);
	text_clean(g->state_reason); /* it may come from memd-vmm, and goes to the bus */
	log_info("guest %s: %s -> %s%s%s", g->name, guest_state_name(old), guest_state_name(state),
		reason[0] ? ": " : "", reason);
	g->environment->state_changed(g, old);
}

int guest_add_waiter(struct guest_waiter **list, guest_done_fn done, void *context)
{
	struct guest_waiter *w = malloc(sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct guest_waiter){.next = *list, .done = done, .context = context};
	*list = w;
	return 0;
}

void guest_answer_waiters(struct guest_waiter **list, int result, const struct refusal *refusal)
{
	struct guest_waiter *w;

	while ((w = *list)) {
		*list = w->next;
		w->done(w->context, result, refusal);
		free(w);
	}
}

static int set_timer(struct guest *g, uint64_t us, sd_event_time_handler_t handler)
{
	g->timer = sd_event_source_disable_unref(g->timer);
	return sd_event_add_time_relative(
		g->environment->event, &g->timer, CLOCK_MONOTONIC, us, 10000, handler, g);
}

static int on_start_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct guest *g = userdata;

	/* One that ran before this memd did is not ours to judge: somebody may have stopped it. */
	if (g->child.adopted) {
		log_warning("guest %s: its memd-vmm (process %d) does not say anything; left alone",
			g->name, (int)g->child.pid);
		return 0;
	}

	snprintf(g->child.error_text, sizeof(g->child.error_text),
		"memd-vmm did not start the guest within %d s", (int)(START_TIMEOUT_US / US_PER_S));
	child_signal(&g->child, SIGKILL);
	return 0;
}

/* Whoever waits for the start hears that it failed; else the reason is in the state. */
static void tell_start_failed(struct guest *g, const char *reason)
{
	struct refusal refusal = {
		.kind = strstr(reason, "/dev/kvm") ? REFUSAL_NO_KVM : REFUSAL_START_FAILED,
	};

	error_set(&refusal.error, -EIO, "guest %s did not start: %s", g->name, reason);
	guest_answer_waiters(&g->start_waiters, -EIO, &refusal);
}

static void remove_files(struct guest *g)
{
	unlink(g->socket_path);
	unlink(g->settings_path);
	unlink(g->target_path);
	if (g->cgroup && cgroup_remove(g->cgroup) < 0)
		log_warning("guest %s: cannot remove its cgroup", g->name);
}

void guest_remove_traces(struct guest *g)
{
	if (!g->cgroup && g->environment->cgroup_mode != CGROUP_NONE)
		(void)cgroup_open(g->environment->cgroup_mode, g->environment->cgroup, g->name,
			&g->cgroup, NULL);
	remove_files(g);
	unlink(g->pid_path);
}

static void on_ended(void *context, int code, const char *reason)
{
	struct guest *g = context;
	enum guest_state state = GUEST_FAILED;
	char why[VMM_REASON_MAX];

	g->timer = sd_event_source_disable_unref(g->timer);
	guest_disconnect(g);
	if (g->stopping == GUEST_IS_KILLED) {
		state = GUEST_POWERED_OFF;
		reason = "did not stop in time and was killed";
	} else if (g->stopping != GUEST_STAYS || code == 0 || g->state == GUEST_POWERED_OFF) {
		state = GUEST_POWERED_OFF;
		reason = g->stopping != GUEST_STAYS ? "stopped" : "the guest powered off";
	}
	if (g->state == state && g->state_reason[0])
		reason = g->state_reason; /* what was said first is the root */
	snprintf(why, sizeof(why), "%s", reason);
	if (g->state == GUEST_STARTING)
		tell_start_failed(g, why);
	remove_files(g);
	guest_set_state(g, state, why);
	g->environment->gone(g);
}

static void on_hello(void *context, const struct vmm_hello *hello)
{
	struct guest *g = context;

	if (strcmp(hello->name, g->name) != 0 || hello->ram_bytes != g->config.memory_bytes ||
		sample_process_new(g->child.pid, g->child.pidfd, hello->ranges, hello->n_ranges,
			&g->process) < 0 ||
		reclaim_init(&g->reclaim, g->process->n_regions) < 0) {
		log_error("guest %s: memd-vmm introduced itself as %s with %" PRIu64
			  " bytes; ending it",
			g->name, hello->name, hello->ram_bytes);
		snprintf(g->child.error_text, sizeof(g->child.error_text),
			"memd-vmm does not hold the guest it was started for");
		child_signal(&g->child, SIGKILL);
		return;
	}
	g->greeted = true;
	if (g->child.adopted)
		g->timer = sd_event_source_disable_unref(g->timer);
	g->cpus_sent = false;
	g->environment->connected(g);
	guest_enter_state(g, (enum guest_state)hello->state, "");
}

/* memd-vmm says, in HELLO or later, which state it is in. */
void guest_enter_state(struct guest *g, enum guest_state state, const char *reason)
{
	if (state != GUEST_STARTING && g->start_waiters) {
		g->timer = sd_event_source_disable_unref(g->timer);
		if (state == GUEST_FAILED)
			tell_start_failed(g, reason);
		else
			guest_answer_waiters(&g->start_waiters, 0, NULL);
	}
	if (state == GUEST_PAUSED) {
		if (g->child.adopted && !g->paused_by_host)
			g->paused_by_operator = true; /* of whom nobody knows any more */
		reason = g->pause_reason;
	} else if (state == GUEST_RUNNING) {
		reason = "";
	}
	guest_set_state(g, state, reason);
}

static void on_event(void *context, const struct vmm_event *event)
{
	guest_enter_state(context, (enum guest_state)event->state, event->reason);
}

static int on_quit_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct guest *g = userdata;

	if (g->stopping != GUEST_STAYS)
		g->stopping = GUEST_IS_KILLED;
	child_signal(&g->child, SIGKILL);
	return 0;
}

/* The connection is over: the process is expected to end, and is ended when it does not. */
static void on_closed(void *context, int error)
{
	struct guest *g = context;

	guest_disconnect(g);
	if (error == -EPROTONOSUPPORT && g->child.adopted) {
		g->timer = sd_event_source_disable_unref(g->timer);
		log_warning("guest %s: its memd-vmm is of a version that this memd does not speak "
			    "with; "
			    "it runs on as it is, `memctl stop %s` ends it",
			g->name, g->name);
		return;
	}
	if (error)
		log_warning("guest %s: memd-vmm broke the protocol: %s", g->name, strerror(-error));
	if (error || set_timer(g, QUIT_TIMEOUT_US, on_quit_timeout) < 0)
		child_signal(&g->child, SIGKILL);
}

static int connect_vmm(struct guest *g, struct error *e)
{
	static const struct vmm_link_ops ops = {
		.hello = on_hello,
		.event = on_event,
		.closed = on_closed,
	};
	int r;

	r = vmm_link_connect(g->environment->event, g->socket_path, &ops, g, &g->link);
	if (r < 0)
		return error_set(e, r, "cannot connect to %s: %s", g->socket_path, strerror(-r));
	r = set_timer(g, START_TIMEOUT_US, on_start_timeout);
	return r < 0 ? r : 0;
}

void guest_disconnect(struct guest *g)
{
	bool sampling = g->sample.phase != GUEST_SAMPLE_IDLE;

	guest_sample_cancel(g);
	vmm_link_free(g->link);
	g->link = NULL;
	g->attaching = g->balloon_sending = false;
	guest_fail_commands(g);
	guest_agent_disconnect(g);
	if (sampling)
		g->environment->sampled(g);
}

static int make_cgroup(struct guest *g, int *ret_procs_fd, struct error *e)
{
	int r;

	if (g->environment->cgroup_mode == CGROUP_NONE)
		return 0;
	r = cgroup_new(g->environment->cgroup_mode, g->environment->cgroup, g->name, &g->cgroup, e);
	if (r < 0)
		return r;
	r = cgroup_open_procs(g->cgroup);
	if (r < 0)
		return error_set(
			e, r, "cannot open cgroup.procs of guest %s: %s", g->name, strerror(-r));
	*ret_procs_fd = r;
	return 0;
}

#define ARGUMENTS_MAX (32 + 2 * GUEST_DEVICES_MAX)

struct arguments {
	char *argv[ARGUMENTS_MAX + 1];
	size_t n;
	char memory[24];
	char vcpus[12];
	struct guest_devices devices;
};

static void add(struct arguments *a, const char *option, const char *value)
{
	/* execve does not write to them. */
	a->argv[a->n++] = (char *)(uintptr_t)option;
	if (value)
		a->argv[a->n++] = (char *)(uintptr_t)value;
}

static int make_arguments(const struct guest *g, struct arguments *a, struct error *e)
{
	int r;

	*a = (struct arguments){0};
	r = guest_devices_init(&a->devices, &g->config, e);
	if (r < 0)
		return r;
	snprintf(a->memory, sizeof(a->memory), "%" PRIu64, g->config.memory_bytes);
	snprintf(a->vcpus, sizeof(a->vcpus), "%" PRIu32, g->config.n_vcpus);
	add(a, g->environment->vmm_path, NULL);
	add(a, "--error-fd", "4"); /* first: what is wrong with the others is said there */
	add(a, "--name", g->name);
	add(a, "--memory", a->memory);
	add(a, "--vcpus", a->vcpus);
	if (g->config.snapshot) {
		add(a, "--snapshot", g->config.snapshot);
		add(a, "--template-fd", "5");
	} else {
		add(a, "--kernel", g->config.kernel);
		if (g->config.initrd)
			add(a, "--initrd", g->config.initrd);
		if (g->config.command_line)
			add(a, "--cmdline", g->config.command_line);
		if (g->config.cpu_features)
			add(a, "--cpu-features", g->config.cpu_features);
	}
	if (g->config.memory_locked)
		add(a, "--memory-locked", NULL);
	add(a, "--console", g->console_path);
	add(a, "--console-max", CONSOLE_MAX);
	for (size_t i = 0; i < a->devices.n; i++)
		add(a, a->devices.list[i].option, a->devices.list[i].value);
	add(a, "--listen-fd", "3");
	return 0;
}

static int launch(struct guest *g, struct error *e)
{
	_cleanup_close_ int socket_fd = -1;
	_cleanup_close_ int procs_fd = -1;
	struct spawn_request request = {.keep_error_fd = 1, .own_pid_namespace = 1};
	struct arguments arguments;
	int r;

	socket_fd = ipc_listen(g->socket_path, 0600);
	if (socket_fd < 0)
		return error_set(e, socket_fd, "cannot listen on %s: %s", g->socket_path,
			strerror(-socket_fd));
	r = make_cgroup(g, &procs_fd, e);
	if (r < 0)
		return r;
	r = guest_save_settings(g);
	if (r < 0)
		return error_set(e, r, "cannot write %s: %s", g->settings_path, strerror(-r));
	r = make_arguments(g, &arguments, e);
	if (r < 0)
		return r;
	request.argv = arguments.argv;
	request.socket_fd = socket_fd;
	request.procs_fd = procs_fd;
	request.template_fd = g->template ? template_fd(g->template) : 0;
	r = child_spawn(&g->child, g->environment->event, &request, g->pid_path, on_ended, g, e);
	guest_devices_done(&arguments.devices);
	if (r < 0)
		return r;
	r = connect_vmm(g, e);
	if (r < 0) {
		child_signal(&g->child, SIGKILL);
		child_abandon(&g->child);
	}
	return r;
}

/* The end of a guest that never had a process. */
static void fail_start(struct guest *g, const char *reason)
{
	tell_start_failed(g, reason);
	remove_files(g);
	guest_set_state(g, GUEST_FAILED, reason);
	g->environment->gone(g);
}

static void on_template_ready(void *context, int result, const struct error *why)
{
	struct guest *g = context;
	struct error e = {0};

	if (result < 0) {
		g->template = NULL;
		e = *why;
		error_prefix(&e, "snapshot %s/ram", g->config.snapshot);
	} else if (g->stopping != GUEST_STAYS) {
		result = error_set(&e, -ECANCELED, "it was stopped before its snapshot was loaded");
	} else {
		result = launch(g, &e);
	}
	if (result < 0)
		fail_start(g, e.text[0] ? e.text : strerror(-result));
}

int guest_launch(struct guest *g, struct refusal *refusal)
{
	int r = TEMPLATE_LOADED;

	if (g->config.snapshot)
		r = template_acquire(g->environment->templates, g->config.snapshot,
			g->config.memory_bytes, on_template_ready, g, &g->template,
			&refusal->error);
	if (r == 0)
		return 0; /* launched when it is loaded */
	if (r > 0)
		r = launch(g, &refusal->error);
	if (r < 0) {
		refusal->kind = REFUSAL_START_FAILED;
		error_set(&refusal->error, r, "%s", strerror(-r));
		remove_files(g);
	}
	return r;
}

int guest_adopt(struct guest *g, struct error *e)
{
	int r;

	r = child_adopt(&g->child, g->environment->event, g->pid_path, on_ended, g, e);
	if (r < 0)
		return r;
	if (g->environment->cgroup_mode != CGROUP_NONE) {
		r = cgroup_open(g->environment->cgroup_mode, g->environment->cgroup, g->name,
			&g->cgroup, e);
		if (r < 0)
			log_warning("guest %s: runs without its memory cgroup", g->name);
	}
	guest_load_target(g);
	return connect_vmm(g, e);
}

int guest_wait_started(struct guest *g, guest_done_fn done, void *context)
{
	if (g->state != GUEST_STARTING) {
		done(context, 0, NULL);
		return 0;
	}
	return guest_add_waiter(&g->start_waiters, done, context);
}

/* At once, by whatever works. */
static void quit(struct guest *g)
{
	g->stopping = GUEST_STOPS_NOW;
	if (set_timer(g, QUIT_TIMEOUT_US, on_quit_timeout) < 0 || !guest_is_up(g) ||
		guest_send_quit(g) < 0)
		child_signal(&g->child, SIGKILL);
}

static int on_stop_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct guest *g = userdata;

	log_notice("guest %s: did not power off within %d s, ending it", g->name,
		(int)(GUEST_STOP_TIMEOUT_US / US_PER_S));
	quit(g);
	return 0;
}

/* A guest that cannot hear the button would only run into the timeout. */
static void on_power_button(void *context, int result, const struct refusal *refusal)
{
	struct guest *g = context;

	if (result >= 0 || g->stopping != GUEST_STOPS_ORDERLY)
		return;
	log_notice("guest %s: cannot power off by itself, ending it: %s", g->name,
		refusal->error.text);
	quit(g);
}

int guest_vmm_stop(struct guest *g, enum guest_stop_how how, guest_done_fn done, void *context)
{
	struct refusal refusal = {0};

	if (done && guest_add_waiter(&g->stop_waiters, done, context) < 0)
		return -ENOMEM;
	if (g->stopping >= GUEST_STOPS_NOW)
		return 0;
	if (how == GUEST_STOP_FORCE || !guest_is_up(g) || g->state == GUEST_FAILED) {
		quit(g);
		return 0;
	}
	if (g->stopping == GUEST_STOPS_ORDERLY)
		return 0;
	g->stopping = GUEST_STOPS_ORDERLY;
	if (g->state == GUEST_PAUSED) /* it has to run to power off */
		guest_unpause(g);
	if (set_timer(g, GUEST_STOP_TIMEOUT_US, on_stop_timeout) < 0 ||
		guest_power_button(g, on_power_button, g, &refusal) < 0)
		quit(g);
	return 0;
}
