/* The ELF loader: what it loads, where, and every way a file can be wrong. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvm-glue/boot.h"

#define RAM_BYTES   (8 * MIB)
#define HIGH_GPA    UINT64_C(0x100000000)
#define HIGH_BYTES  (2 * MIB)
#define LOAD_GPA    UINT64_C(0x200000)
#define CODE_BYTES  64
#define NOTE_XEN    18
#define NOTE_OFFSET 0x200
#define CODE_OFFSET 0x400
#define FILE_BYTES  0x800

static struct guest_ram *ram;

/* A file with a note and one segment; tests spoil it. */
static struct image {
	union {
		uint8_t bytes[FILE_BYTES];
		struct {
			Elf64_Ehdr header;
			Elf64_Phdr segments[4];
		};
	};
} image;

static void put_note(const char *name, uint32_t type, uint64_t value)
{
	Elf64_Nhdr note = {
		.n_namesz = (uint32_t)strlen(name) + 1,
		.n_descsz = sizeof(value),
		.n_type = type,
	};
	uint8_t *at = image.bytes + NOTE_OFFSET;
	size_t name_bytes = (note.n_namesz + 3u) & ~3u;

	memset(at, 0, sizeof(note) + name_bytes);
	memcpy(at, &note, sizeof(note));
	memcpy(at + sizeof(note), name, note.n_namesz);
	memcpy(at + sizeof(note) + name_bytes, &value, sizeof(value));
	image.segments[0].p_filesz = sizeof(note) + name_bytes + sizeof(value);
}

static int setup(void **state)
{
	static const struct guest_ram_layout layout[] = {
		{.gpa = 0, .bytes = RAM_BYTES},
		{.gpa = HIGH_GPA, .bytes = HIGH_BYTES},
	};

	memset(&image, 0, sizeof(image));
	memcpy(image.header.e_ident, ELFMAG, SELFMAG);
	image.header.e_ident[EI_CLASS] = ELFCLASS64;
	image.header.e_ident[EI_DATA] = ELFDATA2LSB;
	image.header.e_type = ET_EXEC;
	image.header.e_machine = EM_X86_64;
	image.header.e_entry = LOAD_GPA + 4;
	image.header.e_phoff = offsetof(struct image, segments);
	image.header.e_phentsize = sizeof(Elf64_Phdr);
	image.header.e_phnum = 2;
	image.segments[0] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = NOTE_OFFSET, .p_align = 4};
	image.segments[1] = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = CODE_OFFSET,
		.p_paddr = LOAD_GPA,
		.p_filesz = CODE_BYTES,
		.p_memsz = 2 * CODE_BYTES,
	};
	memset(image.bytes + CODE_OFFSET, 0xab, CODE_BYTES);
	put_note("Xen", NOTE_XEN, LOAD_GPA + 8);
	return guest_ram_new(layout, 2, &ram, NULL);
}

static int teardown(void **state)
{
	guest_ram_free(ram);
	return 0;
}

/* From the heap in its exact size, so that a sanitizer sees a read past it. */
static int load_bytes(uint64_t bytes, enum boot_protocol wanted, struct boot_kernel *ret)
{
	uint8_t *copy = malloc(bytes ? bytes : 1);
	struct error e = {0};
	int r;

	assert_non_null(copy);
	memcpy(copy, image.bytes, bytes);
	r = boot_elf_load(copy, bytes, ram, wanted, ret, &e);
	if (r < 0)
		assert_true(e.text[0] != '\0');
	free(copy);
	return r;
}

static int load(struct boot_kernel *ret)
{
	return load_bytes(FILE_BYTES, BOOT_AUTO, ret);
}

static void assert_refused(int code)
{
	struct boot_kernel elf = {.entry_gpa = 77};

	assert_int_equal(load(&elf), code);
	assert_int_equal(elf.entry_gpa, 77);
}

static void loads_a_segment_to_its_physical_address(void **state)
{
	const uint8_t *at = guest_ram_ptr(ram, GPA(LOAD_GPA - 1), CODE_BYTES + 2);
	struct boot_kernel elf;

	assert_int_equal(load(&elf), 0);
	assert_int_equal(elf.protocol, BOOT_PVH);
	assert_int_equal(elf.entry_gpa, LOAD_GPA + 8);
	assert_int_equal(elf.end_gpa, LOAD_GPA + 2 * CODE_BYTES);
	assert_false(elf.is_linux);
	assert_int_equal(at[0], 0);
	assert_int_equal(at[1], 0xab);
	assert_int_equal(at[CODE_BYTES], 0xab);
	assert_int_equal(at[CODE_BYTES + 1], 0);
}

static void linux_is_known_by_its_note(void **state)
{
	struct boot_kernel elf;

	put_note("Linux", 0x101, 0);
	assert_int_equal(load(&elf), 0);
	assert_int_equal(elf.protocol, BOOT_LINUX64);
	assert_int_equal(elf.entry_gpa, LOAD_GPA + 4);
	assert_true(elf.is_linux);
	assert_int_equal(load_bytes(FILE_BYTES, BOOT_PVH, &elf), -ENOEXEC);
}

static void the_entry_wanted_must_be_offered(void **state)
{
	struct boot_kernel elf;

	assert_int_equal(load_bytes(FILE_BYTES, BOOT_LINUX64, &elf), -ENOEXEC);
	assert_int_equal(load_bytes(FILE_BYTES, BOOT_PVH, &elf), 0);
	put_note("Other", NOTE_XEN, LOAD_GPA);
	assert_refused(-ENOEXEC);
}

static void refuses_what_is_no_elf_for_this_machine(void **state)
{
	image.header.e_ident[0] = 'M';
	assert_refused(-ENOEXEC);
	image.header.e_ident[0] = ELFMAG0;
	image.header.e_ident[EI_CLASS] = ELFCLASS32;
	assert_refused(-ENOEXEC);
	image.header.e_ident[EI_CLASS] = ELFCLASS64;
	image.header.e_ident[EI_DATA] = ELFDATA2MSB;
	assert_refused(-ENOEXEC);
	image.header.e_ident[EI_DATA] = ELFDATA2LSB;
	image.header.e_machine = EM_AARCH64;
	assert_refused(-ENOEXEC);
	image.header.e_machine = EM_X86_64;
	image.header.e_type = ET_REL;
	assert_refused(-ENOEXEC);
}

static void refuses_bad_program_headers(void **state)
{
	image.header.e_phentsize--;
	assert_refused(-EINVAL);
	image.header.e_phentsize++;
	image.header.e_phnum = 0;
	assert_refused(-EINVAL);
	image.header.e_phnum = 65;
	assert_refused(-EINVAL);
	image.header.e_phnum = 2;
	image.header.e_phoff = FILE_BYTES - 2 * sizeof(Elf64_Phdr) + 1;
	assert_refused(-EINVAL);
	image.header.e_phoff = UINT64_MAX - 10;
	assert_refused(-EINVAL);
}

static void refuses_every_truncation(void **state)
{
	struct boot_kernel elf;

	for (uint64_t n = 0; n < CODE_OFFSET + CODE_BYTES; n++)
		assert_true(load_bytes(n, BOOT_AUTO, &elf) < 0);
	assert_int_equal(load_bytes(CODE_OFFSET + CODE_BYTES, BOOT_AUTO, &elf), 0);
}

static void refuses_segments_outside_of_the_file(void **state)
{
	image.segments[1].p_offset = FILE_BYTES - CODE_BYTES + 1;
	assert_refused(-EINVAL);
	image.segments[1].p_offset = UINT64_MAX;
	assert_refused(-EINVAL);
	image.segments[1].p_offset = CODE_OFFSET;
	image.segments[1].p_filesz = image.segments[1].p_memsz = UINT64_MAX;
	assert_refused(-EINVAL);
	image.segments[1].p_filesz = CODE_BYTES;
	image.segments[1].p_memsz = CODE_BYTES - 1;
	assert_refused(-EINVAL);
}

static void refuses_segments_below_1_mib(void **state)
{
	struct boot_kernel elf;

	put_note("Xen", NOTE_XEN, BOOT_KERNEL_MIN_GPA);
	image.segments[1].p_paddr = BOOT_KERNEL_MIN_GPA;
	assert_int_equal(load(&elf), 0);
	image.segments[1].p_paddr = BOOT_KERNEL_MIN_GPA - 1;
	assert_refused(-EINVAL);
	image.segments[1].p_paddr = 0;
	assert_refused(-EINVAL);
}

static void refuses_segments_that_do_not_fit_into_ram(void **state)
{
	struct boot_kernel elf;

	image.segments[1].p_paddr = RAM_BYTES - 2 * CODE_BYTES;
	put_note("Xen", NOTE_XEN, image.segments[1].p_paddr);
	assert_int_equal(load(&elf), 0);
	image.segments[1].p_paddr++;
	assert_refused(-EFBIG);
	image.segments[1].p_paddr = UINT64_MAX - 1;
	assert_refused(-EFBIG);
	image.segments[1].p_paddr = LOAD_GPA;
	image.segments[1].p_memsz = UINT64_MAX - 1;
	assert_refused(-EFBIG);
	image.segments[1].p_memsz = HIGH_GPA + HIGH_BYTES - LOAD_GPA; /* over the gap */
	assert_refused(-EFBIG);
}

static void refuses_segments_that_overlap(void **state)
{
	struct boot_kernel elf;

	image.header.e_phnum = 3;
	image.segments[2] = image.segments[1];
	assert_refused(-EINVAL);
	image.segments[2].p_paddr = LOAD_GPA + 2 * CODE_BYTES - 1;
	assert_refused(-EINVAL);
	image.segments[2].p_paddr = LOAD_GPA + 2 * CODE_BYTES;
	assert_int_equal(load(&elf), 0);
	assert_int_equal(elf.end_gpa, LOAD_GPA + 4 * CODE_BYTES);
}

static void refuses_an_entry_in_no_segment(void **state)
{
	put_note("Xen", NOTE_XEN, LOAD_GPA - 1);
	assert_refused(-EINVAL);
	put_note("Xen", NOTE_XEN, LOAD_GPA + 2 * CODE_BYTES);
	assert_refused(-EINVAL);
	put_note("Xen", NOTE_XEN, HIGH_GPA + 8);
	image.segments[1].p_paddr = HIGH_GPA;
	assert_refused(-EINVAL); /* PVH is entered with 32 bits */
}

static void refuses_nothing_to_load(void **state)
{
	image.segments[1].p_type = PT_NULL;
	assert_refused(-EINVAL);
}

static void refuses_malformed_notes(void **state)
{
	Elf64_Nhdr *note = (Elf64_Nhdr *)(image.bytes + NOTE_OFFSET);
	Elf64_Nhdr good = *note;

	note->n_descsz = 9;
	assert_refused(-EINVAL);
	note->n_descsz = UINT32_MAX;
	assert_refused(-EINVAL);
	*note = good;
	note->n_namesz = UINT32_MAX;
	assert_refused(-EINVAL);
	*note = good;
	note->n_descsz = 3; /* no entry can be read from that */
	assert_refused(-ENOEXEC);
	*note = good;
	image.segments[0].p_offset = FILE_BYTES - 8;
	assert_refused(-EINVAL);
	image.segments[0].p_offset = UINT64_MAX - 8;
	assert_refused(-EINVAL);
}

static void the_map_covers_all_ram_above_1_mib_and_hides_the_tables(void **state)
{
	struct boot_map_entry map[BOOT_MAP_MAX];
	unsigned n = boot_map(ram, map);

	assert_int_equal(n, 4);
	assert_int_equal(map[0].gpa, 0);
	assert_int_equal(map[0].bytes, BOOT_LOW_RAM_END);
	assert_int_equal(map[1].gpa, BOOT_ACPI_GPA);
	assert_int_equal(map[1].type, BOOT_MAP_RESERVED);
	assert_int_equal(map[2].gpa, MIB);
	assert_int_equal(map[2].bytes, RAM_BYTES - MIB);
	assert_int_equal(map[3].gpa, HIGH_GPA);
	assert_int_equal(map[3].bytes, HIGH_BYTES);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(loads_a_segment_to_its_physical_address),
		T(linux_is_known_by_its_note),
		T(the_entry_wanted_must_be_offered),
		T(refuses_what_is_no_elf_for_this_machine),
		T(refuses_bad_program_headers),
		T(refuses_every_truncation),
		T(refuses_segments_outside_of_the_file),
		T(refuses_segments_below_1_mib),
		T(refuses_segments_that_do_not_fit_into_ram),
		T(refuses_segments_that_overlap),
		T(refuses_an_entry_in_no_segment),
		T(refuses_nothing_to_load),
		T(refuses_malformed_notes),
		T(the_map_covers_all_ram_above_1_mib_and_hides_the_tables),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
