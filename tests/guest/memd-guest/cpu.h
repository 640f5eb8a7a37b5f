/*
 * A virtual CPU of the guest: descriptor tables, traps, ring 3 and its system calls. Work is done
 * in ring 3: on hosts without hardware assist ring 0 is emulated, thousands of times slower.
 */
#pragma once

#include "tests/guest/memd-guest/arch.h"
#include "tests/guest/memd-guest/layout.h"

#define CPU_STACK_BYTES 8192

struct cpu_tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3;
	uint16_t io_bitmap;
} __attribute__((packed));

struct cpu {
	uint64_t gdt[10];
	struct cpu_tss tss;
	uint32_t index; /* 0 is the boot processor */
	uint32_t apic_id;
	uint64_t online; /* set by the CPU itself, from ring 3 */
	uint8_t kernel_stack[CPU_STACK_BYTES] __attribute__((aligned(16)));
	uint8_t fault_stack[CPU_STACK_BYTES] __attribute__((aligned(16)));
	uint8_t user_stack[2 * CPU_STACK_BYTES] __attribute__((aligned(16)));
};

extern struct cpu cpus[VCPUS_MAX];

/* Ring 0, on the CPU itself: GDT, TSS, IDT. The IDT is one for all and is built by cpu_init_idt. */
void cpu_init_idt(void);
void cpu_init(struct cpu *c);
/* Ring 0: leaves for ring 3 with interrupts on and calls fn(arg) there, which must not return. */
void cpu_run_user(struct cpu *c, void (*fn)(void *), void *arg) __attribute__((noreturn));

enum system_call {
	SYS_PRINT = 1, /* bytes, size */
	SYS_IDLE = 2, /* sleeps until the next interrupt: at most one timer tick */
	SYS_HALT = 3, /* this CPU is done */
	SYS_POWER_OFF = 4, /* the machine is done */
	SYS_PCI_WRITE = 5, /* address as for pci_read32, value, size 1, 2 or 4 */
};

/* Ring 3 only. */
long user_syscall(enum system_call nr, uintptr_t a, uintptr_t b, uintptr_t c);
