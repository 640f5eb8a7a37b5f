/* PCI bus 0 by the configuration ports 0xcf8 and 0xcfc (PCI local bus 3.0, 3.2.2.3.2). */
#pragma once

#include <stdint.h>

#define PCI_VENDOR     0x00
#define PCI_DEVICE     0x02
#define PCI_COMMAND    0x04
#define PCI_HEADER     0x0e
#define PCI_BAR0       0x10
#define PCI_CAPABILITY 0x34
#define PCI_N_BARS     6

/* Where a function's configuration space begins, as the ports want it. */
#define PCI_ADDRESS(device, function)                                                              \
	(UINT32_C(0x80000000) | (uint32_t)(device) << 11 | (uint32_t)(function) << 8)

/* Ring 0. at: PCI_ADDRESS plus the offset; size 1, 2 or 4, within a doubleword. */
uint32_t pci_read(uint32_t at, unsigned size);
void pci_write(uint32_t at, uint32_t value, unsigned size);

/*
 * Ring 0. Switches a function's memory decoding and bus mastering on, its INTx off. BARs that
 * firmware left at 0 are placed first. ret_bars: the address of each memory BAR, 0 for what is
 * none.
 */
void pci_enable(uint32_t function, uint64_t ret_bars[PCI_N_BARS]);
