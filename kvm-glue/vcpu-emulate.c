/* The exit for an instruction that KVM's emulator refuses: fetches the state, has emulate.c complete it, stores it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm-glue/emulate.h"
#include "kvm-glue/vcpu.h"
#include "memd/base/overflow.h"

#define VECTOR_BP 3

/* Host memory behind a linear address of the guest, within one page. The caller may write to it. */
static void *linear_memory(void *context, uint64_t gva, size_t bytes)
{
	struct vcpu *v = context;
	struct kvm_translation t = {.linear_address = gva};

	if (ioctl(v->fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
		return NULL;
	guest_ram_wrote(v->vm->machine.ram, GPA(t.physical_address), bytes);
	return guest_ram_ptr(v->vm->machine.ram, GPA(t.physical_address), bytes);
}

/* The bytes at RIP, as many as can be read of the longest instruction. */
static size_t fetch(struct vcpu *v, uint64_t rip, uint8_t *bytes)
{
	size_t done = 0;

	while (done < EMULATE_INSTRUCTION_MAX) {
		uint64_t gva = rip + done;
		size_t n = (size_t)u64_min(
			EMULATE_INSTRUCTION_MAX - done, PAGE_BYTES - gva % PAGE_BYTES);
		const void *from = linear_memory(v, gva, n);

		if (!from)
			break;
		memcpy(bytes + done, from, n);
		done += n;
	}
	return done;
}

static int inject_breakpoint(int fd)
{
	struct kvm_vcpu_events events;

	if (ioctl(fd, KVM_GET_VCPU_EVENTS, &events) < 0)
		return -errno;
	events.exception.injected = 1;
	events.exception.nr = VECTOR_BP;
	events.exception.has_error_code = 0;
	return ioctl(fd, KVM_SET_VCPU_EVENTS, &events) < 0 ? -errno : 0;
}

static int store(struct vcpu *v, struct emulate_cpu *cpu, int outcome)
{
	if (ioctl(v->fd, KVM_SET_REGS, &cpu->regs) < 0)
		return -errno;
	if (outcome == EMULATE_DONE_FPU && ioctl(v->fd, KVM_SET_XSAVE, &cpu->xsave) < 0)
		return -errno;
	return outcome == EMULATE_BREAKPOINT ? inject_breakpoint(v->fd) : 0;
}

static int refuse(const struct vcpu *v, const struct emulate_cpu *cpu, const uint8_t *bytes,
	size_t n, struct error *e)
{
	char hex[3 * EMULATE_INSTRUCTION_MAX + 1] = "";

	for (size_t i = 0; i < n; i++)
		snprintf(hex + 3 * i, 4, " %02x", bytes[i]);
	return error_set(e, -EOPNOTSUPP,
		"vCPU %u: instruction not known to KVM's emulator nor to memd-vmm at RIP 0x%" PRIx64
		", ring %u, bytes%s",
		v->index, (uint64_t)cpu->regs.rip, cpu->sregs.cs.selector & 3u, hex);
}

int vcpu_emulate(struct vcpu *v, struct error *e)
{
	struct emulate_cpu cpu = {.memory = linear_memory, .context = v};
	uint8_t bytes[EMULATE_INSTRUCTION_MAX];
	size_t n;
	int outcome, r;

	if (ioctl(v->fd, KVM_GET_REGS, &cpu.regs) < 0 ||
		ioctl(v->fd, KVM_GET_SREGS, &cpu.sregs) < 0 ||
		ioctl(v->fd, KVM_GET_XSAVE, &cpu.xsave) < 0)
		return error_set(
			e, -errno, "vCPU %u: reading its state: %s", v->index, strerror(errno));
	n = fetch(v, cpu.regs.rip + cpu.sregs.cs.base, bytes);
	outcome = emulate_instruction(&cpu, bytes, n);
	if (outcome == EMULATE_UNKNOWN)
		return refuse(v, &cpu, bytes, n, e);
	r = store(v, &cpu, outcome);
	if (r < 0)
		return error_set(e, r, "vCPU %u: storing its state: %s", v->index, strerror(-r));
	return 0;
}
