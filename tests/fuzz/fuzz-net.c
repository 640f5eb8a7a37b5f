/* Requests of any content to the queues of a network device (fake-requests.h), and frames for it. */
#include <stdlib.h>
#include <sys/socket.h>

#include "tests/unit/fake-network.h"
#include "tests/unit/fake-requests.h"
#include "kvm-glue/virtio-net.h"
#include "memd/base/log.h"

enum {
	SLOT = 1,
	N_PAIRS = 2,
	N_QUEUES = 2 * N_PAIRS + 1,
	REQUESTS_MAX = 32,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_machine *f;
	static struct pci_bus *bus;
	static void *net;
	static struct fake_driver driver;
	static int ends[N_PAIRS];
	static uint8_t frame[4096];
	struct fuzz_input in = {data, size};
	struct error e = {0};

	if (!f) {
		log_set_max_level(LOG_LEVEL_ERROR);
		f = fake_machine_new();
		if (pci_bus_new(&f->machine, &bus) < 0 ||
			virtio_net_new(fake_network_new(N_PAIRS, ends), &net, &e) < 0 ||
			virtio_net_kind.plug(net, &f->machine, bus, SLOT) < 0)
			abort();
		fake_driver_init(&driver, f, SLOT);
	}
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	for (unsigned i = 0; i < REQUESTS_MAX; i++) {
		size_t bytes = size > 0 ? 13 + data[i % size] * 16 : 13;

		if (send(ends[i % N_PAIRS], frame, bytes, MSG_DONTWAIT) < 0)
			while (recv(ends[i % N_PAIRS], frame, sizeof(frame), MSG_DONTWAIT) > 0)
				;
		if (!fuzz_request(&in, &driver, N_QUEUES))
			break;
	}
	fake_driver_reset(&driver);
	for (unsigned i = 0; i < N_PAIRS; i++)
		while (recv(ends[i], frame, sizeof(frame), MSG_DONTWAIT) > 0)
			;
	return 0;
}
