/*
 * Descriptor tables, traps and system calls. Runs in ring 0: each instruction may be emulated, so
 * it does little.
 */
#include "tests/guest/memd-guest/cpu.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/pci.h"
#include "tests/guest/memd-guest/smp.h"

#define COM1		   0x3f8
#define I8042_COMMAND	   0x64
#define I8042_RESET	   0xfe
#define ACPI_PM1A_CONTROL  0x604
#define ACPI_SLEEP_ENABLE  0x2000
#define ACPI_SLEEP_TYPE(n) ((n) << 10)

#define IDT_GATE    UINT64_C(0x8e00) /* present, ring 0, interrupt gate */
#define FAULT_STACK 1 /* IST slot */
#define UD2_BYTES   2

struct trap_frame {
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

struct table_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

extern const uint8_t trap_entries[]; /* boot.S, 16 bytes apart */
extern void user_enter(void (*fn)(void *), void *arg, void *stack_top) __attribute__((noreturn));
void trap_handle(struct trap_frame *f);

struct cpu cpus[VCPUS_MAX];
/* The boot processor's stack until it goes to ring 3; boot.S refers to its end. */
static uint8_t boot_stack[CPU_STACK_BYTES] __attribute__((aligned(16), used));
__asm__(".globl cpu_boot_stack_top\n.set cpu_boot_stack_top, boot_stack + 8192");

static struct {
	uint64_t low, high;
} idt[N_VECTORS] __attribute__((aligned(16)));

void cpu_init_idt(void)
{
	for (unsigned i = 0; i < N_VECTORS; i++) {
		uint64_t entry = (uintptr_t)trap_entries + 16 * (uint64_t)i;
		/* NMI, double fault and machine check may come when the stack is in doubt. */
		uint64_t ist = i == 2 || i == 8 || i == 18 ? FAULT_STACK : 0;

		idt[i].low = (entry & 0xffff) | (uint64_t)SEL_KERNEL_CODE << 16 | ist << 32 |
			     IDT_GATE << 32 | (entry >> 16 & 0xffff) << 48;
		idt[i].high = entry >> 32;
	}
}

void cpu_init(struct cpu *c)
{
	uint64_t tss = (uintptr_t)&c->tss;
	struct table_pointer gdt_pointer = {sizeof(c->gdt) - 1, (uintptr_t)c->gdt};
	struct table_pointer idt_pointer = {sizeof(idt) - 1, (uintptr_t)idt};

	c->gdt[SEL_KERNEL_CODE / 8] = UINT64_C(0x00af9b000000ffff);
	c->gdt[SEL_KERNEL_DATA / 8] = UINT64_C(0x00cf93000000ffff);
	c->gdt[SEL_USER_DATA / 8] = UINT64_C(0x00cff3000000ffff);
	c->gdt[SEL_USER_CODE / 8] = UINT64_C(0x00affb000000ffff);
	c->gdt[SEL_TSS / 8] = (sizeof(c->tss) - 1) | (tss & 0xffffff) << 16 | UINT64_C(0x89) << 40 |
			      (tss >> 24 & 0xff) << 56;
	c->gdt[SEL_TSS / 8 + 1] = tss >> 32;
	c->tss.rsp[0] = (uintptr_t)c->kernel_stack + sizeof(c->kernel_stack);
	c->tss.ist[FAULT_STACK - 1] = (uintptr_t)c->fault_stack + sizeof(c->fault_stack);
	c->tss.io_bitmap = sizeof(c->tss);

	__asm__ volatile("lgdt %0" : : "m"(gdt_pointer));
	__asm__ volatile("lidt %0" : : "m"(idt_pointer));
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

void cpu_run_user(struct cpu *c, void (*fn)(void *), void *arg)
{
	user_enter(fn, arg, c->user_stack + sizeof(c->user_stack));
}

/*
 * The VMM's ACPI says S5 is sleep type 5, SeaBIOS' says 0; a machine that knows neither gets the
 * keyboard's reset.
 */
static void power_off(void)
{
	out16(ACPI_PM1A_CONTROL, ACPI_SLEEP_ENABLE | ACPI_SLEEP_TYPE(5));
	out16(ACPI_PM1A_CONTROL, ACPI_SLEEP_ENABLE | ACPI_SLEEP_TYPE(0));
	out8(I8042_COMMAND, I8042_RESET);
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void print_fault(const struct trap_frame *f)
{
	struct line line = {0};
	uint64_t cr2;

	__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
	line_text(&line, "memd-guest: fault");
	line_value(&line, "vector", f->vector);
	line_hex(&line, "error", f->error);
	line_hex(&line, "rip", f->rip);
	line_hex(&line, "cs", f->cs);
	line_hex(&line, "rsp", f->rsp);
	line_hex(&line, "cr2", cr2);
	line_end(&line);
	out8_string(COM1, line.text, line.size);
}

/* RAX is the number, RDI, RSI, RDX the arguments: user_syscall in boot.S. */
static void system_call(struct trap_frame *f)
{
	f->rip += UD2_BYTES;
	switch (f->rax) {
	case SYS_PRINT:
		out8_string(COM1, (const void *)f->rdi, f->rsi);
		break;
	case SYS_IDLE:
		/* sti holds interrupts off for one instruction: none is lost between the two */
		__asm__ volatile("sti; hlt; cli" : : : "memory");
		break;
	case SYS_HALT:
		for (;;)
			__asm__ volatile("cli; hlt");
	case SYS_PCI_WRITE:
		pci_write((uint32_t)f->rdi, (uint32_t)f->rsi, (unsigned)f->rdx);
		break;
	default:
		power_off();
	}
	f->rax = 0;
}

void trap_handle(struct trap_frame *f)
{
	if (f->vector == VECTOR_TIMER) {
		smp_timer_acknowledge();
	} else if (f->vector == VECTOR_UD && f->cs == SEL_USER_CODE) {
		system_call(f);
	} else if (f->vector != VECTOR_SPURIOUS) {
		print_fault(f);
		power_off();
	}
}
