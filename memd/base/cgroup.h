/*
 * Memory cgroups of the guests, v2 or v1, whichever holds the memory controller on this host.
 *
 * v2 (Documentation/admin-guide/cgroup-v2.rst): `memory.high` throttles and never kills.
 * v1 (Documentation/admin-guide/cgroup-v1/memory.rst): has hard limits only, which are no good for
 * guests (memd/wall.c); it counts, and tells by an eventfd when usage crosses a threshold.
 *
 * A tree of two levels: root `memd-<instance>` with the wall for all guests, one child for each
 * guest.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "memd/base/error.h"

enum cgroup_mode {
	CGROUP_NONE, /* no memory controller, or no permission: tick and pause only */
	CGROUP_V1,
	CGROUP_V2,
};

struct cgroup; /* one directory; owns its descriptor */

/* Where the memory controller is mounted and which version; CGROUP_NONE with the reason in *e. */
enum cgroup_mode cgroup_detect(char *ret_mount, size_t size, struct error *e);

/*
 * Makes (or takes over, when it is there and empty) the directory `name` under parent (NULL: under
 * the mount). Any errno of mkdir; *e says which path. Free with cgroup_free, which does not remove
 * it.
 */
int cgroup_new(enum cgroup_mode mode, const struct cgroup *parent, const char *name,
	struct cgroup **ret, struct error *e);
/*
 * As cgroup_new for a directory that is there, with its processes: for adopting guests. -ENOENT,
 * ...
 */
int cgroup_open(enum cgroup_mode mode, const struct cgroup *parent, const char *name,
	struct cgroup **ret, struct error *e);
/* NULL is allowed. */
void cgroup_free(struct cgroup *c);
/* rmdir; -EBUSY while processes are in it. */
int cgroup_remove(struct cgroup *c);

/* An O_WRONLY descriptor of cgroup.procs, the caller's: a child writes "0" to it before exec. */
int cgroup_open_procs(const struct cgroup *c);
int cgroup_attach(const struct cgroup *c, pid_t pid);

/*
 * v2: memory.high, which throttles. v1: memory.limit_in_bytes, a hard one, never below the present
 * usage, since that would block in the kernel's reclaim (-EBUSY: usage grew meanwhile). bytes:
 * UINT64_MAX for none. *ret_set (may be NULL): what was really written.
 */
int cgroup_set_limit(struct cgroup *c, uint64_t bytes, uint64_t *ret_set);
int cgroup_read_usage(const struct cgroup *c, uint64_t *ret_bytes);
/* v1: an eventfd that fires when usage crosses bytes either way. -EOPNOTSUPP on v2. */
int cgroup_watch_threshold(struct cgroup *c, uint64_t bytes, int *ret_eventfd);
/* Of the text of a memory.pressure. -EPROTO. */
int cgroup_parse_pressure(const char *text, uint64_t *ret_some_us, uint64_t *ret_full_us);
/*
 * v2: `total` of the lines some and full of memory.pressure, in microseconds
 * (Documentation/accounting/psi.rst). -EOPNOTSUPP on v1, -ENOENT or what else reading said where
 * the kernel keeps none.
 */
int cgroup_read_pressure(const struct cgroup *c, uint64_t *ret_some_us, uint64_t *ret_full_us);
