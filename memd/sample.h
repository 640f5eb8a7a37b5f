/*
 * The kernel's figures about one process of ours, read in a worker thread: what it costs the host
 * and, for a guest, where the pages of its RAM are, counted for each 2 MiB region. Reads only,
 * touches no page of anybody.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memd/base/cleanup.h"
#include "memd/base/procfs.h"
#include "memd/base/vmm-proto.h"

/*
 * A guest's process as the worker threads need it. Counted, since a job may outlive the guest; the
 * counting is done by the event loop only. The descriptors make sure that no other process is hit
 * after this one ended.
 */
#define SAMPLE_RANGES_MAX 32 /* QEMU has one for each NUMA node and each memory device */
_Static_assert(SAMPLE_RANGES_MAX >= VMM_RANGES_MAX, "what memd-vmm sends fits");
struct sample_process {
	unsigned n_refs;
	pid_t pid;
	int pidfd;
	int pagemap_fd;
	uint32_t n_ranges;
	struct vmm_range ranges[SAMPLE_RANGES_MAX];
	uint32_t n_regions;
};

/*
 * pidfd is duplicated. ranges as vmm_hello_check let them pass. Any errno of opening the pagemap.
 */
int sample_process_new(pid_t pid, int pidfd, const struct vmm_range *ranges, uint32_t n_ranges,
	struct sample_process **ret);
struct sample_process *sample_process_ref(struct sample_process *p);
/* NULL is allowed. Returns NULL. */
struct sample_process *sample_process_unref(struct sample_process *p);

/* The address of a region; region < n_regions. */
uint64_t sample_region_address(const struct sample_process *p, uint32_t region);

/* One region of 2 MiB, in pages. The rest are holes. */
struct region_count {
	uint16_t anonymous; /* present, private */
	uint16_t swapped;
	uint16_t file; /* present, of the pool */
};

struct kernel_sample {
	uint64_t begin_us, end_us; /* monotonic */
	struct smaps_rollup rollup;
	uint64_t page_table_bytes;
	/* of the RAM only, by the pagemap */
	uint64_t ram_anonymous_pages;
	uint64_t ram_swapped_pages;
	uint64_t ram_file_pages;
	struct region_count *regions; /* n_regions of the process; owned */
};

/* Reads one region. -ESRCH, -EIO: the process ends; -ENOMEM. */
int sample_read_region(const struct sample_process *p, uint32_t region, struct region_count *ret);
/*
 * Reads all of it. -ESRCH, -EIO: the process ends; -ENOMEM. *ret is ended with kernel_sample_done.
 */
int kernel_sample_read(const struct sample_process *p, struct kernel_sample *ret);
void kernel_sample_done(struct kernel_sample *s);

/* Whether that entry of a pagemap is a private page that is present. */
bool sample_entry_is_private(uint64_t entry);
/*
 * Counts n entries of a pagemap into *ret. zero_pfn: the frame of the zero page, 0 when the kernel
 * hides it.
 */
void sample_count_entries(
	const uint64_t *entries, size_t n, uint64_t zero_pfn, struct region_count *ret);
