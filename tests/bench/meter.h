/* CPU time and kernel memory as the scheduler and the slab allocator count them. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* CPU of one thread (pid and tid may be equal), in microseconds; 0 when it is gone. */
uint64_t meter_thread_us(pid_t pid, pid_t tid);

struct meter_vmm {
	uint64_t scanner_us; /* threads named memd-scan */
	uint64_t vcpus_us; /* all others but the main thread, which answers our questions */
};
void meter_vmm_add(pid_t pid, struct meter_vmm *sum);

/*
 * Bytes in the kernel's objects for mappings (vm_area_struct, their trees, anon_vma) and for KSM's
 * items, over the whole machine: differences count.
 */
uint64_t meter_slab_bytes(void);
/* Anonymous pages of a process by its counters: cheap, a few dozen pages off. */
uint64_t meter_anonymous_pages(pid_t pid);
