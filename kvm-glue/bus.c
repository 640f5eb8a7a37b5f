/*
 * The I/O buses: two short lists of ranges, each under a lock of its own, so that a port I/O handler may move an MMIO
 * range. Never calls a handler with an access that leaves its range.
 */
#include "kvm-glue/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/overflow.h"

struct bus_range {
	struct bus_range *next;
	enum bus_kind kind;
	uint64_t base;
	uint64_t size;
	bool enabled;
	const struct bus_ops *ops;
	void *device;
	const char *name;
};

#define N_KINDS 2

struct bus {
	/* By kind. Held for reading while a handler runs, for writing while ranges change. */
	pthread_rwlock_t locks[N_KINDS];
	struct bus_range *ranges[N_KINDS];
};

int bus_new(struct bus **ret)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	for (unsigned i = 0; i < N_KINDS; i++)
		pthread_rwlock_init(&b->locks[i], NULL);
	*ret = b;
	return 0;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < N_KINDS; i++) {
		struct bus_range *r = b->ranges[i];

		while (r) {
			struct bus_range *next = r->next;

			free(r);
			r = next;
		}
		pthread_rwlock_destroy(&b->locks[i]);
	}
	free(b);
}

/* Whether [base, base + size) is free of enabled ranges other than `except`; the kind's lock is held. */
static bool is_free(const struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size,
	const struct bus_range *except)
{
	for (const struct bus_range *r = b->ranges[kind]; r; r = r->next)
		if (r != except && r->enabled && base < r->base + r->size && r->base < base + size)
			return false;
	return true;
}

/* Ranges end before the end of the address space, so that base + size is always right. */
static bool is_range(uint64_t base, uint64_t size)
{
	uint64_t end;

	return size > 0 && !u64_add_overflows(base, size, &end);
}

int bus_add(struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size,
	const struct bus_ops *ops, void *device, const char *name, struct bus_range **ret)
{
	struct bus_range *r;

	if (!is_range(base, size))
		return -EINVAL;
	r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct bus_range){
		.kind = kind,
		.base = base,
		.size = size,
		.enabled = true,
		.ops = ops,
		.device = device,
		.name = name,
	};
	pthread_rwlock_wrlock(&b->locks[kind]);
	if (!is_free(b, kind, base, size, NULL)) {
		pthread_rwlock_unlock(&b->locks[kind]);
		free(r);
		return -EEXIST;
	}
	r->next = b->ranges[kind];
	b->ranges[kind] = r;
	pthread_rwlock_unlock(&b->locks[kind]);
	*ret = r;
	return 0;
}

int bus_move(struct bus *b, struct bus_range *r, uint64_t base, bool enabled)
{
	int result = 0;

	pthread_rwlock_wrlock(&b->locks[r->kind]);
	r->enabled = false;
	if (enabled && !is_range(base, r->size)) {
		result = -EINVAL;
	} else if (enabled && !is_free(b, r->kind, base, r->size, r)) {
		result = -EEXIST;
	} else {
		r->base = base;
		r->enabled = enabled;
	}
	pthread_rwlock_unlock(&b->locks[r->kind]);
	return result;
}

/* The enabled range that the access lies in entirely; the kind's lock is held. */
static struct bus_range *find(
	const struct bus *b, enum bus_kind kind, uint64_t address, unsigned size)
{
	for (struct bus_range *r = b->ranges[kind]; r; r = r->next)
		if (r->enabled && u64_range_within(address, size, r->base, r->size))
			return r;
	return NULL;
}

bool bus_read(struct bus *b, enum bus_kind kind, uint64_t address, uint8_t *data, unsigned size)
{
	struct bus_range *r;

	pthread_rwlock_rdlock(&b->locks[kind]);
	r = find(b, kind, address, size);
	memset(data, r ? 0 : 0xff, size);
	if (r)
		r->ops->read(r->device, address - r->base, data, size);
	pthread_rwlock_unlock(&b->locks[kind]);
	return r;
}

bool bus_write(
	struct bus *b, enum bus_kind kind, uint64_t address, const uint8_t *data, unsigned size)
{
	struct bus_range *r;

	pthread_rwlock_rdlock(&b->locks[kind]);
	r = find(b, kind, address, size);
	if (r)
		r->ops->write(r->device, address - r->base, data, size);
	pthread_rwlock_unlock(&b->locks[kind]);
	return r;
}
