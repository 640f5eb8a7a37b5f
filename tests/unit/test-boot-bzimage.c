/* The bzImage loader: where the kernel goes, what the zero page says, and which files are refused. */
#include <asm/bootparam.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvm-glue/boot.h"
#include "kvm-glue/lz4.h"

#define SETUP_BYTES 1024
#define CODE_BYTES  2048
#define IMAGE_BYTES (SETUP_BYTES + CODE_BYTES)

struct image {
	uint8_t bytes[IMAGE_BYTES];
};

static struct setup_header *header(struct image *i)
{
	return (struct setup_header *)(void *)(i->bytes + 0x1f1);
}

/* One setup sector, 2 KiB of code that needs 1 MiB at 16 MiB. */
static struct image good(void)
{
	struct image i = {{0}};
	struct setup_header *h = header(&i);

	h->setup_sects = 1;
	h->boot_flag = 0xaa55;
	i.bytes[0x201] = 0x6a;
	h->header = 0x53726448;
	h->version = 0x020f;
	h->xloadflags = XLF_KERNEL_64;
	h->relocatable_kernel = 1;
	h->kernel_alignment = 0x200000;
	h->pref_address = 16 * MIB;
	h->init_size = MIB;
	h->initrd_addr_max = 0x7fffffff;
	h->cmdline_size = 2047;
	memset(i.bytes + SETUP_BYTES, 0xcc, CODE_BYTES);
	return i;
}

static struct guest_ram *new_ram(uint64_t bytes)
{
	const struct guest_ram_layout layout = {.gpa = 0, .bytes = bytes};
	struct guest_ram *ram = NULL;

	assert_int_equal(guest_ram_new(&layout, 1, &ram, NULL), 0);
	return ram;
}

static int load(struct image *i, size_t bytes, uint64_t ram_bytes, struct error *e)
{
	struct guest_ram *ram = new_ram(ram_bytes);
	struct boot_kernel kernel;
	int r = boot_bzimage_load(i->bytes, bytes, ram, BOOT_AUTO, &kernel, e);

	guest_ram_free(ram);
	return r;
}

static void goes_where_it_prefers_and_starts_at_its_64_bit_entry(void **state)
{
	struct guest_ram *ram = new_ram(32 * MIB);
	struct image i = good();
	struct boot_kernel kernel;
	struct boot_info info = {
		.initrd_gpa = 0x1800000, .initrd_bytes = 4711, .rsdp_gpa = 0xe0000};
	const struct boot_params *zero_page;

	assert_true(boot_bzimage_is(i.bytes, sizeof(i.bytes)));
	assert_int_equal(
		boot_bzimage_load(i.bytes, sizeof(i.bytes), ram, BOOT_AUTO, &kernel, NULL), 0);
	assert_int_equal(kernel.protocol, BOOT_LINUX64);
	assert_true(kernel.is_linux);
	assert_int_equal(kernel.entry_gpa, 16 * MIB + 512);
	assert_int_equal(kernel.end_gpa, 17 * MIB);
	assert_int_equal(kernel.initrd_end_gpa, 0x80000000);
	assert_int_equal(kernel.cmdline_max, 2048);
	assert_memory_equal(
		guest_ram_ptr(ram, GPA(16 * MIB), CODE_BYTES), i.bytes + SETUP_BYTES, CODE_BYTES);
	boot_linux_write(ram, &kernel, &info);
	zero_page = guest_ram_ptr(ram, GPA(BOOT_INFO_GPA), sizeof(*zero_page));
	assert_int_equal(zero_page->hdr.init_size, MIB); /* its own */
	assert_int_equal(zero_page->hdr.kernel_alignment, 0x200000);
	assert_int_equal(zero_page->hdr.type_of_loader, 0xff); /* the loader's */
	assert_int_equal(zero_page->hdr.loadflags & LOADED_HIGH, LOADED_HIGH);
	assert_int_equal(zero_page->hdr.ramdisk_image, 0x1800000);
	assert_int_equal(zero_page->hdr.ramdisk_size, 4711);
	assert_int_equal(zero_page->hdr.cmd_line_ptr, BOOT_CMDLINE_GPA);
	assert_int_equal(zero_page->sentinel, 0);
	assert_int_equal(zero_page->acpi_rsdp_addr, 0xe0000);
	guest_ram_free(ram);
}

static void moves_down_when_there_is_no_ram_where_it_prefers_to_be(void **state)
{
	struct guest_ram *ram = new_ram(8 * MIB);
	struct image i = good();
	struct boot_kernel kernel;

	assert_int_equal(
		boot_bzimage_load(i.bytes, sizeof(i.bytes), ram, BOOT_AUTO, &kernel, NULL), 0);
	assert_int_equal(kernel.entry_gpa, 2 * MIB + 512);
	guest_ram_free(ram);
	header(&i)->relocatable_kernel = 0;
	assert_int_equal(load(&i, sizeof(i.bytes), 8 * MIB, NULL), -EFBIG);
}

static void needs_all_the_memory_it_says(void **state)
{
	struct image i = good();

	header(&i)->init_size = 16 * MIB;
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, NULL), 0);
	header(&i)->init_size = 30 * MIB;
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, NULL), 0); /* at 2 MiB */
	header(&i)->init_size = 30 * MIB + 1;
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, NULL), -EFBIG);
}

static void what_is_no_kernel_of_ours_says_why(void **state)
{
	struct error e = {0};
	struct image i = good();

	header(&i)->version = 0x020b;
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, &e), -ENOEXEC);
	assert_non_null(strstr(e.text, "2.11"));
	i = good();
	header(&i)->xloadflags = 0;
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, NULL), -ENOEXEC);
	i = good();
	header(&i)->boot_flag = 0;
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, NULL), -EINVAL);
	i = good();
	header(&i)->init_size = CODE_BYTES - 1;
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, NULL), -EINVAL);
	i = good();
	i.bytes[0x201] = 0xff; /* a header longer than any */
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, NULL), -EINVAL);
	i = good();
	header(&i)->setup_sects = 200; /* beyond the file */
	assert_int_equal(load(&i, sizeof(i.bytes), 32 * MIB, NULL), -EINVAL);
	i = good();
	assert_int_equal(load(&i, SETUP_BYTES + 512, 32 * MIB, NULL), -EINVAL);
	assert_int_equal(load(&i, SETUP_BYTES + 513, 32 * MIB, NULL), 0);
	assert_false(boot_bzimage_is(i.bytes, 0x205));
	assert_true(boot_bzimage_is(i.bytes, 0x206));
}

static void pvh_is_not_to_be_had_of_it(void **state)
{
	struct guest_ram *ram = new_ram(32 * MIB);
	struct image i = good();
	struct boot_kernel kernel;

	assert_int_equal(boot_bzimage_load(i.bytes, sizeof(i.bytes), ram, BOOT_PVH, &kernel, NULL),
		-ENOEXEC);
	guest_ram_free(ram);
}

static void unpack_makes(
	const uint8_t *blocks, size_t n, const char *expected, int result, size_t room)
{
	uint8_t frame[256] = {0x02, 0x21, 0x4c, 0x18}, out[256];
	size_t got = 0;

	memcpy(frame + 4, blocks, n);
	assert_true(lz4_is_legacy_frame(frame, 4 + n));
	assert_int_equal(lz4_legacy_decompress(frame, 4 + n, out, room, &got), result);
	if (result < 0)
		return;
	assert_int_equal(got, strlen(expected));
	assert_memory_equal(out, expected, got);
}
#define UNPACK(blocks, expected)                                                                   \
	unpack_makes((const uint8_t *)(blocks), sizeof(blocks) - 1, expected, 0, 256)
#define UNPACK_FAILS(blocks, room, result)                                                         \
	unpack_makes((const uint8_t *)(blocks), sizeof(blocks) - 1, NULL, result, room)

static void lz4_is_unpacked(void **state)
{
	UNPACK("\x06\0\0\0\x50hello", "hello");
	/* 'a', then 8 from one back, then "bcdef" */
	UNPACK("\x0a\0\0\0\x14"
	       "a\x01\0\x50"
	       "bcdef",
		"aaaaaaaaabcdef");
	/* lengths of more than 15: 20 literals; 4 + 15 + 2 copied */
	UNPACK("\x16\0\0\0\xf0\x05"
	       "abcdefghijklmnopqrst",
		"abcdefghijklmnopqrst");
	UNPACK("\x07\0\0\0\x1f"
	       "a\x01\0\x02\x10"
	       "b",
		"aaaaaaaaaaaaaaaaaaaaaab");
	/* two blocks; a copy does not reach back into the first */
	UNPACK("\x02\0\0\0\x10"
	       "a\x02\0\0\0\x10"
	       "b",
		"ab");
	UNPACK_FAILS("\x02\0\0\0\x10"
		     "a\x06\0\0\0\x10"
		     "b\x02\0\x10"
		     "c",
		256, -EINVAL);
	UNPACK_FAILS("\x06\0\0\0\x50hello", 4, -EFBIG);
	UNPACK_FAILS("\x0a\0\0\0\x14"
		     "a\x01\0\x50"
		     "bcdef",
		8, -EFBIG);
	UNPACK_FAILS("\x06\0\0\0\x60hello", 256, -EINVAL); /* more literals than there are */
	UNPACK_FAILS("\x07\0\0\0\x50hello", 256, -EINVAL); /* a block longer than the data */
	UNPACK_FAILS("\x06\0\0\0\x14"
		     "a\0\0\x10"
		     "b",
		256, -EINVAL); /* from nowhere */
	UNPACK_FAILS("\x02\0\0\0\xf0\xff", 256, -EINVAL); /* a length without end */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_where_it_prefers_and_starts_at_its_64_bit_entry),
		cmocka_unit_test(moves_down_when_there_is_no_ram_where_it_prefers_to_be),
		cmocka_unit_test(needs_all_the_memory_it_says),
		cmocka_unit_test(what_is_no_kernel_of_ours_says_why),
		cmocka_unit_test(pvh_is_not_to_be_had_of_it),
		cmocka_unit_test(lz4_is_unpacked),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
