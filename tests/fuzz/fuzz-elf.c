/* The ELF loader on files of any kind: it may refuse, but only read the file and write RAM above 1 MiB. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/boot.h"

#define RAM_BYTES (4 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct guest_ram_layout layout = {.gpa = 0, .bytes = RAM_BYTES};
	static struct guest_ram *ram;
	static uint8_t *low;
	struct boot_kernel elf;
	struct error e = {0};

	if (!ram) {
		if (guest_ram_new(&layout, 1, &ram, NULL) < 0)
			abort();
		low = guest_ram_ptr(ram, GPA(0), BOOT_KERNEL_MIN_GPA);
	}
	low[BOOT_KERNEL_MIN_GPA - 1] = 0x5a;
	if (boot_elf_load(data, size, ram, BOOT_AUTO, &elf, &e) == 0) {
		if (elf.end_gpa > RAM_BYTES || elf.entry_gpa < BOOT_KERNEL_MIN_GPA ||
			elf.entry_gpa >= elf.end_gpa)
			abort();
	} else if (e.text[0] == '\0') {
		abort(); /* a refusal says why */
	}
	if (low[0] != 0 || low[BOOT_KERNEL_MIN_GPA - 1] != 0x5a)
		abort();
	return 0;
}
