/*
 * memd <-> memd-vmm. memd binds /run/memd/guest/ID.sock, listens and hands the listening descriptor to
 * memd-vmm, which accepts: so the socket is there before the sandbox, and a restarted memd finds it. One
 * connection at a time; a newer one replaces the older. The vmm speaks first (HELLO).
 *
 * A memd adopts the memd-vmm of an earlier memd: HELLO says the version of the protocol, which changes when one of the
 * two would misunderstand the other; memd leaves a guest of another version alone. Within a version structs are
 * append-only: of vmm_stats a memd takes what there is (VMM_STATS_MIN_BYTES at least), and what an older memd-vmm does
 * not know reads 0. Other sizes are exact. All figures of the vmm are claims: memd compares them with the kernel's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define VMM_PROTO_VERSION 1
#define VMM_NAME_MAX      64  /* with the NUL */
#define VMM_REASON_MAX    256
#define VMM_RANGES_MAX    4

enum vmm_message_type {
	/* memd asks; each is answered with VMM_DONE or with what is named */
	VMM_GET_STATS = 1,    /* -> VMM_STATS */
	VMM_SET_BALLOON = 2,  /* struct vmm_set_balloon */
	VMM_PAUSE = 3,        /* vCPUs stand still when DONE arrives */
	VMM_RESUME = 4,
	VMM_POWER_BUTTON = 5, /* ACPI */
	VMM_QUIT = 6,         /* stop at once; DONE, then the process exits with 0 */
	VMM_ATTACH_POOL = 7,  /* one descriptor: a connection to memd-pool; replaces the former */
	VMM_SET_SCAN = 8,     /* struct vmm_set_scan */
	VMM_SET_CPUS = 21,    /* struct vmm_set_cpus: host CPUs for the vCPUs' threads */
	VMM_SNAPSHOT = 20,    /* two descriptors of new, empty files: for the state, for the RAM. The guest
				 stands still while they are written; DONE comes when they are on disk */
	VMM_ASK_HINTS = 22,   /* asks the guest for its free memory (free page hinting); DONE does not wait for it */
	VMM_ATTACH_AGENT = 23, /* one descriptor: a connected stream socket; what the guest writes to its agent's
				 port goes there and back; replaces the former */
	/* memd-vmm says */
	VMM_HELLO = 100,      /* struct vmm_hello */
	VMM_STATS = 101,      /* struct vmm_stats */
	VMM_DONE = 102,       /* struct vmm_done */
	VMM_EVENT = 103,      /* struct vmm_event, unasked */
};

enum vmm_state {
	VMM_STATE_STARTING = 0,
	VMM_STATE_RUNNING = 1,
	VMM_STATE_PAUSED = 2,
	VMM_STATE_POWERED_OFF = 3, /* the guest shut itself down or asked for a reset; the process exits */
	VMM_STATE_FAILED = 4,      /* the guest cannot go on; vCPUs stopped, memory kept for a look until QUIT */
};

/* How the host virtualizes the guest's memory. */
enum vmm_memory_mode {
	VMM_MEMORY_UNKNOWN = 0,
	VMM_MEMORY_EPT = 1,    /* Intel, two levels of page tables walked by the CPU */
	VMM_MEMORY_NPT = 2,    /* AMD, likewise */
	VMM_MEMORY_SHADOW = 3, /* VMX or SVM without these: KVM keeps page tables in the guest's place */
	VMM_MEMORY_PVM = 4,    /* KVM without hardware assist, shadow page tables */
};

struct vmm_range {
	uint64_t gpa;
	uint64_t hva;   /* in the address space of memd-vmm */
	uint64_t bytes; /* of guest RAM */
};

struct vmm_hello {
	uint32_t proto_version;
	uint32_t state; /* enum vmm_state */
	uint32_t n_vcpus;
	uint32_t n_ranges;
	uint64_t ram_bytes;
	struct vmm_range ranges[VMM_RANGES_MAX];
	char name[VMM_NAME_MAX];
	char program_version[32];
};

struct vmm_set_balloon {
	uint64_t target_pages; /* of 4 KiB that the guest shall hold in its balloon */
};

enum vmm_scan_mode {
	VMM_SCAN_OFF = 0,
	VMM_SCAN_ZERO_ONLY = 1,
	VMM_SCAN_SHARE = 2,
};

struct vmm_set_scan {
	uint32_t mode;           /* enum vmm_scan_mode */
	uint32_t max_cpu_bp;     /* of one core, basis points */
	uint64_t target_time_us; /* one pass over all RAM shall take about this long */
};

#define VMM_CPUS_MAX 1024
struct vmm_set_cpus {
	uint32_t exclusive; /* 1: vCPU N runs on the Nth of them only; 0: each on any of them */
	uint32_t reserved;
	uint64_t mask[VMM_CPUS_MAX / 64]; /* bit N % 64 of word N / 64: CPU N */
};

struct vmm_done {
	int32_t result; /* 0 or negative errno */
	uint32_t reserved;
	char reason[VMM_REASON_MAX]; /* for a person, when result is not 0 */
};

struct vmm_event {
	uint32_t state; /* enum vmm_state entered */
	uint32_t reserved;
	char reason[VMM_REASON_MAX];
};

/* Pages are of 4 KiB. The first group adds up to ram_pages: a page is in exactly one state. */
struct vmm_stats {
	uint64_t time_us; /* CLOCK_MONOTONIC when the pagemap was read */
	uint32_t state;
	uint32_t balloon_ready; /* the driver has set DRIVER_OK */

	uint64_t ram_pages;
	uint64_t private_pages;        /* anonymous and present; includes pages that broke from the pool */
	uint64_t shared_pages;         /* of the pool, mapped and not broken */
	uint64_t template_pages;       /* of the template that a clone was made from, not broken */
	uint64_t swapped_pages;
	uint64_t hole_untouched_pages;
	uint64_t hole_zero_pages;      /* found zero and dropped */
	uint64_t hole_balloon_pages;
	uint64_t hole_reported_pages;  /* free page reporting */
	uint64_t hole_hinted_pages;    /* free page hinting */

	/* of those holes, the ones whose page was backed when it was given: what the mechanism really freed */
	uint64_t freed_zero_pages;
	uint64_t freed_balloon_pages;
	uint64_t freed_reported_pages;
	uint64_t freed_hinted_pages;

	uint64_t balloon_target_pages;
	uint64_t balloon_actual_pages;
	uint64_t balloon_discard_calls;

	/* free page hinting, since the start */
	uint64_t hints_possible;      /* 1: the driver can be asked */
	uint64_t hint_runs;           /* that have ended */
	uint64_t hint_named_pages;    /* the guest said they are free */
	uint64_t hint_dropped_pages;  /* of those, had memory or swap, and have none any more */
	uint64_t hint_written_pages;  /* kept: written since */
	uint64_t hint_unsettled_pages; /* kept: a vCPU did not come in time to tell */
	uint64_t hint_cpu_us;         /* of the device's thread */
	uint64_t hint_wall_us;        /* from question to end */
	/* what the guest claims (virtio 1.2, 5.5.6.3), UINT64_MAX when it did not say */
	uint64_t guest_swap_in_bytes;
	uint64_t guest_swap_out_bytes;
	uint64_t guest_major_faults;
	uint64_t guest_minor_faults;
	uint64_t guest_free_bytes;
	uint64_t guest_total_bytes;
	uint64_t guest_available_bytes;
	uint64_t guest_disk_caches_bytes;
	uint64_t guest_stats_time_us; /* CLOCK_MONOTONIC of the last report, 0 for none */

	/* the scanner, since the start */
	uint64_t scan_passes;
	uint64_t scan_pages_hashed;
	uint64_t scan_pages_frozen;
	uint64_t scan_pages_mapped;
	uint64_t scan_pages_dropped;
	uint64_t scan_pages_thawed;   /* frozen, then not equal after all */
	uint64_t scan_pages_broken;   /* shared pages found written since */
	uint64_t scan_pages_inserted; /* first copies handed to the pool */
	uint64_t scan_cpu_us;
	uint64_t ram_mappings;        /* virtual memory areas that RAM consists of, as we made them */
	uint64_t pool_attached;       /* 1 while a pool connection is up */

	/* the machine */
	uint64_t vcpu_exits;
	uint64_t emulation_completed; /* instructions the kernel's emulator refused and we completed */
	uint64_t memory_waits;        /* KVM_RUN came back because a page could not be had, and was retried */
	uint64_t device_needs_reset;  /* guest misbehaviour towards a device, counted */
	uint64_t console_dropped_bytes;

	/* the scanner again: windows of frozen pages, and how long they were, which is what a writer waits */
	uint64_t scan_windows;
	uint64_t scan_frozen_p50_us;
	uint64_t scan_frozen_p99_us;
	uint64_t scan_frozen_max_us;

	/* KVM's own figures (binary statistics), summed over vCPUs; 0 where this KVM does not count them */
	uint64_t memory_mode;        /* enum vmm_memory_mode */
	uint64_t kvm_stats_valid;    /* 1: the rest was read */
	uint64_t kvm_pages_4k;       /* mappings of guest memory by size, now */
	uint64_t kvm_pages_2m;
	uint64_t kvm_pages_1g;
	uint64_t kvm_mmu_unsync;     /* shadow pages that are brought up to date lazily, now */
	uint64_t kvm_mmu_shadow_zapped;
	uint64_t kvm_mmu_pte_writes; /* guest page table writes that were caught */
	uint64_t kvm_remote_tlb_flushes;
	uint64_t kvm_tlb_flushes;
	uint64_t kvm_page_faults;    /* that KVM took */
	uint64_t kvm_page_faults_fixed;
	uint64_t kvm_page_faults_guest; /* handed on to the guest */
	uint64_t kvm_exits;
	uint64_t kvm_halt_exits;
	uint64_t kvm_io_exits;
	uint64_t kvm_mmio_exits;
	uint64_t vcpu_cpu_us;        /* CPU time of the vCPUs' threads */
	uint64_t balloon_cpu_us;     /* of the balloon's thread, on what the guest gave and took */
};
/* What the first memd-vmm sent: all up to console_dropped_bytes. */
#define VMM_STATS_MIN_BYTES (offsetof(struct vmm_stats, console_dropped_bytes) + sizeof(uint64_t))
