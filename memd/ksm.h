/*
 * The kernel's page merging (Documentation/admin-guide/mm/ksm.rst) for guests of libvirt: whether it
 * runs, and how much it scans. QEMU offers its guests' memory to it (mem-merge=on) unless the domain
 * says <nosharepages/>. It knows no groups: whoever says KernelMerging=steer makes all guests of
 * libvirt on this host one trust group.
 *
 * DOC: when it runs
 *
 * It is a thread of the kernel, and costs CPU whether it finds something or not. So it begins when
 * memory is wanted (the host is not in state high, or somebody is over the target), scans twice as
 * much at each tick until it has used its share of a core, and half as much when it used more. When
 * nothing is wanted any more it goes back to a tenth of its pace, and stays on as long as it earns.
 * What it earns is the profit that the kernel counts for each process (ksm_process_profit in
 * /proc/PID/ksm_stat, Linux 6.1): when that grew by less than KSM_PAYS_BYTES_PER_S for each second of
 * CPU over two whole scans, it is stopped (0 to run: what is merged stays merged), and not tried
 * again for KSM_REST_US.
 *
 * Nothing else of it is touched: merge_across_nodes, use_zero_pages, sleep_millisecs are the
 * administrator's. Run and pages_to_scan are noted before they are first changed, and put back when
 * memd ends, or by the next memd when this one was killed. With an advisor at work (6.8) the kernel
 * paces the scan itself, and only run is steered.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "memd/base/error.h"

#define KSM_PAGES_MIN	     100
#define KSM_PAGES_MAX	     20000
#define KSM_PAYS_BYTES_PER_S (4 * MIB)
#define KSM_REST_US	     (600 * US_PER_S)

/* Kept between decisions. Zero it. */
struct ksm {
	bool running;
	uint32_t pages;
	uint64_t last_cpu_us, last_us;
	/* since when, and from what, it is watched whether it pays */
	uint64_t watch_scans, watch_cpu_us;
	int64_t watch_profit_bytes;
	uint64_t rest_until_us;
};

struct ksm_in {
	uint64_t now_us;
	bool wanted;
	uint64_t cpu_us; /* of ksmd, so far */
	uint64_t full_scans; /* so far */
	int64_t profit_bytes; /* of all guests together, now */
	uint32_t max_cpu_bp; /* of one core */
};

/* What run shall be; pages_to_scan is then k->pages. */
bool ksm_decide(struct ksm *k, const struct ksm_in *in);

struct ksm_steering;

/*
 * note_path: where what was found is written. Puts back what a former memd left there.
 * -EOPNOTSUPP: this kernel has no KSM.
 */
int ksm_steering_new(const char *note_path, struct ksm_steering **ret, struct error *e);
/* Puts back what was found. NULL is allowed. */
void ksm_steering_free(struct ksm_steering *s);
/* Reads, decides and writes; profit_bytes as ksm_in. Small files: for the event loop. */
void ksm_steering_tick(struct ksm_steering *s, uint64_t now_us, bool wanted, int64_t profit_bytes,
	uint32_t max_cpu_bp);
/* What a process gains by merging, 0 where the kernel does not say. */
int64_t ksm_profit_of(int pid);
/* ksm_process_profit in the text of /proc/PID/ksm_stat; false: no such line. */
bool ksm_parse_profit(const char *text, int64_t *ret);
