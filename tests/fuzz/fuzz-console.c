/*
 * Requests of any content to the console's queues (fake-requests.h), with a peer on the agent's
 * port.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "tests/unit/fake-requests.h"
#include "kvm-glue/virtio-console.h"
#include "memd/base/log.h"

enum {
	SLOT = 1,
	N_QUEUES = 6,
	REQUESTS_MAX = 32,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_output(void *context, const uint8_t *data, size_t bytes)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_machine *f;
	static struct pci_bus *bus;
	static struct virtio_console *console;
	static struct fake_driver driver;
	struct fuzz_input in = {data, size};
	char got[4096];
	int fds[2];

	if (!f) {
		log_set_max_level(LOG_LEVEL_ERROR);
		f = fake_machine_new();
		if (pci_bus_new(&f->machine, &bus) < 0 ||
			virtio_console_new(
				&f->machine, bus, SLOT, ignore_output, NULL, -1, &console) < 0)
			abort();
		fake_driver_init(&driver, f, SLOT);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	virtio_console_attach_agent(console, fds[1]);
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	for (unsigned i = 0; i < REQUESTS_MAX && fuzz_request(&in, &driver, N_QUEUES); i++) {
		if (send(fds[0], data, size > 64 ? 64 : size, MSG_NOSIGNAL) > 0 && i % 2)
			recv(fds[0], got, sizeof(got), 0);
	}
	fake_driver_reset(&driver);
	close(fds[0]);
	return 0;
}
