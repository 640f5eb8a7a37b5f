/*
 * virtio-vsock (virtio 1.2, 5.10): connections between the guest and Unix sockets of the host.
 *
 * --vsock CID,PATH: the guest's number, 3 and up, and the socket (vsock-relay.h)
 */
#pragma once

#include "kvm-glue/device.h"

#define VIRTIO_VSOCK_PATH_MAX 96 /* bytes; "_4294967295" comes behind it */

extern const struct device_kind virtio_vsock_kind;

/*
 * What virtio_vsock_kind.open does once there is somebody at the other end of packet_fd, which is
 * taken over, also on failure.
 */
int virtio_vsock_new(uint64_t guest_cid, int packet_fd, void **ret, struct error *e);
