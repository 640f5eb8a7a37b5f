/*
 * virtio-blk (virtio 1.2, 5.2): a disk in a file or on a block device of the host.
 *
 * --disk, with what disk_open takes (disk.h)
 */
#pragma once

#include "kvm-glue/device.h"

#define VIRTIO_BLK_SEGMENTS_MAX	  126 /* of a request, and */
#define VIRTIO_BLK_SEGMENT_BYTES  (1 << 20) /* of each */
/* Of one request of discard or write zeroes. */
#define VIRTIO_BLK_ZEROES_SECTORS (1 << 21)

extern const struct device_kind virtio_blk_kind;
