/*
 * Instructions completed in user space. KVM runs a guest's ring 0 in its own emulator where the CPU cannot run it
 * natively; that emulator knows what firmware and kernels need on VMX, which is less than what kernels execute. This is
 * the rest, as far as Linux needs it: int3, fwait, fninit, fnclex, ldmxcsr, stmxcsr, popcnt, clac, stac, cmpxchg16b.
 *
 * Everything here comes from the guest: the bytes may be anything, and change under us if read twice (they are not).
 * References: Intel SDM vol. 2, chapters 2 (format) and 3 to 5.
 */
#include "kvm-glue/emulate.h"

#include <stdbool.h>
#include <string.h>

#include "memd/base/units.h"

#define CR0_PE UINT64_C(1)

#define RFLAGS_CF (UINT64_C(1) << 0)
#define RFLAGS_PF (UINT64_C(1) << 2)
#define RFLAGS_AF (UINT64_C(1) << 4)
#define RFLAGS_ZF (UINT64_C(1) << 6)
#define RFLAGS_SF (UINT64_C(1) << 7)
#define RFLAGS_OF (UINT64_C(1) << 11)
#define RFLAGS_AC (UINT64_C(1) << 18)

#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

/* The legacy area of the XSAVE image, in bytes (SDM vol. 1, table 10-2), and its header. */
#define XSAVE_FCW      0
#define XSAVE_FSW      2
#define XSAVE_FTW      4
#define XSAVE_MXCSR    24
#define XSAVE_BV       512
#define XSAVE_BV_X87   1
#define XSAVE_BV_SSE   2
#define FCW_AFTER_INIT 0x37f
#define FSW_CLEAR_MASK 0x7f00 /* fnclex keeps condition codes and top of stack */
#define FSW_ERROR      0x0080
#define MXCSR_ALLOWED  0xffffu

struct operand {
	bool is_register;
	unsigned reg; /* rm, when it is a register */
	uint64_t address; /* linear, when it is memory */
};

struct decoder {
	const struct emulate_cpu *cpu;
	const uint8_t *bytes;
	size_t n;
	size_t at;
	bool bad; /* ran out of bytes */
	bool operand_16;
	bool address_32;
	bool lock;
	uint8_t repeat; /* 0xf2, 0xf3 or 0 */
	uint8_t rex;
	uint64_t segment_base;
	uint8_t modrm;
};

/* Register by its number in the encoding (SDM vol. 2, table 2-4). */
static __u64 *gpr(struct kvm_regs *r, unsigned number)
{
	__u64 *const map[16] = {
		&r->rax,
		&r->rcx,
		&r->rdx,
		&r->rbx,
		&r->rsp,
		&r->rbp,
		&r->rsi,
		&r->rdi,
		&r->r8,
		&r->r9,
		&r->r10,
		&r->r11,
		&r->r12,
		&r->r13,
		&r->r14,
		&r->r15,
	};

	return map[number & 15];
}

static uint64_t gpr_value(const struct decoder *d, unsigned number)
{
	struct kvm_regs regs = d->cpu->regs;

	return *gpr(&regs, number);
}

static uint8_t next(struct decoder *d)
{
	if (d->at >= d->n) {
		d->bad = true;
		return 0;
	}
	return d->bytes[d->at++];
}

static int32_t next_i32(struct decoder *d)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++)
		v |= (uint32_t)next(d) << 8 * i;
	return (int32_t)v;
}

/* Takes over one legacy prefix; false when the byte is none. */
static bool take_prefix(struct decoder *d, uint8_t byte)
{
	switch (byte) {
	case 0x66:
		d->operand_16 = true;
		return true;
	case 0x67:
		d->address_32 = true;
		return true;
	case 0xf0:
		d->lock = true;
		return true;
	case 0xf2:
	case 0xf3:
		d->repeat = byte;
		return true;
	case 0x64:
		d->segment_base = d->cpu->sregs.fs.base;
		return true;
	case 0x65:
		d->segment_base = d->cpu->sregs.gs.base;
		return true;
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
		return true; /* no effect in 64-bit mode */
	default:
		return false;
	}
}

/* Prefixes, then REX, which counts only right before the opcode. Returns the first opcode byte. */
static uint8_t take_prefixes(struct decoder *d)
{
	uint8_t byte = next(d);

	while (!d->bad && take_prefix(d, byte))
		byte = next(d);
	if ((byte & 0xf0) == 0x40) {
		d->rex = byte & 0x0f;
		byte = next(d);
	}
	return byte;
}

static unsigned modrm_reg(const struct decoder *d)
{
	return (d->modrm >> 3 & 7) | (d->rex & REX_R ? 8 : 0);
}

/* Base and index of a SIB byte; *displacement_32 when it has no base. */
static uint64_t take_sib(struct decoder *d, bool *displacement_32)
{
	uint8_t sib = next(d);
	unsigned index = (sib >> 3 & 7) | (d->rex & REX_X ? 8 : 0);
	uint64_t address = 0;

	if (index != 4)
		address = gpr_value(d, index) << (sib >> 6);
	if ((sib & 7) == 5 && d->modrm >> 6 == 0)
		*displacement_32 = true;
	else
		address += gpr_value(d, (sib & 7) | (d->rex & REX_B ? 8 : 0));
	return address;
}

/* The operand that mod and rm name. None of our instructions has an immediate, so what follows it is the next one. */
static struct operand take_operand(struct decoder *d)
{
	unsigned mod = d->modrm >> 6, rm = d->modrm & 7;
	bool displacement_32 = mod == 2, rip_relative = false;
	uint64_t address;

	if (mod == 3)
		return (struct operand){.is_register = true, .reg = rm | (d->rex & REX_B ? 8 : 0)};
	if (rm == 4) {
		address = take_sib(d, &displacement_32);
	} else if (rm == 5 && mod == 0) {
		address = 0;
		rip_relative = displacement_32 = true;
	} else {
		address = gpr_value(d, rm | (d->rex & REX_B ? 8 : 0));
	}
	if (displacement_32)
		address += (uint64_t)(int64_t)next_i32(d);
	else if (mod == 1)
		address += (uint64_t)(int64_t)(int8_t)next(d);
	if (rip_relative)
		address += d->cpu->regs.rip + d->at;
	if (d->address_32)
		address = (uint32_t)address;
	return (struct operand){.address = address + d->segment_base};
}

/* Copies between data and guest memory, which may lie in two pages. False when any of it is not there. */
static bool memory_copy(struct emulate_cpu *cpu, uint64_t gva, void *data, size_t bytes, bool write)
{
	size_t first = PAGE_BYTES - gva % PAGE_BYTES;
	void *parts[2] = {0};

	if (first > bytes)
		first = bytes;
	parts[0] = cpu->memory(cpu->context, gva, first);
	if (bytes > first)
		parts[1] = cpu->memory(cpu->context, gva + first, bytes - first);
	if (!parts[0] || (bytes > first && !parts[1]))
		return false;
	memcpy(write ? parts[0] : data, write ? data : parts[0], first);
	if (bytes > first) {
		uint8_t *rest = (uint8_t *)data + first;

		memcpy(write ? parts[1] : rest, write ? rest : parts[1], bytes - first);
	}
	return true;
}

static uint8_t *xsave_bytes(struct emulate_cpu *cpu)
{
	return (uint8_t *)cpu->xsave.region;
}

static void xsave_put16(struct emulate_cpu *cpu, unsigned offset, uint16_t v)
{
	memcpy(xsave_bytes(cpu) + offset, &v, sizeof(v));
}

static uint16_t xsave_get16(struct emulate_cpu *cpu, unsigned offset)
{
	uint16_t v;

	memcpy(&v, xsave_bytes(cpu) + offset, sizeof(v));
	return v;
}

static int popcnt(struct decoder *d, struct emulate_cpu *cpu)
{
	size_t bytes = d->rex & REX_W ? 8 : d->operand_16 ? 2 : 4;
	uint64_t value = 0, count;
	struct operand o;
	__u64 *to;

	d->modrm = next(d);
	o = take_operand(d);
	if (d->bad)
		return EMULATE_UNKNOWN;
	if (o.is_register) {
		value = gpr_value(d, o.reg);
		value &= UINT64_MAX >> (64 - 8 * bytes);
	} else if (!memory_copy(cpu, o.address, &value, bytes, false)) {
		return EMULATE_UNKNOWN;
	}
	count = (uint64_t)__builtin_popcountll(value);
	to = gpr(&cpu->regs, modrm_reg(d));
	*to = bytes == 2 ? (*to & ~UINT64_C(0xffff)) | count : count;
	cpu->regs.rflags &=
		~(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF);
	if (value == 0)
		cpu->regs.rflags |= RFLAGS_ZF;
	return EMULATE_DONE;
}

/* Atomic towards other vCPUs, as the instruction is with a LOCK prefix (without it does no harm). */
static bool compare_exchange_16(
	void *at, uint64_t *low, uint64_t *high, uint64_t new_low, uint64_t new_high)
{
	bool equal;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(equal), "+m"(*(unsigned __int128 *)at), "+a"(*low), "+d"(*high)
			 : "b"(new_low), "c"(new_high)
			 : "memory");
	return equal;
}

static int cmpxchg16b(struct decoder *d, struct emulate_cpu *cpu)
{
	struct operand o;
	uint64_t low = cpu->regs.rax, high = cpu->regs.rdx;
	void *at;

	d->modrm = next(d);
	if ((d->modrm >> 3 & 7) != 1 || !(d->rex & REX_W))
		return EMULATE_UNKNOWN;
	o = take_operand(d);
	/* misaligned is #GP, which nobody relies on */
	if (d->bad || o.is_register || o.address % 16 != 0)
		return EMULATE_UNKNOWN;
	at = cpu->memory(cpu->context, o.address, 16);
	if (!at)
		return EMULATE_UNKNOWN;
	if (compare_exchange_16(at, &low, &high, cpu->regs.rbx, cpu->regs.rcx)) {
		cpu->regs.rflags |= RFLAGS_ZF;
	} else {
		cpu->regs.rflags &= ~RFLAGS_ZF;
		cpu->regs.rax = low;
		cpu->regs.rdx = high;
	}
	return EMULATE_DONE;
}

/* 0f ae /2 and /3. */
static int mxcsr(struct decoder *d, struct emulate_cpu *cpu)
{
	struct operand o;
	unsigned extension;
	uint32_t value;
	uint64_t bv;

	d->modrm = next(d);
	extension = d->modrm >> 3 & 7;
	if ((extension != 2 && extension != 3) || d->repeat)
		return EMULATE_UNKNOWN;
	o = take_operand(d);
	if (d->bad || o.is_register)
		return EMULATE_UNKNOWN;
	if (extension == 3) {
		memcpy(&value, xsave_bytes(cpu) + XSAVE_MXCSR, sizeof(value));
		return memory_copy(cpu, o.address, &value, sizeof(value), true) ? EMULATE_DONE
										: EMULATE_UNKNOWN;
	}
	if (!memory_copy(cpu, o.address, &value, sizeof(value), false) || (value & ~MXCSR_ALLOWED))
		return EMULATE_UNKNOWN;
	memcpy(xsave_bytes(cpu) + XSAVE_MXCSR, &value, sizeof(value));
	memcpy(&bv, xsave_bytes(cpu) + XSAVE_BV, sizeof(bv));
	bv |= XSAVE_BV_SSE;
	memcpy(xsave_bytes(cpu) + XSAVE_BV, &bv, sizeof(bv));
	return EMULATE_DONE_FPU;
}

/* db e2 and db e3. */
static int x87_control(struct decoder *d, struct emulate_cpu *cpu)
{
	uint64_t bv;

	memcpy(&bv, xsave_bytes(cpu) + XSAVE_BV, sizeof(bv));
	switch (next(d)) {
	case 0xe2: /* fnclex */
		xsave_put16(cpu, XSAVE_FSW, xsave_get16(cpu, XSAVE_FSW) & FSW_CLEAR_MASK);
		break;
	case 0xe3: /* fninit */
		xsave_put16(cpu, XSAVE_FCW, FCW_AFTER_INIT);
		xsave_put16(cpu, XSAVE_FSW, 0);
		xsave_put16(cpu, XSAVE_FTW, 0); /* abridged: all empty */
		break;
	default:
		return EMULATE_UNKNOWN;
	}
	bv |= XSAVE_BV_X87;
	memcpy(xsave_bytes(cpu) + XSAVE_BV, &bv, sizeof(bv));
	return EMULATE_DONE_FPU;
}

/* 0f 01: clac and stac have opcodes of their own among the system instructions. */
static int smap_control(struct decoder *d, struct emulate_cpu *cpu)
{
	switch (next(d)) {
	case 0xca:
		cpu->regs.rflags &= ~RFLAGS_AC;
		return EMULATE_DONE;
	case 0xcb:
		cpu->regs.rflags |= RFLAGS_AC;
		return EMULATE_DONE;
	default:
		return EMULATE_UNKNOWN;
	}
}

static int two_byte(struct decoder *d, struct emulate_cpu *cpu)
{
	switch (next(d)) {
	case 0x01:
		return smap_control(d, cpu);
	case 0xae:
		return d->lock ? EMULATE_UNKNOWN : mxcsr(d, cpu);
	case 0xb8:
		return d->repeat == 0xf3 && !d->lock ? popcnt(d, cpu) : EMULATE_UNKNOWN;
	case 0xc7:
		return cmpxchg16b(d, cpu);
	default:
		return EMULATE_UNKNOWN;
	}
}

static int one_byte(struct decoder *d, struct emulate_cpu *cpu, uint8_t opcode)
{
	if (d->lock && opcode != 0x0f)
		return EMULATE_UNKNOWN;
	switch (opcode) {
	case 0x0f:
		return two_byte(d, cpu);
	case 0x9b: /* fwait: an unmasked error would be #MF, which no kernel runs into */
		return xsave_get16(cpu, XSAVE_FSW) & FSW_ERROR ? EMULATE_UNKNOWN : EMULATE_DONE;
	case 0xcc:
		return EMULATE_BREAKPOINT;
	case 0xdb:
		return x87_control(d, cpu);
	default:
		return EMULATE_UNKNOWN;
	}
}

int emulate_instruction(struct emulate_cpu *cpu, const uint8_t *bytes, size_t n)
{
	struct decoder d = {
		.cpu = cpu,
		.bytes = bytes,
		.n = n < EMULATE_INSTRUCTION_MAX ? n : EMULATE_INSTRUCTION_MAX,
	};
	uint8_t opcode;
	int r;

	if (!(cpu->sregs.cr0 & CR0_PE) || !cpu->sregs.cs.l)
		return EMULATE_UNKNOWN;
	opcode = take_prefixes(&d);
	if (d.bad)
		return EMULATE_UNKNOWN;
	r = one_byte(&d, cpu, opcode);
	if (r != EMULATE_UNKNOWN)
		cpu->regs.rip += d.at;
	return r;
}
