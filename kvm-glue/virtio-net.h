/* virtio-net (virtio 1.2, 5.1) over a tap interface or a user-mode network (net-backend.h). */
#pragma once

#include "kvm-glue/device.h"
#include "kvm-glue/net-backend.h"

#define VIRTIO_NET_F_CSUM	(UINT64_C(1) << 0)
#define VIRTIO_NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define VIRTIO_NET_F_MAC	(UINT64_C(1) << 5)
#define VIRTIO_NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define VIRTIO_NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define VIRTIO_NET_F_GUEST_ECN	(UINT64_C(1) << 9)
#define VIRTIO_NET_F_HOST_TSO4	(UINT64_C(1) << 11)
#define VIRTIO_NET_F_HOST_TSO6	(UINT64_C(1) << 12)
#define VIRTIO_NET_F_HOST_ECN	(UINT64_C(1) << 13)
#define VIRTIO_NET_F_MRG_RXBUF	(UINT64_C(1) << 15)
#define VIRTIO_NET_F_STATUS	(UINT64_C(1) << 16)
#define VIRTIO_NET_F_CTRL_VQ	(UINT64_C(1) << 17)
#define VIRTIO_NET_F_MQ		(UINT64_C(1) << 22)

/*
 * What virtio_net_kind.open does once the backend is there, which is taken over, also on failure.
 */
int virtio_net_new(struct net_backend *backend, void **ret, struct error *e);

extern const struct device_kind virtio_net_kind;
