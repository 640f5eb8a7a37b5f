/*
 * Construction and registry. What is decided about memory is in tick.c and wall.c; what is said on
 * the bus in bus.c. Never logs what a library returned twice.
 */
#include "memd/manager.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/log.h"
#include "memd/base/units.h"
#include "memd/bus.h"
#include "memd/evict.h"
#include "memd/guest-internal.h"
#include "memd/libvirt.h"
#include "memd/metrics-server.h"
#include "memd/template.h"

/* memd decides for everybody: it may not wait behind the guests' vCPUs for its turn. */
#define NICE_LEVEL (-10)

struct guest *manager_find_guest(const struct manager *m, const char *name)
{
	for (size_t i = 0; i < m->n_guests; i++)
		if (strcmp(m->guests[i]->name, name) == 0)
			return m->guests[i];
	return NULL;
}

static void on_group_sampled(void *context)
{
	tick_arrived(context);
}

/* "12,13": every process that may map pages of the group. */
static char *list_members(const struct manager *m, const struct pool_group *group)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	const char *comma = "";

	if (!f)
		return NULL;
	for (size_t i = 0; i < m->n_guests; i++)
		if (m->guests[i]->group == group && m->guests[i]->child.pid) {
			fprintf(f, "%s%d", comma, (int)m->guests[i]->child.pid);
			comma = ",";
		}
	for (size_t i = 0; i < m->n_strays; i++) {
		fprintf(f, "%s%d", comma, (int)m->strays[i]);
		comma = ",";
	}
	return fclose(f) == 0 ? TAKE_PTR(text) : NULL;
}

int manager_start_pool(struct manager *m, struct pool_group *group, struct error *e)
{
	_cleanup_free_ char *members = NULL;

	if (pool_group_is_up(group))
		return 0;
	members = list_members(m, group);
	return members ? pool_group_start(group, members, e) : -ENOMEM;
}

/* The group that the guest belongs to, made when it is the first. */
static int join_group(struct manager *m, struct guest *g)
{
	_cleanup_free_ char *own = NULL;
	const char *name = g->config.share_group;
	struct pool_group *group;
	int r;

	if (!name) {
		if (asprintf(&own, ".%s", g->name) < 0) {
			own = NULL;
			return -ENOMEM;
		}
		name = own;
	}
	for (group = m->groups; group; group = group->next)
		if (strcmp(group->name, name) == 0)
			break;
	if (!group) {
		r = pool_group_new(m->event, m->sampler, name, m->pool_path, m->options.runtime_dir,
			on_group_sampled, m, &group);
		if (r < 0)
			return r;
		group->next = m->groups;
		m->groups = group;
	}
	group->n_guests++;
	g->group = group;
	return 0;
}

static void leave_group(struct manager *m, struct guest *g, enum pool_group_end end)
{
	struct pool_group *group = g->group, **p = &m->groups;

	g->group = NULL;
	if (!group || --group->n_guests > 0)
		return;
	while (*p != group)
		p = &(*p)->next;
	*p = group->next;
	pool_group_free(group, end);
}

static int add_guest(struct manager *m, struct guest *g)
{
	struct guest **guests = reallocarray(m->guests, m->n_guests + 1, sizeof(struct guest *));

	if (!guests)
		return -ENOMEM;
	m->guests = guests;
	m->guests[m->n_guests++] = g;
	m->figures.n_guests = (uint32_t)m->n_guests;
	return 0;
}

uint64_t manager_next_id(struct manager *m)
{
	return ++m->last_id;
}

int manager_add_guest(struct manager *m, struct guest *g)
{
	int r = add_guest(m, g);

	if (r == 0)
		bus_guest_added(m->bus, g);
	return r;
}

/* Out of the registry and freed. */
static void remove_guest(struct manager *m, struct guest *g, enum pool_group_end end)
{
	for (size_t i = 0; i < m->n_guests; i++) {
		if (m->guests[i] != g)
			continue;
		m->n_guests--;
		memmove(&m->guests[i], &m->guests[i + 1],
			(m->n_guests - i) * sizeof(struct guest *));
		break;
	}
	m->figures.n_guests = (uint32_t)m->n_guests;
	evict_cancel(g);
	sampling_cancel(g);
	leave_group(m, g, end);
	guest_free(g);
}

static void on_state_changed(struct guest *g, enum guest_state old)
{
	struct manager *m = g->environment->context;

	sampling_state_changed(g, old);
	bus_guest_state_changed(m->bus, g, old);
}

static void on_connected(struct guest *g)
{
	struct manager *m = g->environment->context;

	tick_send_scan(m, g);
}

static void on_sampled(struct guest *g)
{
	tick_arrived(g->environment->context);
}

/* Ends the loop when our guests have stopped and what was changed of others is put back. */
static void exit_when_alone(struct manager *m)
{
	if (!m->exiting || m->libvirt_leaving)
		return;
	for (size_t i = 0; !m->config.keep_guests && i < m->n_guests; i++)
		if (m->guests[i]->ops->stop)
			return;
	sd_event_exit(m->event, 0);
}

static void on_libvirt_left(void *context)
{
	struct manager *m = context;

	m->libvirt_leaving = false;
	exit_when_alone(m);
}

static void on_gone(struct guest *g)
{
	struct manager *m = g->environment->context;

	bus_guest_removed(m->bus, g);
	remove_guest(m, g, POOL_GROUP_STOP);
	tick_arrived(m);
	exit_when_alone(m);
}

int manager_read_settings(struct manager *m, const char *name, const struct config_pair *settings,
	size_t n_settings, struct guest_config *ret, struct refusal *refusal)
{
	_cleanup_free_ char *path = NULL;
	int r;

	refusal->kind = REFUSAL_BAD_SETTING;
	if (asprintf(&path, "%s/%s.guest", m->options.guests_dir, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = access(path, F_OK) == 0 ? guest_config_load(path, ret, &refusal->error)
	    : n_settings > 0	    ? guest_config_init(ret)
				    : -ENOENT;
	if (r == -ENOENT)
		return refusal_set(refusal, REFUSAL_NO_SUCH_GUEST, r,
			"there is no %s; write it, or give at least Memory= and Kernel=", path);
	for (size_t i = 0; r == 0 && i < n_settings; i++)
		r = guest_config_set(ret, settings[i].key, settings[i].value, &refusal->error);
	if (r == 0 && ret->snapshot)
		r = guest_snapshot_complete(ret, &refusal->error);
	if (r == 0)
		r = guest_config_check(ret, &refusal->error);
	return r == 0 ? manager_check_group(m, ret, &refusal->error) : r;
}

static int start_guest(struct manager *m, const char *name, struct guest_config *config,
	struct guest **ret, struct refusal *refusal)
{
	struct guest *g;
	int r;

	r = guest_new(&m->environment, ++m->last_id, name, config, &g);
	if (r < 0)
		return r;
	r = join_group(m, g);
	if (r == 0 && m->config.share_mode == CONFIG_SHARE_SHARE)
		r = manager_start_pool(m, g->group, &refusal->error);
	if (r == 0)
		r = guest_launch(g, refusal);
	if (r == 0) {
		r = add_guest(m, g);
		if (r < 0)
			child_signal(&g->child, SIGKILL);
	}
	if (r < 0) {
		leave_group(m, g, POOL_GROUP_STOP);
		guest_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

int manager_start_guest(struct manager *m, const char *name, const struct config_pair *settings,
	size_t n_settings, guest_done_fn done, void *context, struct guest **ret_guest,
	struct refusal *refusal)
{
	struct guest_config config = {0};
	struct guest *g = NULL;
	int r;

	refusal->kind = REFUSAL_BAD_SETTING;
	if (!guest_name_valid(name, &refusal->error))
		return -EINVAL;
	if (m->exiting)
		return refusal_set(refusal, REFUSAL_BUSY, -ESHUTDOWN, "memd is stopping");
	if (manager_find_guest(m, name))
		return refusal_set(refusal, REFUSAL_GUEST_EXISTS, -EEXIST,
			"guest %s exists, run by %s; it has to end first", name,
			manager_find_guest(m, name)->ops->provider);
	r = manager_read_settings(m, name, settings, n_settings, &config, refusal);
	if (r == 0)
		r = admit_guest(m, &config, refusal);
	if (r == 0) {
		refusal->kind = REFUSAL_START_FAILED;
		r = start_guest(m, name, &config, &g, refusal);
	}
	guest_config_done(&config);
	if (r < 0)
		return error_set(
			&refusal->error, r, "cannot start guest %s: %s", name, strerror(-r));
	log_notice("guest %s: starting as process %d: %s, floor %s, %u vCPUs", name,
		(int)g->child.pid, UNITS_BYTES(g->config.memory_bytes), UNITS_BYTES(g->min_bytes),
		g->config.n_vcpus);
	bus_guest_added(m->bus, g);
	r = guest_wait_started(g, done, context);
	if (r < 0)
		return r;
	*ret_guest = g;
	return 0;
}

int manager_set_target(struct manager *m, struct guest *g, uint64_t bytes, struct refusal *refusal)
{
	if (bytes && bytes < g->min_bytes)
		return refusal_set(refusal, REFUSAL_BELOW_FLOOR, -ERANGE,
			"%s is below the floor of guest %s (MemoryMin=%s)", UNITS_BYTES(bytes),
			g->name, UNITS_BYTES(g->min_bytes));
	if (bytes > g->max_bytes)
		return refusal_set(refusal, REFUSAL_ABOVE_CONFIGURED, -ERANGE,
			"%s is above what guest %s may have (%s)", UNITS_BYTES(bytes), g->name,
			UNITS_BYTES(g->max_bytes));
	if (g->state > GUEST_PAUSED)
		return refusal_set(refusal, REFUSAL_NOT_RUNNING, -ENOTCONN, "guest %s is %s",
			g->name, guest_state_name(g->state));
	log_notice("guest %s: target %s by the operator", g->name,
		bytes ? UNITS_BYTES(bytes) : "automatic again,");
	g->fixed_bytes = bytes;
	if (guest_save_target(g) < 0)
		log_warning("guest %s: its target will be forgotten when memd ends", g->name);
	if (bytes) {
		g->target_bytes = bytes;
		snprintf(g->target_reason, sizeof(g->target_reason), "set by the operator");
	}
	return 0;
}

/* A memd-vmm that runs and cannot be adopted: it is left alone, and no page that it may map is reused. */
static void note_stray(struct manager *m, const char *name)
{
	_cleanup_free_ char *path = NULL;
	pid_t pid, *strays;

	if (asprintf(&path, "%s/guest/%s.pid", m->options.runtime_dir, name) < 0) {
		path = NULL;
		return;
	}
	pid = child_find(path);
	strays = pid ? reallocarray(m->strays, m->n_strays + 1, sizeof(*strays)) : NULL;
	if (!strays)
		return;
	m->strays = strays;
	strays[m->n_strays++] = pid;
	log_warning("guest %s: process %d runs on without memd; `kill %d` ends it", name, (int)pid,
		(int)pid);
}

static void adopt_guest(struct manager *m, const char *name)
{
	struct guest_config config = {0};
	_cleanup_free_ char *path = NULL;
	struct guest *g = NULL;
	struct error e = {0};
	int r;

	if (asprintf(&path, "%s/guest/%s.guest", m->options.runtime_dir, name) < 0) {
		path = NULL;
		return;
	}
	r = guest_config_load(path, &config, &e);
	if (r == 0)
		r = guest_config_check(&config, &e);
	if (r == 0)
		r = guest_new(&m->environment, ++m->last_id, name, &config, &g);
	if (r == 0)
		r = guest_adopt(g, &e);
	if (r == 0)
		r = join_group(m, g); /* its pool is looked for when all are adopted */
	if (r == 0)
		r = add_guest(m, g);
	guest_config_done(&config);
	if (r < 0) {
		log_warning("cannot adopt guest %s: %s", name, e.text[0] ? e.text : strerror(-r));
		if (g && r == -ESRCH)
			guest_remove_traces(g);
		if (g)
			leave_group(m, g, POOL_GROUP_KEEP);
		guest_free(g);
		note_stray(m, name);
		return;
	}
	log_notice("guest %s: adopted, process %d", name, (int)g->child.pid);
	bus_guest_added(m->bus, g);
}

/* Calls found for each file of the directory whose name is NAME + suffix, NAME being a guest's. */
static void for_each_name(struct manager *m, const char *directory, const char *suffix,
	void (*found)(struct manager *m, const char *name))
{
	_cleanup_closedir_ DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		size_t size = strlen(entry->d_name), cut = strlen(suffix);

		if (size <= cut || strcmp(entry->d_name + size - cut, suffix) != 0)
			continue;
		entry->d_name[size - cut] = '\0';
		if (guest_name_valid(entry->d_name, NULL))
			found(m, entry->d_name);
	}
}

static void on_autostarted(void *context, int result, const struct refusal *refusal)
{
	if (result < 0)
		log_error("%s", refusal->error.text);
}

static void autostart_guest(struct manager *m, const char *name)
{
	_cleanup_free_ char *path = NULL;
	struct guest_config config = {0};
	struct refusal refusal = {0};
	struct guest *g;
	bool wanted;

	if (manager_find_guest(m, name)) /* adopted */
		return;
	if (asprintf(&path, "%s/%s.guest", m->options.guests_dir, name) < 0) {
		path = NULL;
		return;
	}
	if (guest_config_load(path, &config, &refusal.error) < 0) {
		log_error("%s", refusal.error.text);
		return;
	}
	wanted = config.autostart;
	guest_config_done(&config);
	if (wanted && manager_start_guest(m, name, NULL, 0, on_autostarted, NULL, &g, &refusal) < 0)
		log_error("guest %s does not start: %s", name, refusal.error.text);
}

void manager_exit(struct manager *m)
{
	size_t n = 0;

	if (m->exiting) {
		log_notice("stopping at once; guests that still run are left to themselves");
		sd_event_exit(m->event, 0);
		return;
	}
	m->exiting = true;
	sd_notify(0, "STOPPING=1");
	for (size_t i = 0; !m->config.keep_guests && i < m->n_guests; i++)
		n += guest_stop(m->guests[i], GUEST_STOP_ORDERLY, NULL, NULL) == 0;
	if (n)
		log_notice("stopping %zu guests", n);
	m->libvirt_leaving = m->libvirt != NULL;
	libvirt_leave(m->libvirt, on_libvirt_left, m);
	exit_when_alone(m);
}

static int on_exit_signal(
	sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	manager_exit(userdata);
	return 0;
}

static void on_reloaded(void *context, int result, const struct refusal *refusal)
{
	if (result < 0)
		log_error("%s", refusal->error.text);
}

/* An upgrade: whoever started us starts the new program, which finds the guests. */
static int on_restart_signal(
	sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct manager *m = userdata;

	log_notice("ending, to be started again; %zu guests run on", m->n_guests);
	return sd_event_exit(m->event, MANAGER_EXIT_RESTART);
}

static int on_reload_signal(
	sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct refusal refusal = {0};
	int r = manager_reload(userdata, on_reloaded, NULL, &refusal);

	if (r < 0)
		on_reloaded(NULL, r, &refusal);
	return 0;
}

static int watch_signals(struct manager *m)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(m->event, NULL, SIGTERM, on_exit_signal, m);
	if (r >= 0)
		r = sd_event_add_signal(m->event, NULL, SIGINT, on_exit_signal, m);
	if (r >= 0)
		r = sd_event_add_signal(m->event, NULL, SIGHUP, on_reload_signal, m);
	if (r >= 0)
		r = sd_event_add_signal(m->event, NULL, SIGUSR2, on_restart_signal, m);
	return r;
}

static int make_directory(const char *parent, const char *name, struct error *e)
{
	_cleanup_free_ char *path = NULL;
	int r;

	if (asprintf(&path, "%s/%s", parent, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = fd_mkdir_parents(path, 0755);
	return r < 0 ? error_set(e, r, "cannot make the directory %s: %s", path, strerror(-r)) : 0;
}

static int start_workers(struct manager *m)
{
	int r;

	r = worker_new(m->event, "memd-sample", &m->sampler);
	if (r == 0)
		r = worker_new(m->event, "memd-pageout", &m->pager);
	if (r == 0)
		r = worker_new(m->event, "memd-limit", &m->limiter);
	return r;
}

static int set_up(struct manager *m, struct error *e)
{
	int r;

	r = sd_event_new(&m->event);
	if (r >= 0)
		r = manager_first_config(m, e);
	if (r < 0)
		return r;
	r = make_directory(m->options.runtime_dir, "guest", e);
	if (r == 0)
		r = make_directory(m->options.runtime_dir, "pool", e);
	if (r < 0)
		return r;
	r = watch_signals(m);
	if (r >= 0)
		r = start_workers(m);
	if (r >= 0)
		r = template_store_new(m->event, &m->templates);
	if (r >= 0)
		r = wall_init(m, e);
	if (r >= 0)
		r = bus_open(m, m->options.bus_address, &m->bus, e);
	if (r < 0)
		return r;
	m->environment = (struct guest_environment){
		.event = m->event,
		.sampler = m->sampler,
		.templates = m->templates,
		.runtime_dir = m->options.runtime_dir,
		.vmm_path = m->vmm_path,
		.cgroup_mode = m->wall.mode,
		.cgroup = m->wall.root,
		.state_changed = on_state_changed,
		.connected = on_connected,
		.sampled = on_sampled,
		.gone = on_gone,
		.context = m,
	};
	r = sampling_start(m);
	return r < 0 ? r : tick_start(m);
}

int manager_new(const struct manager_options *options, struct manager **ret, struct error *e)
{
	_cleanup_(manager_freep) struct manager *m = calloc(1, sizeof(*m));
	_cleanup_free_ char *run_guests = NULL;
	int r;

	if (!m)
		return -ENOMEM;
	/* Without the right to it memd is as fast as its neighbours. */
	(void)setpriority(PRIO_PROCESS, 0, NICE_LEVEL);
	m->options = *options;
	m->figures.version = MEMD_VERSION;
	r = set_up(m, e);
	if (r < 0)
		return error_set(e, r, "cannot start: %s", strerror(-r));
	if (asprintf(&run_guests, "%s/guest", m->options.runtime_dir) < 0) {
		run_guests = NULL;
		return -ENOMEM;
	}
	manager_open_metrics(m);
	for_each_name(m, run_guests, ".sock", adopt_guest);
	for_each_name(m, m->options.guests_dir, ".guest", autostart_guest);
	r = libvirt_new(m, m->options.libvirt_pid_dirs, &m->libvirt, e);
	if (r < 0)
		return r;
	relief_configure(m);
	log_notice("memd %s: budget %s of %s, policy %s, cgroups %s", MEMD_VERSION,
		UNITS_BYTES(m->budget_bytes), UNITS_BYTES(m->memory_total_bytes), m->config.policy,
		m->figures.cgroup_mode);
	*ret = TAKE_PTR(m);
	return 0;
}

int manager_run(struct manager *m)
{
	/* Where a watchdog is asked for, a loop that hangs is ended and started again. */
	(void)sd_event_set_watchdog(m->event, 1);
	sd_notify(0, "READY=1");
	return sd_event_loop(m->event);
}

void manager_free(struct manager *m)
{
	enum pool_group_end end = POOL_GROUP_KEEP;

	if (!m)
		return;
	if (m->event)
		tick_stop(m);
	manager_reload_cancel(m);
	/* First, so that no job is under way for what goes next. */
	worker_free(m->pager);
	worker_free(m->sampler);
	worker_free(m->limiter);
	sampling_stop(m);
	relief_done(m);
	libvirt_free(m->libvirt);
	while (m->n_guests > 0)
		remove_guest(m, m->guests[m->n_guests - 1], end);
	free(m->guests);
	free(m->strays);
	template_store_free(m->templates);
	wall_done(m);
	metrics_server_free(m->metrics);
	bus_close(m->bus);
	policy_run_free(m->policy);
	journal_close(m->journal);
	free(m->last_frame);
	host_config_done(&m->config);
	free(m->vmm_path);
	free(m->pool_path);
	sd_event_unref(m->event);
	free(m);
}
