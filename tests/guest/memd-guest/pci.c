/* See pci.h. */
#include "tests/guest/memd-guest/pci.h"
#include "tests/guest/memd-guest/arch.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc

#define COMMAND_MEMORY	UINT32_C(0x0002)
#define COMMAND_MASTER	UINT32_C(0x0004)
#define COMMAND_NO_INTX UINT32_C(0x0400)

#define BAR_IO	      UINT32_C(1)
#define BAR_TYPE_MASK UINT32_C(6)
#define BAR_TYPE_64   UINT32_C(4)
#define BAR_FLAGS     UINT32_C(0xf)
#define BAR_WINDOW    UINT64_C(0xd0000000) /* of the VMM's 32-bit window (kvm-glue/machine.h) */

uint32_t pci_read(uint32_t at, unsigned size)
{
	uint32_t value;

	out32(CONFIG_ADDRESS, at & ~UINT32_C(3));
	value = in32(CONFIG_DATA) >> 8 * (at & 3);
	return size == 4 ? value : value & ((UINT32_C(1) << 8 * size) - 1);
}

void pci_write(uint32_t at, uint32_t value, unsigned size)
{
	uint16_t port = (uint16_t)(CONFIG_DATA + (at & 3));

	out32(CONFIG_ADDRESS, at & ~UINT32_C(3));
	if (size == 1)
		out8(port, (uint8_t)value);
	else if (size == 2)
		out16(port, (uint16_t)value);
	else
		out32(port, value);
}

/* Gives an empty memory BAR a naturally aligned place in the window. */
static uint64_t place_bar(uint32_t at)
{
	static uint64_t next = BAR_WINDOW;
	uint64_t bytes;

	pci_write(at, UINT32_MAX, 4);
	bytes = (uint32_t) ~(pci_read(at, 4) & ~BAR_FLAGS) + UINT64_C(1);
	if (bytes > UINT32_MAX) /* no such BAR */
		return 0;
	next = ALIGN_UP(next, bytes) + bytes;
	pci_write(at, (uint32_t)(next - bytes), 4);
	return next - bytes;
}

void pci_enable(uint32_t function, uint64_t ret_bars[PCI_N_BARS])
{
	uint32_t command = pci_read(function + PCI_COMMAND, 2);

	for (unsigned i = 0; i < PCI_N_BARS; i++) {
		uint32_t at = function + PCI_BAR0 + 4 * i;
		uint32_t low = pci_read(at, 4);
		unsigned slot = i;

		ret_bars[slot] = 0;
		if (low & BAR_IO)
			continue;
		ret_bars[slot] = low & ~BAR_FLAGS;
		if ((low & BAR_TYPE_MASK) == BAR_TYPE_64 && ++i < PCI_N_BARS) {
			ret_bars[slot] |= (uint64_t)pci_read(at + 4, 4) << 32;
			ret_bars[i] = 0;
		}
		if (!ret_bars[slot])
			ret_bars[slot] = place_bar(at);
	}
	pci_write(function + PCI_COMMAND,
		command | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_INTX, 2);
}
