/*
 * The figures of a guest, from whoever has them to the message that carries them (vmm-proto.h).
 *
 * Must never: wait for the guest, or touch its memory; the control loop asks.
 */
#include "kvm-glue/vmm-stats.h"

static void fill_balloon_stats(struct vmm *vmm, struct vmm_stats *s)
{
	struct virtio_balloon_stats b;

	virtio_balloon_stats_read(vmm->balloon, &b);
	s->balloon_ready = b.ready;
	s->balloon_target_pages = b.target_pages;
	s->balloon_actual_pages = b.actual_pages;
	s->balloon_discard_calls = b.discard_calls;
	s->balloon_cpu_us = b.cpu_us;
	s->hints_possible = b.hints_negotiated;
	s->hint_runs = b.hints.runs;
	s->hint_named_pages = b.hints.named_pages;
	s->hint_dropped_pages = b.hints.dropped_pages;
	s->hint_written_pages = b.hints.written_pages;
	s->hint_unsettled_pages = b.hints.unsettled_pages;
	s->hint_cpu_us = b.hints.cpu_us;
	s->hint_wall_us = b.hints.wall_us;
	s->guest_swap_in_bytes = b.claims.swap_in_bytes;
	s->guest_swap_out_bytes = b.claims.swap_out_bytes;
	s->guest_major_faults = b.claims.major_faults;
	s->guest_minor_faults = b.claims.minor_faults;
	s->guest_free_bytes = b.claims.free_bytes;
	s->guest_total_bytes = b.claims.total_bytes;
	s->guest_available_bytes = b.claims.available_bytes;
	s->guest_disk_caches_bytes = b.claims.disk_caches_bytes;
	s->guest_stats_time_us = b.claims.time_us;
	s->device_needs_reset += b.needs_reset;
	virtio_balloon_request_claims(vmm->balloon); /* for the next time */
}

static void fill_scanner_stats(struct vmm *vmm, struct vmm_stats *s)
{
	struct scanner_stats scan;

	scanner_stats_read(vmm->scanner, &scan);
	s->scan_passes = scan.passes;
	s->scan_pages_hashed = scan.pages_hashed;
	s->scan_pages_frozen = scan.pages_frozen;
	s->scan_pages_mapped = scan.pages_mapped;
	s->scan_pages_dropped = scan.pages_dropped;
	s->scan_pages_thawed = scan.pages_thawed;
	s->scan_pages_broken = scan.pages_broken;
	s->scan_pages_inserted = scan.pages_inserted;
	s->scan_cpu_us = scan.cpu_us;
	s->pool_attached = scan.pool_attached;
	s->scan_windows = scan.frozen.n;
	s->scan_frozen_p50_us = wait_histogram_percentile_us(&scan.frozen, 50);
	s->scan_frozen_p99_us = wait_histogram_percentile_us(&scan.frozen, 99);
	s->scan_frozen_max_us = scan.frozen.max_us;
}

static void fill_machine_stats(struct vmm *vmm, struct vmm_stats *s)
{
	struct virtio_console_stats console;
	struct vcpus_stats vcpus;

	vcpus_stats_read(vmm->vcpus, &vcpus);
	s->vcpu_exits = vcpus.exits;
	s->emulation_completed = vcpus.emulation_completed;
	s->memory_waits = vcpus.memory_waits;
	s->vcpu_cpu_us = vcpus.cpu_us;
	virtio_console_stats_read(vmm->virtio_console, &console);
	s->device_needs_reset += console.needs_reset;
	s->device_needs_reset += devices_needs_reset(vmm->devices);
	s->console_dropped_bytes = console_dropped_bytes(vmm->console);
}

static void fill_kvm_stats(struct vmm *vmm, struct vmm_stats *s)
{
	uint64_t k[KVM_STATS];

	s->memory_mode = vmm->host.memory_mode;
	if (!vmm->kvm_stats || kvm_stats_read(vmm->kvm_stats, k) < 0)
		return;
	s->kvm_stats_valid = 1;
	s->kvm_pages_4k = k[KVM_STAT_PAGES_4K];
	s->kvm_pages_2m = k[KVM_STAT_PAGES_2M];
	s->kvm_pages_1g = k[KVM_STAT_PAGES_1G];
	s->kvm_mmu_unsync = k[KVM_STAT_MMU_UNSYNC];
	s->kvm_mmu_shadow_zapped = k[KVM_STAT_MMU_SHADOW_ZAPPED];
	s->kvm_mmu_pte_writes = k[KVM_STAT_MMU_PTE_WRITE];
	s->kvm_remote_tlb_flushes = k[KVM_STAT_REMOTE_TLB_FLUSHES];
	s->kvm_tlb_flushes = k[KVM_STAT_TLB_FLUSHES];
	s->kvm_page_faults = k[KVM_STAT_PF_TAKEN];
	s->kvm_page_faults_fixed = k[KVM_STAT_PF_FIXED];
	s->kvm_page_faults_guest = k[KVM_STAT_PF_GUEST];
	s->kvm_exits = k[KVM_STAT_EXITS];
	s->kvm_halt_exits = k[KVM_STAT_HALT_EXITS];
	s->kvm_io_exits = k[KVM_STAT_IO_EXITS];
	s->kvm_mmio_exits = k[KVM_STAT_MMIO_EXITS];
}

static int fill_ram_stats(struct vmm *vmm, struct vmm_stats *s)
{
	struct guest_ram_census census;
	int r = guest_ram_census(vmm->ram, &census);

	if (r < 0)
		return r;
	s->ram_pages = guest_ram_pages(vmm->ram);
	s->private_pages = census.private_pages;
	s->shared_pages = census.shared_pages;
	s->template_pages = census.template_pages;
	s->swapped_pages = census.swapped_pages;
	s->hole_untouched_pages = census.hole_pages[HOLE_UNTOUCHED];
	s->hole_zero_pages = census.hole_pages[HOLE_ZERO];
	s->hole_balloon_pages = census.hole_pages[HOLE_BALLOON];
	s->hole_reported_pages = census.hole_pages[HOLE_REPORTED];
	s->freed_zero_pages = census.freed_pages[HOLE_ZERO];
	s->freed_balloon_pages = census.freed_pages[HOLE_BALLOON];
	s->hole_hinted_pages = census.hole_pages[HOLE_HINTED];
	s->freed_reported_pages = census.freed_pages[HOLE_REPORTED];
	s->freed_hinted_pages = census.freed_pages[HOLE_HINTED];
	s->ram_mappings = census.mappings;
	return 0;
}

int vmm_stats_read(struct vmm *vmm, struct vmm_stats *s)
{
	int r = fill_ram_stats(vmm, s);

	if (r < 0)
		return r;
	fill_balloon_stats(vmm, s);
	fill_scanner_stats(vmm, s);
	fill_machine_stats(vmm, s);
	fill_kvm_stats(vmm, s);
	return 0;
}
