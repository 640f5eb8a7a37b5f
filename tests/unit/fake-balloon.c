/* See fake-balloon.h. */
#undef NDEBUG /* here asserts are the test's, in every build */
#include "fake-balloon.h"

#include <assert.h>
#include <string.h>

struct fake_machine *f;
struct virtio_balloon *balloon;
struct fake_driver driver;
static struct pci_bus *bus;

int fake_balloon_setup(void **state)
{
	log_set_max_level(LOG_LEVEL_ERROR);
	f = fake_machine_new();
	if (pci_bus_new(&f->machine, &bus) < 0 ||
		virtio_balloon_new(&f->machine, bus, BALLOON_SLOT, &balloon) < 0)
		return -1;
	fake_driver_init(&driver, f, BALLOON_SLOT);
	return 0;
}

int fake_balloon_teardown(void **state)
{
	virtio_balloon_free(balloon);
	assert(!atomic_load(&f->log_on));
	pci_bus_free(bus);
	fake_machine_free(f);
	return 0;
}

struct virtio_balloon_stats fake_balloon_stats(void)
{
	struct virtio_balloon_stats s;

	virtio_balloon_stats_read(balloon, &s);
	return s;
}

unsigned fake_balloon_send(unsigned q, const uint32_t *pfns, unsigned n, struct fake_discard ret[8])
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, n * 4, false};
	uint32_t bytes;

	fake_discards_clear(f);
	if (n > 0)
		memcpy(fake_ram(f, FAKE_BUFFERS_GPA, n * 4), pfns, n * 4);
	bytes = fake_request(&driver, q, &buffer, 1);
	assert(bytes == 0);
	(void)bytes;
	return fake_discards(f, ret, 8);
}

void assert_range(const struct fake_discard *d, uint64_t page, uint64_t n, int why)
{
	assert(d->page == page);
	assert(d->n_pages == n);
	assert(d->why == why);
}
