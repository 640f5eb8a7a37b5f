/* What virtio-pci.c and virtio-pci-state.c share. */
#pragma once

#include "kvm-glue/virtio-pci.h"

struct virtio_pci {
	struct pci_function function; /* first: what pci.c hands back is this */
	struct virtio_device *device;
	struct machine *machine;
	unsigned pci_cfg; /* offset of that capability */
	uint64_t doorbells_gpa; /* BAR that the doorbells are registered for, UINT64_MAX for none */
	bool doorbell_set[VIRTIO_QUEUES_MAX];

	pthread_mutex_t status_lock;
	pthread_mutex_t lock; /* what follows */
	uint32_t device_feature_select;
	uint32_t driver_feature_select;
	uint64_t driver_features;
	uint16_t config_vector;
	uint8_t status;
	uint8_t generation;
	uint8_t isr;
	uint16_t queue_select;
	struct virtio_queue_setup queues[VIRTIO_QUEUES_MAX];
	uint16_t queue_vectors[VIRTIO_QUEUES_MAX];
};

/* Operations of a PCI function (pci.h), in virtio-pci-state.c. */
void virtio_pci_quiesce(struct pci_function *f);
void virtio_pci_resume(struct pci_function *f);
int virtio_pci_save(struct pci_function *f, struct snapshot_writer *w, struct error *e);
int virtio_pci_restore(struct pci_function *f, struct snapshot_reader *r, struct error *e);
