/* The machine that devices are tested in. */
#undef NDEBUG /* here asserts are the test's, in every build */
#include "fake-machine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "dedup/hinted.h"
#include "memd/base/overflow.h"

/* --- RAM: two ranges with a gap, as a guest of more than 3 GiB has */

struct guest_ram {
	struct fake_machine *owner;
	struct guest_ram_range ranges[2];
};

static struct guest_ram *ram_new(struct fake_machine *f)
{
	struct guest_ram *ram = calloc(1, sizeof(*ram));

	assert(ram);
	ram->owner = f;
	ram->ranges[0] = (struct guest_ram_range){.bytes = FAKE_LOW_BYTES};
	ram->ranges[1] = (struct guest_ram_range){.gpa = MACHINE_HIGH_RAM_BASE,
		.bytes = FAKE_HIGH_BYTES,
		.first_page = FAKE_LOW_PAGES};
	for (unsigned i = 0; i < 2; i++) {
		/* with a page behind it that nobody may touch */
		ram->ranges[i].host = mmap(NULL, ram->ranges[i].bytes + PAGE_BYTES,
			PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert(ram->ranges[i].host != MAP_FAILED);
		mprotect(ram->ranges[i].host + ram->ranges[i].bytes, PAGE_BYTES, PROT_NONE);
	}
	return ram;
}

void guest_ram_free(struct guest_ram *ram)
{
	for (unsigned i = 0; i < 2; i++)
		munmap(ram->ranges[i].host, ram->ranges[i].bytes + PAGE_BYTES);
	free(ram);
}

uint64_t guest_ram_pages(const struct guest_ram *ram)
{
	return FAKE_PAGES;
}

size_t guest_ram_ranges(const struct guest_ram *ram, const struct guest_ram_range **ret)
{
	*ret = ram->ranges;
	return 2;
}

static int change_busy(struct guest_ram *ram, gpa_t gpa, uint64_t bytes, int by)
{
	uint64_t pages = (gpa.v % PAGE_BYTES + bytes + PAGE_BYTES - 1) / PAGE_BYTES;

	if (!guest_ram_ptr(ram, gpa, bytes))
		return -EFAULT;
	pthread_mutex_lock(&ram->owner->lock);
	ram->owner->busy_pages += by * (int64_t)pages;
	ram->owner->busy_calls += by > 0;
	assert(ram->owner->busy_pages >= 0);
	pthread_mutex_unlock(&ram->owner->lock);
	return 0;
}

int guest_ram_busy(struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	return change_busy(ram, gpa, bytes, 1);
}

void guest_ram_done(struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	change_busy(ram, gpa, bytes, -1);
}

void guest_ram_mark_holes(
	struct guest_ram *ram, uint64_t page, uint64_t n_pages, enum hole_reason why)
{
}

void *guest_ram_ptr(const struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct guest_ram_range *r = &ram->ranges[i];

		if (u64_range_within(gpa.v, bytes, r->gpa, r->bytes))
			return r->host + (gpa.v - r->gpa);
	}
	return NULL;
}

bool guest_ram_page_of(const struct guest_ram *ram, gpa_t gpa, uint64_t *ret_page)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct guest_ram_range *r = &ram->ranges[i];

		if (!u64_range_within(gpa.v, 1, r->gpa, r->bytes))
			continue;
		*ret_page = r->first_page + (gpa.v - r->gpa) / PAGE_BYTES;
		return true;
	}
	return false;
}

uint8_t *guest_ram_page_ptr(const struct guest_ram *ram, uint64_t page)
{
	const struct guest_ram_range *r = &ram->ranges[page >= FAKE_LOW_PAGES];

	assert(page < FAKE_PAGES);
	return r->host + (page - r->first_page) * PAGE_BYTES;
}

static void remember(struct fake_machine *f, uint64_t page, uint64_t n_pages, int why)
{
	assert(n_pages > 0 && page < FAKE_PAGES && n_pages <= FAKE_PAGES - page);
	pthread_mutex_lock(&f->lock);
	if (f->n_discards < ARRAY_SIZE(f->discards))
		f->discards[f->n_discards++] = (struct fake_discard){page, n_pages, why};
	pthread_mutex_unlock(&f->lock);
}

int guest_ram_discard(struct guest_ram *ram, uint64_t page, uint64_t n_pages, enum hole_reason why,
	uint64_t *ret_calls)
{
	remember(ram->owner, page, n_pages, (int)why);
	for (uint64_t p = page; p < page + n_pages; p++)
		memset(guest_ram_page_ptr(ram, p), 0, PAGE_BYTES);
	if (ret_calls)
		*ret_calls += 1;
	return 0;
}

void guest_ram_wrote(const struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	uint64_t page, end;

	if (bytes == 0 || !guest_ram_page_of(ram, gpa, &page))
		return;
	end = page + (gpa.v % PAGE_BYTES + bytes - 1) / PAGE_BYTES;
	for (; page <= end && page < FAKE_PAGES; page++)
		atomic_store(&ram->owner->wrote[page], true);
}

/* dedup/hinted.c needs KVM's help: here it is remembered what it was asked. */
struct hinted {
	struct fake_machine *owner;
};

int hinted_new(struct guest_ram *ram, struct write_log *log, struct hinted **ret)
{
	struct hinted *h = calloc(1, sizeof(*h));

	assert(h);
	h->owner = ram->owner;
	*ret = h;
	return 0;
}

void hinted_free(struct hinted *h)
{
	free(h);
}

int hinted_begin(struct hinted *h)
{
	assert(!atomic_load(&h->owner->log_on));
	if (h->owner->no_log)
		return -ENOMEM;
	atomic_store(&h->owner->log_on, true);
	return 0;
}

void hinted_end(struct hinted *h)
{
	assert(atomic_load(&h->owner->log_on));
	atomic_store(&h->owner->log_on, false);
}

void hinted_drop(
	struct hinted *h, struct hinted_range *ranges, size_t n, struct hinted_counts *counts)
{
	assert(atomic_load(&h->owner->log_on));
	for (size_t i = 0; i < n; i++) {
		remember(h->owner, ranges[i].page, ranges[i].n, HOLE_HINTED);
		counts->dropped_pages += ranges[i].n;
	}
}

void guest_ram_undiscard(struct guest_ram *ram, uint64_t page, uint64_t n_pages)
{
	remember(ram->owner, page, n_pages, -1);
}

/* --- the bus is the real one; what goes on and off it is watched (--wrap in tests/CMakeLists.txt) */

int __real_bus_add(struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size,
	const struct bus_ops *ops, void *device, const char *name, struct bus_range **ret);
int __real_bus_move(struct bus *b, struct bus_range *r, uint64_t base, bool enabled);
int __wrap_bus_add(struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size,
	const struct bus_ops *ops, void *device, const char *name, struct bus_range **ret);
int __wrap_bus_move(struct bus *b, struct bus_range *r, uint64_t base, bool enabled);

static struct fake_machine *machines; /* all that there are */

static struct fake_machine *of_bus(const struct bus *b)
{
	struct fake_machine *f = machines;

	while (f && f->machine.bus != b)
		f = f->next;
	assert(f);
	return f;
}

/* Counts a call that may be told to fail. */
static bool fails(struct fake_machine *f)
{
	return f->fail_after >= 0 && f->fail_after-- == 0;
}

int __wrap_bus_add(struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size,
	const struct bus_ops *ops, void *device, const char *name, struct bus_range **ret)
{
	struct fake_machine *f = of_bus(b);
	int r;

	assert(f->n_ranges < ARRAY_SIZE(f->ranges));
	if (fails(f))
		return -EEXIST;
	r = __real_bus_add(b, kind, base, size, ops, device, name, ret);
	if (r == 0) {
		f->ranges[f->n_ranges].range = *ret;
		f->ranges[f->n_ranges++].enabled = true;
	}
	return r;
}

int __wrap_bus_move(struct bus *b, struct bus_range *r, uint64_t base, bool enabled)
{
	struct fake_machine *f = of_bus(b);
	int result = __real_bus_move(b, r, base, enabled);

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->n_ranges; i++)
		if (f->ranges[i].range == r)
			f->ranges[i].enabled = enabled && result == 0;
	pthread_mutex_unlock(&f->lock);
	return result;
}

/* --- interrupts and doorbells */

static struct fake_machine *of_machine(struct machine *m)
{
	return (struct fake_machine *)m;
}

static int irq_line(struct machine *m, unsigned gsi, bool level)
{
	struct fake_machine *f = of_machine(m);

	pthread_mutex_lock(&f->lock);
	f->lines[gsi] = level;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static int msi_new(struct machine *m, uint32_t *ret_gsi, int *ret_eventfd)
{
	struct fake_machine *f = of_machine(m);

	if (fails(f))
		return -ENOSPC;
	for (uint32_t i = 0; i < ARRAY_SIZE(f->msis); i++) {
		if (f->msis[i].used)
			continue;
		f->msis[i] = (struct fake_msi){.used = true, .masked = true};
		f->msis[i].eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		*ret_gsi = i;
		*ret_eventfd = f->msis[i].eventfd;
		return 0;
	}
	return -ENOSPC;
}

static void msi_free(struct machine *m, uint32_t gsi, int fd)
{
	struct fake_machine *f = of_machine(m);

	assert(f->msis[gsi].used && f->msis[gsi].eventfd == fd);
	close(fd);
	f->msis[gsi].used = false;
}

static int msi_update(
	struct machine *m, uint32_t gsi, int fd, uint64_t address, uint32_t data, bool masked)
{
	struct fake_machine *f = of_machine(m);

	pthread_mutex_lock(&f->lock);
	assert(f->msis[gsi].used && f->msis[gsi].eventfd == fd);
	f->msis[gsi].masked = masked;
	f->msis[gsi].address = address;
	f->msis[gsi].data = data;
	f->msis[gsi].updates++;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static int doorbell_new(struct machine *m, uint64_t gpa, unsigned size, int fd)
{
	struct fake_machine *f = of_machine(m);

	if (f->no_doorbells)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&f->lock);
	assert(f->n_doorbells < ARRAY_SIZE(f->doorbells));
	f->doorbells[f->n_doorbells].gpa = gpa;
	f->doorbells[f->n_doorbells].size = size;
	f->doorbells[f->n_doorbells++].eventfd = fd;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static void doorbell_free(struct machine *m, uint64_t gpa, unsigned size, int fd)
{
	struct fake_machine *f = of_machine(m);
	unsigned i = 0;

	pthread_mutex_lock(&f->lock);
	while (i < f->n_doorbells && (f->doorbells[i].gpa != gpa || f->doorbells[i].eventfd != fd))
		i++;
	assert(i < f->n_doorbells);
	f->doorbells[i] = f->doorbells[--f->n_doorbells];
	pthread_mutex_unlock(&f->lock);
}

static void request_stop(struct machine *m, bool failed, const char *reason)
{
	of_machine(m)->stops++;
}

static const struct machine_ops fake_ops = {
	.irq_line = irq_line,
	.msi_new = msi_new,
	.msi_free = msi_free,
	.msi_update = msi_update,
	.doorbell_new = doorbell_new,
	.doorbell_free = doorbell_free,
	.request_stop = request_stop,
};

struct fake_machine *fake_machine_new(void)
{
	struct fake_machine *f = calloc(1, sizeof(*f));

	assert(f);
	pthread_mutex_init(&f->lock, NULL);
	f->machine.ops = &fake_ops;
	f->machine.ram = ram_new(f);
	f->machine.log = (struct write_log *)f; /* there is one, nobody looks inside */
	f->fail_after = -1;
	assert(bus_new(&f->machine.bus) == 0);
	f->next = machines;
	machines = f;
	return f;
}

void fake_machine_free(struct fake_machine *f)
{
	struct fake_machine **link = &machines;

	assert(f->n_doorbells == 0);
	for (unsigned i = 0; i < ARRAY_SIZE(f->msis); i++)
		assert(!f->msis[i].used);
	for (unsigned i = 0; i < f->n_ranges; i++)
		assert(!f->ranges[i].enabled); /* its device is gone by now */
	while (*link != f)
		link = &(*link)->next;
	*link = f->next;
	bus_free(f->machine.bus);
	guest_ram_free(f->machine.ram);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void *fake_ram(struct fake_machine *f, uint64_t gpa, uint64_t bytes)
{
	return guest_ram_ptr(f->machine.ram, GPA(gpa), bytes);
}

unsigned fake_discards(struct fake_machine *f, struct fake_discard *ret, unsigned max)
{
	unsigned n;

	pthread_mutex_lock(&f->lock);
	n = f->n_discards < max ? f->n_discards : max;
	if (n > 0)
		memcpy(ret, f->discards, n * sizeof(*ret));
	n = f->n_discards;
	pthread_mutex_unlock(&f->lock);
	return n;
}

void fake_discards_clear(struct fake_machine *f)
{
	pthread_mutex_lock(&f->lock);
	f->n_discards = 0;
	pthread_mutex_unlock(&f->lock);
}

int64_t fake_busy_pages(struct fake_machine *f, uint64_t *ret_calls)
{
	int64_t pages;

	pthread_mutex_lock(&f->lock);
	pages = f->busy_pages;
	*ret_calls = f->busy_calls;
	pthread_mutex_unlock(&f->lock);
	return pages;
}

int fake_line(struct fake_machine *f, unsigned gsi)
{
	int level;

	pthread_mutex_lock(&f->lock);
	level = f->lines[gsi];
	pthread_mutex_unlock(&f->lock);
	return level;
}

unsigned fake_msi_take(struct fake_machine *f, uint32_t gsi)
{
	eventfd_t n = 0;

	if (eventfd_read(f->msis[gsi].eventfd, &n) < 0)
		return 0;
	return (unsigned)n;
}

uint64_t fake_io_read(struct fake_machine *f, uint16_t port, unsigned size)
{
	uint64_t v = 0;

	bus_read(f->machine.bus, BUS_PIO, port, (uint8_t *)&v, size);
	return v;
}

void fake_io_write(struct fake_machine *f, uint16_t port, unsigned size, uint32_t value)
{
	bus_write(f->machine.bus, BUS_PIO, port, (const uint8_t *)&value, size);
}

uint64_t fake_mmio_read(struct fake_machine *f, uint64_t gpa, unsigned size)
{
	uint64_t v = 0;

	bus_read(f->machine.bus, BUS_MMIO, gpa, (uint8_t *)&v, size);
	return v;
}

void fake_mmio_write(struct fake_machine *f, uint64_t gpa, unsigned size, uint64_t value)
{
	int fd = -1;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->n_doorbells; i++)
		if (f->doorbells[i].gpa == gpa && f->doorbells[i].size == size)
			fd = f->doorbells[i].eventfd;
	pthread_mutex_unlock(&f->lock);
	if (fd >= 0)
		eventfd_write(fd, 1);
	else
		bus_write(f->machine.bus, BUS_MMIO, gpa, (const uint8_t *)&value, size);
}
