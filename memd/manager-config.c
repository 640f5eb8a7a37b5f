/* The manager's configuration: read, checked as a whole, and only then used. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/procfs.h"
#include "memd/base/program.h"
#include "memd/base/units.h"
#include "memd/libvirt.h"
#include "memd/manager.h"
#include "memd/metrics-server.h"

#define CONFIG_PATH_DEFAULT "/etc/memd/memd.conf"

static int load_config(struct manager *m, struct host_config *ret, struct error *e)
{
	if (m->options.config_path)
		return host_config_load(m->options.config_path, ret, e);
	return host_config_load_optional(CONFIG_PATH_DEFAULT, ret, e);
}

/* Starts to open the policy that the configuration names. */
static int open_policy(struct manager *m, const struct host_config *config,
	const struct policy_run_ops *ops, struct policy_run **ret, struct error *e)
{
	_cleanup_free_ char *program = NULL;
	struct policy_run_options options = {
		.event = m->event,
		.config = config,
		.ops = ops,
		.context = m,
	};
	int r = program_find(config->policy_path, "policy/memd-policy",
		"/usr/libexec/memd/memd-policy", &program);

	options.program = program;
	return r < 0 ? r : policy_run_new(&options, ret, e);
}

void manager_use_journal(struct manager *m)
{
	uint64_t max_bytes = m->config.journal_max_bytes;
	struct error e = {0};

	if (max_bytes == 0) {
		journal_close(m->journal);
		m->journal = NULL;
	} else if (m->journal) {
		journal_set_max(m->journal, max_bytes);
	} else if (journal_open(m->event, m->options.state_dir, max_bytes, &m->journal, &e) < 0) {
		log_warning("%s", e.text); /* guests can be run without */
	}
	m->figures.journal_path = journal_path(m->journal);
}

/* Takes over a configuration that is known to be good, and its open policy. */
static void use_config(struct manager *m, struct host_config *config, struct policy_run *policy)
{
	if (m->policy)
		policy_run_give_up(m->policy); /* else the round would wait for it */
	policy_run_free(m->policy);
	m->policy = policy;
	host_config_done(&m->config);
	m->config = *config;
	*config = (struct host_config){0};
	m->budget_bytes = config_size_resolve(m->config.budget, m->memory_total_bytes);
	m->figures.budget_bytes = m->budget_bytes;
	m->figures.tick_us = m->config.tick_us;
	decide_show_policy(m);
	manager_use_journal(m);
	decide_note_policy(m);
}

/* Metrics are for looking: memd does its work without, too. */
void manager_open_metrics(struct manager *m)
{
	_cleanup_free_ char *path = NULL;
	struct error e = {0};

	metrics_server_free(m->metrics);
	m->metrics = NULL;
	if (!m->config.metrics_socket && !m->config.metrics_http_port)
		return;
	if (asprintf(&path, "%s/metrics.sock", m->options.runtime_dir) < 0) {
		path = NULL;
		return;
	}
	if (metrics_server_new(m, m->event, m->config.metrics_socket ? path : NULL,
		    m->config.metrics_http_port, &m->metrics, &e) < 0)
		log_error("no metrics: %s", e.text);
}

/* A new configuration whose policy is being opened. */
struct reload {
	struct host_config config;
	struct policy_run *policy;
	guest_done_fn done;
	void *context;
};

static void reload_free(struct reload *l)
{
	if (!l)
		return;
	policy_run_free(l->policy);
	host_config_done(&l->config);
	free(l);
}

static void use_reload(struct manager *m, struct reload *l)
{
	struct error e = {0};

	use_config(m, &l->config, TAKE_PTR(l->policy));
	manager_open_metrics(m);
	if (m->libvirt)
		libvirt_reconfigured(m->libvirt);
	else if (libvirt_new(m, m->options.libvirt_pid_dirs, &m->libvirt, &e) < 0)
		log_error("%s", e.text);
	relief_configure(m);
	for (size_t i = 0; i < m->n_guests; i++)
		tick_send_scan(m, m->guests[i]);
	log_notice("configuration read again: budget %s, policy %s", UNITS_BYTES(m->budget_bytes),
		m->config.policy);
}

static void end_reload(struct manager *m, int result, const char *why)
{
	struct reload *l = TAKE_PTR(m->reload);
	struct refusal refusal = {.kind = REFUSAL_BAD_SETTING};

	if (result == 0)
		use_reload(m, l);
	else
		error_set(&refusal.error, result, "the former configuration stays: %s", why);
	sd_notify(0, "READY=1");
	l->done(l->context, result, &refusal);
	reload_free(l);
}

void manager_policy_opened(void *context, int result, const char *why)
{
	struct manager *m = context;

	if (m->reload)
		end_reload(m, result, why);
}

void manager_reload_cancel(struct manager *m)
{
	if (m->reload)
		end_reload(m, -ECANCELED, "memd ends");
}

int manager_reload(struct manager *m, guest_done_fn done, void *context, struct refusal *refusal)
{
	struct reload *l;
	int r;

	if (m->reload)
		return refusal_set(refusal, REFUSAL_BUSY, -EBUSY,
			"the configuration is being read again already; its policy is opening");
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->done = done;
	l->context = context;
	/* What Type=notify-reload waits for; other types take it as news. */
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_monotonic_us());
	r = load_config(m, &l->config, &refusal->error);
	if (r == 0)
		r = open_policy(m, &l->config, &decide_ops, &l->policy, &refusal->error);
	if (r < 0) {
		sd_notify(0, "READY=1");
		reload_free(l);
		refusal->kind = REFUSAL_BAD_SETTING;
		error_prefix(&refusal->error, "the former configuration stays");
		return r;
	}
	m->reload = l;
	if (policy_run_is_open(l->policy))
		end_reload(m, 0, "");
	return 0;
}

int manager_first_config(struct manager *m, struct error *e)
{
	struct host_config config = {0};
	struct policy_run *policy = NULL;
	uint64_t available;
	int r;

	r = procfs_read_meminfo(&m->memory_total_bytes, &available);
	if (r < 0)
		return error_set(e, r, "cannot read /proc/meminfo: %s", strerror(-r));
	r = load_config(m, &config, e);
	if (r == 0)
		r = open_policy(m, &config, &decide_ops, &policy, e);
	if (r == 0)
		r = policy_run_wait(policy, e);
	if (r < 0) {
		policy_run_free(policy);
		host_config_done(&config);
		return r;
	}
	use_config(m, &config, policy);
	r = program_find(m->config.vmm_path, "kvm-glue/memd-vmm", "/usr/libexec/memd/memd-vmm",
		&m->vmm_path);
	if (r == 0)
		r = program_find(m->config.pool_path, "dedup/memd-pool",
			"/usr/libexec/memd/memd-pool", &m->pool_path);
	return r;
}

int manager_check_group(
	const struct manager *m, const struct guest_config *config, struct error *e)
{
	char known[256] = "";
	size_t used = 0;

	if (!config->policy_group || host_config_group(&m->config, config->policy_group))
		return 0;
	for (size_t i = 0; i < m->config.n_groups && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s[Group %s]",
			i ? ", " : "; there are ", m->config.groups[i].name);
	return error_set(e, -EINVAL, "PolicyGroup=%s: memd.conf has no section [Group %s]%s",
		config->policy_group, config->policy_group, known);
}

int manager_check(const struct manager_options *options, struct error *e)
{
	static const struct policy_run_ops nobody = {0};
	struct manager m = {.options = *options};
	struct host_config config = {0};
	struct policy_run *policy = NULL;
	int r;

	r = sd_event_new(&m.event);
	if (r >= 0)
		r = load_config(&m, &config, e);
	if (r == 0)
		r = open_policy(&m, &config, &nobody, &policy, e);
	if (r == 0)
		r = policy_run_wait(policy, e);
	policy_run_free(policy);
	host_config_done(&config);
	sd_event_unref(m.event);
	return r;
}
