/*
 * The process behind a domain, and where in it the guest's RAM lies: from /proc, without the help
 * of QEMU. Reads only. May be slow (/proc/PID/maps takes the mmap lock): for worker threads.
 *
 * DOC: how RAM is found
 *
 * QEMU maps the memory of a guest as one mapping for each memory backend (util/mmap-alloc.c):
 * anonymous, or of a memfd or file when it is shared with others. Nothing in /proc says which
 * mapping that is, but sizes do: the largest private writable mappings that are not executable
 * (TCG's code buffer is) whose sizes add up to the domain's memory. When none do, nothing is
 * guessed: the guest is ballooned, and not paged.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "memd/base/error.h"
#include "memd/base/vmm-proto.h"
#include "memd/sample.h"

/*
 * The process of the domain by libvirt's pid file DIR/NAME.pid, whose command line has `-uuid UUID`.
 * directories: a list that ends with NULL. On success the pidfd is the caller's. -ESRCH with *e.
 */
int qemu_process_find(const char *const *directories, const char *name, const char *uuid,
	pid_t *ret_pid, int *ret_pidfd, struct error *e);

struct qemu_ram {
	struct vmm_range ranges[SAMPLE_RANGES_MAX]; /* gpa: 0, unknown */
	uint32_t n_ranges;
	bool shared; /* of a file or memfd: the kernel does not show which of its pages are swapped */
};

/*
 * Finds RAM of memory_bytes in the text of /proc/PID/maps. Ranges are cut to whole chunks of 2 MiB.
 * -ENOENT with *e when no mappings add up.
 */
int qemu_ram_parse(const char *maps, uint64_t memory_bytes, struct qemu_ram *ret, struct error *e);
/* The same of a process; any errno of reading. */
int qemu_ram_find(pid_t pid, uint64_t memory_bytes, struct qemu_ram *ret, struct error *e);
