/* See journal-read.h. */
#include "memd/journal-read.h"

#include <stdbool.h>
#include <string.h>

#include "memd/base/crc32.h"
#include "memd/base/overflow.h"

/* What is read at once while a frame is looked for. */
#define BLOCK_BYTES 65536

struct journal_reader {
	int fd;
	uint64_t offset; /* of the next frame, if there is one */
	uint64_t damaged_bytes;
	uint8_t *payload;
	size_t payload_room;
	uint8_t block[BLOCK_BYTES] __attribute__((aligned(JOURNAL_ALIGN)));
	uint64_t block_offset;
	size_t block_bytes; /* 0: none is held */
};

/* As many of n bytes as there are. */
static ssize_t read_at(int fd, void *buffer, size_t n, uint64_t offset)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread(fd, (uint8_t *)buffer + done, n - done, (off_t)(offset + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

int journal_reader_new(int fd, const char *name, struct journal_reader **ret, struct error *e)
{
	_cleanup_(journal_reader_freep) struct journal_reader *r = calloc(1, sizeof(*r));
	struct journal_file_header header;
	ssize_t n;

	if (!r) {
		close(fd);
		return -ENOMEM;
	}
	r->fd = fd;
	n = read_at(fd, &header, sizeof(header), 0);
	if (n < 0)
		return error_set(e, (int)n, "cannot read %s: %s", name, strerror((int)-n));
	if ((size_t)n < sizeof(header) || header.magic != JOURNAL_MAGIC)
		return error_set(e, -EPROTO, "%s is no decision journal of memd", name);
	if (header.version != JOURNAL_VERSION || header.header_bytes < sizeof(header))
		return error_set(e, -EPROTO, "%s: a journal of version %u, this memd reads %d",
			name, header.version, JOURNAL_VERSION);
	r->offset = u64_align_up(header.header_bytes, JOURNAL_ALIGN);
	*ret = TAKE_PTR(r);
	return 0;
}

void journal_reader_free(struct journal_reader *r)
{
	if (!r)
		return;
	cleanup_closep(&r->fd);
	free(r->payload);
	free(r);
}

/* Makes sure that the block holds a frame's header at r->offset. false: the file ends before. */
static int hold_header(struct journal_reader *r)
{
	uint64_t end = r->block_offset + r->block_bytes;
	ssize_t n;

	if (r->offset >= r->block_offset && r->offset + sizeof(struct journal_frame_header) <= end)
		return 0;
	n = read_at(r->fd, r->block, sizeof(r->block), r->offset);
	if (n < 0)
		return (int)n;
	r->block_offset = r->offset;
	r->block_bytes = (size_t)n;
	return (size_t)n < sizeof(struct journal_frame_header) ? JOURNAL_END : 0;
}

#define NO_FRAME 2
/* The frame at r->offset, in r->payload. 0, NO_FRAME, or an errno. */
static int read_frame(struct journal_reader *r, struct journal_frame_header *ret)
{
	ssize_t n;

	memcpy(ret, r->block + (r->offset - r->block_offset), sizeof(*ret));
	if (ret->magic != JOURNAL_FRAME_MAGIC || ret->payload_bytes > JOURNAL_FRAME_BYTES_MAX)
		return NO_FRAME;
	if (ret->payload_bytes > r->payload_room) {
		if (!GROW_ARRAY(r->payload, ret->payload_bytes))
			return -ENOMEM;
		r->payload_room = ret->payload_bytes;
	}
	n = read_at(r->fd, r->payload, ret->payload_bytes, r->offset + sizeof(*ret));
	if (n < 0)
		return (int)n;
	if ((size_t)n < ret->payload_bytes ||
		crc32_of(r->payload, ret->payload_bytes) != ret->checksum)
		return NO_FRAME;
	return 0;
}

int journal_reader_next(struct journal_reader *r, struct journal_frame *ret)
{
	for (;;) {
		struct journal_frame_header header;
		int e = hold_header(r);

		if (e == 0)
			e = read_frame(r, &header);
		if (e == NO_FRAME) {
			r->offset += JOURNAL_ALIGN;
			r->damaged_bytes += JOURNAL_ALIGN;
			continue;
		}
		if (e != 0)
			return e;
		*ret = (struct journal_frame){
			.type = header.type,
			.payload_bytes = header.payload_bytes,
			.payload = r->payload,
		};
		r->offset = u64_align_up(
			r->offset + sizeof(header) + header.payload_bytes, JOURNAL_ALIGN);
		return 0;
	}
}

uint64_t journal_reader_damaged_bytes(const struct journal_reader *r)
{
	return r->damaged_bytes;
}
