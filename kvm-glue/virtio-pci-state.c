/*
 * The virtio transport in a snapshot: its registers and where the queues are. After a restore the
 * driver gets an interrupt of each kind it may wait for, since one may have been under way when the
 * snapshot was taken: a driver that finds nothing takes no harm.
 */
#include <errno.h>

#include "kvm-glue/virtio-pci-internal.h"

#define TAG_REGISTERS SNAPSHOT_TAG('v', 'r', 'e', 'g')
#define TAG_QUEUES    SNAPSHOT_TAG('v', 'q', 'u', 'e')

struct saved_registers {
	uint64_t driver_features;
	uint32_t device_feature_select;
	uint32_t driver_feature_select;
	uint16_t class_id;
	uint16_t config_vector;
	uint16_t queue_select;
	uint8_t status;
	uint8_t generation;
	uint8_t isr;
	uint8_t running; /* of the device: not while it needs a reset */
	uint8_t reserved[6];
};

struct saved_queue {
	uint64_t descriptors_gpa;
	uint64_t driver_gpa;
	uint64_t device_gpa;
	uint16_t size;
	uint16_t enabled;
	uint16_t vector;
	uint16_t reserved;
};

void virtio_pci_quiesce(struct pci_function *f)
{
	virtio_device_quiesce(((struct virtio_pci *)f)->device);
}

void virtio_pci_resume(struct pci_function *f)
{
	virtio_device_unquiesce(((struct virtio_pci *)f)->device);
}

int virtio_pci_save(struct pci_function *f, struct snapshot_writer *w, struct error *e)
{
	struct virtio_pci *p = (struct virtio_pci *)f;
	const struct virtio_device *d = p->device;
	struct saved_queue queues[VIRTIO_QUEUES_MAX] = {0};
	struct saved_registers saved;

	pthread_mutex_lock(&p->lock);
	saved = (struct saved_registers){
		.driver_features = p->driver_features,
		.device_feature_select = p->device_feature_select,
		.driver_feature_select = p->driver_feature_select,
		.class_id = d->class->id,
		.config_vector = p->config_vector,
		.queue_select = p->queue_select,
		.status = p->status,
		.generation = p->generation,
		.isr = p->isr,
		.running = d->running,
	};
	for (unsigned q = 0; q < d->class->n_queues; q++)
		queues[q] = (struct saved_queue){
			.descriptors_gpa = p->queues[q].descriptors_gpa,
			.driver_gpa = p->queues[q].driver_gpa,
			.device_gpa = p->queues[q].device_gpa,
			.size = p->queues[q].size,
			.enabled = p->queues[q].enabled,
			.vector = p->queue_vectors[q],
		};
	pthread_mutex_unlock(&p->lock);
	snapshot_put(w, TAG_REGISTERS, &saved, sizeof(saved));
	snapshot_put(w, TAG_QUEUES, queues, d->class->n_queues * sizeof(queues[0]));
	return virtio_device_save(p->device, w, e);
}

static uint16_t valid_vector(const struct virtio_pci *p, uint16_t vector)
{
	return vector < p->function.n_vectors ? vector : VIRTIO_PCI_NO_VECTOR;
}

/* lock held. */
static void take_registers(
	struct virtio_pci *p, const struct saved_registers *saved, const struct saved_queue *queues)
{
	p->driver_features = saved->driver_features;
	p->device_feature_select = saved->device_feature_select;
	p->driver_feature_select = saved->driver_feature_select;
	p->config_vector = valid_vector(p, saved->config_vector);
	p->queue_select = saved->queue_select;
	p->status = saved->status;
	p->generation = saved->generation;
	p->isr = saved->isr;
	for (unsigned q = 0; q < p->device->class->n_queues; q++) {
		p->queues[q] = (struct virtio_queue_setup){
			.size = queues[q].size,
			.enabled = queues[q].enabled != 0,
			.descriptors_gpa = queues[q].descriptors_gpa,
			.driver_gpa = queues[q].driver_gpa,
			.device_gpa = queues[q].device_gpa,
		};
		p->queue_vectors[q] = valid_vector(p, queues[q].vector);
	}
}

/* A running device has a driver that accepted what this one offers. */
static bool may_run(const struct virtio_pci *p)
{
	return (p->status & VIRTIO_STATUS_DRIVER_OK) && (p->driver_features & VIRTIO_F_VERSION_1) &&
	       !(p->driver_features & ~virtio_device_offered(p->device));
}

int virtio_pci_restore(struct pci_function *f, struct snapshot_reader *r, struct error *e)
{
	struct virtio_pci *p = (struct virtio_pci *)f;
	struct virtio_device *d = p->device;
	struct saved_registers saved;
	const void *queues;
	size_t n;
	int result;

	if (snapshot_get(r, TAG_REGISTERS, &saved, sizeof(saved)) < 0 ||
		snapshot_get_array(r, TAG_QUEUES, sizeof(struct saved_queue), VIRTIO_QUEUES_MAX,
			&queues, &n) < 0)
		return -EINVAL;
	if (saved.class_id != d->class->id || n != d->class->n_queues)
		return error_set(e, -EINVAL,
			"the snapshot's guest has a device of type %u in PCI slot %u, this one %s",
			saved.class_id, f->slot, d->class->name);
	pthread_mutex_lock(&p->lock);
	take_registers(p, &saved, queues);
	pthread_mutex_unlock(&p->lock);
	if (saved.running && !may_run(p))
		return error_set(e, -EINVAL, "the driver of %s uses features that this one lacks",
			d->class->name);
	result = virtio_device_restore(d, p->driver_features, saved.running ? p->queues : NULL, r);
	if (result < 0 || !saved.running)
		return result;
	for (unsigned q = 0; q < n; q++)
		if (p->queues[q].enabled)
			d->transport_ops->interrupt_queue(d, q);
	d->transport_ops->interrupt_config(d);
	return 0;
}
