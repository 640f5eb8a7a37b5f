/* The [Guest] section: NAME.guest files and settings from the bus. */
#include "config/config.h"

#include <string.h>

#include "config/ini-file.h"
#include "config/schema.h"
#include "memd/base/overflow.h"

/* Linux takes 2048 bytes with the NUL on x86 (COMMAND_LINE_SIZE). */
#define COMMAND_LINE_MAX 2047
/* open(2): PATH_MAX with the NUL. */
#define PATH_BYTES_MAX	 4095
#define DEVICE_BYTES_MAX 255

/* clang-format off */
#define KEY(name, kind, member, value, ...) \
	{.section = "Guest", .key = name, .type = kind, \
	 .offset = offsetof(struct guest_config, member), .initial = value, __VA_ARGS__}

static const char *const placement_words[] = {"shared", "pinned", "auto", NULL};

static const struct schema_key guest_keys[] = {
	KEY("Memory", SCHEMA_BYTES, memory_bytes, NULL,
		.min = CONFIG_MEMORY_MIN, .max = CONFIG_MEMORY_MAX),
	KEY("VCpus", SCHEMA_U32, n_vcpus, "1", .min = 1, .max = CONFIG_VCPUS_MAX),
	KEY("Kernel", SCHEMA_PATH, kernel, NULL, .min = 1, .max = PATH_BYTES_MAX),
	KEY("Initrd", SCHEMA_PATH, initrd, NULL, .min = 1, .max = PATH_BYTES_MAX),
	KEY("Snapshot", SCHEMA_PATH, snapshot, NULL, .min = 1, .max = PATH_BYTES_MAX),
	KEY("CommandLine", SCHEMA_TEXT, command_line, NULL, .max = COMMAND_LINE_MAX,
		.multi_line = 1),
	KEY("CpuPlacement", SCHEMA_WORD, cpu_placement, "shared", .words = placement_words),
	KEY("CpuFeatures", SCHEMA_TEXT, cpu_features, NULL, .max = COMMAND_LINE_MAX),
	KEY("MemoryMin", SCHEMA_SIZE, memory_min, "25%", .max = CONFIG_MEMORY_MAX),
	KEY("MemoryMax", SCHEMA_SIZE, memory_max, "100%", .max = CONFIG_MEMORY_MAX),
	KEY("MemoryLocked", SCHEMA_BOOL, memory_locked, "no"),
	KEY("Shares", SCHEMA_U32, shares, "1000", .min = 1, .max = CONFIG_SHARES_MAX),
	KEY("ShareGroup", SCHEMA_NAME, share_group, NULL, .min = 1, .max = CONFIG_GUEST_NAME_MAX),
	KEY("PolicyGroup", SCHEMA_NAME, policy_group, NULL,
		.min = 1, .max = CONFIG_GUEST_NAME_MAX),
	KEY("BalloonMax", SCHEMA_PERCENT, balloon_max_bp, "65%", .max = 9000),
	KEY("Console", SCHEMA_TEXT, console, NULL, .min = 1, .max = PATH_BYTES_MAX),
	KEY("Disk", SCHEMA_LINES, disks, NULL, .min = 1, .max = PATH_BYTES_MAX),
	KEY("Net", SCHEMA_LINES, nets, NULL, .min = 1, .max = DEVICE_BYTES_MAX),
	KEY("Rng", SCHEMA_BOOL, rng, "no"),
	KEY("Vsock", SCHEMA_TEXT, vsock, NULL, .min = 1, .max = DEVICE_BYTES_MAX),
	KEY("Autostart", SCHEMA_BOOL, autostart, "no"),
};
/* clang-format on */

static const struct schema guest_schema = {
	guest_keys,
	ARRAY_SIZE(guest_keys),
	sizeof(struct guest_config),
};

uint64_t config_size_resolve(struct config_size size, uint64_t whole_bytes)
{
	if (size.bp == CONFIG_SIZE_ABSOLUTE)
		return size.bytes;
	return u64_align_down(
		(uint64_t)((unsigned __int128)whole_bytes * size.bp / 10000), PAGE_BYTES);
}

int guest_config_init(struct guest_config *ret)
{
	return schema_init(&guest_schema, ret);
}

void guest_config_done(struct guest_config *c)
{
	schema_done(&guest_schema, c);
}

int guest_config_set(struct guest_config *c, const char *key, const char *value, struct error *e)
{
	const struct schema_key *k = schema_find(&guest_schema, "Guest", key, e);
	int r;

	if (!k)
		return -EINVAL;
	r = schema_set(k, c, value, e);
	if (r < 0)
		error_prefix(e, "%s=%.64s", key, value);
	return r;
}

static int apply(
	const struct ini_file *file, const char *path, struct guest_config *c, struct error *e)
{
	for (size_t i = 0; i < file->n_entries; i++) {
		int r = schema_set_entry(&guest_schema, c, path, &file->entries[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}

int guest_config_load(const char *path, struct guest_config *ret, struct error *e)
{
	struct ini_file file = {0};
	struct guest_config c;
	int r;

	r = guest_config_init(&c);
	if (r < 0)
		return r;
	r = ini_file_load(path, &file, e);
	if (r == 0)
		r = apply(&file, path, &c, e);
	ini_file_done(&file);
	if (r < 0) {
		guest_config_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

uint64_t guest_config_min_bytes(const struct guest_config *c)
{
	if (c->memory_locked)
		return c->memory_bytes;
	return config_size_resolve(c->memory_min, c->memory_bytes);
}

uint64_t guest_config_max_bytes(const struct guest_config *c)
{
	if (c->memory_locked)
		return c->memory_bytes;
	return config_size_resolve(c->memory_max, c->memory_bytes);
}

const char *guest_config_policy_group(const struct guest_config *c)
{
	return c->policy_group ? c->policy_group : c->share_group;
}

/* What memd-vmm --console takes, but for standard output. */
static bool console_valid(const char *console)
{
	static const char *const kinds[] = {"pty:", "unix:"};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strncmp(console, kinds[i], strlen(kinds[i])) == 0)
			console += strlen(kinds[i]);
	return console[0] == '/';
}

int guest_config_check(const struct guest_config *c, struct error *e)
{
	uint64_t min = guest_config_min_bytes(c), max = guest_config_max_bytes(c);

	if (c->memory_bytes == 0)
		return error_set(e, -EINVAL,
			"Memory= is missing; say how much RAM the guest boots with, as in "
			"Memory=512M");
	if (!c->kernel && !c->snapshot)
		return error_set(e, -EINVAL,
			"Kernel= is missing; give the path of a Linux kernel (vmlinuz or vmlinux)");
	if (c->kernel && c->snapshot)
		return error_set(e, -EINVAL,
			"Kernel= and Snapshot= exclude each other: a guest boots, or goes on from "
			"a "
			"snapshot");
	if (c->memory_locked && c->snapshot)
		return error_set(e, -EINVAL,
			"MemoryLocked= and Snapshot= exclude each other: a clone shares its memory "
			"until it writes");
	if (c->cpu_features && c->snapshot)
		return error_set(e, -EINVAL,
			"CpuFeatures= and Snapshot= exclude each other: the CPUs are the "
			"snapshot's");
	if (c->console && !console_valid(c->console))
		return error_set(e, -EINVAL,
			"Console=%.64s is no absolute path, with or without pty: or unix: before "
			"it",
			c->console);
	if (c->memory_bytes % CHUNK_BYTES)
		return error_set(e, -EINVAL, "Memory=%llu is no multiple of 2 MiB",
			(unsigned long long)c->memory_bytes);
	if (max > c->memory_bytes)
		return error_set(e, -ERANGE, "MemoryMax= (%s) is more than Memory= (%s)",
			UNITS_BYTES(max), UNITS_BYTES(c->memory_bytes));
	if (min > max)
		return error_set(e, -ERANGE, "MemoryMin= (%s) is more than MemoryMax= (%s)",
			UNITS_BYTES(min), UNITS_BYTES(max));
	return 0;
}

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool guest_name_valid(const char *name, struct error *e)
{
	size_t n = strnlen(name, CONFIG_GUEST_NAME_MAX + 1);

	if (n == 0 || n > CONFIG_GUEST_NAME_MAX) {
		error_set(e, -EINVAL, "a name has 1 to %d characters", CONFIG_GUEST_NAME_MAX);
		return false;
	}
	if (!is_alphanumeric(name[0])) {
		error_set(
			e, -EINVAL, "the name '%s' does not begin with a letter or a digit", name);
		return false;
	}
	for (size_t i = 1; i < n; i++) {
		if (is_alphanumeric(name[i]) || strchr("_.-", name[i]))
			continue;
		error_set(e, -EINVAL,
			"the name '%s' has a '%c'; letters, digits, '_', '.' and '-' are allowed",
			name, name[i]);
		return false;
	}
	return true;
}
