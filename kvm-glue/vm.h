/*
 * The virtual machine as KVM knows it: memory slots, interrupt controllers and timer in the kernel, interrupt routes,
 * doorbells. Implements struct machine_ops (machine.h) for the devices.
 */
#pragma once

#include <pthread.h>

#include "kvm-glue/host.h"
#include "kvm-glue/machine.h"
#include "kvm-glue/snapshot.h"
#include "memd/base/units.h"

/*
 * RAM is registered in slots of this size: a dirty log belongs to a slot, and it is switched on for one at a time only
 * (a logged slot is mapped in 4 KiB steps).
 */
#define VM_SLOT_BYTES (64 * MIB)

/* GSIs 0..23 are the pins of the IOAPIC (0..15 of the PICs too); messages follow. */
#define VM_N_PINS   24
#define VM_MSIS_MAX 64

/* Told when a device or a vCPU ends the guest; any thread; shall return at once. */
typedef void (*vm_stop)(void *context, bool failed, const char *reason);

struct kvm_irq_routing;

struct vm {
	struct machine machine; /* first: devices hand it back */
	const struct host *host;
	int fd;
	unsigned n_slots;
	struct vm_slot {
		uint64_t gpa;
		uint64_t bytes;
		uint8_t *host;
		uint64_t first_page; /* page number, guest-ram.h */
	} *slots;
	vm_stop stop;
	void *stop_context;

	pthread_mutex_t routes_lock; /* what follows */
	struct kvm_irq_routing *routes;
	struct vm_msi {
		bool used;
		bool routed; /* address and data are in the kernel's table */
		bool armed; /* the irqfd is bound */
		uint64_t address;
		uint32_t data;
	} msis[VM_MSIS_MAX];
};

/*
 * Makes the VM with its interrupt controllers and puts all of ram in it. host, ram and bus outlive it. An errno of KVM, *e
 * says at what.
 */
int vm_new(const struct host *host, struct guest_ram *ram, struct bus *bus, vm_stop stop,
	void *stop_context, struct vm **ret, struct error *e);
void vm_free(struct vm *vm);
DEFINE_CLEANUP(struct vm *, vm_free)

/* Switches the dirty log of a slot: from the return on, every write of the guest is in it. Errno of KVM. */
enum vm_log {
	VM_LOG_OFF,
	VM_LOG_ON,
};
int vm_slot_log(struct vm *vm, unsigned slot, enum vm_log log);

/* Ends the guest: see machine_ops.request_stop. */
void vm_request_stop(struct vm *vm, bool failed, const char *reason);

/* vm-state.c. vCPUs stand still; restore: -EINVAL, or an errno of KVM, with the reason in *e. */
int vm_save(struct vm *vm, struct snapshot_writer *w, struct error *e);
int vm_restore(struct vm *vm, struct snapshot_reader *r, struct error *e);

/* vm-irq.c, for vm.c only. */
int vm_irq_init(struct vm *vm, struct error *e);
void vm_irq_done(struct vm *vm);
int vm_irq_line(struct machine *m, unsigned gsi, bool level);
int vm_msi_new(struct machine *m, uint32_t *ret_gsi, int *ret_eventfd);
void vm_msi_free(struct machine *m, uint32_t gsi, int eventfd);
int vm_msi_update(
	struct machine *m, uint32_t gsi, int eventfd, uint64_t address, uint32_t data, bool masked);
