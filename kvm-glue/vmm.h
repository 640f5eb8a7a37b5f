/* One guest, put together: RAM, VM, vCPUs, devices, scanner. Made in two steps, with the drop of privileges in between. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "dedup/scanner.h"
#include "kvm-glue/acpi.h"
#include "kvm-glue/console.h"
#include "kvm-glue/device.h"
#include "kvm-glue/dirty-log.h"
#include "kvm-glue/host.h"
#include "kvm-glue/i8042.h"
#include "kvm-glue/kvm-stats.h"
#include "kvm-glue/options.h"
#include "kvm-glue/pci.h"
#include "kvm-glue/pvpanic.h"
#include "kvm-glue/rtc.h"
#include "kvm-glue/serial.h"
#include "kvm-glue/vcpu.h"
#include "kvm-glue/virtio-balloon.h"
#include "kvm-glue/virtio-console.h"
#include "kvm-glue/vm.h"
#include "kvm-glue/vmm-snapshot.h"
#include "memd/base/vmm-proto.h"

struct vmm {
	const struct options *options;
	struct host host;
	uint64_t memory_bytes;
	unsigned n_vcpus;
	struct vmm_saved saved; /* what to go on from */
	struct vmm_snapshot snapshot; /* that memd asked for */
	int kernel_fd;
	int initrd_fd;
	struct console *console;
	struct guest_ram *ram;
	uint64_t mappings_max;
	struct scanner *scanner;
	struct bus *bus;
	struct vm *vm;
	struct vcpus *vcpus;
	struct kvm_stats *kvm_stats; /* NULL: this KVM has none */
	struct dirty_log *dirty_log;
	struct pci_bus *pci;
	struct serial *serial;
	struct rtc *rtc;
	struct i8042 *keyboard;
	struct acpi_pm *pm;
	struct pvpanic *panic;
	struct virtio_balloon *balloon;
	struct virtio_console *virtio_console;
	struct devices *devices; /* that options asked for */
	int stop_fd; /* eventfd: the guest has ended, or asks to */

	pthread_mutex_t stop_lock; /* what follows */
	bool stop_asked;
	bool stop_failed;
	char stop_reason[VMM_REASON_MAX];
};

/* Everything that needs privileges: /dev/kvm, userfaultfd, files. No thread is started. options outlive it. */
int vmm_open(const struct options *options, struct vmm **ret, struct error *e);
/* Everything else; the guest is loaded, its vCPUs are parked at the entry. */
int vmm_build(struct vmm *vmm, struct error *e);
/* Ends all threads. NULL and a half-built one are allowed. */
void vmm_free(struct vmm *vmm);
DEFINE_CLEANUP(struct vmm *, vmm_free)

/* Whether the guest has ended, and how. */
bool vmm_stopped(struct vmm *vmm, bool *ret_failed, char ret_reason[VMM_REASON_MAX]);
