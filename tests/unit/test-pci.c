/* The PCI bus: configuration space, BARs, capabilities, MSI-X, INTA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "kvm-glue/pci.h"

enum {
	SLOT = 3,
	TABLE = 0x4000,
	PBA = 0x5000,
	MSIX = 0x40, /* the first capability */
};

static struct fake_machine *f;
static struct pci_bus *bus;
static struct pci_function fn;
static uint64_t moved_to;
static uint64_t last_offset;
static unsigned last_size;

static void bar_moved(struct pci_function *function, uint64_t gpa)
{
	moved_to = gpa;
}

static void bar_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	last_offset = offset;
	memset(data, 0x5a, size);
}

static void bar_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	last_offset = offset;
	last_size = size;
}

static const struct pci_function_ops ops = {
	.bar_moved = bar_moved,
	.bar = {.read = bar_read, .write = bar_write},
};

static int setup(void **state)
{
	static const struct pci_ids ids = {
		.vendor = 0x1af4,
		.device = 0x1045,
		.subsystem_vendor = 0x1af4,
		.subsystem = 0x1100,
		.revision = 1,
		.class_code = 0xff0102,
	};

	f = fake_machine_new();
	memset(&fn, 0, sizeof(fn));
	moved_to = 0;
	if (pci_bus_new(&f->machine, &bus) < 0 ||
		pci_function_init(&fn, bus, SLOT, &ids, &ops) < 0 ||
		pci_function_add_msix(&fn, 3, TABLE, PBA) < 0)
		return -1;
	pci_function_publish(&fn);
	return 0;
}

static int teardown(void **state)
{
	pci_function_done(&fn);
	pci_bus_free(bus);
	fake_machine_free(f);
	return 0;
}

static uint32_t cfg(unsigned offset, unsigned size)
{
	return fake_config_read(f, SLOT, offset, size);
}

static void set(unsigned offset, unsigned size, uint32_t value)
{
	fake_config_write(f, SLOT, offset, size, value);
}

static void shows_what_it_is(void **state)
{
	assert_int_equal(cfg(0x00, 4), 0x10451af4);
	assert_int_equal(cfg(0x08, 4), 0xff010201);
	assert_int_equal(cfg(0x2c, 4), 0x11001af4);
	assert_int_equal(cfg(0x3d, 1), 1);
	assert_int_equal(cfg(0x3c, 1), PCI_GSI(SLOT));
	assert_int_equal(cfg(0x06, 2) & 0x10, 0x10);
	assert_int_equal(fake_config_read(f, 0, 0x0a, 2), 0x0600); /* host bridge */
}

static void absent_functions_read_as_ones(void **state)
{
	assert_int_equal(fake_config_read(f, 1, 0, 4), UINT32_MAX);
	assert_int_equal(fake_config_read(f, PCI_SLOTS, 0, 4), UINT32_MAX);
	fake_io_write(f, 0xcf8, 4, 0x80000000U | SLOT << 11 | 1 << 8); /* function 1 */
	assert_int_equal(fake_io_read(f, 0xcfc, 4), UINT32_MAX);
	fake_io_write(f, 0xcf8, 4, 0x80010000U | SLOT << 11); /* bus 1 */
	assert_int_equal(fake_io_read(f, 0xcfc, 4), UINT32_MAX);
	fake_io_write(f, 0xcf8, 4, SLOT << 11); /* not enabled */
	assert_int_equal(fake_io_read(f, 0xcfc, 4), UINT32_MAX);
}

static void slot_without_a_line_has_no_interrupt_pin(void **state)
{
	const struct pci_ids ids = {.vendor = 0x1af4, .device = 0x1045};
	static const struct pci_function_ops none;
	struct pci_function far = {0};

	assert_int_equal(pci_function_init(&far, bus, PCI_LINE_SLOTS, &ids, &none), 0);
	pci_function_publish(&far);
	assert_int_equal(fake_config_read(f, PCI_LINE_SLOTS, 0x3d, 1), 0);
	pci_intx_set(&far, true); /* GSI 24 does not exist: the fake machine would write past its lines */
	assert_false(far.intx_shown);
	pci_function_done(&far);
}

static void address_register_is_a_dword(void **state)
{
	fake_io_write(f, 0xcf8, 4, UINT32_MAX);
	assert_int_equal(fake_io_read(f, 0xcf8, 4), 0x80fffffc);
	fake_io_write(f, 0xcf8, 2, 0);
	fake_io_write(f, 0xcfa, 1, 0);
	assert_int_equal(fake_io_read(f, 0xcf8, 4), 0x80fffffc);
	assert_int_equal(fake_io_read(f, 0xcf8, 2), 0xffff);
	assert_int_equal(fake_io_read(f, 0xcfa, 4), UINT32_MAX); /* half address, half data */
	fake_io_write(f, 0xcfa, 4, 0);
	assert_int_equal(fake_io_read(f, 0xcf8, 4), 0x80fffffc);
	assert_int_equal(f->stops, 0);
}

static void resets_by_port_0xcf9(void **state)
{
	fake_io_write(f, 0xcf9, 1, 0x02);
	assert_int_equal(f->stops, 0);
	fake_io_write(f, 0xcf9, 1, 0x06);
	assert_int_equal(f->stops, 1);
}

static void keeps_read_only_bytes(void **state)
{
	for (unsigned offset = 0; offset < 256; offset += 4) {
		uint32_t before = cfg(offset, 4);

		if (offset == 0x04 || offset == 0x10 || offset == 0x3c || offset == MSIX)
			continue;
		set(offset, 4, ~before);
		assert_int_equal(cfg(offset, 4), before);
	}
	set(0x06, 2, 0xffff);
	assert_int_equal(cfg(0x06, 2), 0x10);
	set(0x04, 2, 0xffff);
	assert_int_equal(cfg(0x04, 2), 0x0406);
}

static void tells_the_size_of_its_bar(void **state)
{
	uint32_t before = cfg(0x10, 4);

	assert_int_equal(before, PCI_BAR_INITIAL(SLOT));
	set(0x10, 4, UINT32_MAX);
	assert_int_equal(cfg(0x10, 4), ~(uint32_t)(PCI_BAR_BYTES - 1));
	set(0x10, 4, before);
	assert_int_equal(cfg(0x10, 4), before);
	for (unsigned i = 1; i < 6; i++) {
		set(0x10 + 4 * i, 4, UINT32_MAX);
		assert_int_equal(cfg(0x10 + 4 * i, 4), 0);
	}
}

static void decodes_its_bar_only_where_and_when_told(void **state)
{
	uint64_t a = PCI_BAR_INITIAL(SLOT), b = MACHINE_PCI_MMIO_BASE + 0x800000;

	assert_int_equal(fake_mmio_read(f, a, 4), UINT32_MAX);
	set(0x04, 2, 2);
	assert_int_equal(moved_to, a);
	assert_int_equal(fake_mmio_read(f, a + 8, 4), 0x5a5a5a5a);
	assert_int_equal(last_offset, 8);
	set(0x10, 4, (uint32_t)b);
	assert_int_equal(moved_to, b);
	assert_int_equal(fake_mmio_read(f, a, 4), UINT32_MAX);
	assert_int_equal(fake_mmio_read(f, b, 4), 0x5a5a5a5a);
	set(0x04, 2, 0);
	assert_true(moved_to == UINT64_MAX);
	assert_int_equal(fake_mmio_read(f, b, 4), UINT32_MAX);
}

static void decodes_nothing_outside_of_the_window(void **state)
{
	static const uint64_t bad[] = {
		0,
		0x100000,
		MACHINE_PCI_MMIO_BASE - PCI_BAR_BYTES,
		MACHINE_PCI_MMIO_BASE + MACHINE_PCI_MMIO_SIZE,
		0xfee00000,
		0xffff8000,
	};

	set(0x04, 2, 2);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		set(0x10, 4, (uint32_t)bad[i]);
		assert_true(moved_to == UINT64_MAX);
		assert_int_equal(fake_mmio_read(f, bad[i], 4), UINT32_MAX);
	}
	set(0x10, 4, (uint32_t)(MACHINE_PCI_MMIO_BASE + MACHINE_PCI_MMIO_SIZE - PCI_BAR_BYTES));
	assert_int_equal(moved_to, MACHINE_PCI_MMIO_BASE + MACHINE_PCI_MMIO_SIZE - PCI_BAR_BYTES);
}

static void a_slot_is_taken_once(void **state)
{
	static const struct pci_ids ids = {.vendor = 1};
	struct pci_function other = {0};

	assert_int_equal(pci_function_init(&other, bus, SLOT, &ids, &ops), -EBUSY);
	assert_int_equal(pci_function_init(&other, bus, 0, &ids, &ops), -EINVAL);
	assert_int_equal(pci_function_init(&other, bus, PCI_SLOTS, &ids, &ops), -EINVAL);
	pci_function_done(&other);
}

static void overlapping_bars_leave_the_later_one_off(void **state)
{
	static const struct pci_ids ids = {.vendor = 1};
	struct pci_function other = {0};

	set(0x04, 2, 2);
	assert_int_equal(pci_function_init(&other, bus, 4, &ids, &ops), 0);
	pci_function_publish(&other);
	fake_config_write(f, 4, 0x10, 4, (uint32_t)PCI_BAR_INITIAL(SLOT));
	fake_config_write(f, 4, 0x04, 2, 2);
	assert_true(other.bar_gpa == UINT64_MAX);
	assert_int_equal(fn.bar_gpa, PCI_BAR_INITIAL(SLOT));
	pci_function_done(&other);
	assert_int_equal(fake_config_read(f, 4, 0, 4), UINT32_MAX);
}

static void capabilities_form_a_list_that_ends(void **state)
{
	uint8_t body[6] = {0, 0, 0xaa, 0xbb, 0xcc, 0xdd};
	int at = pci_function_add_capability(&fn, 0x09, body, sizeof(body));

	assert_int_equal(cfg(0x34, 1), MSIX);
	assert_int_equal(cfg(MSIX, 1), 0x11);
	assert_int_equal(cfg(MSIX + 1, 1), at);
	assert_int_equal(cfg((unsigned)at, 1), 0x09);
	assert_int_equal(cfg((unsigned)at + 1, 1), 0);
	assert_int_equal(cfg((unsigned)at + 2, 2), 0xbbaa);
	assert_int_equal(pci_function_add_capability(&fn, 0x09, body, 1), -ENOSPC);
	while (pci_function_add_capability(&fn, 0x09, body, sizeof(body)) >= 0)
		;
	assert_true(fn.end_of_capabilities <= PCI_CONFIG_BYTES);
}

/* Programs vector v and unmasks it. */
static void program(unsigned v, uint32_t data)
{
	uint64_t entry = PCI_BAR_INITIAL(SLOT) + TABLE + 16 * v;

	fake_mmio_write(f, entry, 8, 0x1fee00000);
	fake_mmio_write(f, entry + 8, 4, data);
	fake_mmio_write(f, entry + 12, 4, 0);
}

static uint64_t pending(void)
{
	return fake_mmio_read(f, PCI_BAR_INITIAL(SLOT) + PBA, 8);
}

static void msix_starts_off_and_masked(void **state)
{
	set(0x04, 2, 2);
	assert_int_equal(cfg(MSIX + 2, 2), 2); /* three vectors, disabled */
	assert_int_equal(cfg(MSIX + 4, 4), TABLE);
	assert_int_equal(cfg(MSIX + 8, 4), PBA);
	assert_int_equal(fake_mmio_read(f, PCI_BAR_INITIAL(SLOT) + TABLE + 12, 4), 1);
	pci_msix_raise(&fn, 0);
	assert_int_equal(fake_msi_take(f, 0), 0);
	assert_int_equal(pending(), 0);
}

static void msix_delivers_a_programmed_vector(void **state)
{
	set(0x04, 2, 2);
	set(MSIX + 2, 2, 0x8000);
	assert_true(pci_msix_enabled(&fn));
	program(1, 0x4041);
	assert_false(f->msis[1].masked);
	assert_int_equal(f->msis[1].address, 0x1fee00000);
	assert_int_equal(f->msis[1].data, 0x4041);
	pci_msix_raise(&fn, 1);
	assert_int_equal(fake_msi_take(f, 1), 1);
	pci_msix_raise(&fn, 0); /* still masked */
	pci_msix_raise(&fn, 3); /* there is none */
	assert_int_equal(fake_msi_take(f, 0), 0);
	assert_int_equal(pending(), 1);
}

static void masked_interrupts_stay_pending_and_come_once(void **state)
{
	set(0x04, 2, 2);
	set(MSIX + 2, 2, 0x8000);
	program(2, 1);
	fake_mmio_write(f, PCI_BAR_INITIAL(SLOT) + TABLE + 32 + 12, 4, UINT32_MAX);
	assert_int_equal(fake_mmio_read(f, PCI_BAR_INITIAL(SLOT) + TABLE + 32 + 12, 4), 1);
	assert_true(f->msis[2].masked);
	pci_msix_raise(&fn, 2);
	pci_msix_raise(&fn, 2);
	assert_int_equal(fake_msi_take(f, 2), 0);
	assert_int_equal(pending(), 4);
	fake_mmio_write(f, PCI_BAR_INITIAL(SLOT) + TABLE + 32 + 12, 4, 0);
	assert_int_equal(fake_msi_take(f, 2), 1);
	assert_int_equal(pending(), 0);
}

static void the_function_mask_covers_all_vectors(void **state)
{
	set(0x04, 2, 2);
	set(MSIX + 2, 2, 0xc000);
	program(0, 1);
	program(1, 2);
	pci_msix_raise(&fn, 0);
	pci_msix_raise(&fn, 1);
	assert_int_equal(pending(), 3);
	set(MSIX + 2, 2, 0x8000);
	assert_int_equal(fake_msi_take(f, 0), 1);
	assert_int_equal(fake_msi_take(f, 1), 1);
	assert_int_equal(pending(), 0);
}

static void switching_msix_off_forgets_what_was_pending(void **state)
{
	set(0x04, 2, 2);
	set(MSIX + 2, 2, 0x8000);
	pci_msix_raise(&fn, 0);
	assert_int_equal(pending(), 1);
	set(MSIX + 2, 2, 0);
	set(MSIX + 2, 2, 0x8000);
	assert_int_equal(pending(), 0);
}

static void the_pending_bits_are_read_only(void **state)
{
	set(0x04, 2, 2);
	set(MSIX + 2, 2, 0x8000);
	fake_mmio_write(f, PCI_BAR_INITIAL(SLOT) + PBA, 8, UINT64_MAX);
	assert_int_equal(pending(), 0);
}

static void accesses_past_the_table_are_the_functions(void **state)
{
	set(0x04, 2, 2);
	fake_mmio_write(f, PCI_BAR_INITIAL(SLOT) + TABLE + 48, 4, 0);
	assert_int_equal(last_offset, TABLE + 48);
	fake_mmio_write(f, PCI_BAR_INITIAL(SLOT) + TABLE + 44, 8, 0); /* half in, half out */
	assert_int_equal(last_offset, TABLE + 44);
	assert_int_equal(last_size, 8);
}

static void byte_accesses_to_the_table_work(void **state)
{
	uint64_t entry = PCI_BAR_INITIAL(SLOT) + TABLE;

	set(0x04, 2, 2);
	for (unsigned i = 0; i < 4; i++)
		fake_mmio_write(f, entry + 8 + i, 1, 0x11 * (i + 1));
	assert_int_equal(fake_mmio_read(f, entry + 8, 4), 0x44332211);
	assert_int_equal(fake_mmio_read(f, entry + 9, 2), 0x3322);
}

static void the_line_follows_the_device_without_msix(void **state)
{
	pci_intx_set(&fn, true);
	assert_int_equal(fake_line(f, PCI_GSI(SLOT)), 1);
	assert_int_equal(cfg(0x06, 2) & 8, 8);
	set(0x04, 2, 0x400); /* interrupt disable */
	assert_int_equal(fake_line(f, PCI_GSI(SLOT)), 0);
	assert_int_equal(cfg(0x06, 2) & 8, 8);
	set(0x04, 2, 0);
	assert_int_equal(fake_line(f, PCI_GSI(SLOT)), 1);
	set(MSIX + 2, 2, 0x8000);
	assert_int_equal(fake_line(f, PCI_GSI(SLOT)), 0);
	set(MSIX + 2, 2, 0);
	pci_intx_set(&fn, false);
	assert_int_equal(fake_line(f, PCI_GSI(SLOT)), 0);
	assert_int_equal(cfg(0x06, 2) & 8, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(shows_what_it_is),
		T(absent_functions_read_as_ones),
		T(slot_without_a_line_has_no_interrupt_pin),
		T(address_register_is_a_dword),
		T(resets_by_port_0xcf9),
		T(keeps_read_only_bytes),
		T(tells_the_size_of_its_bar),
		T(decodes_its_bar_only_where_and_when_told),
		T(decodes_nothing_outside_of_the_window),
		T(a_slot_is_taken_once),
		T(overlapping_bars_leave_the_later_one_off),
		T(capabilities_form_a_list_that_ends),
		T(msix_starts_off_and_masked),
		T(msix_delivers_a_programmed_vector),
		T(masked_interrupts_stay_pending_and_come_once),
		T(the_function_mask_covers_all_vectors),
		T(switching_msix_off_forgets_what_was_pending),
		T(the_pending_bits_are_read_only),
		T(accesses_past_the_table_are_the_functions),
		T(byte_accesses_to_the_table_work),
		T(the_line_follows_the_device_without_msix),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
