/*
 * Interrupts of the machine: lines of the in-kernel controllers, and messages (MSI) through irqfd.
 *
 * KVM_SET_GSI_ROUTING replaces the whole table, so it is kept here: the pins as KVM has them by default (PIC and IOAPIC
 * pin N are GSI N), then one entry for each message that the guest has programmed.
 */
#include "kvm-glue/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define PIC_PINS       8
#define ROUTES_MAX     (2 * PIC_PINS + VM_N_PINS + VM_MSIS_MAX)
#define ROUTES_OF_PINS (2 * PIC_PINS + VM_N_PINS)

static void route_pin(struct kvm_irq_routing *routes, unsigned gsi, unsigned chip, unsigned pin)
{
	routes->entries[routes->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin},
	};
}

static void route_msi(struct kvm_irq_routing *routes, unsigned gsi, const struct vm_msi *msi)
{
	routes->entries[routes->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi =
			{
				.address_lo = (uint32_t)msi->address,
				.address_hi = (uint32_t)(msi->address >> 32),
				.data = msi->data,
			},
	};
}

/* Hands the table to KVM; routes_lock held. */
static int routes_commit(struct vm *vm)
{
	vm->routes->nr = ROUTES_OF_PINS;
	for (unsigned i = 0; i < VM_MSIS_MAX; i++)
		if (vm->msis[i].routed)
			route_msi(vm->routes, VM_N_PINS + i, &vm->msis[i]);
	return ioctl(vm->fd, KVM_SET_GSI_ROUTING, vm->routes) < 0 ? -errno : 0;
}

/* Binds or unbinds a message's eventfd; routes_lock held. */
static int irqfd_bind(struct vm *vm, unsigned gsi, int eventfd, bool bind)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)eventfd,
		.gsi = gsi,
		.flags = bind ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	if (vm->msis[gsi - VM_N_PINS].armed == bind)
		return 0;
	if (ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0)
		return -errno;
	vm->msis[gsi - VM_N_PINS].armed = bind;
	return 0;
}

int vm_irq_init(struct vm *vm, struct error *e)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP) < 0 || ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
		return error_set(
			e, -errno, "KVM makes no interrupt controllers: %s", strerror(errno));
	vm->routes =
		calloc(1, sizeof(*vm->routes) + ROUTES_MAX * sizeof(struct kvm_irq_routing_entry));
	if (!vm->routes)
		return error_set(e, -ENOMEM, "out of memory");
	for (unsigned pin = 0; pin < PIC_PINS; pin++) {
		route_pin(vm->routes, pin, KVM_IRQCHIP_PIC_MASTER, pin);
		route_pin(vm->routes, PIC_PINS + pin, KVM_IRQCHIP_PIC_SLAVE, pin);
	}
	for (unsigned pin = 0; pin < VM_N_PINS; pin++)
		route_pin(vm->routes, pin, KVM_IRQCHIP_IOAPIC, pin);
	return 0;
}

void vm_irq_done(struct vm *vm)
{
	free(vm->routes);
}

int vm_irq_line(struct machine *m, unsigned gsi, bool level)
{
	struct vm *vm = (struct vm *)m;
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	if (gsi >= VM_N_PINS)
		return -EINVAL;
	return ioctl(vm->fd, KVM_IRQ_LINE, &line) < 0 ? -errno : 0;
}

int vm_msi_new(struct machine *m, uint32_t *ret_gsi, int *ret_eventfd)
{
	struct vm *vm = (struct vm *)m;
	_cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r = -ENOSPC;

	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&vm->routes_lock);
	for (unsigned i = 0; i < VM_MSIS_MAX && r < 0; i++) {
		if (vm->msis[i].used)
			continue;
		vm->msis[i] = (struct vm_msi){.used = true};
		*ret_gsi = VM_N_PINS + i;
		*ret_eventfd = TAKE_FD(fd);
		r = 0;
	}
	pthread_mutex_unlock(&vm->routes_lock);
	return r;
}

void vm_msi_free(struct machine *m, uint32_t gsi, int eventfd)
{
	struct vm *vm = (struct vm *)m;
	struct vm_msi *msi = &vm->msis[gsi - VM_N_PINS];

	pthread_mutex_lock(&vm->routes_lock);
	irqfd_bind(vm, gsi, eventfd, false);
	*msi = (struct vm_msi){0};
	pthread_mutex_unlock(&vm->routes_lock);
	close(eventfd);
}

int vm_msi_update(
	struct machine *m, uint32_t gsi, int eventfd, uint64_t address, uint32_t data, bool masked)
{
	struct vm *vm = (struct vm *)m;
	struct vm_msi *msi = &vm->msis[gsi - VM_N_PINS];
	int r = 0;

	pthread_mutex_lock(&vm->routes_lock);
	if (!masked && !(msi->routed && msi->address == address && msi->data == data)) {
		msi->address = address;
		msi->data = data;
		msi->routed = true;
		r = routes_commit(vm);
		msi->routed = r == 0;
	}
	if (r == 0)
		r = irqfd_bind(vm, gsi, eventfd, !masked);
	else
		irqfd_bind(vm, gsi, eventfd, false);
	pthread_mutex_unlock(&vm->routes_lock);
	return r;
}
