/*
 * See dirty-log.h. KVM_GET_DIRTY_LOG returns and clears a whole slot's bitmap, and write-protects
 * the pages that were in it again (KVM API, 4.8; without KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2).
 */
#include "kvm-glue/dirty-log.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

struct dirty_log {
	struct vm *vm;
	struct vcpus *vcpus;
	struct write_log *writes;
};

static int start(void *context, unsigned slot)
{
	struct dirty_log *d = context;

	return vm_slot_log(d->vm, slot, VM_LOG_ON);
}

static void stop(void *context, unsigned slot)
{
	struct dirty_log *d = context;

	vm_slot_log(d->vm, slot, VM_LOG_OFF);
}

static int fetch(void *context, unsigned slot, uint64_t *ret_bits)
{
	struct dirty_log *d = context;
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = ret_bits};

	return ioctl(d->vm->fd, KVM_GET_DIRTY_LOG, &log) < 0 ? -errno : 0;
}

static int settle(void *context)
{
	struct dirty_log *d = context;

	return vcpus_settle(d->vcpus);
}

static const struct write_log_backend backend = {
	.start = start,
	.stop = stop,
	.fetch = fetch,
	.settle = settle,
};

int dirty_log_new(struct vm *vm, struct vcpus *vcpus, struct dirty_log **ret)
{
	_cleanup_free_ struct write_log_slot *slots = calloc(vm->n_slots, sizeof(*slots));
	_cleanup_free_ struct dirty_log *d = calloc(1, sizeof(*d));
	int r;

	if (!slots || !d)
		return -ENOMEM;
	d->vm = vm;
	d->vcpus = vcpus;
	for (unsigned i = 0; i < vm->n_slots; i++)
		slots[i] = (struct write_log_slot){
			vm->slots[i].first_page, vm->slots[i].bytes / PAGE_BYTES};
	r = write_log_new(vm->machine.ram, &backend, d, slots, vm->n_slots, &d->writes);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(d);
	return 0;
}

void dirty_log_free(struct dirty_log *d)
{
	if (!d)
		return;
	write_log_free(d->writes);
	free(d);
}

struct write_log *dirty_log_writes(const struct dirty_log *d)
{
	return d->writes;
}
