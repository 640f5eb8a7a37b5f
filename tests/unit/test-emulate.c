/* Instructions completed in user space: what each does, and that anything else changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "kvm-glue/emulate.h"
#include "memd/base/units.h"

#define RIP	   UINT64_C(0x1000)
#define MEMORY_GVA UINT64_C(0x40000) /* two pages; the one after them is not mapped */
#define MEMORY_END (MEMORY_GVA + 2 * PAGE_BYTES)
#define FLAGS_ALL  UINT64_C(0x8d5) /* OF SF ZF AF PF CF */
#define FLAG_ZF	   UINT64_C(0x40)
#define FLAG_AC	   UINT64_C(0x40000)

static uint8_t memory[2 * PAGE_BYTES] __attribute__((aligned(16)));
static struct emulate_cpu cpu, before;

/* Like the real one: never more than a page at a time. */
static void *guest_memory(void *context, uint64_t gva, size_t bytes)
{
	assert_true(bytes > 0);
	assert_true(gva % PAGE_BYTES + bytes <= PAGE_BYTES);
	if (gva < MEMORY_GVA || gva >= MEMORY_END)
		return NULL;
	return memory + (gva - MEMORY_GVA);
}

static int setup(void **state)
{
	memset(memory, 0, sizeof(memory));
	memset(&cpu, 0, sizeof(cpu));
	cpu.regs.rip = RIP;
	cpu.sregs.cr0 = 1;
	cpu.sregs.cs.l = 1;
	cpu.memory = guest_memory;
	return 0;
}

static int run(const uint8_t *bytes, size_t n)
{
	before = cpu;
	return emulate_instruction(&cpu, bytes, n);
}

#define RUN(...) run((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define assert_unknown(...)                                                                        \
	do {                                                                                       \
		assert_int_equal(RUN(__VA_ARGS__), EMULATE_UNKNOWN);                               \
		assert_memory_equal(&cpu, &before, sizeof(cpu));                                   \
	} while (0)

static void put64(uint64_t gva, uint64_t value)
{
	memcpy(memory + (gva - MEMORY_GVA), &value, sizeof(value));
}

static uint64_t get64(uint64_t gva)
{
	uint64_t value;

	memcpy(&value, memory + (gva - MEMORY_GVA), sizeof(value));
	return value;
}

static void put_xsave(unsigned offset, uint32_t value, size_t size)
{
	memcpy((uint8_t *)cpu.xsave.region + offset, &value, size);
}

static uint32_t get_xsave(unsigned offset, size_t size)
{
	uint32_t value = 0;

	memcpy(&value, (uint8_t *)cpu.xsave.region + offset, size);
	return value;
}

static void int3_is_a_breakpoint_after_itself(void **state)
{
	assert_int_equal(RUN(0xcc), EMULATE_BREAKPOINT);
	assert_int_equal(cpu.regs.rip, RIP + 1);
}

static void popcnt_counts_registers_of_each_size(void **state)
{
	cpu.regs.rbx = UINT64_C(0xf00000000001000f);
	cpu.regs.rax = UINT64_MAX;
	cpu.regs.rflags = FLAGS_ALL | 2;
	assert_int_equal(RUN(0xf3, 0x48, 0x0f, 0xb8, 0xc3), EMULATE_DONE); /* rax, rbx */
	assert_int_equal(cpu.regs.rax, 9);
	assert_int_equal(cpu.regs.rip, RIP + 5);
	assert_int_equal(cpu.regs.rflags, 2);
	cpu.regs.rax = UINT64_MAX;
	assert_int_equal(RUN(0xf3, 0x0f, 0xb8, 0xc3), EMULATE_DONE); /* eax, ebx */
	assert_int_equal(cpu.regs.rax, 5);
	cpu.regs.rax = UINT64_MAX;
	assert_int_equal(RUN(0x66, 0xf3, 0x0f, 0xb8, 0xc3), EMULATE_DONE); /* ax, bx */
	assert_int_equal(cpu.regs.rax, UINT64_C(0xffffffffffff0004));
}

static void popcnt_of_zero_sets_zf_alone(void **state)
{
	cpu.regs.rflags = FLAGS_ALL & ~FLAG_ZF;
	assert_int_equal(RUN(0xf3, 0x4d, 0x0f, 0xb8, 0xc7), EMULATE_DONE); /* r8, r15 */
	assert_int_equal(cpu.regs.rflags, FLAG_ZF);
}

static void popcnt_reads_memory_by_every_way_to_address_it(void **state)
{
	put64(MEMORY_GVA + 0x10, 0xff);
	cpu.regs.rbx = MEMORY_GVA;
	cpu.regs.rcx = 2;
	assert_int_equal(RUN(0xf3, 0x48, 0x0f, 0xb8, 0x43, 0x10), EMULATE_DONE); /* [rbx+0x10] */
	assert_int_equal(cpu.regs.rax, 8);
	cpu.regs.rip = RIP;
	cpu.regs.rax = 0;
	/* [rbx+rcx*8] */
	assert_int_equal(RUN(0xf3, 0x48, 0x0f, 0xb8, 0x04, 0xcb), EMULATE_DONE);
	assert_int_equal(cpu.regs.rax, 8);
	cpu.regs.rip = RIP;
	cpu.regs.rax = 0;
	/* [rip+0x3f008]: the instruction has 9 bytes */
	assert_int_equal(RUN(0xf3, 0x48, 0x0f, 0xb8, 0x05, 0x07, 0xf0, 0x03, 0x00), EMULATE_DONE);
	assert_int_equal(cpu.regs.rax, 8);
	cpu.regs.rip = RIP;
	cpu.regs.rax = 0;
	/* [disp32], no base and no index */
	assert_int_equal(
		RUN(0xf3, 0x48, 0x0f, 0xb8, 0x04, 0x25, 0x10, 0x00, 0x04, 0x00), EMULATE_DONE);
	assert_int_equal(cpu.regs.rax, 8);
	cpu.regs.rax = 0;
	cpu.regs.rbx = 0x20;
	cpu.sregs.gs.base = MEMORY_GVA;
	/* gs:[rbx-0x10] */
	assert_int_equal(RUN(0x65, 0xf3, 0x48, 0x0f, 0xb8, 0x43, 0xf0), EMULATE_DONE);
	assert_int_equal(cpu.regs.rax, 8);
	cpu.regs.rax = 0;
	cpu.regs.rbx = UINT64_C(0xabcd00000000) + MEMORY_GVA;
	/* [ebx+0x10] */
	assert_int_equal(RUN(0x67, 0xf3, 0x48, 0x0f, 0xb8, 0x43, 0x10), EMULATE_DONE);
	assert_int_equal(cpu.regs.rax, 8);
	cpu.regs.rax = 0;
	cpu.regs.r12 = MEMORY_GVA;
	/* [r12+0x10], by way of a SIB byte */
	assert_int_equal(RUN(0xf3, 0x49, 0x0f, 0xb8, 0x44, 0x24, 0x10), EMULATE_DONE);
	assert_int_equal(cpu.regs.rax, 8);
}

static void operands_may_cross_a_page_but_not_leave_memory(void **state)
{
	put64(MEMORY_GVA + PAGE_BYTES - 3, UINT64_MAX);
	cpu.regs.rbx = MEMORY_GVA + PAGE_BYTES - 3;
	assert_int_equal(RUN(0xf3, 0x48, 0x0f, 0xb8, 0x03), EMULATE_DONE);
	assert_int_equal(cpu.regs.rax, 64);
	cpu.regs.rbx = MEMORY_END - 8;
	assert_int_equal(RUN(0xf3, 0x48, 0x0f, 0xb8, 0x03), EMULATE_DONE);
	cpu.regs.rbx = MEMORY_END - 7;
	assert_unknown(0xf3, 0x48, 0x0f, 0xb8, 0x03);
	cpu.regs.rbx = MEMORY_GVA - 1;
	assert_unknown(0xf3, 0x48, 0x0f, 0xb8, 0x03);
	cpu.regs.rbx = UINT64_MAX - 3;
	assert_unknown(0xf3, 0x48, 0x0f, 0xb8, 0x03);
}

static void clac_and_stac_change_ac(void **state)
{
	assert_int_equal(RUN(0x0f, 0x01, 0xcb), EMULATE_DONE);
	assert_int_equal(cpu.regs.rflags, FLAG_AC);
	assert_int_equal(RUN(0x0f, 0x01, 0xca), EMULATE_DONE);
	assert_int_equal(cpu.regs.rflags, 0);
	assert_int_equal(cpu.regs.rip, RIP + 6);
	assert_unknown(0x0f, 0x01, 0xc1); /* vmcall */
}

static void x87_control_changes_control_and_status(void **state)
{
	put_xsave(0, 0x1234, 2);
	put_xsave(2, 0xb8ff, 2);
	put_xsave(4, 0xff, 1);
	assert_int_equal(RUN(0xdb, 0xe2), EMULATE_DONE_FPU); /* fnclex */
	assert_int_equal(get_xsave(2, 2), 0x3800);
	assert_int_equal(get_xsave(0, 2), 0x1234);
	assert_int_equal(RUN(0xdb, 0xe3), EMULATE_DONE_FPU); /* fninit */
	assert_int_equal(get_xsave(0, 2), 0x37f);
	assert_int_equal(get_xsave(2, 2), 0);
	assert_int_equal(get_xsave(4, 1), 0);
	assert_int_equal(get_xsave(512, 4), 1); /* the image says that it has x87 state */
}

static void fwait_waits_for_nothing_unless_an_error_is_pending(void **state)
{
	assert_int_equal(RUN(0x9b), EMULATE_DONE);
	put_xsave(2, 0x80, 2);
	assert_unknown(0x9b);
}

static void mxcsr_is_loaded_and_stored(void **state)
{
	cpu.regs.rbx = MEMORY_GVA;
	put64(MEMORY_GVA, 0x1f80);
	assert_int_equal(RUN(0x0f, 0xae, 0x13), EMULATE_DONE_FPU); /* ldmxcsr [rbx] */
	assert_int_equal(get_xsave(24, 4), 0x1f80);
	assert_int_equal(get_xsave(512, 4), 2);
	assert_int_equal(RUN(0x0f, 0xae, 0x5b, 0x08), EMULATE_DONE); /* stmxcsr [rbx+8] */
	assert_int_equal(get64(MEMORY_GVA + 8), 0x1f80);
	put64(MEMORY_GVA, 0x10000); /* reserved bits are #GP */
	assert_unknown(0x0f, 0xae, 0x13);
	assert_unknown(0x0f, 0xae, 0xe8); /* lfence */
	assert_unknown(0x0f, 0xae, 0x23); /* xsave */
	assert_unknown(0xf3, 0x0f, 0xae, 0xd3); /* wrfsbase */
}

static void cmpxchg16b_exchanges_when_equal(void **state)
{
	put64(MEMORY_GVA + 16, 1);
	put64(MEMORY_GVA + 24, 2);
	cpu.regs.rdi = MEMORY_GVA + 16;
	cpu.regs.rax = 1;
	cpu.regs.rdx = 2;
	cpu.regs.rbx = 3;
	cpu.regs.rcx = 4;
	assert_int_equal(RUN(0xf0, 0x48, 0x0f, 0xc7, 0x0f), EMULATE_DONE);
	assert_int_equal(get64(MEMORY_GVA + 16), 3);
	assert_int_equal(get64(MEMORY_GVA + 24), 4);
	assert_true(cpu.regs.rflags & FLAG_ZF);
}

static void cmpxchg16b_loads_when_not_equal(void **state)
{
	put64(MEMORY_GVA, 1);
	put64(MEMORY_GVA + 8, 9);
	cpu.regs.rdi = MEMORY_GVA;
	cpu.regs.rax = 1;
	cpu.regs.rdx = 2;
	cpu.regs.rflags = FLAG_ZF;
	assert_int_equal(RUN(0xf0, 0x48, 0x0f, 0xc7, 0x0f), EMULATE_DONE);
	assert_int_equal(get64(MEMORY_GVA), 1);
	assert_int_equal(cpu.regs.rax, 1);
	assert_int_equal(cpu.regs.rdx, 9);
	assert_false(cpu.regs.rflags & FLAG_ZF);
}

static void cmpxchg16b_refuses_what_a_cpu_refuses(void **state)
{
	cpu.regs.rdi = MEMORY_GVA + 8;
	assert_unknown(0xf0, 0x48, 0x0f, 0xc7, 0x0f); /* misaligned */
	cpu.regs.rdi = MEMORY_GVA;
	assert_unknown(0xf0, 0x48, 0x0f, 0xc7, 0xcf); /* a register */
	assert_unknown(0xf0, 0x0f, 0xc7, 0x0f); /* cmpxchg8b: KVM's own */
	assert_unknown(0xf0, 0x48, 0x0f, 0xc7, 0x37); /* another of that group */
	cpu.regs.rdi = MEMORY_END;
	assert_unknown(0xf0, 0x48, 0x0f, 0xc7, 0x0f);
}

static void lock_is_refused_where_it_makes_no_sense(void **state)
{
	assert_unknown(0xf0, 0xcc);
	assert_unknown(0xf0, 0xf3, 0x0f, 0xb8, 0xc3);
	cpu.regs.rbx = MEMORY_GVA;
	assert_unknown(0xf0, 0x0f, 0xae, 0x13);
}

static void only_64_bit_mode_is_known(void **state)
{
	cpu.sregs.cs.l = 0;
	assert_unknown(0xcc);
	cpu.sregs.cs.l = 1;
	cpu.sregs.cr0 = 0;
	assert_unknown(0xcc);
}

static void cut_instructions_are_unknown(void **state)
{
	static const uint8_t whole[] = {
		0x65, 0x66, 0xf3, 0x48, 0x0f, 0xb8, 0x84, 0x8b, 0x11, 0x22, 0x33, 0x44};

	cpu.regs.rbx = MEMORY_GVA;
	for (size_t n = 0; n < sizeof(whole); n++) {
		assert_int_equal(run(whole, n), EMULATE_UNKNOWN);
		assert_memory_equal(&cpu, &before, sizeof(cpu));
	}
}

static void an_instruction_has_at_most_15_bytes(void **state)
{
	uint8_t bytes[32];

	memset(bytes, 0x66, sizeof(bytes));
	bytes[14] = 0xcc;
	assert_int_equal(run(bytes, 15), EMULATE_BREAKPOINT);
	bytes[14] = 0x66;
	bytes[15] = 0xcc;
	assert_int_equal(run(bytes, sizeof(bytes)), EMULATE_UNKNOWN);
}

static void rex_counts_only_right_before_the_opcode(void **state)
{
	cpu.regs.rbx = UINT64_C(0xff00000000);
	/* REX.W, then a prefix: it is an opcode there, not ours */
	assert_unknown(0x48, 0xf3, 0x0f, 0xb8, 0xc3);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(int3_is_a_breakpoint_after_itself),
		T(popcnt_counts_registers_of_each_size),
		T(popcnt_of_zero_sets_zf_alone),
		T(popcnt_reads_memory_by_every_way_to_address_it),
		T(operands_may_cross_a_page_but_not_leave_memory),
		T(clac_and_stac_change_ac),
		T(x87_control_changes_control_and_status),
		T(fwait_waits_for_nothing_unless_an_error_is_pending),
		T(mxcsr_is_loaded_and_stored),
		T(cmpxchg16b_exchanges_when_equal),
		T(cmpxchg16b_loads_when_not_equal),
		T(cmpxchg16b_refuses_what_a_cpu_refuses),
		T(lock_is_refused_where_it_makes_no_sense),
		T(only_64_bit_mode_is_known),
		T(cut_instructions_are_unknown),
		T(an_instruction_has_at_most_15_bytes),
		T(rex_counts_only_right_before_the_opcode),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
