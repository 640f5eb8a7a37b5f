/* See balloon-claims.h. Everything read here is the guest's word. */
#include "kvm-glue/balloon-claims.h"

#include <string.h>

#define ENTRIES_MAX 64

void balloon_claims_clear(struct virtio_balloon_claims *ret)
{
	memset(ret, 0xff, sizeof(*ret));
	ret->time_us = 0;
}

static void set(struct virtio_balloon_claims *c, uint16_t tag, uint64_t value)
{
	switch (tag) { /* 5.5.6.4; others are to be ignored */
	case 0:
		c->swap_in_bytes = value;
		break;
	case 1:
		c->swap_out_bytes = value;
		break;
	case 2:
		c->major_faults = value;
		break;
	case 3:
		c->minor_faults = value;
		break;
	case 4:
		c->free_bytes = value;
		break;
	case 5:
		c->total_bytes = value;
		break;
	case 6:
		c->available_bytes = value;
		break;
	case 7:
		c->disk_caches_bytes = value;
		break;
	default:
		break;
	}
}

bool balloon_claims_parse(const struct virtq_chain *c, struct virtio_balloon_claims *ret)
{
	struct {
		uint16_t tag;
		uint64_t value;
	} __attribute__((packed)) entries[ENTRIES_MAX];
	size_t n = virtq_chain_read(c, 0, entries, sizeof(entries)) / sizeof(entries[0]);

	balloon_claims_clear(ret);
	for (size_t i = 0; i < n; i++)
		set(ret, entries[i].tag, entries[i].value);
	return n > 0;
}
