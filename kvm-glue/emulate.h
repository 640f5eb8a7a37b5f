/*
 * Completes single instructions that KVM's emulator refuses (KVM_EXIT_INTERNAL_ERROR, suberror emulation). Pure: state in,
 * state out, no ioctl; vcpu-emulate.c fetches and stores it. 64-bit mode only.
 */
#pragma once

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define EMULATE_INSTRUCTION_MAX 15 /* bytes; Intel SDM vol. 2, 2.3.11 */

struct emulate_cpu {
	struct kvm_regs regs; /* changed when an instruction is completed */
	struct kvm_sregs sregs;
	struct kvm_xsave xsave; /* standard format: x87 state and MXCSR are in its first 32 bytes */
	/*
	 * Host memory behind [gva, gva + bytes), which lies in one 4 KiB page; NULL when it is not mapped or no RAM.
	 */
	void *(*memory)(void *context, uint64_t gva, size_t bytes);
	void *context;
};

/* Outcomes. */
#define EMULATE_DONE	   0 /* completed; RIP is at the next instruction */
#define EMULATE_DONE_FPU   1 /* completed, and xsave changed */
#define EMULATE_BREAKPOINT 2 /* RIP is at the next instruction; #BP is to be injected */
#define EMULATE_UNKNOWN	   3 /* not ours, malformed, or its operand is not in RAM; nothing changed */

/* Decodes and executes the instruction in bytes (n of them, at most EMULATE_INSTRUCTION_MAX are looked at). */
int emulate_instruction(struct emulate_cpu *cpu, const uint8_t *bytes, size_t n);
