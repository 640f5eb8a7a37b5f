/*
 * Requests of any content to the queues of a device, for fuzz targets. The input is a list of
 * requests: byte 0: queue; bit 7: reset the device first byte 1: number of buffers, modulo 5 four
 * bytes for each buffer: offset from FAKE_BUFFERS_GPA in 256 bytes (2), length (2, modulo 4096);
 * the highest bit of the length makes it writable, offset 0xffff names memory that is not RAM byte:
 * number of payload bytes, modulo 64, which follow; they are laid over the first readable buffer
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fake-driver.h"

struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

/* Plays one request of the input; false at its end. */
bool fuzz_request(struct fuzz_input *in, struct fake_driver *d, unsigned n_queues);
