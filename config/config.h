/*
 * The configuration: memd.conf with its drop-ins, guests' files, and settings of guests that come
 * over the bus. INI as systemd reads it: sections, `Key=value`, `#` and `;` comments, an indented
 * line goes on with the value of the line before (CommandLine= only), an empty value means the
 * default.
 *
 * Everything is parsed through one schema of tables (schema.h), which also hold the defaults. An
 * unknown section or key is an error that names file, line and the nearest known key. A failed load
 * leaves its result untouched, so that the caller keeps the last good one. Nothing here looks at
 * the host: a percentage stays one until the caller says of what.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/base/units.h"

#define CONFIG_GUEST_NAME_MAX 63 /* characters */
#define CONFIG_VCPUS_MAX      1024
#define CONFIG_SHARES_MAX     1000000
#define CONFIG_MEMORY_MIN     (8 * MIB)
#define CONFIG_MEMORY_MAX     (4096 * GIB)

/* Bytes, or a fraction of something that is known later. */
struct config_size {
	uint64_t bytes;
	uint32_t bp; /* basis points of the whole; CONFIG_SIZE_ABSOLUTE: bytes holds */
};
#define CONFIG_SIZE_ABSOLUTE UINT32_MAX
/* In bytes; a fraction of whole_bytes is rounded down to pages of 4 KiB. */
uint64_t config_size_resolve(struct config_size size, uint64_t whole_bytes);

enum config_cgroup {
	CONFIG_CGROUP_AUTO, /* use memory cgroups where the host has them */
	CONFIG_CGROUP_OFF,
};

enum config_share { /* the values of enum vmm_scan_mode */
	CONFIG_SHARE_OFF,
	CONFIG_SHARE_ZERO_ONLY,
	CONFIG_SHARE_SHARE,
};

/* Where working sets come from. */
enum config_working_set {
	CONFIG_WORKING_SET_AUTO, /* the first of those below that the host has */
	CONFIG_WORKING_SET_PAGE_OUT,
	CONFIG_WORKING_SET_IDLE_BITS,
	CONFIG_WORKING_SET_BALLOON,
	CONFIG_WORKING_SET_OFF,
};

enum config_placement { /* the values of enum placement_mode */
	CONFIG_PLACEMENT_SHARED,
	CONFIG_PLACEMENT_PINNED,
	CONFIG_PLACEMENT_AUTO,
};

/* One line of a free-form section. */
struct config_pair {
	char *key;
	char *value;
};

/* [Policy NAME] or [Group NAME]: its keys are a policy's, uninterpreted, but for a group's Policy=. */
struct config_section {
	char *name;
	struct config_pair *pairs; /* in the order of the files */
	size_t n_pairs;
};

enum config_ladder {
	CONFIG_LADDER_MEASURED, /* what costs less goes first */
	CONFIG_LADDER_FIXED, /* sharing, balloon, paging */
};

/* Which domains of libvirt are managed. */
enum config_libvirt {
	CONFIG_LIBVIRT_OPT_IN, /* those whose settings say Manage=yes */
	CONFIG_LIBVIRT_ALL, /* but for those whose settings say Manage=no */
	CONFIG_LIBVIRT_NO, /* and no libvirt is asked */
};
#define CONFIG_LIBVIRT_URI "qemu:///system"

/* What becomes of KSM. */
enum config_merging {
	CONFIG_MERGING_LEAVE, /* as the administrator has it */
	CONFIG_MERGING_STEER, /* on and off by need; all of libvirt's guests are one trust group */
};

/* Adds a line to the section of that name, which is made when it is new. -ENOMEM. */
int config_section_add(struct config_section **sections, size_t *n_sections, const char *name,
	const char *key, const char *value);

struct host_config {
	/* [Host] */
	struct config_size budget; /* of MemTotal */
	uint64_t tick_us;
	char *policy;
	char *vmm_path; /* NULL: beside the memd binary */
	char *pool_path; /* likewise */
	char *policy_path; /* likewise */
	char *policy_dir; /* of plugins */
	uint64_t policy_time_limit_us; /* for one evaluation of a policy that is not built in */
	bool keep_guests;
	enum config_cgroup cgroup;
	char *cgroup_name;
	/* [Share] */
	enum config_share share_mode;
	uint32_t share_max_cpu_bp; /* of one core, for each guest */
	uint64_t share_target_time_us; /* of one pass over a guest */
	/* [Reclaim] */
	bool paging;
	uint32_t stall_budget_bp; /* of a guest's time, for paging out ahead of need */
	uint64_t swap_latency_max_us; /* swap on disk that is slower gets nothing ahead of need */
	uint64_t flash_write_bytes; /* a second, ahead of need, to such swap; 0: no limit */
	enum config_working_set working_set;
	uint32_t sample_width_bp; /* of an estimate, at 3 sigma, of the memory sampled */
	uint32_t sample_max_stall_bp; /* of a guest's time */
	uint32_t sample_max_cpu_bp; /* of one core, for each guest */
	enum config_ladder ladder;
	/* [Libvirt] */
	enum config_libvirt manage_libvirt;
	enum config_merging kernel_merging;
	uint64_t migrate_after_us; /* in state low: HostShort is said */
	char *libvirt_uris; /* one a line; NULL: CONFIG_LIBVIRT_URI */
	/* [Metrics] */
	bool metrics_socket; /* RUNTIME/metrics.sock */
	uint32_t metrics_http_port; /* on 127.0.0.1; 0: none */
	/* [Journal] */
	uint64_t journal_max_bytes; /* 0: none is kept */
	/* [Policy NAME] */
	struct config_section *policies;
	size_t n_policies;
	/* [Group NAME] */
	struct config_section *groups;
	size_t n_groups;
};

/* The built-in defaults. -ENOMEM. */
int host_config_init(struct host_config *ret);
/* Frees what it owns and clears it; a cleared one is allowed. */
void host_config_done(struct host_config *c);

/*
 * The defaults, then path, then path.d/ *.conf in the order of their names, later values winning;
 * checked as a whole. -ENOENT when there is no such file, -EINVAL, -ERANGE, any errno of reading;
 * *e names file and line. *ret is the caller's to end with host_config_done, untouched on failure.
 */
int host_config_load(const char *path, struct host_config *ret, struct error *e);
/* The same, but path may be missing (the default place); its drop-ins are read all the same. */
int host_config_load_optional(const char *path, struct host_config *ret, struct error *e);

/* The section of that policy, NULL when there is none. */
const struct config_section *host_config_policy(const struct host_config *c, const char *name);
/* The section of that group of guests, likewise. */
const struct config_section *host_config_group(const struct host_config *c, const char *name);
/* The Policy= of a group's section: the last one. NULL: it has none, which host_config_load refuses. */
const char *config_group_policy(const struct config_section *group);
/* The key of it. */
#define CONFIG_GROUP_POLICY "Policy"

struct guest_config {
	uint64_t memory_bytes; /* 0: not given */
	uint32_t n_vcpus;
	enum config_placement cpu_placement;
	char *kernel; /* NULL: not given */
	char *initrd; /* NULL: none */
	char *snapshot; /* directory of the one to go on from; NULL: boots the kernel */
	char *command_line; /* NULL: none */
	char *cpu_features; /* "-NAME +NAME", memd-vmm knows the names; NULL: KVM's */
	struct config_size memory_min; /* of memory_bytes */
	struct config_size memory_max; /* likewise */
	bool memory_locked; /* all of it is in memory, always: no balloon, sharing or paging */
	uint32_t shares;
	char *share_group; /* NULL: shares with nobody */
	char *policy_group; /* NULL: that of ShareGroup=, if that has one */
	uint32_t balloon_max_bp; /* of memory_bytes */
	char *console; /* NULL: <runtime-dir>/guest/NAME.console */
	bool autostart;
	char *disks; /* one a line, as memd-vmm --disk wants them; NULL: none. So are the next */
	char *nets;
	bool rng;
	char *vsock; /* CID,PATH; NULL: none */
};

/* The built-in defaults, which lack Memory= and Kernel=. -ENOMEM. */
int guest_config_init(struct guest_config *ret);
void guest_config_done(struct guest_config *c);

/*
 * The defaults and the file's [Guest] section, as host_config_load; not checked across fields,
 * since settings from the bus may still come: call guest_config_check.
 */
int guest_config_load(const char *path, struct guest_config *ret, struct error *e);

/*
 * One setting, `Memory` and `512M`, as in the file. -EINVAL (unknown key, bad value), -ERANGE,
 * -ENOMEM; the configuration is unchanged then and *e says what is wrong.
 */
int guest_config_set(struct guest_config *c, const char *key, const char *value, struct error *e);

/*
 * What no single key can tell: Memory= and one of Kernel= and Snapshot= are given, Memory= is a multiple of 2 MiB,
 * MemoryMin <= MemoryMax <= Memory. 0, -EINVAL, -ERANGE.
 */
int guest_config_check(const struct guest_config *c, struct error *e);

/*
 * The group whose policy is the guest's, if there is a section for it: PolicyGroup=, else
 * ShareGroup=. NULL: none.
 */
const char *guest_config_policy_group(const struct guest_config *c);

/* Floor and ceiling in bytes, percentages resolved. */
uint64_t guest_config_min_bytes(const struct guest_config *c);
uint64_t guest_config_max_bytes(const struct guest_config *c);

/* What memd is told of a domain of libvirt: in its metadata, and in guests.d/NAME.domain. */
struct domain_config {
	enum {
		DOMAIN_MANAGE_DEFAULT, /* as ManageLibvirt= has it */
		DOMAIN_MANAGE_YES,
		DOMAIN_MANAGE_NO,
	} manage;
	struct config_size memory_min, memory_max; /* of the domain's memory */
	uint32_t shares;
	uint32_t balloon_max_bp;
};

void domain_config_init(struct domain_config *ret);
/* One setting, as guest_config_set. -EINVAL, -ERANGE; the configuration is unchanged then. */
int domain_config_set(struct domain_config *c, const char *key, const char *value, struct error *e);
/*
 * The file's [Domain] section over what is there. -ENOENT when there is no such file, -EINVAL,
 * -ERANGE, any errno of reading; *c is unchanged then.
 */
int domain_config_load(const char *path, struct domain_config *c, struct error *e);
/*
 * A guest's configuration from it: floor and ceiling within [guarantee_bytes, limit_bytes], which
 * are 0 for none. *ret is the caller's to end. -ENOMEM.
 */
int domain_config_guest(const struct domain_config *c, uint64_t memory_bytes, uint32_t n_vcpus,
	uint64_t guarantee_bytes, uint64_t limit_bytes, struct guest_config *ret);

/*
 * [A-Za-z0-9][A-Za-z0-9_.-]{0,62}: it becomes a file name and a bus path. When false, *e says why.
 */
bool guest_name_valid(const char *name, struct error *e);
