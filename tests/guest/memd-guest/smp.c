/* See smp.h. Intel SDM vol. 3, 8.4 (MP initialization), 10 (APIC); ACPI 6.4, 5.2.12 (MADT). */
#include "tests/guest/memd-guest/smp.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/time.h"

#define APIC		 UINT64_C(0xfee00000)
#define APIC_ID		 0x020
#define APIC_EOI	 0x0b0
#define APIC_SPURIOUS	 0x0f0
#define APIC_COMMAND	 0x300
#define APIC_DESTINATION 0x310
#define APIC_TIMER	 0x320
#define APIC_TIMER_COUNT 0x380
#define APIC_TIMER_SCALE 0x3e0

#define SPURIOUS_ENABLE 0x100
#define COMMAND_INIT	0x4500
#define COMMAND_STARTUP 0x4600
#define TIMER_PERIODIC	0x20000
#define TIMER_DIVIDE_16 0x3
#define TIMER_BUS_HZ	1000000000 /* KVM's and QEMU's APIC bus; a tick need not be exact */

#define INIT_WAIT_NS   (NS_PER_S / 100)
#define ONLINE_WAIT_NS (10 * NS_PER_S)

#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK	0xa1

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
} __attribute__((packed));

struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t rest[28];
};

#define MADT_ENTRIES	 44 /* offset of the first */
#define MADT_LAPIC	 0
#define MADT_LAPIC_BYTES 8
#define MADT_ENABLED	 1

extern const uint8_t ap_trampoline[], ap_trampoline_end[];
void main_boot_ap(void);

uint32_t ap_boot_stack; /* for boot.S */
static unsigned n_cpus = 1;
static struct cpu *starting;
static void (*ap_function)(void *);

static uint32_t apic_read(unsigned reg)
{
	return MMIO_READ(uint32_t, APIC + reg);
}

static void apic_write(unsigned reg, uint32_t value)
{
	MMIO_WRITE(uint32_t, APIC + reg, value);
}

static bool has_signature(const struct acpi_header *h, const char *signature)
{
	for (unsigned i = 0; i < 4; i++) {
		if (h->signature[i] != signature[i])
			return false;
	}
	return true;
}

static const struct acpi_header *find_madt(const struct rsdp *rsdp)
{
	bool wide = rsdp->revision >= 2 && rsdp->xsdt;
	const struct acpi_header *root = (const void *)(uintptr_t)(wide ? rsdp->xsdt : rsdp->rsdt);
	unsigned entry_bytes = wide ? 8 : 4;

	for (uint32_t at = sizeof(*root); root && at + entry_bytes <= root->length;
		at += entry_bytes) {
		const uint8_t *p = (const uint8_t *)root + at;
		uint64_t address = *(const uint32_t *)p;

		if (wide)
			address |= (uint64_t) * (const uint32_t *)(p + 4) << 32;
		if (has_signature((const void *)address, "APIC"))
			return (const void *)address;
	}
	return NULL;
}

static void add_cpu(uint32_t apic_id)
{
	if (apic_id == cpus[0].apic_id || n_cpus == VCPUS_MAX)
		return;
	cpus[n_cpus].index = n_cpus;
	cpus[n_cpus].apic_id = apic_id;
	n_cpus++;
}

static void add_cpus_of_madt(const struct acpi_header *madt)
{
	const uint8_t *p = (const uint8_t *)madt + MADT_ENTRIES;
	const uint8_t *end = (const uint8_t *)madt + madt->length;

	/* type, length, processor, apic id, flags */
	while (p + MADT_LAPIC_BYTES <= end && p[1] >= 2) {
		if (p[0] == MADT_LAPIC && (p[4] & MADT_ENABLED))
			add_cpu(p[3]);
		p += p[1];
	}
}

void smp_init(const struct start_info *info)
{
	const struct acpi_header *madt = info->rsdp ? find_madt((const void *)info->rsdp) : NULL;
	uint64_t wanted = cmdline_number("vcpus", 0);

	cpus[0].apic_id = apic_read(APIC_ID) >> 24;
	if (madt) {
		add_cpus_of_madt(madt);
	} else {
		for (uint32_t id = 0; n_cpus < wanted && id < VCPUS_MAX; id++)
			add_cpu(id);
	}
	if (wanted && wanted < n_cpus)
		n_cpus = (unsigned)wanted;
	/* Only the local APIC's timer interrupts. */
	out8(PIC_MASTER_MASK, 0xff);
	out8(PIC_SLAVE_MASK, 0xff);
}

unsigned smp_n_cpus(void)
{
	return n_cpus;
}

/* Ring 3: the first thing an application processor does there. */
static void ap_user(void *arg)
{
	struct cpu *c = arg;

	smp_timer_start();
	__atomic_store_n(&c->online, 1, __ATOMIC_RELEASE);
	ap_function(c);
}

/* Ring 0, from the trampoline. */
void main_boot_ap(void)
{
	struct cpu *c = starting;

	cpu_init(c);
	cpu_run_user(c, ap_user, c);
}

static void wait_ns(uint64_t ns)
{
	uint64_t start = time_ns();

	while (time_ns() - start < ns)
		cpu_relax();
}

void smp_start_others(void (*fn)(void *))
{
	volatile uint8_t *trampoline = (volatile uint8_t *)AP_TRAMPOLINE;

	for (size_t i = 0; ap_trampoline + i < ap_trampoline_end; i++)
		trampoline[i] = ap_trampoline[i];
	ap_function = fn;
	for (unsigned i = 1; i < n_cpus; i++) {
		uint64_t start;

		starting = &cpus[i];
		ap_boot_stack = (uint32_t)(uintptr_t)(cpus[i].kernel_stack + CPU_STACK_BYTES);
		compiler_barrier();
		apic_write(APIC_DESTINATION, cpus[i].apic_id << 24);
		apic_write(APIC_COMMAND, COMMAND_INIT);
		wait_ns(INIT_WAIT_NS);
		apic_write(APIC_DESTINATION, cpus[i].apic_id << 24);
		apic_write(APIC_COMMAND, COMMAND_STARTUP | AP_TRAMPOLINE / GUEST_PAGE);
		start = time_ns();
		while (!__atomic_load_n(&cpus[i].online, __ATOMIC_ACQUIRE)) {
			if (time_ns() - start > ONLINE_WAIT_NS)
				line_print_and_stop("a processor does not start");
			cpu_relax();
		}
	}
}

void smp_timer_start(void)
{
	apic_write(APIC_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
	apic_write(APIC_TIMER_SCALE, TIMER_DIVIDE_16);
	apic_write(APIC_TIMER, TIMER_PERIODIC | VECTOR_TIMER);
	apic_write(APIC_TIMER_COUNT,
		(uint32_t)(TIMER_BUS_HZ / 16 / cmdline_number("timer_hz", TIMER_HZ)));
}

void smp_timer_acknowledge(void)
{
	apic_write(APIC_EOI, 0);
}
