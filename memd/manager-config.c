/* The manager's configuration: read, checked as a whole, and only then used. */
#include <stdio.h>
#include <string.h>

#include "memd/base/log.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"
#include "memd/manager.h"

#define CONFIG_PATH_DEFAULT "/etc/memd/memd.conf"

/*
 * DIR/NAME, or PATH as it is when given. Programs of a build tree lie beside memd, in the layout of
 * the source.
 */
static int find_program(
	const char *configured, const char *in_tree, const char *installed, char **ret)
{
	_cleanup_free_ char *path = NULL;
	char self[4096];
	ssize_t n;

	if (configured)
		return (*ret = strdup(configured)) ? 0 : -ENOMEM;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return -errno;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	if (asprintf(&path, "%s/../%s", self, in_tree) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	*ret = access(path, X_OK) == 0 ? TAKE_PTR(path) : strdup(installed);
	return *ret ? 0 : -ENOMEM;
}

static void on_policy_log(void *host, int level, const char *line)
{
	log_write((enum log_level)level, "policy: %s", line);
}

static const struct memd_host_calls policy_calls = {
	.size = sizeof(policy_calls),
	.log = on_policy_log,
};

/* The policy that the configuration names, with its settings. */
static int open_policy(const struct host_config *config, struct policy_host **ret, struct error *e)
{
	const struct memd_policy *policy = policy_find_builtin(config->policy);
	const struct config_policy *section = host_config_policy(config, config->policy);
	_cleanup_free_ struct policy_setting *settings = NULL;
	size_t n = section ? section->n_pairs : 0;

	if (!policy)
		return error_set(e, -EINVAL, "Policy=%s: there is no such policy; there are %s",
			config->policy, policy_builtin_names());
	settings = calloc(n + 1, sizeof(*settings));
	if (!settings)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		settings[i] = (struct policy_setting){
			.key = section->pairs[i].key,
			.value = section->pairs[i].value,
		};
	return policy_host_new(policy, settings, n, &policy_calls, ret, e);
}

static int load_config(struct manager *m, struct host_config *ret, struct error *e)
{
	if (m->options.config_path)
		return host_config_load(m->options.config_path, ret, e);
	return host_config_load_optional(CONFIG_PATH_DEFAULT, ret, e);
}

/* Takes over a configuration that is known to be good. */
static void use_config(struct manager *m, struct host_config *config, struct policy_host *policy)
{
	host_config_done(&m->config);
	m->config = *config;
	*config = (struct host_config){0};
	policy_host_free(m->policy);
	m->policy = policy;
	m->budget_bytes = config_size_resolve(m->config.budget, m->memory_total_bytes);
	m->figures.policy = m->config.policy;
	m->figures.budget_bytes = m->budget_bytes;
	m->figures.tick_us = m->config.tick_us;
}

int manager_reload(struct manager *m, struct error *e)
{
	struct host_config config = {0};
	struct policy_host *policy = NULL;
	int r;

	r = load_config(m, &config, e);
	if (r == 0)
		r = open_policy(&config, &policy, e);
	if (r < 0) {
		host_config_done(&config);
		error_prefix(e, "the former configuration stays");
		return r;
	}
	use_config(m, &config, policy);
	for (size_t i = 0; i < m->n_guests; i++)
		tick_send_scan(m, m->guests[i]);
	log_notice("configuration read again: budget %s, policy %s", UNITS_BYTES(m->budget_bytes),
		m->config.policy);
	return 0;
}

int manager_first_config(struct manager *m, struct error *e)
{
	struct host_config config = {0};
	struct policy_host *policy = NULL;
	uint64_t available;
	int r;

	r = procfs_read_meminfo(&m->memory_total_bytes, &available);
	if (r < 0)
		return error_set(e, r, "cannot read /proc/meminfo: %s", strerror(-r));
	r = load_config(m, &config, e);
	if (r < 0)
		return r;
	r = open_policy(&config, &policy, e);
	if (r < 0) {
		host_config_done(&config);
		return r;
	}
	use_config(m, &config, policy);
	r = find_program(m->config.vmm_path, "kvm-glue/memd-vmm", "/usr/libexec/memd/memd-vmm",
		&m->vmm_path);
	if (r == 0)
		r = find_program(m->config.pool_path, "dedup/memd-pool",
			"/usr/libexec/memd/memd-pool", &m->pool_path);
	return r;
}

int manager_check(const struct manager_options *options, struct error *e)
{
	struct manager m = {.options = *options};
	struct host_config config = {0};
	struct policy_host *policy = NULL;
	int r;

	r = load_config(&m, &config, e);
	if (r == 0)
		r = open_policy(&config, &policy, e);
	policy_host_free(policy);
	host_config_done(&config);
	return r;
}
