/* Sections in a buffer (snapshot.h). Knows nothing of what is in them. */
#include "kvm-glue/snapshot.h"

#include <errno.h>
#include <string.h>

#include "memd/base/overflow.h"

#define ALIGN_BYTES 8
#define ROOM_FIRST  (64 * KIB)

struct header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t reserved;
	uint64_t bytes; /* of the whole file */
	uint64_t checksum; /* of all that follows the header */
};

struct section {
	uint32_t tag;
	uint32_t bytes; /* then padding up to a multiple of 8 */
};

static const uint8_t magic[8] = "memdsnap";

/* FNV-1a by words: tells a file that was damaged, not one that was forged. */
static uint64_t checksum(const uint8_t *bytes, size_t size)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325), word;

	for (size_t at = 0; at + sizeof(word) <= size; at += sizeof(word)) {
		memcpy(&word, bytes + at, sizeof(word));
		hash = (hash ^ word) * UINT64_C(0x100000001b3);
	}
	return hash;
}

void snapshot_writer_init(struct snapshot_writer *w)
{
	*w = (struct snapshot_writer){.bytes = calloc(1, ROOM_FIRST), .room = ROOM_FIRST};
	if (w->bytes)
		w->size = sizeof(struct header);
	else
		w->error = -ENOMEM;
}

void snapshot_writer_done(struct snapshot_writer *w)
{
	free(w->bytes);
	*w = (struct snapshot_writer){0};
}

/* Room for so many bytes more, zeroed. */
static bool make_room(struct snapshot_writer *w, size_t bytes)
{
	size_t room = w->room;
	uint8_t *p;

	if (bytes > SNAPSHOT_BYTES_MAX || w->size + bytes > SNAPSHOT_BYTES_MAX) {
		w->error = -EFBIG;
		return false;
	}
	while (room < w->size + bytes)
		room *= 2;
	if (room == w->room)
		return true;
	p = realloc(w->bytes, room);
	if (!p) {
		w->error = -ENOMEM;
		return false;
	}
	memset(p + w->room, 0, room - w->room);
	w->bytes = p;
	w->room = room;
	return true;
}

void snapshot_put(struct snapshot_writer *w, uint32_t tag, const void *data, size_t size)
{
	struct section s = {.tag = tag, .bytes = (uint32_t)size};

	if (w->error || !make_room(w, sizeof(s) + size + ALIGN_BYTES))
		return;
	memcpy(w->bytes + w->size, &s, sizeof(s));
	if (size > 0)
		memcpy(w->bytes + w->size + sizeof(s), data, size);
	w->size += sizeof(s) + u64_align_up(size, ALIGN_BYTES);
}

int snapshot_finish(struct snapshot_writer *w)
{
	struct header h = {.version = SNAPSHOT_VERSION, .bytes = w->size};

	if (w->error)
		return w->error;
	memcpy(h.magic, magic, sizeof(h.magic));
	h.checksum = checksum(w->bytes + sizeof(h), w->size - sizeof(h));
	memcpy(w->bytes, &h, sizeof(h));
	return 0;
}

int snapshot_reader_init(
	struct snapshot_reader *r, const uint8_t *bytes, size_t size, struct error *e)
{
	struct header h;

	if (size < sizeof(h) || memcmp(bytes, magic, sizeof(magic)) != 0)
		return error_set(e, -EINVAL, "is no state of a guest");
	memcpy(&h, bytes, sizeof(h));
	if (h.version != SNAPSHOT_VERSION)
		return error_set(e, -EPROTO,
			"is of version %u; this memd-vmm knows version %u: take the snapshot again",
			h.version, SNAPSHOT_VERSION);
	if (h.bytes != size || h.checksum != checksum(bytes + sizeof(h), size - sizeof(h)))
		return error_set(e, -EINVAL, "is damaged");
	*r = (struct snapshot_reader){.bytes = bytes, .size = size, .at = sizeof(h)};
	return 0;
}

/* The next section's data and size; the reader stays where it is when the tag is another one. */
static int next(struct snapshot_reader *r, uint32_t tag, const uint8_t **ret, size_t *ret_size)
{
	size_t left = r->size - r->at;
	struct section s;

	if (left < sizeof(s))
		return -EINVAL;
	memcpy(&s, r->bytes + r->at, sizeof(s));
	if (s.tag != tag || s.bytes > left - sizeof(s) ||
		u64_align_up(s.bytes, ALIGN_BYTES) > left - sizeof(s))
		return -EINVAL;
	*ret = r->bytes + r->at + sizeof(s);
	*ret_size = s.bytes;
	return 0;
}

static void advance(struct snapshot_reader *r, size_t size)
{
	r->at += sizeof(struct section) + u64_align_up(size, ALIGN_BYTES);
}

int snapshot_get(struct snapshot_reader *r, uint32_t tag, void *ret, size_t size)
{
	const uint8_t *data;
	size_t n;
	int result = next(r, tag, &data, &n);

	if (result < 0 || n != size)
		return -EINVAL;
	memcpy(ret, data, size);
	advance(r, size);
	return 0;
}

int snapshot_get_array(struct snapshot_reader *r, uint32_t tag, size_t element_size, size_t max,
	const void **ret, size_t *ret_n)
{
	const uint8_t *data;
	size_t n;
	int result = next(r, tag, &data, &n);

	if (result < 0 || n % element_size != 0 || n / element_size > max)
		return -EINVAL;
	*ret = data;
	*ret_n = n / element_size;
	advance(r, n);
	return 0;
}

bool snapshot_reader_at_end(const struct snapshot_reader *r)
{
	return r->at == r->size;
}
