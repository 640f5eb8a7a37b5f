/*
 * The decoder of refused instructions on any bytes and registers: it asks for memory within a page only, leaves everything as it
 * was when it refuses, and never steps further than the instruction.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/emulate.h"
#include "memd/base/units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t memory[2 * PAGE_BYTES] __attribute__((aligned(4096)));

/* Every other page is there. */
static void *guest_memory(void *context, uint64_t gva, size_t bytes)
{
	uint64_t offset = gva % (2 * PAGE_BYTES);

	if (bytes == 0 || bytes > 16 || gva % PAGE_BYTES + bytes > PAGE_BYTES)
		abort();
	return gva / PAGE_BYTES % 4 < 2 ? memory + offset : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct emulate_cpu cpu, before;
	size_t state = sizeof(cpu.regs) + sizeof(uint64_t) * 2;
	int r;

	memset(&cpu, 0, sizeof(cpu));
	if (size > state) {
		memcpy(&cpu.regs, data, sizeof(cpu.regs));
		memcpy(&cpu.sregs.fs.base, data + sizeof(cpu.regs), 8);
		memcpy(&cpu.sregs.gs.base, data + sizeof(cpu.regs) + 8, 8);
		data += state;
		size -= state;
	}
	cpu.sregs.cr0 = 1;
	cpu.sregs.cs.l = 1;
	cpu.memory = guest_memory;
	before = cpu;
	r = emulate_instruction(&cpu, data, size);
	if (r == EMULATE_UNKNOWN) {
		if (memcmp(&cpu, &before, sizeof(cpu)) != 0)
			abort();
	} else if (cpu.regs.rip - before.regs.rip == 0 ||
		   cpu.regs.rip - before.regs.rip > EMULATE_INSTRUCTION_MAX ||
		   cpu.regs.rip - before.regs.rip > size) {
		abort();
	}
	return 0;
}
