/*
 * One PCI bus of type 0 functions behind a host bridge: configuration mechanism 1 (PCI Local
 * Bus 3.0, 3.2.2.3.2), one memory BAR a function, a capability list, MSI-X (6.8.2) and, for drivers
 * without MSI-X, INTA on a line of the function's own. Knows nothing of virtio.
 *
 * pci.c says in which order locks are taken.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm-glue/machine.h"
#include "kvm-glue/snapshot.h"

#define PCI_SLOTS	 32 /* slot 0 is the host bridge */
#define PCI_LINE_SLOTS	 8 /* slots below have a line for INTA; those from here on are MSI-X only */
#define PCI_CONFIG_BYTES 256
#define PCI_BAR_BYTES	 UINT64_C(0x8000)
#define PCI_MSIX_MAX	 18 /* vectors of a function */

/*
 * INTA of slot N is GSI 16 + N, level triggered, active low, not shared: for the DSDT's _PRT, and
 * what the interrupt line register says. Where a function's first BAR is placed before the guest
 * moves it.
 */
#define PCI_GSI(slot)	      (16u + (slot))
#define PCI_BAR_INITIAL(slot) (MACHINE_PCI_MMIO_BASE + (slot)*PCI_BAR_BYTES)

struct pci_bus;
struct pci_function;

/*
 * What a function does beyond its configuration bytes. Any of them may be NULL.
 *
 * config_read: before bytes [offset, offset + size) are read: bring `config` up to date.
 * config_written: after the writable bits of them were written. Both with the PCI bus's lock held.
 * bar_moved: the BAR now decodes at gpa, or nowhere (UINT64_MAX). PCI bus's lock held.
 * bar: accesses to the BAR outside of the MSI-X table and pending bits; vCPU threads, no lock held.
 * quiesce, resume: threads of the device stand still, go on. Called in pairs by a thread that takes a
 *   snapshot, while vCPUs stand still.
 * save: appends what the guest made of the device, beyond configuration space and MSI-X, while it is
 *   quiesced. Negative errno with the reason in *e. A function without it cannot be saved.
 * restore: takes that over, with the configuration space and MSI-X already restored, before any vCPU runs.
 */
struct pci_function_ops {
	void (*config_read)(struct pci_function *f, unsigned offset, unsigned size);
	void (*config_written)(struct pci_function *f, unsigned offset, unsigned size);
	void (*bar_moved)(struct pci_function *f, uint64_t gpa);
	struct bus_ops bar; /* device: the struct pci_function */
	void (*quiesce)(struct pci_function *f);
	void (*resume)(struct pci_function *f);
	int (*save)(struct pci_function *f, struct snapshot_writer *w, struct error *e);
	int (*restore)(struct pci_function *f, struct snapshot_reader *r, struct error *e);
};

struct pci_msix_vector {
	uint32_t entry[4]; /* as in the table: address low, high, data, vector control */
	uint32_t gsi;
	int eventfd; /* irqfd */
	bool armed; /* the machine delivers what is written to eventfd */
	bool pending;
};

/*
 * Embedded in the device; filled by pci_function_init and its capability helpers. Fields are
 * private to pci.c but for config.
 */
struct pci_function {
	const struct pci_function_ops *ops;
	struct pci_bus *bus;
	unsigned slot;
	uint8_t config[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES]; /* bits that the guest may change */
	unsigned last_capability; /* offset, 0 for none yet */
	unsigned end_of_capabilities;
	struct bus_range *bar_range;
	uint64_t bar_gpa; /* UINT64_MAX while not decoded */

	pthread_mutex_t msix_lock; /* what follows */
	unsigned msix_capability; /* offset, 0 for none */
	unsigned n_vectors;
	uint32_t msix_table_offset; /* in the BAR */
	uint32_t msix_pba_offset;
	bool msix_enabled;
	bool msix_masked; /* the whole function */
	struct pci_msix_vector vectors[PCI_MSIX_MAX];
	bool intx_level; /* the device wants it raised */
	bool intx_shown; /* and it is */
	bool intx_disabled;
};

/* Registers ports 0xcf8..0xcff. m outlives it. -EEXIST, -ENOMEM. */
int pci_bus_new(struct machine *m, struct pci_bus **ret);
/*
 * After the functions are done and no vCPU runs. NULL is allowed. The machine's bus must still be
 * there.
 */
void pci_bus_free(struct pci_bus *b);
DEFINE_CLEANUP(struct pci_bus *, pci_bus_free)

struct pci_ids {
	uint16_t vendor;
	uint16_t device;
	uint16_t subsystem_vendor;
	uint16_t subsystem;
	uint8_t revision;
	uint32_t class_code; /* 24 bits */
};

/*
 * Sets up *f (zeroed by the caller) without showing it to the guest: identity, a BAR of
 * PCI_BAR_BYTES that is placed at PCI_BAR_INITIAL(slot), not decoded. slot 1..PCI_SLOTS-1. -EBUSY
 * when the slot is taken, or an errno of bus_add.
 */
int pci_function_init(struct pci_function *f, struct pci_bus *b, unsigned slot,
	const struct pci_ids *ids, const struct pci_function_ops *ops);
/*
 * Takes the function off the bus; after that no operation of it is called. Safe on a zeroed or
 * half-built one.
 */
void pci_function_done(struct pci_function *f);

/*
 * Appends a capability of `bytes` (with its two header bytes, which this fills in); the rest is
 * copied from body. Returns its offset, or -ENOSPC.
 */
int pci_function_add_capability(
	struct pci_function *f, uint8_t id, const void *body, unsigned bytes);
/*
 * Adds MSI-X with n vectors (1..PCI_MSIX_MAX), table and pending bits at those offsets (8 byte
 * aligned) of the BAR. -EINVAL, -ENOSPC, or an errno of msi_new.
 */
int pci_function_add_msix(
	struct pci_function *f, unsigned n, uint32_t table_offset, uint32_t pba_offset);
/* The guest can find it from now on. */
void pci_function_publish(struct pci_function *f);

/*
 * Raises a vector, or keeps it pending while masked; nothing when MSI-X is off or there is no such
 * vector. Any thread.
 */
void pci_msix_raise(struct pci_function *f, unsigned vector);
bool pci_msix_enabled(struct pci_function *f);
/* Level of INTA; kept and not shown while the guest disabled it or uses MSI-X. Any thread. */
void pci_intx_set(struct pci_function *f, bool level);

/*
 * All functions at once (pci-state.c). Quiesce, save as often as wanted, resume, by one thread that
 * is no vCPU's, while vCPUs stand still; one that did not would wait in between, at its next access
 * to configuration space or reset of a device. save: -EOPNOTSUPP for a device that cannot be saved.
 * restore: -EINVAL, also for other devices than there are; *e says what.
 */
void pci_bus_quiesce(struct pci_bus *b);
void pci_bus_resume(struct pci_bus *b);
int pci_bus_save(struct pci_bus *b, struct snapshot_writer *w, struct error *e);
int pci_bus_restore(struct pci_bus *b, struct snapshot_reader *r, struct error *e);
