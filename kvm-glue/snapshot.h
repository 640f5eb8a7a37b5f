/*
 * The state file of a snapshot: a header, then sections in a fixed order, each with a tag and its
 * size. Whoever saves puts fixed-width structs without padding holes of meaning; whoever restores
 * asks for the same tags in the same order, and believes nothing but sizes: what is in a section is
 * checked by its owner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/base/units.h"

#define SNAPSHOT_VERSION   1
#define SNAPSHOT_BYTES_MAX (16 * MIB)
/* Files of a snapshot's directory. SETTINGS is memd's: the guest's, as in a .guest file. */
#define SNAPSHOT_STATE	   "state"
#define SNAPSHOT_RAM	   "ram"
#define SNAPSHOT_SETTINGS  "settings"

#define SNAPSHOT_TAG(a, b, c, d)                                                                   \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* Grows; a failure is kept and comes out at the end. */
struct snapshot_writer {
	uint8_t *bytes;
	size_t size;
	size_t room;
	int error; /* negative errno of the first failure */
};

struct snapshot_reader {
	const uint8_t *bytes;
	size_t size;
	size_t at;
};

void snapshot_writer_init(struct snapshot_writer *w);
void snapshot_writer_done(struct snapshot_writer *w);
/* Appends a section. */
void snapshot_put(struct snapshot_writer *w, uint32_t tag, const void *data, size_t size);
/* Completes the header. 0, or why something could not be put: -ENOMEM, -EFBIG. */
int snapshot_finish(struct snapshot_writer *w);

/*
 * Checks the header of a whole file: magic, version, size and checksum. bytes outlive the reader.
 * -EINVAL (none, cut short, changed), -EPROTO (of another version).
 */
int snapshot_reader_init(
	struct snapshot_reader *r, const uint8_t *bytes, size_t size, struct error *e);
/* The next section, which must have that tag and exactly that size, else -EINVAL. */
int snapshot_get(struct snapshot_reader *r, uint32_t tag, void *ret, size_t size);
/*
 * The next section, of that tag and of any whole number of elements up to max; *ret points into the
 * file, 8 byte aligned. -EINVAL.
 */
int snapshot_get_array(struct snapshot_reader *r, uint32_t tag, size_t element_size, size_t max,
	const void **ret, size_t *ret_n);
/* Nothing is left. */
bool snapshot_reader_at_end(const struct snapshot_reader *r);
