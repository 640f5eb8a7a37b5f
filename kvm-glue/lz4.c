/*
 * The LZ4 block format and the legacy frame (lz4_Block_format.md, lz4_Frame_format.md of the LZ4
 * project): sequences of literals and of copies from what came before. The data are a file of unknown
 * origin: nothing outside of the two buffers is touched, whatever they say.
 */
#include "kvm-glue/lz4.h"

#include <errno.h>
#include <string.h>

#include "memd/base/overflow.h"

#define LEGACY_MAGIC	0x184c2102u
#define BLOCK_BYTES_MAX (8u << 20) /* decompressed, of the legacy frame */
#define LENGTH_MORE	15 /* of a token's half: further bytes follow */
#define MATCH_MIN	4

struct input {
	const uint8_t *at;
	const uint8_t *end;
};

static size_t left(const struct input *in)
{
	return (size_t)(in->end - in->at);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

bool lz4_is_legacy_frame(const uint8_t *data, size_t bytes)
{
	return bytes >= 4 && get32(data) == LEGACY_MAGIC;
}

/* A length that begins with that half of a token. */
static int read_length(struct input *in, unsigned half, size_t *ret)
{
	size_t n = half;
	uint8_t byte = half == LENGTH_MORE ? 255 : 0;

	while (byte == 255) {
		if (in->at == in->end || n > BLOCK_BYTES_MAX)
			return -EINVAL;
		byte = *in->at++;
		n += byte;
	}
	*ret = n;
	return 0;
}

/* Appends n bytes that lie `distance` back; they may overlap what they make. */
static void copy_back(uint8_t *to, size_t distance, size_t n)
{
	if (distance >= n) {
		memcpy(to, to - distance, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		to[i] = to[i - distance];
}

/* One block, from and into what is left of the two. */
static int read_block(struct input *in, uint8_t *ret, size_t size, size_t *ret_bytes)
{
	size_t done = 0, n;

	while (in->at < in->end) {
		uint8_t token = *in->at++;
		size_t distance;

		if (read_length(in, token >> 4, &n) < 0 || n > left(in))
			return -EINVAL;
		if (n > size - done)
			return -EFBIG;
		memcpy(ret + done, in->at, n);
		in->at += n;
		done += n;
		if (in->at == in->end)
			break; /* the last sequence has literals only */
		if (left(in) < 2)
			return -EINVAL;
		distance = (size_t)in->at[0] | (size_t)in->at[1] << 8;
		in->at += 2;
		if (read_length(in, token & LENGTH_MORE, &n) < 0 || distance == 0 ||
			distance > done)
			return -EINVAL;
		n += MATCH_MIN;
		if (n > size - done)
			return -EFBIG;
		copy_back(ret + done, distance, n);
		done += n;
	}
	*ret_bytes = done;
	return 0;
}

int lz4_legacy_decompress(
	const uint8_t *data, size_t bytes, uint8_t *ret, size_t size, size_t *ret_bytes)
{
	struct input in = {.at = data, .end = data + bytes};
	size_t done = 0;

	if (!lz4_is_legacy_frame(data, bytes))
		return -EINVAL;
	in.at += 4;
	while (left(&in) > 4) {
		uint32_t block_bytes = get32(in.at);
		struct input block = {.at = in.at + 4};
		size_t n;
		int r;

		if (block_bytes == LEGACY_MAGIC) { /* frames may be appended to each other */
			in.at += 4;
			continue;
		}
		if (block_bytes == 0 || block_bytes > left(&in) - 4)
			return -EINVAL;
		block.end = block.at + block_bytes;
		r = read_block(&block, ret + done, u64_min(size - done, BLOCK_BYTES_MAX), &n);
		if (r < 0)
			return r;
		done += n;
		in.at = block.end;
	}
	*ret_bytes = done;
	return 0;
}
