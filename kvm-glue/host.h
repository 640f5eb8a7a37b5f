/* What this host's KVM is and can do: asked once at start. */
#pragma once

#include <stddef.h>

#include "memd/base/error.h"
#include "memd/base/vmm-proto.h"

/* How KVM runs guest code here. It decides which quirks apply (x86-pvm.h). */
enum host_backend {
	HOST_BACKEND_UNKNOWN,
	HOST_BACKEND_VMX,
	HOST_BACKEND_SVM,
	HOST_BACKEND_PVM, /* shadow paging without hardware assist; ring 0 may be emulated */
};

struct host {
	int kvm_fd; /* /dev/kvm */
	enum host_backend backend;
	enum vmm_memory_mode memory_mode;
	unsigned vcpus_max;
	unsigned memslots_max;
	size_t run_bytes; /* of each vCPU's shared page(s) */
};

/*
 * Opens /dev/kvm and checks that it has what memd-vmm cannot do without. -ENOENT, -EACCES, -ENODEV, -EPROTO (not the stable
 * API), -EOPNOTSUPP (a capability is missing); *e says what to do about it.
 */
int host_open(struct host *ret, struct error *e);
/* Safe on a zeroed one with kvm_fd -1. */
void host_close(struct host *h);

const char *host_backend_name(enum host_backend b);
