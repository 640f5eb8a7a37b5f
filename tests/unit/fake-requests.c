/* Plays fuzz input as requests of a driver. */
#undef NDEBUG /* here asserts are the test's, in every build */
#include "fake-requests.h"

#include <sched.h>
#include <string.h>

#include "kvm-glue/virtio-pci.h"
#include "memd/base/clock.h"

enum {
	BUFFERS_MAX = 4,
	NAPS_MAX = 25, /* what the device keeps does not come back: wait no longer than this for a
			  request */
	NAP_US = 20,
};

/* The next byte of the input, 0 at its end. */
static uint8_t next_byte(struct fuzz_input *in)
{
	if (in->size == 0)
		return 0;
	in->size--;
	return *in->data++;
}

static uint16_t next_word(struct fuzz_input *in)
{
	uint16_t low = next_byte(in);

	return (uint16_t)(low | next_byte(in) << 8);
}

static struct fake_buffer next_buffer(struct fuzz_input *in)
{
	uint16_t where = next_word(in), length = next_word(in);

	return (struct fake_buffer){
		.gpa = where == 0xffff ? FAKE_LOW_BYTES - 1
				       : FAKE_BUFFERS_GPA + (uint64_t)where % 0x4000 * 256,
		.bytes = length % 4096,
		.writable = length >> 15,
	};
}

bool fuzz_request(struct fuzz_input *in, struct fake_driver *d, unsigned n_queues)
{
	struct fake_buffer buffers[BUFFERS_MAX];
	uint8_t what = next_byte(in);
	unsigned q = (what & 0x7f) % n_queues;
	unsigned n = next_byte(in) % (BUFFERS_MAX + 1);
	unsigned payload;

	if (in->size == 0)
		return false;
	if ((what & 0x80) || (fake_driver_status(d) & VIRTIO_STATUS_NEEDS_RESET))
		fake_driver_start(d, d->features, n_queues);
	for (unsigned i = 0; i < n; i++)
		buffers[i] = next_buffer(in);
	payload = next_byte(in) % 64;
	for (unsigned i = 0; i < payload && n > 0; i++) {
		uint8_t *at = fake_ram(d->f, buffers[0].gpa + i, 1);

		if (at)
			*at = next_byte(in);
	}
	if (n == 0)
		fake_publish(d, q,
			what); /* a head without a chain, as likely as not outside of the table */
	else
		fake_add(d, q, buffers, n);
	fake_kick(d, q);
	for (unsigned i = 0; i < NAPS_MAX && !fake_has_used(d, q) &&
			     !(fake_driver_status(d) & VIRTIO_STATUS_NEEDS_RESET);
		i++)
		clock_sleep_us(NAP_US);
	if (fake_has_used(d, q))
		fake_wait_used(d, q, NULL, NULL);
	return true;
}
