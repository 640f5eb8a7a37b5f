/* What pci.c and pci-state.c share. */
#pragma once

#include "kvm-glue/pci.h"

struct pci_bus {
	struct machine *machine;
	struct bus_range *ports;
	pthread_mutex_t
		lock; /* what follows, and the configuration bytes and BARs of all functions */
	uint32_t address; /* CONFIG_ADDRESS */
	struct pci_function *functions[PCI_SLOTS]; /* published ones */
	struct pci_function bridge;
};

/*
 * The guest wrote the capability's message control, or the command register: brings what is
 * delivered in line. PCI bus's lock held.
 */
void pci_interrupts_configured(struct pci_function *f);
/* Places the BAR where command and BAR registers say; PCI bus's lock held. */
void pci_bar_configured(struct pci_function *f);
