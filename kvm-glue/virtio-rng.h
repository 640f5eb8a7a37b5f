/*
 * virtio-rng (virtio 1.2, 5.4): random bytes of the host's kernel, as many as the guest asks for.
 */
#pragma once

#include "kvm-glue/device.h"

/* A buffer is filled up to this; the driver asks again for more. */
#define VIRTIO_RNG_REQUEST_MAX_BYTES 65536

extern const struct device_kind virtio_rng_kind;
