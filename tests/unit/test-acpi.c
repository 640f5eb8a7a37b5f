/* ACPI: tables that add up and say what the machine has; power button, sleep control, timer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fake-machine.h"
#include "kvm-glue/acpi.h"
#include "kvm-glue/aml.h"
#include "kvm-glue/pci.h"

#define TABLES_GPA   UINT64_C(0xe0000)
#define TABLES_BYTES 8192
#define VCPUS	     3

enum {
	STATUS_POWER_BUTTON = 0x100,
	CONTROL_SLEEP_S5 = 0x2000 | 5 << 10,
};

static uint8_t tables[TABLES_BYTES];
static struct fake_machine *f;
static struct acpi_pm *pm;

static int setup(void **state)
{
	memset(tables, 0, sizeof(tables));
	f = fake_machine_new();
	return acpi_pm_new(&f->machine, &pm);
}

static int teardown(void **state)
{
	acpi_pm_free(pm);
	fake_machine_free(f);
	return 0;
}

static uint64_t get(const uint8_t *p, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, p, bytes);
	return value;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	for (size_t i = 0; i < n; i++)
		s = (uint8_t)(s + p[i]);
	return s;
}

/* The table at gpa, its checksum and bounds asserted. */
static const uint8_t *table_at(uint64_t gpa, const char *signature)
{
	const uint8_t *p = tables + (gpa - TABLES_GPA);
	uint64_t length;

	assert_in_range(gpa, TABLES_GPA, TABLES_GPA + TABLES_BYTES - 36);
	length = get(p + 4, 4);
	assert_in_range(length, 36, TABLES_BYTES - (gpa - TABLES_GPA));
	assert_memory_equal(p, signature, 4);
	assert_int_equal(sum(p, length), 0);
	return p;
}

static const uint8_t *find_table(const char *signature)
{
	const uint8_t *xsdt = table_at(get(tables + 24, 8), "XSDT");

	for (uint64_t at = 36; at < get(xsdt + 4, 4); at += 8)
		if (memcmp(tables + get(xsdt + at, 8) - TABLES_GPA, signature, 4) == 0)
			return table_at(get(xsdt + at, 8), signature);
	fail();
	return NULL;
}

static void write_tables(void)
{
	assert_true(acpi_tables_write(tables, TABLES_GPA, TABLES_BYTES, VCPUS) > 0);
}

static void the_root_pointer_has_both_checksums(void **state)
{
	write_tables();
	assert_memory_equal(tables, "RSD PTR ", 8);
	assert_int_equal(sum(tables, 20), 0);
	assert_int_equal(sum(tables, 36), 0);
	assert_int_equal(tables[15], 2);
}

static void the_madt_lists_every_cpu_and_the_ioapic(void **state)
{
	const uint8_t *madt, *end;
	unsigned cpus = 0, ioapics = 0;

	write_tables();
	madt = find_table("APIC");
	end = madt + get(madt + 4, 4);
	for (const uint8_t *p = madt + 44; p < end; p += p[1]) {
		assert_in_range(p[1], 2, end - p);
		if (p[0] == 0) {
			assert_int_equal(p[3], cpus);
			assert_int_equal(get(p + 4, 4), 1);
			cpus++;
		}
		ioapics += p[0] == 1;
	}
	assert_int_equal(cpus, VCPUS);
	assert_int_equal(ioapics, 1);
}

static void the_fadt_names_the_registers_that_are_there(void **state)
{
	const uint8_t *fadt;

	write_tables();
	fadt = find_table("FACP");
	assert_int_equal(get(fadt + 4, 4), 276);
	assert_int_equal(get(fadt + 46, 2), ACPI_SCI_GSI);
	assert_int_equal(get(fadt + 56, 4), ACPI_PM1_EVENT_PORT);
	assert_int_equal(get(fadt + 64, 4), ACPI_PM1_CONTROL_PORT);
	assert_int_equal(get(fadt + 76, 4), ACPI_PM_TIMER_PORT);
	assert_int_equal(get(fadt + 112, 4) & 1 << 4, 0); /* the power button is fixed hardware */
	assert_int_equal(get(fadt + 116 + 4, 8), ACPI_RESET_PORT);
	assert_int_equal(get(fadt + 40, 4), get(fadt + 140, 8));
	table_at(get(fadt + 140, 8), "DSDT");
}

static bool contains(const uint8_t *p, size_t n, const void *what, size_t bytes)
{
	return memmem(p, n, what, bytes) != NULL;
}

static void the_dsdt_describes_the_pci_root(void **state)
{
	const uint8_t routing[] = {0x0c, 0xff, 0xff, 1, 0, 0, 0, 0x0a, (uint8_t)PCI_GSI(1)};
	const uint8_t root_id[] = {0x0c, 0x41, 0xd0, 0x0a, 0x03}; /* EISAID("PNP0A03") */
	const uint32_t window[] = {0, (uint32_t)MACHINE_PCI_MMIO_BASE,
		(uint32_t)(MACHINE_PCI_MMIO_BASE + MACHINE_PCI_MMIO_SIZE - 1), 0,
		(uint32_t)MACHINE_PCI_MMIO_SIZE};
	const uint8_t *dsdt;
	size_t n;

	write_tables();
	dsdt = table_at(get(find_table("FACP") + 140, 8), "DSDT");
	n = get(dsdt + 4, 4);
	assert_true(contains(dsdt, n, "_S5_", 4));
	assert_true(contains(dsdt, n, "_PRT", 4));
	assert_true(contains(dsdt, n, "QEMU0001", 9)); /* the panic device */
	assert_true(contains(dsdt, n, root_id, sizeof(root_id)));
	assert_true(contains(dsdt, n, window, sizeof(window)));
	assert_true(contains(dsdt, n, routing, sizeof(routing)));
}

static void refuses_too_little_room(void **state)
{
	int64_t used = acpi_tables_write(tables, TABLES_GPA, TABLES_BYTES, VCPUS);

	assert_true(used > 0);
	assert_int_equal(acpi_tables_write(tables, TABLES_GPA, (uint64_t)used - 1, VCPUS), -ENOSPC);
	assert_int_equal(acpi_tables_write(tables, TABLES_GPA, (uint64_t)used, VCPUS), used);
	assert_int_equal(acpi_tables_write(tables, TABLES_GPA, 0, VCPUS), -ENOSPC);
}

static void aml_integers_are_as_short_as_can_be(void **state)
{
	const uint8_t expected[] = {0x00, 0x01, 0x0a, 0x02, 0x0a, 0xff, 0x0b, 0x00, 0x01, 0x0c,
		0x00, 0x00, 0x01, 0x00, 0x0e, 0, 0, 0, 0, 1, 0, 0, 0};
	uint8_t bytes[64];
	struct aml a = {.bytes = bytes, .size = sizeof(bytes)};

	aml_integer(&a, 0);
	aml_integer(&a, 1);
	aml_integer(&a, 2);
	aml_integer(&a, 0xff);
	aml_integer(&a, 0x100);
	aml_integer(&a, 0x10000);
	aml_integer(&a, UINT64_C(0x100000000));
	assert_int_equal(a.used, sizeof(expected));
	assert_memory_equal(bytes, expected, sizeof(expected));
}

static void aml_package_lengths_count_themselves(void **state)
{
	uint8_t bytes[64];
	struct aml a = {.bytes = bytes, .size = sizeof(bytes)};
	aml_package p = aml_package_open(&a, 1);

	aml_integer(&a, 0);
	aml_close(&a, p);
	/* PackageOp, four bytes of length (6 = 4 + count + element), count, element */
	assert_int_equal(a.used, 7);
	assert_int_equal(bytes[1], 0xc6);
	assert_int_equal(bytes[2], 0);
}

static void aml_long_packages_have_their_length_in_all_bytes(void **state)
{
	static uint8_t bytes[0x12345 + 16];
	static const uint8_t zeros[0x12345 - 5]; /* less length and count */
	struct aml a = {.bytes = bytes, .size = sizeof(bytes)};
	aml_package p = aml_package_open(&a, 1);

	aml_bytes(&a, zeros, sizeof(zeros));
	aml_close(&a, p);
	assert_int_equal(bytes[1], 0xc5);
	assert_int_equal(bytes[2], 0x34);
	assert_int_equal(bytes[3], 0x12);
	assert_int_equal(bytes[4], 0);
}

static void aml_says_when_it_is_full(void **state)
{
	uint8_t bytes[4];
	struct aml a = {.bytes = bytes, .size = sizeof(bytes)};

	aml_integer(&a, 0x10000);
	assert_true(a.full);
	assert_int_equal(a.used, 1);
}

static void the_power_button_raises_the_sci_until_acknowledged(void **state)
{
	fake_io_write(f, ACPI_PM1_EVENT_PORT + 2, 2, STATUS_POWER_BUTTON);
	assert_int_equal(fake_line(f, ACPI_SCI_GSI), 0);
	assert_int_equal(acpi_pm_power_button(pm), 0);
	assert_int_equal(fake_line(f, ACPI_SCI_GSI), 1);
	assert_int_equal(fake_io_read(f, ACPI_PM1_EVENT_PORT, 2), STATUS_POWER_BUTTON);
	fake_io_write(f, ACPI_PM1_EVENT_PORT, 2, 1); /* another bit */
	assert_int_equal(fake_line(f, ACPI_SCI_GSI), 1);
	fake_io_write(f, ACPI_PM1_EVENT_PORT, 2, STATUS_POWER_BUTTON);
	assert_int_equal(fake_line(f, ACPI_SCI_GSI), 0);
	assert_int_equal(fake_io_read(f, ACPI_PM1_EVENT_PORT, 2), 0);
}

static void the_power_button_waits_for_a_driver(void **state)
{
	assert_int_equal(acpi_pm_power_button(pm), -EAGAIN);
	assert_int_equal(fake_line(f, ACPI_SCI_GSI), 0);
	fake_io_write(f, ACPI_PM1_EVENT_PORT + 2, 2, STATUS_POWER_BUTTON);
	assert_int_equal(fake_line(f, ACPI_SCI_GSI), 1);
}

static void only_s5_powers_off(void **state)
{
	fake_io_write(f, ACPI_PM1_CONTROL_PORT, 2, 5 << 10); /* without SLP_EN */
	fake_io_write(f, ACPI_PM1_CONTROL_PORT, 2, 0x2000 | 4 << 10);
	assert_int_equal(f->stops, 0);
	fake_io_write(f, ACPI_PM1_CONTROL_PORT, 2, CONTROL_SLEEP_S5);
	assert_int_equal(f->stops, 1);
	assert_int_equal(fake_io_read(f, ACPI_PM1_CONTROL_PORT, 2) & 0x2000, 0);
}

static void byte_writes_power_off_too(void **state)
{
	fake_io_write(f, ACPI_PM1_CONTROL_PORT + 1, 1, CONTROL_SLEEP_S5 >> 8);
	assert_int_equal(f->stops, 1);
}

static void acpi_mode_is_always_on(void **state)
{
	assert_int_equal(fake_io_read(f, ACPI_PM1_CONTROL_PORT, 2) & 1, 1);
}

static void the_timer_goes_on(void **state)
{
	uint32_t first = (uint32_t)fake_io_read(f, ACPI_PM_TIMER_PORT, 4), last = first;

	for (unsigned i = 0; i < 10000000 && last == first; i++)
		last = (uint32_t)fake_io_read(f, ACPI_PM_TIMER_PORT, 4);
	assert_in_range(last - first, 1, 3579545);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_root_pointer_has_both_checksums),
		T(the_madt_lists_every_cpu_and_the_ioapic),
		T(the_fadt_names_the_registers_that_are_there),
		T(the_dsdt_describes_the_pci_root),
		T(refuses_too_little_room),
		T(aml_integers_are_as_short_as_can_be),
		T(aml_package_lengths_count_themselves),
		T(aml_long_packages_have_their_length_in_all_bytes),
		T(aml_says_when_it_is_full),
		T(the_power_button_raises_the_sci_until_acknowledged),
		T(the_power_button_waits_for_a_driver),
		T(only_s5_powers_off),
		T(byte_writes_power_off_too),
		T(acpi_mode_is_always_on),
		T(the_timer_goes_on),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
