/*
 * The kernel's own figures about processes and swap, as the ledger compares them with ours. All
 * parsers take the text, so that they are tested without a /proc; unknown lines are skipped, a
 * missing line is an error, never a silent zero. A pid of 0 is this process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* /proc/PID/smaps_rollup (Documentation/filesystems/proc.rst), in bytes. */
struct smaps_rollup {
	uint64_t rss_bytes;
	uint64_t pss_bytes;
	uint64_t pss_anon_bytes;  /* private anonymous memory, shared by fork split up */
	uint64_t pss_file_bytes;
	uint64_t pss_shmem_bytes; /* memfd pages, split between those that map them */
	uint64_t anonymous_bytes; /* includes COW-broken pages of private file mappings */
	uint64_t swap_bytes;
	uint64_t swap_pss_bytes;
	uint64_t anon_huge_bytes;
};

/* -EPROTO when one of these lines is missing (all kernels since 5.4 write them). */
int procfs_parse_smaps_rollup(const char *text, struct smaps_rollup *ret);
/* Any errno of reading (-ENOENT, -ESRCH: the process is gone). */
int procfs_read_smaps_rollup(pid_t pid, struct smaps_rollup *ret);

/* VmPTE of /proc/PID/status: page tables of the process, in bytes. -ESRCH for one that exits. */
int procfs_read_page_table_bytes(pid_t pid, uint64_t *ret_bytes);
/* Major faults and CPU time (user + system) of /proc/PID/stat. */
struct proc_stat {
	uint64_t minor_faults;
	uint64_t major_faults;
	uint64_t cpu_us;
};
int procfs_parse_stat(const char *text, long ticks_per_second, struct proc_stat *ret);
int procfs_read_stat(pid_t pid, struct proc_stat *ret);

/* MemTotal and MemAvailable of /proc/meminfo. */
int procfs_read_meminfo(uint64_t *ret_total_bytes, uint64_t *ret_available_bytes);

/* One line of /proc/swaps, and what it occupies in RAM when it is a zram device. */
struct swap_device {
	char path[64];
	uint64_t size_bytes;
	uint64_t used_bytes;
	int32_t priority;
	bool is_zram;
	uint64_t zram_original_bytes;   /* mm_stat: orig_data_size */
	uint64_t zram_compressed_bytes; /* mm_stat: compr_data_size */
	uint64_t zram_occupied_bytes;   /* mm_stat: mem_used_total, RAM held by the device */
};
/* Parses /proc/swaps (figures of zram are left 0). -ENOMEM; *ret is the caller's to free. */
int procfs_parse_swaps(const char *text, struct swap_device **ret, size_t *ret_n);
/* Reads all active swap devices; *ret is the caller's to free, NULL when there are none. */
int procfs_read_swaps(struct swap_device **ret, size_t *ret_n);
/* Parses mm_stat (Documentation/admin-guide/blockdev/zram.rst). -EPROTO. */
int procfs_parse_mm_stat(const char *text, struct swap_device *ret);
