/*
 * The I/O buses: two short lists of ranges.
 *
 * DOC: the lock
 * It protects the lists and where their ranges are, and is let go before a handler is called: it is a leaf. Handlers
 * wait for devices, and devices for frozen guest memory; with the lock held meanwhile, whoever moves a range would wait
 * for all of that, with whatever he holds himself (pci.c: the lock of the PCI bus). What is left of a range after its
 * look-up, operations and device, never changes, and its device outlives the vCPUs.
 *
 * Must never: call a handler with an access that leaves its range.
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
	pthread_rwlock_t lock;
	struct bus_range *ranges[N_KINDS]; /* by kind */
};

/* What an access was found to be: valid without the lock. */
struct target {
	const struct bus_ops *ops; /* NULL: nobody's */
	void *device;
	uint64_t offset;
};

int bus_new(struct bus **ret)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	pthread_rwlock_init(&b->lock, NULL);
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
	}
	pthread_rwlock_destroy(&b->lock);
	free(b);
}

/* Whether [base, base + size) is free of enabled ranges other than `except`; lock held. */
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
	pthread_rwlock_wrlock(&b->lock);
	if (!is_free(b, kind, base, size, NULL)) {
		pthread_rwlock_unlock(&b->lock);
		free(r);
		return -EEXIST;
	}
	r->next = b->ranges[kind];
	b->ranges[kind] = r;
	pthread_rwlock_unlock(&b->lock);
	*ret = r;
	return 0;
}

int bus_move(struct bus *b, struct bus_range *r, uint64_t base, bool enabled)
{
	int result = 0;

	pthread_rwlock_wrlock(&b->lock);
	r->enabled = false;
	if (enabled && !is_range(base, r->size)) {
		result = -EINVAL;
	} else if (enabled && !is_free(b, r->kind, base, r->size, r)) {
		result = -EEXIST;
	} else {
		r->base = base;
		r->enabled = enabled;
	}
	pthread_rwlock_unlock(&b->lock);
	return result;
}

/* The enabled range that the access lies in entirely. */
static struct target find(struct bus *b, enum bus_kind kind, uint64_t address, unsigned size)
{
	struct target t = {0};

	pthread_rwlock_rdlock(&b->lock);
	for (const struct bus_range *r = b->ranges[kind]; r && !t.ops; r = r->next)
		if (r->enabled && u64_range_within(address, size, r->base, r->size))
			t = (struct target){r->ops, r->device, address - r->base};
	pthread_rwlock_unlock(&b->lock);
	return t;
}

bool bus_read(struct bus *b, enum bus_kind kind, uint64_t address, uint8_t *data, unsigned size)
{
	struct target t = find(b, kind, address, size);

	memset(data, t.ops ? 0 : 0xff, size);
	if (t.ops)
		t.ops->read(t.device, t.offset, data, size);
	return t.ops;
}

bool bus_write(
	struct bus *b, enum bus_kind kind, uint64_t address, const uint8_t *data, unsigned size)
{
	struct target t = find(b, kind, address, size);

	if (t.ops)
		t.ops->write(t.device, t.offset, data, size);
	return t.ops;
}
