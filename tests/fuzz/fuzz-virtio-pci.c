/*
 * Accesses of any kind to configuration space and BAR of a virtio function, with a device thread
 * behind it. The input is a list of steps of eight bytes: what, size, two bytes of offset, four of
 * value.
 */
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/virtio-balloon.h"
#include "memd/base/log.h"
#include "tests/unit/fake-driver.h"

enum {
	SLOT = 1,
	STEP_BYTES = 8,
	STEPS_MAX = 256,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_machine *f;
static struct pci_bus *bus;
static struct virtio_balloon *balloon;

static void step(uint8_t what, unsigned size, uint16_t offset, uint32_t value)
{
	uint64_t bar = PCI_BAR_INITIAL(SLOT) + offset % PCI_BAR_BYTES;

	switch (what & 7) {
	case 0:
		fake_config_read(f, SLOT, offset & 0xff, size > 4 ? 4 : size);
		break;
	case 1:
		fake_config_write(f, SLOT, offset & 0xff, size > 4 ? 4 : size, value);
		break;
	case 2:
		fake_mmio_read(f, bar, size);
		break;
	case 3:
		fake_mmio_write(f, bar, size, value);
		break;
	case 4: /* where the registers are */
		fake_mmio_write(f, PCI_BAR_INITIAL(SLOT) + offset % 64, size, value);
		break;
	case 5: /* a ring, or what the driver takes for one */
		memcpy(fake_ram(f, (uint64_t)offset * 4, 4), &value, 4);
		break;
	case 6:
		fake_io_write(f, (uint16_t)(0xcf8 + offset % 8), size > 4 ? 4 : size, value);
		break;
	default:
		virtio_balloon_set_target(balloon, value);
		virtio_balloon_request_claims(balloon);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_balloon_stats stats;

	log_set_max_level(LOG_LEVEL_ERROR);
	f = fake_machine_new();
	if (pci_bus_new(&f->machine, &bus) < 0 ||
		virtio_balloon_new(&f->machine, bus, SLOT, &balloon) < 0)
		abort();
	fake_config_write(f, SLOT, 4, 2, 6);
	for (unsigned i = 0; i < STEPS_MAX && size >= STEP_BYTES; i++) {
		uint16_t offset;
		uint32_t value;

		memcpy(&offset, data + 2, sizeof(offset));
		memcpy(&value, data + 4, sizeof(value));
		step(data[0], 1U << (data[1] & 3), offset, value);
		data += STEP_BYTES;
		size -= STEP_BYTES;
	}
	virtio_balloon_stats_read(balloon, &stats);
	if (stats.actual_pages > FAKE_PAGES || stats.target_pages > FAKE_PAGES)
		abort();
	virtio_balloon_free(balloon);
	pci_bus_free(bus);
	fake_machine_free(f); /* checks that nothing was left */
	return 0;
}
