/*
 * The ACPI tables (ACPI 6.4, 5.2): RSDP -> XSDT -> FADT (-> DSDT, FACS), MADT. Fixed hardware, one PCI root with MMIO window
 * and INTx routing, local APICs and one IOAPIC; what needs no interpreter stays out of the DSDT, since ring 0 may be slow.
 */
#include "kvm-glue/acpi.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "kvm-glue/aml.h"
#include "kvm-glue/pci.h"
#include "kvm-glue/pvpanic.h"
#include "memd/base/overflow.h"

#define LOCAL_APIC_GPA UINT32_C(0xfee00000)
#define IOAPIC_GPA     UINT32_C(0xfec00000)
#define IOAPIC_ID      0 /* in a number space of its own */
#define TABLE_ALIGN    64

/* 5.2.6 */
struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

/* 5.2.5.3 */
struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt_gpa;
	uint32_t length;
	uint64_t xsdt_gpa;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

struct xsdt {
	struct header header;
	uint64_t tables[2];
} __attribute__((packed));

/* 5.2.3.2 */
struct address {
	uint8_t space; /* 1: system I/O */
	uint8_t bits;
	uint8_t offset;
	uint8_t access; /* 1 byte, 2 word, 3 dword */
	uint64_t address;
} __attribute__((packed));

/* 5.2.9, revision 6 */
struct fadt {
	struct header header;
	uint32_t facs;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t preferred_profile;
	uint16_t sci_interrupt;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios_request, pstate_control;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0,
		gpe1;
	uint8_t pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length,
		gpe0_length, gpe1_length, gpe1_base, cstate_control;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_flags;
	uint8_t reserved1;
	uint32_t flags;
	struct address reset_register;
	uint8_t reset_value;
	uint16_t arm_boot_flags;
	uint8_t minor_version;
	uint64_t x_facs, x_dsdt;
	struct address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control,
		x_pm_timer, x_gpe0, x_gpe1, sleep_control, sleep_status;
	uint64_t hypervisor_id;
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 276, "FADT of revision 6");

enum {
	FADT_FLAG_WBINVD = 1 << 0,
	FADT_FLAG_C1 = 1 << 2,
	FADT_FLAG_NO_SLEEP_BUTTON = 1 << 5, /* clear for the power button: it is fixed hardware */
	FADT_FLAG_TIMER_32 = 1 << 8,
	FADT_FLAG_RESET = 1 << 10,
	FADT_BOOT_LEGACY_DEVICES = 1 << 0, /* ISA devices are there; bit 1 clear: no keyboard */
	FADT_BOOT_NO_VGA = 1 << 2,
	FADT_LATENCY_NONE = 0xfff, /* no C2, no C3 */
	RTC_CENTURY = 0x32,
};

/* 5.2.12 */
struct madt {
	struct header header;
	uint32_t local_apic_gpa;
	uint32_t flags; /* 1: with PICs */
} __attribute__((packed));
struct madt_local_apic {
	uint8_t type, length, processor, apic_id;
	uint32_t flags; /* 1: enabled */
} __attribute__((packed));
struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t gpa, gsi_base;
} __attribute__((packed));
struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));
struct madt_nmi {
	uint8_t type, length, processor;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));
#define MADT_LEVEL_HIGH 0x0d

/* Resource descriptors, 6.4.3.5 */
struct resource_dword {
	uint8_t tag;
	uint16_t length;
	uint8_t type, flags, type_flags;
	uint32_t granularity, min, max, translation, bytes;
} __attribute__((packed));
struct resource_word {
	uint8_t tag;
	uint16_t length;
	uint8_t type, flags, type_flags;
	uint16_t granularity, min, max, translation, bytes;
} __attribute__((packed));
struct resource_io {
	uint8_t tag, decode;
	uint16_t min, max;
	uint8_t align, bytes;
} __attribute__((packed));

enum {
	RESOURCE_WORD = 0x88,
	RESOURCE_DWORD = 0x87,
	RESOURCE_IO = 0x47,
	RESOURCE_MEMORY = 0,
	RESOURCE_PORTS = 1,
	RESOURCE_BUS = 2,
	RESOURCE_FIXED =
		0x0c, /* minimum and maximum are what they say; the device produces the range */
	RESOURCE_WRITABLE = 0x01,
	RESOURCE_ALL_PORTS = 0x03,
};

struct writer {
	uint8_t *memory;
	uint64_t gpa;
	uint64_t bytes;
	uint64_t used;
	bool full;
};

static uint8_t checksum(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (n-- > 0)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

/* Room for a table; returns its place or NULL. */
static void *reserve(struct writer *w, uint64_t bytes, uint64_t *ret_gpa)
{
	uint64_t at = u64_align_up(w->used, TABLE_ALIGN);

	if (w->full || at > w->bytes || bytes > w->bytes - at) {
		w->full = true;
		return NULL;
	}
	w->used = at + bytes;
	*ret_gpa = w->gpa + at;
	return w->memory + at;
}

static void finish(struct header *h, const char *signature, uint8_t revision, uint32_t length)
{
	memcpy(h->signature, signature, 4);
	h->length = length;
	h->revision = revision;
	memcpy(h->oem_id, "MEMD  ", 6);
	memcpy(h->oem_table_id, "MEMDVMM ", 8);
	h->oem_revision = 1;
	memcpy(h->creator_id, "MEMD", 4);
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = checksum(h, length);
}

static void put_pci_resources(struct aml *a)
{
	struct {
		struct resource_word buses;
		struct resource_io config;
		struct resource_word low_ports, high_ports;
		struct resource_dword memory;
	} __attribute__((packed)) r = {
		.buses = {RESOURCE_WORD, 13, RESOURCE_BUS, RESOURCE_FIXED, 0, 0, 0, 0, 0, 1},
		.config = {RESOURCE_IO, 1, 0xcf8, 0xcf8, 1, 8},
		.low_ports = {RESOURCE_WORD, 13, RESOURCE_PORTS, RESOURCE_FIXED, RESOURCE_ALL_PORTS,
			0, 0, 0xcf7, 0, 0xcf8},
		.high_ports = {RESOURCE_WORD, 13, RESOURCE_PORTS, RESOURCE_FIXED,
			RESOURCE_ALL_PORTS, 0, 0xd00, 0xffff, 0, 0xf300},
		.memory = {RESOURCE_DWORD, 23, RESOURCE_MEMORY, RESOURCE_FIXED, RESOURCE_WRITABLE,
			0, (uint32_t)MACHINE_PCI_MMIO_BASE,
			(uint32_t)(MACHINE_PCI_MMIO_BASE + MACHINE_PCI_MMIO_SIZE - 1), 0,
			(uint32_t)MACHINE_PCI_MMIO_SIZE},
	};

	aml_name(a, "_CRS");
	aml_resources(a, &r, sizeof(r));
}

/* INTA of each slot that has one to its own pin (6.2.13): Package (4) {slot << 16 | 0xffff, 0, 0, GSI}. */
static void put_pci_routing(struct aml *a)
{
	aml_package routing, entry;

	aml_name(a, "_PRT");
	routing = aml_package_open(a, PCI_LINE_SLOTS - 1);
	for (unsigned slot = 1; slot < PCI_LINE_SLOTS; slot++) {
		entry = aml_package_open(a, 4);
		aml_integer(a, slot << 16 | 0xffff);
		aml_integer(a, 0);
		aml_integer(a, 0);
		aml_integer(a, PCI_GSI(slot));
		aml_close(a, entry);
	}
	aml_close(a, routing);
}

static void put_sleep_state(struct aml *a)
{
	aml_package s5;

	aml_name(a, "_S5_");
	s5 = aml_package_open(a, 4);
	aml_integer(a, ACPI_SLEEP_TYPE_S5);
	for (unsigned i = 0; i < 3; i++)
		aml_integer(a, 0);
	aml_close(a, s5);
}

/* What Linux' pvpanic driver binds to. */
static void put_panic_device(struct aml *a)
{
	static const uint8_t id[] = "\x0dQEMU0001"; /* a string, with its NUL */
	const struct resource_io port = {RESOURCE_IO, 1, PVPANIC_PORT, PVPANIC_PORT, 1, 1};
	aml_package device = aml_device(a, "PEVT");

	aml_name(a, "_HID");
	aml_bytes(a, id, sizeof(id));
	aml_name(a, "_CRS");
	aml_resources(a, &port, sizeof(port));
	aml_close(a, device);
}

static void write_dsdt(struct writer *w, uint64_t *ret_gpa)
{
	uint8_t code[1024];
	struct aml a = {.bytes = code, .size = sizeof(code)};
	aml_package scope, device;
	struct header *h;

	put_sleep_state(&a);
	scope = aml_scope(&a, "\\_SB_");
	device = aml_device(&a, "PCI0");
	aml_name(&a, "_HID");
	aml_eisa_id(&a, "PNP0A03");
	put_pci_resources(&a);
	put_pci_routing(&a);
	aml_close(&a, device);
	put_panic_device(&a);
	aml_close(&a, scope);
	h = reserve(w, sizeof(*h) + a.used, ret_gpa);
	if (!h || a.full) {
		w->full = true;
		return;
	}
	memcpy(h + 1, code, a.used);
	finish(h, "DSDT", 2, (uint32_t)(sizeof(*h) + a.used));
}

static struct address io_address(uint16_t port, uint8_t bytes)
{
	return (struct address){
		.space = 1,
		.bits = (uint8_t)(8 * bytes),
		.access = bytes == 1   ? 1
			  : bytes == 2 ? 2
				       : 3,
		.address = port,
	};
}

/* 5.2.10: 64 bytes that firmware and OS share; nothing to say. */
static void write_facs(struct writer *w, uint64_t *ret_gpa)
{
	uint8_t *facs = reserve(w, 64, ret_gpa);

	if (!facs)
		return;
	memcpy(facs, "FACS", 4);
	facs[4] = 64;
	facs[32] = 2; /* version */
}

static void write_fadt(struct writer *w, uint64_t dsdt_gpa, uint64_t facs_gpa, uint64_t *ret_gpa)
{
	struct fadt *f = reserve(w, sizeof(*f), ret_gpa);

	if (!f)
		return;
	*f = (struct fadt){
		.facs = (uint32_t)facs_gpa,
		.dsdt = (uint32_t)dsdt_gpa,
		.sci_interrupt = ACPI_SCI_GSI,
		.pm1a_event = ACPI_PM1_EVENT_PORT,
		.pm1a_control = ACPI_PM1_CONTROL_PORT,
		.pm_timer = ACPI_PM_TIMER_PORT,
		.pm1_event_length = 4,
		.pm1_control_length = 2,
		.pm_timer_length = 4,
		.c2_latency = FADT_LATENCY_NONE,
		.c3_latency = FADT_LATENCY_NONE,
		.century = RTC_CENTURY,
		.boot_flags = FADT_BOOT_LEGACY_DEVICES | FADT_BOOT_NO_VGA,
		.flags = FADT_FLAG_WBINVD | FADT_FLAG_C1 | FADT_FLAG_NO_SLEEP_BUTTON |
			 FADT_FLAG_TIMER_32 | FADT_FLAG_RESET,
		.reset_register = io_address(ACPI_RESET_PORT, 1),
		.reset_value = ACPI_RESET_VALUE,
		.minor_version = 4,
		.x_facs = 0, /* one of the two only: 5.2.9 */
		.x_dsdt = dsdt_gpa,
		.x_pm1a_event = io_address(ACPI_PM1_EVENT_PORT, 4),
		.x_pm1a_control = io_address(ACPI_PM1_CONTROL_PORT, 2),
		.x_pm_timer = io_address(ACPI_PM_TIMER_PORT, 4),
	};
	finish(&f->header, "FACP", 6, sizeof(*f));
}

static void write_madt(struct writer *w, unsigned n_vcpus, uint64_t *ret_gpa)
{
	uint32_t length =
		(uint32_t)(sizeof(struct madt) + n_vcpus * sizeof(struct madt_local_apic) +
			   sizeof(struct madt_ioapic) + sizeof(struct madt_override) +
			   sizeof(struct madt_nmi));
	struct madt *m = reserve(w, length, ret_gpa);
	struct madt_local_apic *apic;
	struct madt_ioapic *ioapic;
	struct madt_override *sci;
	struct madt_nmi *nmi;

	if (!m)
		return;
	m->local_apic_gpa = LOCAL_APIC_GPA;
	m->flags = 1;
	apic = (struct madt_local_apic *)(m + 1);
	for (unsigned i = 0; i < n_vcpus; i++, apic++)
		*apic = (struct madt_local_apic){0, sizeof(*apic), (uint8_t)i, (uint8_t)i, 1};
	ioapic = (struct madt_ioapic *)apic;
	*ioapic = (struct madt_ioapic){1, sizeof(*ioapic), IOAPIC_ID, 0, IOAPIC_GPA, 0};
	/* The timer is on pin 0, as ISA has it; only the SCI is not edge triggered. */
	sci = (struct madt_override *)(ioapic + 1);
	*sci = (struct madt_override){
		2, sizeof(*sci), 0, ACPI_SCI_GSI, ACPI_SCI_GSI, MADT_LEVEL_HIGH};
	nmi = (struct madt_nmi *)(sci + 1);
	*nmi = (struct madt_nmi){4, sizeof(*nmi), 0xff, 0, 1}; /* LINT1 of all processors */
	finish(&m->header, "APIC", 5, length);
}

static void write_xsdt(struct writer *w, uint64_t fadt_gpa, uint64_t madt_gpa, uint64_t *ret_gpa)
{
	struct xsdt *x = reserve(w, sizeof(*x), ret_gpa);

	if (!x)
		return;
	x->tables[0] = fadt_gpa;
	x->tables[1] = madt_gpa;
	finish(&x->header, "XSDT", 1, sizeof(*x));
}

static void write_rsdp(struct rsdp *r, uint64_t xsdt_gpa)
{
	memcpy(r->signature, "RSD PTR ", 8);
	memcpy(r->oem_id, "MEMD  ", 6);
	r->revision = 2;
	r->length = sizeof(*r);
	r->xsdt_gpa = xsdt_gpa;
	r->checksum = checksum(r, offsetof(struct rsdp, length)); /* the part of ACPI 1.0 */
	r->extended_checksum = checksum(r, sizeof(*r));
}

int64_t acpi_tables_write(uint8_t *memory, uint64_t gpa, uint64_t bytes, unsigned n_vcpus)
{
	struct writer w = {.memory = memory, .gpa = gpa, .bytes = bytes};
	uint64_t rsdp_gpa, dsdt_gpa = 0, facs_gpa = 0, fadt_gpa = 0, madt_gpa = 0, xsdt_gpa = 0;
	struct rsdp *rsdp = reserve(&w, sizeof(*rsdp), &rsdp_gpa);

	write_dsdt(&w, &dsdt_gpa);
	write_facs(&w, &facs_gpa);
	write_fadt(&w, dsdt_gpa, facs_gpa, &fadt_gpa);
	write_madt(&w, n_vcpus, &madt_gpa);
	write_xsdt(&w, fadt_gpa, madt_gpa, &xsdt_gpa);
	if (w.full)
		return -ENOSPC;
	write_rsdp(rsdp, xsdt_gpa);
	return (int64_t)w.used;
}
