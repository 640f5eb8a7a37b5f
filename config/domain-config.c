/*
 * Settings of a domain of libvirt: a subset of a guest's, since the rest is libvirt's to say. In
 * the domain's metadata they are attributes, in a drop-in the [Domain] section.
 */
#include "config/config.h"

#include "config/ini-file.h"
#include "config/schema.h"
#include "memd/base/overflow.h"

/* clang-format off */
#define KEY(name, kind, member, value, ...) \
	{.section = "Domain", .key = name, .type = kind, \
	 .offset = offsetof(struct domain_config, member), .initial = value, __VA_ARGS__}

static const char *const manage_words[] = {"default", "yes", "no", NULL};

static const struct schema_key domain_keys[] = {
	KEY("Manage", SCHEMA_WORD, manage, "default", .words = manage_words),
	KEY("MemoryMin", SCHEMA_SIZE, memory_min, "25%", .max = CONFIG_MEMORY_MAX),
	KEY("MemoryMax", SCHEMA_SIZE, memory_max, "100%", .max = CONFIG_MEMORY_MAX),
	KEY("Shares", SCHEMA_U32, shares, "1000", .min = 1, .max = CONFIG_SHARES_MAX),
	KEY("BalloonMax", SCHEMA_PERCENT, balloon_max_bp, "65%", .max = 9000),
};
/* clang-format on */

static const struct schema domain_schema = {
	domain_keys,
	ARRAY_SIZE(domain_keys),
	sizeof(struct domain_config),
};

void domain_config_init(struct domain_config *ret)
{
	(void)schema_init(&domain_schema, ret); /* it has no strings: nothing to run out of */
}

int domain_config_set(struct domain_config *c, const char *key, const char *value, struct error *e)
{
	const struct schema_key *k = schema_find(&domain_schema, "Domain", key, e);
	int r;

	if (!k)
		return -EINVAL;
	r = schema_set(k, c, value, e);
	if (r < 0)
		error_prefix(e, "%.64s=%.64s", key, value);
	return r;
}

int domain_config_load(const char *path, struct domain_config *c, struct error *e)
{
	struct domain_config changed = *c;
	struct ini_file file = {0};
	int r;

	r = ini_file_load(path, &file, e);
	for (size_t i = 0; r == 0 && i < file.n_entries; i++)
		r = schema_set_entry(&domain_schema, &changed, path, &file.entries[i], e);
	ini_file_done(&file);
	if (r == 0)
		*c = changed;
	return r;
}

int domain_config_guest(const struct domain_config *c, uint64_t memory_bytes, uint32_t n_vcpus,
	uint64_t guarantee_bytes, uint64_t limit_bytes, struct guest_config *ret)
{
	uint64_t min = config_size_resolve(c->memory_min, memory_bytes);
	uint64_t max = u64_min(config_size_resolve(c->memory_max, memory_bytes), memory_bytes);
	int r = guest_config_init(ret);

	if (r < 0)
		return r;
	if (limit_bytes)
		max = u64_min(max, limit_bytes);
	min = u64_min(u64_max(min, guarantee_bytes), max);
	ret->memory_bytes = memory_bytes;
	ret->n_vcpus = n_vcpus;
	ret->memory_min = (struct config_size){.bytes = min, .bp = CONFIG_SIZE_ABSOLUTE};
	ret->memory_max = (struct config_size){.bytes = max, .bp = CONFIG_SIZE_ABSOLUTE};
	ret->shares = c->shares;
	ret->balloon_max_bp = c->balloon_max_bp;
	return 0;
}
