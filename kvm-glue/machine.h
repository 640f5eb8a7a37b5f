/*
 * The machine that devices are plugged into: RAM, buses, interrupts, notifications. Devices see this header only; what
 * is behind it (KVM) they do not know. This is also what unit tests and fuzz targets replace.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dedup/guest-ram.h"
#include "dedup/write-log.h"
#include "kvm-glue/bus.h"

/* Guest physical layout (bytes). RAM below 3 GiB, the rest above 4 GiB. */
#define MACHINE_LOW_RAM_END   UINT64_C(0xc0000000)
#define MACHINE_PCI_MMIO_BASE UINT64_C(0xd0000000) /* 32-bit BAR window, in the DSDT too */
#define MACHINE_PCI_MMIO_SIZE UINT64_C(0x10000000)
#define MACHINE_HIGH_RAM_BASE UINT64_C(0x100000000)

struct machine;

/*
 * Operations that KVM implements (kvm-glue/vm.c) and tests replace.
 *
 * irq_line: level of a legacy line (GSI 0..23).
 * msi_new: a route for one MSI-X vector; *ret_eventfd is an irqfd: writing 1 raises it. *ret_gsi names it.
 * msi_update: the guest (re)programmed the vector; masked true: the irqfd is disarmed and what arrives is kept pending by the
 *   caller. Called with the device's lock held.
 * doorbell_new: an ioeventfd: a guest write of any value of `size` bytes to gpa (MMIO) signals the eventfd and does not
 *   exit to user space. doorbell_free undoes it. Where KVM lacks it: -EOPNOTSUPP, and the write arrives on the bus.
 * request_stop: the guest ends: powered off or failed, with a reason; returns at once, any thread.
 */
struct machine_ops {
	int (*irq_line)(struct machine *m, unsigned gsi, bool level);
	int (*msi_new)(struct machine *m, uint32_t *ret_gsi, int *ret_eventfd);
	void (*msi_free)(struct machine *m, uint32_t gsi, int eventfd);
	int (*msi_update)(struct machine *m, uint32_t gsi, int eventfd, uint64_t address, uint32_t data,
		bool masked);
	int (*doorbell_new)(struct machine *m, uint64_t gpa, unsigned size, int eventfd);
	void (*doorbell_free)(struct machine *m, uint64_t gpa, unsigned size, int eventfd);
	void (*request_stop)(struct machine *m, bool failed, const char *reason);
};

struct machine {
	const struct machine_ops *ops;
	struct guest_ram *ram;
	struct write_log *log; /* of writes to ram; NULL: there is none */
	struct bus *bus;
};
