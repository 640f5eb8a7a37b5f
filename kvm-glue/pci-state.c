/*
 * The PCI bus in a snapshot: of each function its configuration space, of which only what the guest
 * may write is taken back, and its MSI-X table; the rest is the device's own.
 */
#include <errno.h>
#include <string.h>

#include "kvm-glue/pci-internal.h"

#define TAG_BUS	     SNAPSHOT_TAG('p', 'c', 'i', 'b')
#define TAG_FUNCTION SNAPSHOT_TAG('p', 'c', 'i', 'f')
#define TAG_VECTORS  SNAPSHOT_TAG('m', 's', 'i', 'x')

struct saved_bus {
	uint32_t address;
	uint32_t slots; /* bit N: there is a function in slot N */
};

struct saved_function {
	uint8_t config[PCI_CONFIG_BYTES];
	uint32_t slot;
	uint32_t intx_level;
};

struct saved_vector {
	uint32_t entry[4];
	uint32_t pending;
	uint32_t reserved;
};

/* Slot 0 is the bridge, of which the guest can change nothing. Lock held. */
static uint32_t slots(const struct pci_bus *b)
{
	uint32_t mask = 0;

	for (unsigned i = 1; i < PCI_SLOTS; i++)
		mask |= b->functions[i] ? 1u << i : 0;
	return mask;
}

/* First the bus, then the devices: pci.c, DOC. */
void pci_bus_quiesce(struct pci_bus *b)
{
	pthread_mutex_lock(&b->lock);
	for (unsigned i = 1; i < PCI_SLOTS; i++)
		if (b->functions[i] && b->functions[i]->ops->quiesce)
			b->functions[i]->ops->quiesce(b->functions[i]);
}

void pci_bus_resume(struct pci_bus *b)
{
	for (unsigned i = 1; i < PCI_SLOTS; i++)
		if (b->functions[i] && b->functions[i]->ops->resume)
			b->functions[i]->ops->resume(b->functions[i]);
	pthread_mutex_unlock(&b->lock);
}

/* Quiesced: the PCI bus's lock is held. */
static int function_save(struct pci_function *f, struct snapshot_writer *w, struct error *e)
{
	struct saved_function saved = {.slot = f->slot};
	struct saved_vector vectors[PCI_MSIX_MAX] = {0};

	if (!f->ops->save)
		return error_set(
			e, -EOPNOTSUPP, "the device in PCI slot %u cannot be saved", f->slot);
	memcpy(saved.config, f->config, sizeof(saved.config));
	pthread_mutex_lock(&f->msix_lock);
	saved.intx_level = f->intx_level;
	for (unsigned i = 0; i < f->n_vectors; i++) {
		memcpy(vectors[i].entry, f->vectors[i].entry, sizeof(vectors[i].entry));
		vectors[i].pending = f->vectors[i].pending;
	}
	pthread_mutex_unlock(&f->msix_lock);
	snapshot_put(w, TAG_FUNCTION, &saved, sizeof(saved));
	snapshot_put(w, TAG_VECTORS, vectors, f->n_vectors * sizeof(vectors[0]));
	return f->ops->save(f, w, e);
}

int pci_bus_save(struct pci_bus *b, struct snapshot_writer *w, struct error *e)
{
	struct saved_bus saved = {.address = b->address, .slots = slots(b)};
	int r = 0;

	snapshot_put(w, TAG_BUS, &saved, sizeof(saved));
	for (unsigned i = 1; i < PCI_SLOTS && r == 0; i++)
		if (b->functions[i])
			r = function_save(b->functions[i], w, e);
	return r;
}

/* The PCI bus's lock is held. */
static int function_take(struct pci_function *f, struct snapshot_reader *r)
{
	const struct saved_vector *vectors;
	struct saved_function saved;
	const void *array;
	size_t n;

	if (snapshot_get(r, TAG_FUNCTION, &saved, sizeof(saved)) < 0 || saved.slot != f->slot ||
		snapshot_get_array(r, TAG_VECTORS, sizeof(*vectors), PCI_MSIX_MAX, &array, &n) <
			0 ||
		n != f->n_vectors)
		return -EINVAL;
	vectors = array;
	for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++)
		f->config[i] = (uint8_t)((f->config[i] & ~f->writable[i]) |
					 (saved.config[i] & f->writable[i]));
	pthread_mutex_lock(&f->msix_lock);
	f->intx_level = saved.intx_level != 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(f->vectors[i].entry, vectors[i].entry, sizeof(f->vectors[i].entry));
		f->vectors[i].entry[0] &= ~UINT32_C(3);
		f->vectors[i].entry[3] &= 1;
		f->vectors[i].pending = vectors[i].pending != 0;
	}
	pthread_mutex_unlock(&f->msix_lock);
	pci_interrupts_configured(f);
	pci_bar_configured(f);
	return 0;
}

static int function_restore(
	struct pci_bus *b, struct pci_function *f, struct snapshot_reader *r, struct error *e)
{
	int result;

	pthread_mutex_lock(&b->lock);
	result = function_take(f, r);
	pthread_mutex_unlock(&b->lock);
	if (result == 0)
		result = f->ops->restore(f, r, e);
	return result < 0 ? error_set(e, result,
				    "the state of the device in PCI slot %u is damaged", f->slot)
			  : 0;
}

int pci_bus_restore(struct pci_bus *b, struct snapshot_reader *r, struct error *e)
{
	struct saved_bus saved;
	uint32_t here;
	int result = 0;

	if (snapshot_get(r, TAG_BUS, &saved, sizeof(saved)) < 0)
		return error_set(e, -EINVAL, "the state of the PCI bus is damaged");
	pthread_mutex_lock(&b->lock);
	b->address = saved.address & UINT32_C(0x80fffffc);
	here = slots(b);
	pthread_mutex_unlock(&b->lock);
	if (saved.slots != here)
		return error_set(e, -EINVAL,
			"the snapshot's guest has devices in PCI slots 0x%x, this one in 0x%x: "
			"start it "
			"with the devices it was saved with",
			saved.slots, here);
	for (unsigned i = 1; i < PCI_SLOTS && result == 0; i++)
		if (b->functions[i])
			result = function_restore(b, b->functions[i], r, e);
	return result;
}
