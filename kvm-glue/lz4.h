/* LZ4 in its legacy frame, which is how Linux' bzImage holds a kernel. Only decompression. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether it begins as such a frame. */
bool lz4_is_legacy_frame(const uint8_t *data, size_t bytes);
/*
 * Decompresses all blocks of the frame into ret (size bytes), as far as the data go: up to three bytes
 * may follow the last block, or the four of the kernel's length. 0 with what it came to in *ret_bytes;
 * -EINVAL: malformed, -EFBIG: more than size.
 */
int lz4_legacy_decompress(
	const uint8_t *data, size_t bytes, uint8_t *ret, size_t size, size_t *ret_bytes);
