/* Requests of any content to the queue of the random number device (fake-requests.h). */
#include <stdlib.h>

#include "tests/unit/fake-requests.h"
#include "kvm-glue/virtio-rng.h"
#include "memd/base/log.h"

enum {
	SLOT = 1,
	N_QUEUES = 1,
	REQUESTS_MAX = 32,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_machine *f;
	static struct pci_bus *bus;
	static void *rng;
	static struct fake_driver driver;
	struct fuzz_input in = {data, size};
	struct error e = {0};

	if (!f) {
		log_set_max_level(LOG_LEVEL_ERROR);
		f = fake_machine_new();
		if (pci_bus_new(&f->machine, &bus) < 0 ||
			virtio_rng_kind.open(NULL, &rng, &e) < 0 ||
			virtio_rng_kind.plug(rng, &f->machine, bus, SLOT) < 0)
			abort();
		fake_driver_init(&driver, f, SLOT);
	}
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	for (unsigned i = 0; i < REQUESTS_MAX && fuzz_request(&in, &driver, N_QUEUES); i++)
		;
	fake_driver_reset(&driver);
	return 0;
}
