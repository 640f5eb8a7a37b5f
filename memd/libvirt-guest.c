/*
 * A domain as a guest: whether it is one, its settings, its process, and its figures. Claims of a
 * memd-vmm do not exist here; what the kernel says of the process takes their place, and the balloon
 * and the guest's own figures come from libvirt.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/text.h"
#include "memd/base/units.h"
#include "memd/guest-internal.h"
#include "memd/libvirt-internal.h"

/* A process that was not found is looked for again: libvirt writes its pid file late. */
#define FIND_AGAIN_US (5 * US_PER_S)

struct find_job {
	struct job job; /* first */
	struct domain *domain; /* NULL: nobody is interested any more */
	const char *const *directories;
	char *name;
	char uuid[DOMAIN_UUID_MAX];
	uint64_t memory_bytes;
	/* found by the thread */
	int result;
	struct error error;
	pid_t pid;
	int pidfd;
	int ram_result;
	struct qemu_ram ram;
};

/* Its process. */

static int on_process_ended(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	domain_drop_guest(userdata, "its process ended");
	return 0;
}

static int attach(struct domain *d, struct find_job *j)
{
	struct guest *g = d->guest;
	int r;

	r = sample_process_new(j->pid, j->pidfd, j->ram.ranges, j->ram.n_ranges, &g->process);
	if (r == 0)
		r = reclaim_init(&g->reclaim, g->process->n_regions);
	if (r == 0)
		r = sd_event_add_io(g->environment->event, &d->exit_source, j->pidfd, EPOLLIN,
			on_process_ended, d);
	if (r < 0) {
		g->process = sample_process_unref(g->process);
		reclaim_done(&g->reclaim);
		return r;
	}
	(void)sd_event_source_set_io_fd_own(d->exit_source, 1);
	TAKE_FD(j->pidfd);
	d->ram = j->ram;
	log_notice("guest %s: domain %s of %s, process %d, %s, floor %s%s%s", g->name, d->name,
		d->source->uri, (int)j->pid, UNITS_BYTES(g->config.memory_bytes),
		UNITS_BYTES(g->min_bytes), j->error.text[0] ? "; it is not paged: " : "",
		j->error.text);
	domain_show(d);
	return 0;
}

static void find_done(struct job *job)
{
	struct find_job *j = (struct find_job *)job;
	struct domain *d = j->domain;

	if (d) {
		d->finding = NULL;
		d->find_again_us = clock_monotonic_us() + FIND_AGAIN_US;
		if (j->result == 0)
			j->result = attach(d, j);
		if (j->result < 0 && j->result != -ECANCELED)
			snprintf(d->guest->left_alone, sizeof(d->guest->left_alone), "%.150s",
				j->error.text[0] ? j->error.text : strerror(-j->result));
	}
	cleanup_closep(&j->pidfd);
	free(j->name);
	free(j);
}

static void run_find(struct job *job)
{
	struct find_job *j = (struct find_job *)job;

	j->result =
		qemu_process_find(j->directories, j->name, j->uuid, &j->pid, &j->pidfd, &j->error);
	if (j->result < 0)
		return;
	j->ram_result = qemu_ram_find(j->pid, j->memory_bytes, &j->ram, &j->error);
	if (j->ram_result == 0 && j->ram.shared) {
		error_set(&j->error, -EOPNOTSUPP,
			"its memory is shared, and the kernel does not show which of such pages "
			"are swapped");
		j->ram.n_ranges = 0;
	}
}

/* Looks for it in a worker, unless that is under way or was in vain just now. */
static void find_process(struct domain *d)
{
	struct manager *m = d->source->owner->manager;
	struct find_job *j;

	if (d->finding || clock_monotonic_us() < d->find_again_us)
		return;
	j = calloc(1, sizeof(*j));
	if (!j)
		return;
	j->job = (struct job){.run = run_find, .done = find_done};
	j->domain = d;
	j->directories = d->source->owner->pid_directories;
	j->name = strdup(d->name);
	snprintf(j->uuid, sizeof(j->uuid), "%s", d->uuid);
	j->memory_bytes = d->facts.memory_bytes;
	j->pidfd = -1;
	j->result = -ECANCELED; /* until it ran */
	if (!j->name) {
		free(j);
		return;
	}
	d->finding = j;
	worker_submit(m->sampler, &j->job);
}

/* Its figures. */

static struct vmm_stats claims_of(struct domain *d, const struct kernel_sample *k)
{
	const struct domain_figures *f = &d->figures;
	const struct guest *g = d->guest;
	uint64_t ram_pages = g->config.memory_bytes / PAGE_BYTES;
	uint64_t backed = k->ram_anonymous_pages + k->ram_swapped_pages;
	uint64_t holes = u64_sub_or_zero(ram_pages, backed), balloon = 0;
	struct vmm_stats s = {
		.time_us = k->end_us,
		.state = (uint32_t)g->state,
		/* A driver that has said something is there. */
		.balloon_ready = d->facts.balloon && d->source->connected && f->updated_us &&
				 d->phase == DOMAIN_RUNNING,
		.ram_pages = ram_pages,
		.private_pages = k->ram_anonymous_pages,
		.swapped_pages = k->ram_swapped_pages,
		.guest_swap_in_bytes = f->swap_in_bytes,
		.guest_swap_out_bytes = f->swap_out_bytes,
		.guest_major_faults = f->major_faults,
		.guest_minor_faults = f->minor_faults,
		.guest_free_bytes = f->free_bytes,
		.guest_total_bytes = f->total_bytes,
		.guest_available_bytes = f->available_bytes,
		.guest_disk_caches_bytes = f->disk_caches_bytes,
		.guest_stats_time_us = f->updated_us,
		.balloon_target_pages = g->balloon_target_bytes == UINT64_MAX
						? 0
						: g->balloon_target_bytes / PAGE_BYTES,
	};

	if (f->actual_bytes != UINT64_MAX)
		balloon = u64_sub_or_zero(g->config.memory_bytes, f->actual_bytes) / PAGE_BYTES;
	s.balloon_actual_pages = balloon;
	s.hole_balloon_pages = u64_min(balloon, holes);
	s.hole_untouched_pages = holes - s.hole_balloon_pages;
	/* What once had pages and has none any more, the balloon took (or the guest reported it). */
	d->peak_pages = u64_max(d->peak_pages, backed);
	s.freed_balloon_pages = u64_min(s.hole_balloon_pages, d->peak_pages - backed);
	return s;
}

static void on_kernel(void *context, int error, struct kernel_sample *s)
{
	struct guest *g = context;
	struct domain *d = g->domain;

	g->sample.reading = NULL;
	if (error == 0) {
		kernel_sample_done(&g->sample.kernel);
		g->sample.kernel = *s;
		/* Memory that QEMU shares with others is its cost all the same. */
		g->sample.kernel.rollup.pss_file_bytes += s->rollup.pss_shmem_bytes;
		g->sample.before = g->sample.after = claims_of(d, s);
	}
	guest_sample_ended(g, error == 0);
}

static bool domain_sample_begin(struct guest *g)
{
	if (process_sampler_begin(
		    g->environment->sampler, g->process, on_kernel, g, &g->sample.reading) < 0)
		return false;
	g->sample.phase = GUEST_SAMPLE_KERNEL;
	return true;
}

static void domain_sample_cancel(struct guest *g)
{
	process_sampler_cancel(g->sample.reading);
	g->sample.reading = NULL;
}

static bool domain_is_up(const struct guest *g)
{
	return g->process != NULL;
}

/* Its balloon. */

static void on_memory_set(void *context, int result, const struct error *e)
{
	static struct log_ratelimit limit = LOG_RATELIMIT_INIT;
	struct domain *d = context;

	if (!d->guest)
		return;
	if (result < 0 && log_ratelimit_pass(&limit))
		log_warning("guest %s: %s", d->guest->name, e->text);
	guest_balloon_told(d->guest, result);
}

static int domain_set_balloon(struct guest *g, uint64_t bytes)
{
	struct domain *d = g->domain;

	return libvirt_link_set_memory(d->source->link, d->uuid,
		u64_sub_or_zero(g->config.memory_bytes, bytes), on_memory_set, d);
}

/* QEMU listens there, and the agent's port leads to whoever connects. */
static int domain_open_agent(struct guest *g, guest_done_fn done, void *context)
{
	const struct domain *d = g->domain;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (!d->facts_known || !d->facts.agent_socket[0])
		return -ENOENT;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", d->facts.agent_socket);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

const struct guest_ops guest_libvirt_ops = {
	.provider = "libvirt",
	.is_up = domain_is_up,
	.sample_begin = domain_sample_begin,
	.sample_cancel = domain_sample_cancel,
	.set_balloon = domain_set_balloon,
	.open_agent = domain_open_agent,
	.cannot = "share pause stop snapshot hints pin",
	.instead = "use virsh for that",
};

/* Whether it is a guest, and which. */

/* Settings from the metadata, and over them those of the drop-in; *e names where one is wrong. */
static int read_config(const struct domain *d, struct domain_config *ret, struct error *e)
{
	_cleanup_free_ char *path = NULL;
	int r;

	domain_config_init(ret);
	for (size_t i = 0; i < d->facts.n_settings; i++) {
		const struct domain_setting *s = &d->facts.settings[i];

		r = domain_config_set(ret, s->key, s->value, e);
		if (r < 0) {
			error_prefix(e, "metadata");
			return r;
		}
	}
	if (strchr(d->name, '/'))
		return 0;
	if (asprintf(&path, "%s/%s.domain", d->source->owner->manager->options.guests_dir,
		    d->name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = domain_config_load(path, ret, e);
	return r == -ENOENT ? 0 : r;
}

static bool is_managed(const struct domain *d, const struct domain_config *config)
{
	switch (d->source->owner->manager->config.manage_libvirt) {
	case CONFIG_LIBVIRT_ALL:
		return config->manage != DOMAIN_MANAGE_NO;
	case CONFIG_LIBVIRT_OPT_IN:
		return config->manage == DOMAIN_MANAGE_YES;
	case CONFIG_LIBVIRT_NO:
		break;
	}
	return false;
}

/* Why its memory can never be taken; "" when it can. */
static const char *obstacle(const struct domain_facts *f)
{
	if (f->locked)
		return "its memory is locked (<memoryBacking><locked/>)";
	if (f->passthrough)
		return "a device of the host is passed through, which pins all of its memory";
	if (f->encrypted)
		return "its memory is encrypted and pinned (<launchSecurity>)";
	if (f->huge_pages)
		return "its memory is in hugetlbfs pages (<memoryBacking><hugepages/>)";
	return "";
}

/* A name that guests may have and no other has: libvirt's, or one made of it and the UUID. */
static void choose_name(const struct domain *d, char ret[CONFIG_GUEST_NAME_MAX + 1])
{
	const struct manager *m = d->source->owner->manager;
	size_t n;

	snprintf(ret, CONFIG_GUEST_NAME_MAX + 1, "%s", d->name);
	for (char *c = ret; *c; c++)
		if (!isascii((unsigned char)*c) ||
			(!isalnum((unsigned char)*c) && !strchr("_.-", *c)))
			*c = '_';
	if (guest_name_valid(ret, NULL) && strcmp(ret, d->name) == 0 && !manager_find_guest(m, ret))
		return;
	if (!isalnum((unsigned char)ret[0]))
		ret[0] = 'd';
	n = u64_min(strlen(ret), CONFIG_GUEST_NAME_MAX - 9);
	snprintf(ret + n, CONFIG_GUEST_NAME_MAX + 1 - n, "-%.8s", d->uuid);
}

static int make_config(
	const struct domain *d, const struct domain_config *config, struct guest_config *ret)
{
	int r = domain_config_guest(config, d->facts.memory_bytes, d->facts.n_vcpus,
		d->facts.min_guarantee_bytes, d->facts.hard_limit_bytes, ret);

	if (r == 0)
		ret->memory_locked = obstacle(&d->facts)[0] != '\0';
	return r;
}

static int add_guest(struct domain *d, struct guest_config *config)
{
	struct manager *m = d->source->owner->manager;
	char name[CONFIG_GUEST_NAME_MAX + 1];
	struct guest *g;
	int r;

	choose_name(d, name);
	r = guest_new_of(&m->environment, &guest_libvirt_ops, manager_next_id(m), name, config, &g);
	if (r < 0)
		return r;
	g->domain = d;
	g->balloon_target_bytes = UINT64_MAX; /* whatever it was told before */
	guest_load_target(g);
	r = manager_add_guest(m, g);
	if (r < 0) {
		guest_free(g);
		return r;
	}
	d->guest = g;
	d->find_again_us = 0;
	d->peak_pages = 0;
	return 0;
}

static void change_guest(struct guest *g, struct guest_config *config)
{
	guest_config_done(&g->config);
	g->config = *config;
	*config = (struct guest_config){0};
	g->min_bytes = guest_config_min_bytes(&g->config);
	g->max_bytes = guest_config_max_bytes(&g->config);
}

void domain_settle(struct domain *d)
{
	struct domain_config config;
	struct guest_config guest_config = {0};
	struct error e = {0};
	int r = 0;

	if (!d->facts_known)
		return;
	r = read_config(d, &config, &e);
	if (r < 0 && !d->complained)
		log_warning("domain %s is not managed: %s", d->name, e.text);
	d->complained = r < 0;
	/* Other memory than when it was found: another incarnation. */
	if (r < 0 || !is_managed(d, &config) ||
		(d->guest && d->guest->config.memory_bytes != d->facts.memory_bytes))
		domain_drop_guest(d, "it is not managed any more");
	if (r < 0 || !is_managed(d, &config))
		return;
	r = make_config(d, &config, &guest_config);
	if (r == 0 && d->guest)
		change_guest(d->guest, &guest_config);
	else if (r == 0)
		r = add_guest(d, &guest_config);
	guest_config_done(&guest_config);
	if (r < 0)
		log_warning("domain %s is not managed: %s", d->name, strerror(-r));
}

void domain_show(struct domain *d)
{
	static const struct {
		enum guest_state state;
		const char *reason;
	} shown[] = {
		[DOMAIN_RUNNING] = {GUEST_RUNNING, ""},
		[DOMAIN_PAUSED] = {GUEST_PAUSED, "by libvirt"},
		[DOMAIN_MIGRATING] = {GUEST_RUNNING, "it is being migrated, saved or dumped"},
		[DOMAIN_CRASHED] = {GUEST_FAILED, "the guest crashed"},
		[DOMAIN_ENDING] = {GUEST_POWERED_OFF, "it is ending"},
	};
	struct guest *g = d->guest;
	const char *why;

	if (!g)
		return;
	if (!g->process) {
		find_process(d);
		return;
	}
	why = obstacle(&d->facts);
	if (d->phase == DOMAIN_MIGRATING || d->phase == DOMAIN_ENDING)
		why = shown[d->phase].reason;
	snprintf(g->left_alone, sizeof(g->left_alone), "%s", why);
	guest_set_state(g, shown[d->phase].state, shown[d->phase].reason);
}

void domain_drop_guest(struct domain *d, const char *reason)
{
	struct guest *g = TAKE_PTR(d->guest);

	d->exit_source = sd_event_source_disable_unref(d->exit_source);
	if (d->finding)
		d->finding->domain = NULL;
	d->finding = NULL;
	if (!g)
		return;
	guest_set_state(g, GUEST_POWERED_OFF, reason);
	unlink(g->target_path); /* it was for this life */
	g->environment->gone(g);
}
