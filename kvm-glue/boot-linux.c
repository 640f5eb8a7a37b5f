/* The 64-bit Linux boot protocol (Documentation/x86/boot.rst, zero-page.rst): zero page, GDT, identity page tables. */
#include <asm/bootparam.h>
#include <string.h>

#include "kvm-glue/boot.h"
#include "kvm-glue/x86.h"

#define BOOT_FLAG	    0xaa55
#define HEADER_MAGIC	    0x53726448 /* "HdrS" */
#define PROTOCOL_VERSION    0x020f
#define LOADER_UNREGISTERED 0xff

#define PAGE_TABLE_PRESENT_WRITABLE UINT64_C(0x3)
#define PAGE_TABLE_HUGE		    UINT64_C(0x80)
#define N_DIRECTORIES		    4 /* the first 4 GiB */
#define ENTRIES			    512

static void *low_ram(const struct guest_ram *ram, uint64_t gpa, uint64_t bytes)
{
	return guest_ram_ptr(ram, GPA(gpa), bytes);
}

/* GDT with the two selectors that the protocol demands; 4 GiB flat, code in long mode. */
static void write_gdt(uint64_t *gdt)
{
	gdt[0] = 0;
	gdt[1] = 0;
	gdt[X86_BOOT_CS / 8] = UINT64_C(0x00af9b000000ffff);
	gdt[X86_BOOT_DS / 8] = UINT64_C(0x00cf93000000ffff);
}

static void write_page_tables(uint64_t *tables)
{
	uint64_t *pml4 = tables, *pdpt = tables + ENTRIES, *pds = tables + 2 * ENTRIES;

	pml4[0] = (BOOT_PAGE_TABLE_GPA + PAGE_BYTES) | PAGE_TABLE_PRESENT_WRITABLE;
	for (unsigned i = 0; i < N_DIRECTORIES; i++)
		pdpt[i] =
			(BOOT_PAGE_TABLE_GPA + (2 + i) * PAGE_BYTES) | PAGE_TABLE_PRESENT_WRITABLE;
	for (uint64_t i = 0; i < N_DIRECTORIES * ENTRIES; i++)
		pds[i] = i * CHUNK_BYTES | PAGE_TABLE_PRESENT_WRITABLE | PAGE_TABLE_HUGE;
}

/* What a bzImage says of itself it is told again; what a loader fills in comes after. */
static void take_setup_header(struct setup_header *hdr, const struct boot_kernel *kernel)
{
	_Static_assert(sizeof(*hdr) <= BOOT_SETUP_HEADER_MAX, "the header fits");
	memcpy(hdr, kernel->setup_header,
		kernel->setup_header_bytes < sizeof(*hdr) ? kernel->setup_header_bytes
							  : sizeof(*hdr));
}

void boot_linux_write(
	const struct guest_ram *ram, const struct boot_kernel *kernel, const struct boot_info *info)
{
	struct boot_params *zero_page = low_ram(ram, BOOT_INFO_GPA, sizeof(*zero_page));
	struct boot_map_entry map[BOOT_MAP_MAX];
	unsigned n = boot_map(ram, map);

	memset(zero_page, 0, sizeof(*zero_page));
	zero_page->hdr.boot_flag = BOOT_FLAG;
	zero_page->hdr.header = HEADER_MAGIC;
	zero_page->hdr.version = PROTOCOL_VERSION;
	zero_page->hdr.cmdline_size = (uint32_t)BOOT_CMDLINE_MAX - 1;
	take_setup_header(&zero_page->hdr, kernel);
	zero_page->hdr.type_of_loader = LOADER_UNREGISTERED;
	zero_page->hdr.loadflags |= LOADED_HIGH;
	zero_page->hdr.cmd_line_ptr = (uint32_t)BOOT_CMDLINE_GPA;
	zero_page->hdr.ramdisk_image = (uint32_t)info->initrd_gpa;
	zero_page->hdr.ramdisk_size = (uint32_t)info->initrd_bytes;
	zero_page->acpi_rsdp_addr = info->rsdp_gpa;
	zero_page->e820_entries = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		zero_page->e820_table[i].addr = map[i].gpa;
		zero_page->e820_table[i].size = map[i].bytes;
		zero_page->e820_table[i].type = map[i].type;
	}
	write_gdt(low_ram(ram, BOOT_GDT_GPA, PAGE_BYTES));
	write_page_tables(low_ram(ram, BOOT_PAGE_TABLE_GPA, (2 + N_DIRECTORIES) * PAGE_BYTES));
}

int boot_linux_enter(int vcpu_fd, const struct boot_kernel *kernel, struct error *e)
{
	struct x86_entry64 entry = {
		.entry_gpa = kernel->entry_gpa,
		.parameters_gpa = BOOT_INFO_GPA,
		.cr3_gpa = BOOT_PAGE_TABLE_GPA,
		.gdt_gpa = BOOT_GDT_GPA,
		.gdt_bytes = X86_BOOT_DS + 8,
	};

	return x86_regs_set_entry64(vcpu_fd, &entry, e);
}
