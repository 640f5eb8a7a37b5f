/* memd.conf and its drop-ins. */
#include "config/config.h"

#include <stdio.h>
#include <string.h>

#include "config/ini-file.h"
#include "config/schema.h"
#include "memd/base/clock.h"

#define POLICY_NAME_MAX 32
#define POLICY_SECTION	"Policy "
#define GROUP_SECTION	"Group "
#define PATH_BYTES_MAX	4095
#define DAY_US		(24 * 3600 * US_PER_S)

/* Less than this runs no guest. */
#define BUDGET_MIN (64 * MIB)
#define BUDGET_MAX (1024 * CONFIG_MEMORY_MAX)

static const char *const cgroup_words[] = {"auto", "off", NULL};
static const char *const ladder_words[] = {"measured", "fixed", NULL};
static const char *const share_words[] = {"off", "zero-only", "share", NULL};

static const char *const merging_words[] = {"leave", "steer", NULL};
static const char *const libvirt_words[] = {"opt-in", "all", "no", NULL};

static const char *const working_set_words[] = {
	"auto", "page-out", "idle-bits", "balloon", "off", NULL};

/* clang-format off */
#define KEY(group, name, kind, member, value, ...) \
	{.section = group, .key = name, .type = kind, \
	 .offset = offsetof(struct host_config, member), .initial = value, __VA_ARGS__}

static const struct schema_key host_keys[] = {
	KEY("Host", "HostMemoryBudget", SCHEMA_SIZE, budget, "80%",
		.min = BUDGET_MIN, .max = BUDGET_MAX),
	KEY("Host", "TickInterval", SCHEMA_TIME, tick_us, "1s",
		.min = 100 * US_PER_MS, .max = 60 * US_PER_S),
	KEY("Host", "Policy", SCHEMA_NAME, policy, "esx",
		.min = 1, .max = POLICY_NAME_MAX),
	KEY("Host", "VmmPath", SCHEMA_PATH, vmm_path, NULL, .min = 1, .max = PATH_BYTES_MAX),
	KEY("Host", "PoolPath", SCHEMA_PATH, pool_path, NULL, .min = 1, .max = PATH_BYTES_MAX),
	KEY("Host", "PolicyPath", SCHEMA_PATH, policy_path, NULL, .min = 1, .max = PATH_BYTES_MAX),
	KEY("Host", "PolicyDir", SCHEMA_PATH, policy_dir, "/usr/lib/memd/policies",
		.min = 1, .max = PATH_BYTES_MAX),
	KEY("Host", "PolicyTimeLimit", SCHEMA_TIME, policy_time_limit_us, "100ms",
		.min = US_PER_MS, .max = 60 * US_PER_S),
	KEY("Host", "KeepGuests", SCHEMA_BOOL, keep_guests, "no"),
	KEY("Host", "Cgroup", SCHEMA_WORD, cgroup, "auto", .words = cgroup_words),
	KEY("Host", "CgroupName", SCHEMA_NAME, cgroup_name, "memd",
		.min = 1, .max = CONFIG_GUEST_NAME_MAX),
	KEY("Share", "Mode", SCHEMA_WORD, share_mode, "share", .words = share_words),
	KEY("Share", "ShareScanMaxCpu", SCHEMA_PERCENT, share_max_cpu_bp, "70%",
		.min = 100, .max = 10000),
	KEY("Share", "ShareScanTargetTime", SCHEMA_TIME, share_target_time_us, "200s",
		.min = US_PER_S, .max = DAY_US),
	KEY("Reclaim", "Paging", SCHEMA_BOOL, paging, "yes"),
	KEY("Reclaim", "StallBudget", SCHEMA_PERCENT, stall_budget_bp, "1%",
		.min = 1, .max = 5000),
	KEY("Reclaim", "SwapLatencyMax", SCHEMA_TIME, swap_latency_max_us, "200us",
		.min = 1, .max = US_PER_S),
	KEY("Reclaim", "FlashWriteMax", SCHEMA_BYTES, flash_write_bytes, "1M",
		.min = 0, .max = 64 * GIB),
	KEY("Reclaim", "WorkingSet", SCHEMA_WORD, working_set, "auto",
		.words = working_set_words),
	KEY("Reclaim", "SampleWidth", SCHEMA_PERCENT, sample_width_bp, "5%",
		.min = 100, .max = 5000),
	KEY("Reclaim", "SampleMaxStall", SCHEMA_PERCENT, sample_max_stall_bp, "0.1%",
		.min = 1, .max = 1000),
	KEY("Reclaim", "SampleMaxCpu", SCHEMA_PERCENT, sample_max_cpu_bp, "0.5%",
		.min = 1, .max = 1000),
	KEY("Reclaim", "Ladder", SCHEMA_WORD, ladder, "measured", .words = ladder_words),
	KEY("Libvirt", "ManageLibvirt", SCHEMA_WORD, manage_libvirt, "opt-in",
		.words = libvirt_words),
	KEY("Libvirt", "KernelMerging", SCHEMA_WORD, kernel_merging, "leave",
		.words = merging_words),
	KEY("Libvirt", "MigrateAfter", SCHEMA_TIME, migrate_after_us, "60s",
		.min = US_PER_S, .max = DAY_US),
	KEY("Libvirt", "LibvirtUri", SCHEMA_LINES, libvirt_uris, NULL,
		.min = 1, .max = PATH_BYTES_MAX),
	KEY("Metrics", "Socket", SCHEMA_BOOL, metrics_socket, "yes"),
	KEY("Metrics", "HttpPort", SCHEMA_U32, metrics_http_port, "0",
		.min = 0, .max = UINT16_MAX),
	KEY("Journal", "JournalSize", SCHEMA_BYTES, journal_max_bytes, "64M",
		.min = 0, .max = 64 * GIB),
};
/* clang-format on */

/* The sections at the end of the struct are not the schema's: cleared, and freed here. */
static const struct schema host_schema = {
	host_keys,
	ARRAY_SIZE(host_keys),
	sizeof(struct host_config),
};

static void free_sections(struct config_section *sections, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct config_section *s = &sections[i];

		for (size_t j = 0; j < s->n_pairs; j++) {
			free(s->pairs[j].key);
			free(s->pairs[j].value);
		}
		free(s->pairs);
		free(s->name);
	}
	free(sections);
}

int host_config_init(struct host_config *ret)
{
	return schema_init(&host_schema, ret);
}

void host_config_done(struct host_config *c)
{
	free_sections(c->policies, c->n_policies);
	free_sections(c->groups, c->n_groups);
	schema_done(&host_schema, c);
}

static struct config_section *find_section(
	struct config_section *sections, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(sections[i].name, name) == 0)
			return &sections[i];
	return NULL;
}

const struct config_section *host_config_policy(const struct host_config *c, const char *name)
{
	return find_section(c->policies, c->n_policies, name);
}

const struct config_section *host_config_group(const struct host_config *c, const char *name)
{
	return find_section(c->groups, c->n_groups, name);
}

const char *config_group_policy(const struct config_section *group)
{
	const char *policy = NULL;

	for (size_t i = 0; i < group->n_pairs; i++)
		if (strcmp(group->pairs[i].key, CONFIG_GROUP_POLICY) == 0)
			policy = group->pairs[i].value;
	return policy;
}

/* [a-z0-9-]+, as policy.h has it. */
static bool policy_name_valid(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n > 0 && n <= POLICY_NAME_MAX && name[n] == '\0';
}

/* The section of that name, made when it is new. */
static struct config_section *get_section(
	struct config_section **sections, size_t *n, const char *name)
{
	struct config_section *found = find_section(*sections, *n, name);
	char *copy;

	if (found)
		return found;
	if (!GROW_ARRAY(*sections, *n + 1))
		return NULL;
	copy = strdup(name);
	if (!copy)
		return NULL;
	(*sections)[*n] = (struct config_section){.name = copy};
	return &(*sections)[(*n)++];
}

int config_section_add(struct config_section **sections, size_t *n_sections, const char *name,
	const char *key, const char *value)
{
	struct config_section *s = get_section(sections, n_sections, name);
	struct config_pair *pair;

	if (!s || !GROW_ARRAY(s->pairs, s->n_pairs + 1))
		return -ENOMEM;
	pair = &s->pairs[s->n_pairs++]; /* also half-built: it is freed with the others */
	*pair = (struct config_pair){strdup(key), strdup(value)};
	return pair->key && pair->value ? 0 : -ENOMEM;
}

static int add_policy_pair(
	struct host_config *c, const char *path, const struct ini_entry *entry, struct error *e)
{
	const char *name = entry->section + strlen(POLICY_SECTION);

	if (!policy_name_valid(name))
		return error_set(e, -EINVAL,
			"%s:%u: [%s]: the name of a policy has 1 to %d of a-z, 0-9 and '-'", path,
			entry->line, entry->section, POLICY_NAME_MAX);
	return config_section_add(
		&c->policies, &c->n_policies, name, entry->key, entry->value);
}

static int add_group_pair(
	struct host_config *c, const char *path, const struct ini_entry *entry, struct error *e)
{
	const char *name = entry->section + strlen(GROUP_SECTION);

	if (!guest_name_valid(name, e)) {
		error_prefix(e, "%s:%u: [%.80s]", path, entry->line, entry->section);
		return -EINVAL;
	}
	if (strcmp(entry->key, CONFIG_GROUP_POLICY) == 0 && !policy_name_valid(entry->value))
		return error_set(e, -EINVAL,
			"%s:%u: Policy=%.64s: the name of a policy has a-z, 0-9 and '-'", path,
			entry->line, entry->value);
	return config_section_add(&c->groups, &c->n_groups, name, entry->key, entry->value);
}

static int apply_file(const char *path, struct host_config *c, struct error *e)
{
	struct ini_file file = {0};
	int r;

	r = ini_file_load(path, &file, e);
	for (size_t i = 0; r == 0 && i < file.n_entries; i++) {
		const struct ini_entry *entry = &file.entries[i];

		if (strncmp(entry->section, POLICY_SECTION, strlen(POLICY_SECTION)) == 0)
			r = add_policy_pair(c, path, entry, e);
		else if (strncmp(entry->section, GROUP_SECTION, strlen(GROUP_SECTION)) == 0)
			r = add_group_pair(c, path, entry, e);
		else
			r = schema_set_entry(&host_schema, c, path, entry, e);
	}
	ini_file_done(&file);
	return r;
}

static int is_drop_in(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name), suffix = strlen(".conf");

	return entry->d_name[0] != '.' && n > suffix &&
	       strcmp(entry->d_name + n - suffix, ".conf") == 0;
}

/* By bytes, not by the locale: the order shall be the same everywhere. */
static int compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int apply_drop_ins(const char *path, struct host_config *c, struct error *e)
{
	_cleanup_free_ char *directory = NULL;
	struct dirent **names = NULL;
	int n, r = 0;

	if (asprintf(&directory, "%s.d", path) < 0) {
		directory = NULL;
		return -ENOMEM;
	}
	n = scandir(directory, &names, is_drop_in, compare_names);
	if (n < 0 && errno == ENOENT)
		return 0;
	if (n < 0)
		return error_set(e, -errno, "cannot read the directory %s: %m", directory);
	for (int i = 0; i < n; i++) {
		char *file = NULL;

		if (r == 0 && asprintf(&file, "%s/%s", directory, names[i]->d_name) < 0) {
			file = NULL;
			r = -ENOMEM;
		}
		if (r == 0)
			r = apply_file(file, c, e);
		free(file);
		free(names[i]);
	}
	free(names);
	return r;
}

/*
 * memd looks at the processes of the guests, so they are on this host: no transport, no host name.
 * Others than QEMU have no guest memory to find; test: is for trying.
 */
static int check_libvirt_uris(const struct host_config *c, struct error *e)
{
	static const char *const schemes[] = {"qemu:///", "test:///"};
	const char *uri = c->libvirt_uris;

	while (uri && uri[0]) {
		size_t n = strcspn(uri, "\n");
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
			known |= strncmp(uri, schemes[i], strlen(schemes[i])) == 0;
		if (!known)
			return error_set(e, -EINVAL,
				"LibvirtUri=%.*s: memd manages QEMU on this host only, as in "
				"LibvirtUri=" CONFIG_LIBVIRT_URI,
				(int)(n < 64 ? n : 64), uri);
		uri += n + (uri[n] == '\n');
	}
	return 0;
}

/* What the schema cannot tell. */
static int check(const struct host_config *c, struct error *e)
{
	if (c->budget.bp == 0)
		return error_set(e, -ERANGE, "HostMemoryBudget=0%% leaves nothing for guests");
	if (!policy_name_valid(c->policy))
		return error_set(e, -EINVAL, "Policy=%s: the name of a policy has a-z, 0-9 and '-'",
			c->policy);
	for (size_t i = 0; i < c->n_groups; i++)
		if (!config_group_policy(&c->groups[i]))
			return error_set(e, -EINVAL,
				"[Group %s] has no Policy=, the policy that its guests are to have",
				c->groups[i].name);
	return check_libvirt_uris(c, e);
}

/* The drop-ins of a file that is there or not; then checks and hands over. */
static int finish_load(
	const char *path, struct host_config *c, struct host_config *ret, struct error *e)
{
	int r;

	r = apply_drop_ins(path, c, e);
	if (r == 0) {
		r = check(c, e);
		if (r < 0)
			error_prefix(e, "%s", path);
	}
	if (r < 0) {
		host_config_done(c);
		return r;
	}
	*ret = *c;
	return 0;
}

int host_config_load(const char *path, struct host_config *ret, struct error *e)
{
	struct host_config c;
	int r;

	r = host_config_init(&c);
	if (r < 0)
		return r;
	r = apply_file(path, &c, e);
	if (r < 0) {
		host_config_done(&c);
		return r;
	}
	return finish_load(path, &c, ret, e);
}

int host_config_load_optional(const char *path, struct host_config *ret, struct error *e)
{
	struct host_config c;
	int r;

	if (access(path, F_OK) == 0 || errno != ENOENT)
		return host_config_load(path, ret, e);
	r = host_config_init(&c);
	if (r < 0)
		return r;
	return finish_load(path, &c, ret, e);
}
