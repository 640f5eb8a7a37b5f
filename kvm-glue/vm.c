/* The KVM virtual machine (vm.h). Must never touch what is in guest memory: it only says where it is. */
#include "kvm-glue/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "memd/base/overflow.h"

/* Pages that VMX needs for a guest in real mode: above all devices, below the firmware's place, no RAM. */
#define IDENTITY_MAP_GPA UINT64_C(0xfffbc000)
#define TSS_GPA		 UINT64_C(0xfffbd000)

int vm_slot_log(struct vm *vm, unsigned slot, enum vm_log log)
{
	const struct vm_slot *s = &vm->slots[slot];
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = log == VM_LOG_ON ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = s->gpa,
		.memory_size = s->bytes,
		.userspace_addr = (uintptr_t)s->host,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

static int add_slot(struct vm *vm, const struct vm_slot *s)
{
	struct vm_slot *slots;
	int r;

	if (vm->n_slots >= vm->host->memslots_max)
		return -ENOSPC;
	slots = reallocarray(vm->slots, vm->n_slots + 1, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	vm->slots = slots;
	slots[vm->n_slots] = *s;
	r = vm_slot_log(vm, vm->n_slots, VM_LOG_OFF);
	if (r == 0)
		vm->n_slots++;
	return r;
}

static int add_ram(struct vm *vm, struct error *e)
{
	const struct guest_ram_range *ranges;
	size_t n = guest_ram_ranges(vm->machine.ram, &ranges);

	for (size_t i = 0; i < n; i++) {
		for (uint64_t at = 0; at < ranges[i].bytes; at += VM_SLOT_BYTES) {
			struct vm_slot slot = {
				.gpa = ranges[i].gpa + at,
				.bytes = u64_min(VM_SLOT_BYTES, ranges[i].bytes - at),
				.host = ranges[i].host + at,
				.first_page = ranges[i].first_page + at / PAGE_BYTES,
			};
			int r = add_slot(vm, &slot);

			if (r < 0)
				return error_set(e, r,
					"KVM refuses memory slot %u (of at most %u): %s",
					vm->n_slots, vm->host->memslots_max, strerror(-r));
		}
	}
	return 0;
}

static int doorbell_set(struct machine *m, uint64_t gpa, unsigned size, int eventfd, uint32_t flags)
{
	struct vm *vm = (struct vm *)m;
	struct kvm_ioeventfd bell = {
		.addr = gpa,
		.len = size,
		.fd = eventfd,
		.flags = flags,
	};

	return ioctl(vm->fd, KVM_IOEVENTFD, &bell) < 0 ? -errno : 0;
}

static int doorbell_new(struct machine *m, uint64_t gpa, unsigned size, int eventfd)
{
	return doorbell_set(m, gpa, size, eventfd, 0);
}

static void doorbell_free(struct machine *m, uint64_t gpa, unsigned size, int eventfd)
{
	doorbell_set(m, gpa, size, eventfd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static void request_stop(struct machine *m, bool failed, const char *reason)
{
	vm_request_stop((struct vm *)m, failed, reason);
}

static const struct machine_ops vm_ops = {
	.irq_line = vm_irq_line,
	.msi_new = vm_msi_new,
	.msi_free = vm_msi_free,
	.msi_update = vm_msi_update,
	.doorbell_new = doorbell_new,
	.doorbell_free = doorbell_free,
	.request_stop = request_stop,
};

void vm_request_stop(struct vm *vm, bool failed, const char *reason)
{
	vm->stop(vm->stop_context, failed, reason);
}

int vm_new(const struct host *host, struct guest_ram *ram, struct bus *bus, vm_stop stop,
	void *stop_context, struct vm **ret, struct error *e)
{
	_cleanup_(vm_freep) struct vm *vm = calloc(1, sizeof(*vm));
	uint64_t identity_gpa = IDENTITY_MAP_GPA;
	int r;

	if (!vm)
		return error_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&vm->routes_lock, NULL);
	vm->machine = (struct machine){.ops = &vm_ops, .ram = ram, .bus = bus};
	vm->host = host;
	vm->stop = stop;
	vm->stop_context = stop_context;
	vm->fd = ioctl(host->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return error_set(e, -errno, "KVM makes no virtual machine: %s", strerror(errno));
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_GPA) < 0 ||
		ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_gpa) < 0)
		return error_set(
			e, -errno, "KVM refuses the real mode addresses: %s", strerror(errno));
	r = vm_irq_init(vm, e);
	if (r < 0)
		return r;
	r = add_ram(vm, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(vm);
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	vm_irq_done(vm);
	cleanup_closep(&vm->fd);
	free(vm->slots);
	pthread_mutex_destroy(&vm->routes_lock);
	free(vm);
}
