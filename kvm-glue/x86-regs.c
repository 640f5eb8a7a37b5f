/* Registers at the two entries of a kernel (x86.h). */
#include "kvm-glue/x86.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#define CR0_PE	 (1u << 0)
#define CR0_ET	 (1u << 4)
#define CR0_NE	 (1u << 5)
#define CR0_WP	 (1u << 16)
#define CR0_PG	 (1u << 31)
#define CR4_PAE	 (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define RFLAGS_1 2 /* bit 1 is always set */

#define SEGMENT_CODE 11 /* execute, read, accessed */
#define SEGMENT_DATA 3 /* read, write, accessed */
#define SEGMENT_TSS  11 /* busy 32-bit (64-bit in long mode) TSS */

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.selector = selector,
		.limit = UINT32_MAX,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = 1,
	};
}

static void set_segments(struct kvm_sregs *s, struct kvm_segment code)
{
	struct kvm_segment data = flat_segment(X86_BOOT_DS, SEGMENT_DATA);

	s->cs = code;
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->tr = (struct kvm_segment){.limit = 0x67, .type = SEGMENT_TSS, .present = 1};
	s->ldt = (struct kvm_segment){.unusable = 1};
	s->idt = (struct kvm_dtable){0};
}

static int get_sregs(int fd, struct kvm_sregs *ret, struct error *e)
{
	if (ioctl(fd, KVM_GET_SREGS, ret) < 0)
		return error_set(e, -errno, "reading registers: %s", strerror(errno));
	return 0;
}

static int set_regs(
	int fd, const struct kvm_sregs *sregs, const struct kvm_regs *regs, struct error *e)
{
	if (ioctl(fd, KVM_SET_SREGS, sregs) < 0 || ioctl(fd, KVM_SET_REGS, regs) < 0)
		return error_set(e, -errno, "KVM refuses the entry registers: %s", strerror(errno));
	return 0;
}

int x86_regs_set_entry64(int fd, const struct x86_entry64 *entry, struct error *e)
{
	struct kvm_segment code = flat_segment(X86_BOOT_CS, SEGMENT_CODE);
	struct kvm_regs regs = {
		.rip = entry->entry_gpa,
		.rsi = entry->parameters_gpa,
		.rflags = RFLAGS_1,
	};
	struct kvm_sregs sregs;
	int r = get_sregs(fd, &sregs, e);

	if (r < 0)
		return r;
	code.db = 0;
	code.l = 1;
	set_segments(&sregs, code);
	sregs.gdt.base = entry->gdt_gpa;
	sregs.gdt.limit = (uint16_t)(entry->gdt_bytes - 1);
	sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	sregs.cr3 = entry->cr3_gpa;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	return set_regs(fd, &sregs, &regs, e);
}

int x86_regs_set_pvh(int fd, uint32_t entry_gpa, uint32_t start_info_gpa, struct error *e)
{
	struct kvm_regs regs = {
		.rip = entry_gpa,
		.rbx = start_info_gpa,
		.rflags = RFLAGS_1,
	};
	struct kvm_sregs sregs;
	int r = get_sregs(fd, &sregs, e);

	if (r < 0)
		return r;
	set_segments(&sregs, flat_segment(X86_BOOT_CS, SEGMENT_CODE));
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	sregs.efer = 0;
	return set_regs(fd, &sregs, &regs, e);
}
