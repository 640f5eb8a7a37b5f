/*
 * Requests of any content to the balloon's queues (fake-requests.h); its count must stay what it
 * is: pages of RAM.
 */
#include <errno.h>
#include <stdlib.h>

#include "tests/unit/fake-requests.h"
#include "kvm-glue/virtio-balloon.h"
#include "memd/base/log.h"

enum {
	SLOT = 1,
	N_QUEUES = 5,
	REQUESTS_MAX = 32,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_machine *f;
	static struct pci_bus *bus;
	static struct virtio_balloon *balloon;
	static struct fake_driver driver;
	struct fuzz_input in = {data + 1, size - 1};
	struct virtio_balloon_stats s;

	if (size == 0)
		return 0;
	if (!f) {
		log_set_max_level(LOG_LEVEL_ERROR);
		f = fake_machine_new();
		if (pci_bus_new(&f->machine, &bus) < 0 ||
			virtio_balloon_new(&f->machine, bus, SLOT, &balloon) < 0)
			abort();
		fake_driver_init(&driver, f, SLOT);
	}
	/* The first byte chooses what is negotiated: queues move. */
	fake_driver_start(&driver, UINT64_C(0x100000000) | data[0], N_QUEUES);
	for (unsigned i = 0; i < REQUESTS_MAX && fuzz_request(&in, &driver, N_QUEUES); i++)
		if (virtio_balloon_request_hints(balloon) != -ENOTCONN)
			virtio_balloon_request_claims(balloon);
	fake_driver_reset(&driver);
	virtio_balloon_stats_read(balloon, &s);
	if (s.actual_pages != 0 || s.inflated_pages < s.deflated_pages)
		abort();
	return 0;
}
