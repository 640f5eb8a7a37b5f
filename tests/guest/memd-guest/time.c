/* See time.h. */
#include "tests/guest/memd-guest/time.h"
#include "tests/guest/memd-guest/arch.h"

#define CPUID_HYPERVISOR     0x40000000
#define CPUID_KVM_FEATURES   0x40000001
#define CPUID_SIGNATURE_KVMK 0x4b4d564b /* "KVMK" of "KVMKVMKVM" */
#define KVM_CLOCKSOURCE2     (1u << 3)
#define MSR_KVM_SYSTEM_TIME  0x4b564d01
#define SYSTEM_TIME_ENABLE   1

#define PIT_HZ		1193182
#define PIT_CHANNEL2	0x42
#define PIT_COMMAND	0x43
#define PIT_GATE	0x61
#define PIT_GATE_ON	0x01
#define PIT_GATE_SPEAK	0x02
#define PIT_GATE_OUTPUT 0x20
#define PIT_ONE_SHOT_2	0xb0 /* channel 2, low then high byte, mode 0 */
#define PIT_WAIT_MS	50

struct pvclock {
	uint32_t version; /* odd while the host writes */
	uint32_t pad0;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad[2];
};

/* On a page of its own: the host writes it at any time. */
static union {
	volatile struct pvclock clock;
	uint8_t whole[4096];
} page __attribute__((aligned(4096)));
static struct pvclock measured; /* without the KVM clock */

static void cpuid(uint32_t leaf, uint32_t *eax, uint32_t *ebx)
{
	uint32_t ecx = 0, edx;

	__asm__ volatile("cpuid" : "=a"(*eax), "=b"(*ebx), "+c"(ecx), "=d"(edx) : "0"(leaf));
}

static uint64_t measure_tsc_hz(void)
{
	unsigned count = PIT_HZ * PIT_WAIT_MS / 1000;
	uint64_t start;

	out8(PIT_GATE, (uint8_t)((in8(PIT_GATE) & ~PIT_GATE_SPEAK) | PIT_GATE_ON));
	out8(PIT_COMMAND, PIT_ONE_SHOT_2);
	out8(PIT_CHANNEL2, (uint8_t)count);
	out8(PIT_CHANNEL2, (uint8_t)(count >> 8));
	start = rdtsc();
	while (!(in8(PIT_GATE) & PIT_GATE_OUTPUT))
		cpu_relax();
	return (rdtsc() - start) * 1000 / PIT_WAIT_MS;
}

void time_init(void)
{
	uint32_t eax, signature, ebx;

	cpuid(CPUID_HYPERVISOR, &eax, &signature);
	if (signature == CPUID_SIGNATURE_KVMK) {
		cpuid(CPUID_KVM_FEATURES, &eax, &ebx);
		if (eax & KVM_CLOCKSOURCE2) {
			wrmsr(MSR_KVM_SYSTEM_TIME, (uintptr_t)&page | SYSTEM_TIME_ENABLE);
			return;
		}
	}
	/*
	 * nanoseconds = (ticks << 2) * mul >> 32: below 2^32 for any TSC above 4/2^32 GHz times 1e9
	 */
	measured.tsc_shift = 2;
	measured.tsc_to_system_mul = (uint32_t)((NS_PER_S << 30) / measure_tsc_hz());
	measured.tsc_timestamp = rdtsc();
}

static uint64_t scale(const struct pvclock *c, uint64_t ticks)
{
	ticks = c->tsc_shift >= 0 ? ticks << c->tsc_shift : ticks >> -c->tsc_shift;
	return c->system_time + (uint64_t)((unsigned __int128)ticks * c->tsc_to_system_mul >> 32);
}

uint64_t time_ns(void)
{
	struct pvclock c;
	uint64_t now;

	if (measured.tsc_to_system_mul)
		return scale(&measured, rdtsc() - measured.tsc_timestamp);
	do {
		c.version = page.clock.version;
		compiler_barrier();
		c.tsc_timestamp = page.clock.tsc_timestamp;
		c.system_time = page.clock.system_time;
		c.tsc_to_system_mul = page.clock.tsc_to_system_mul;
		c.tsc_shift = page.clock.tsc_shift;
		now = rdtsc();
		compiler_barrier();
	} while ((c.version & 1) || c.version != page.clock.version);
	/* another CPU's TSC may be a moment behind the page */
	return scale(&c, now > c.tsc_timestamp ? now - c.tsc_timestamp : 0);
}
