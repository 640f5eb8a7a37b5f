/*
 * KVM's dirty log as the backend of the write log (dedup/write-log.h): slot by slot, with the vCPUs'
 * help for the writes that KVM has not noted yet.
 */
#pragma once

#include "dedup/write-log.h"
#include "kvm-glue/vcpu.h"
#include "kvm-glue/vm.h"

struct dirty_log;

/* vm, with its RAM, and vcpus outlive it. -ENOMEM. */
int dirty_log_new(struct vm *vm, struct vcpus *vcpus, struct dirty_log **ret);
/* After everyone who uses it has stopped. NULL is allowed. */
void dirty_log_free(struct dirty_log *d);

struct write_log *dirty_log_writes(const struct dirty_log *d);
