/* Requests of any content to the queues of a disk (fake-requests.h), which is a file of zeros. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/fake-requests.h"
#include "kvm-glue/virtio-blk.h"
#include "memd/base/log.h"

enum {
	SLOT = 1,
	N_QUEUES = 2,
	REQUESTS_MAX = 32,
	DISK_BYTES = 1 << 20,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The file is gone once it is open. */
static void *new_disk(void)
{
	char path[] = "/tmp/memd-fuzz-blk.XXXXXX", spec[64];
	struct error e = {0};
	void *disk = NULL;
	int fd = mkstemp(path);

	snprintf(spec, sizeof(spec), "%s,queues=%d", path, N_QUEUES);
	if (fd < 0 || ftruncate(fd, DISK_BYTES) < 0 || virtio_blk_kind.open(spec, &disk, &e) < 0)
		abort();
	unlink(path);
	close(fd);
	return disk;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_machine *f;
	static struct pci_bus *bus;
	static void *disk;
	static struct fake_driver driver;
	struct fuzz_input in = {data, size};
	uint64_t calls;

	if (!f) {
		log_set_max_level(LOG_LEVEL_ERROR);
		f = fake_machine_new();
		disk = new_disk();
		if (pci_bus_new(&f->machine, &bus) < 0 ||
			virtio_blk_kind.plug(disk, &f->machine, bus, SLOT) < 0)
			abort();
		fake_driver_init(&driver, f, SLOT);
	}
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	for (unsigned i = 0; i < REQUESTS_MAX && fuzz_request(&in, &driver, N_QUEUES); i++)
		;
	fake_driver_reset(&driver);
	if (fake_busy_pages(f, &calls) != 0)
		abort();
	return 0;
}
