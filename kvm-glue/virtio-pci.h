/*
 * The PCI transport of virtio devices (virtio 1.2, 4.1; modern only): shows a virtio_device as a
 * PCI function with one BAR, MSI-X vectors for its configuration and each of its queues, and a
 * doorbell for each queue.
 */
#pragma once

#include "kvm-glue/machine.h"
#include "kvm-glue/pci.h"
#include "kvm-glue/virtio-device.h"

/*
 * Where the structures lie in the BAR (each also in a capability): fixed, so that a simple guest
 * may rely on it.
 */
#define VIRTIO_PCI_COMMON_OFFSET UINT64_C(0x0000)
#define VIRTIO_PCI_ISR_OFFSET	 UINT64_C(0x1000)
#define VIRTIO_PCI_DEVICE_OFFSET UINT64_C(0x2000)
#define VIRTIO_PCI_NOTIFY_OFFSET UINT64_C(0x3000) /* queue N: + N * VIRTIO_PCI_NOTIFY_STRIDE */
#define VIRTIO_PCI_MSIX_OFFSET	 UINT64_C(0x4000)
#define VIRTIO_PCI_PBA_OFFSET	 UINT64_C(0x5000)
#define VIRTIO_PCI_NOTIFY_STRIDE 4

#define VIRTIO_PCI_NO_VECTOR 0xffff

/* Device status (virtio 1.2, 2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER	  2
#define VIRTIO_STATUS_DRIVER_OK	  4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_NEEDS_RESET 64
#define VIRTIO_STATUS_FAILED	  128

struct virtio_pci;

/*
 * Connects d, which is initialized and not yet running, and shows it to the guest in that slot. m,
 * pci and d outlive the transport. -ENOMEM, or an errno of pci_function_init or
 * pci_function_add_msix.
 */
int virtio_pci_new(struct machine *m, struct pci_bus *pci, unsigned slot, struct virtio_device *d,
	struct virtio_pci **ret);
/* After the device's thread was halted and vCPUs have stopped. NULL is allowed. */
void virtio_pci_free(struct virtio_pci *p);
DEFINE_CLEANUP(struct virtio_pci *, virtio_pci_free)
