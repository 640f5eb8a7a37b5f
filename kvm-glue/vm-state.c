/* The VM in a snapshot: interrupt controllers, timer, clock. MSI routes are the devices' to set. */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm-glue/vm.h"

#define TAG_CHIP  SNAPSHOT_TAG('c', 'h', 'i', 'p')
#define TAG_TIMER SNAPSHOT_TAG('p', 'i', 't', '2')
#define TAG_CLOCK SNAPSHOT_TAG('c', 'l', 'o', 'k')

static const uint32_t chips[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC};

int vm_save(struct vm *vm, struct snapshot_writer *w, struct error *e)
{
	struct kvm_pit_state2 timer;
	struct kvm_clock_data clock;

	for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
		struct kvm_irqchip chip = {.chip_id = chips[i]};

		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip) < 0)
			return error_set(e, -errno, "reading interrupt controller %u: %s", chips[i],
				strerror(errno));
		snapshot_put(w, TAG_CHIP, &chip, sizeof(chip));
	}
	memset(&timer, 0, sizeof(timer));
	memset(&clock, 0, sizeof(clock));
	if (ioctl(vm->fd, KVM_GET_PIT2, &timer) < 0 || ioctl(vm->fd, KVM_GET_CLOCK, &clock) < 0)
		return error_set(e, -errno, "reading the timer and the clock: %s", strerror(errno));
	snapshot_put(w, TAG_TIMER, &timer, sizeof(timer));
	snapshot_put(w, TAG_CLOCK, &clock, sizeof(clock));
	return 0;
}

int vm_restore(struct vm *vm, struct snapshot_reader *r, struct error *e)
{
	struct kvm_pit_state2 timer;
	struct kvm_clock_data clock, now = {0};

	for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
		struct kvm_irqchip chip;

		if (snapshot_get(r, TAG_CHIP, &chip, sizeof(chip)) < 0 || chip.chip_id != chips[i])
			return error_set(
				e, -EINVAL, "the state of the interrupt controllers is damaged");
		if (ioctl(vm->fd, KVM_SET_IRQCHIP, &chip) < 0)
			return error_set(e, -errno, "KVM refuses interrupt controller %u: %s",
				chips[i], strerror(errno));
	}
	if (snapshot_get(r, TAG_TIMER, &timer, sizeof(timer)) < 0 ||
		snapshot_get(r, TAG_CLOCK, &clock, sizeof(clock)) < 0)
		return error_set(e, -EINVAL, "the state of the timer is damaged");
	now.clock = clock.clock; /* no time has passed for the guest */
	if (ioctl(vm->fd, KVM_SET_PIT2, &timer) < 0 || ioctl(vm->fd, KVM_SET_CLOCK, &now) < 0)
		return error_set(
			e, -errno, "KVM refuses the timer and the clock: %s", strerror(errno));
	return 0;
}
