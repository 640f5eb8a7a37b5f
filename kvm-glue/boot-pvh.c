/* The PVH entry (xen/include/public/arch-x86/hvm/start_info.h): start_info with memory map, initrd as a module, RSDP. */
#include <string.h>

#include "kvm-glue/boot.h"
#include "kvm-glue/x86.h"

#define START_INFO_MAGIC   UINT32_C(0x336ec578)
#define START_INFO_VERSION 1

struct start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t n_modules;
	uint64_t modules_gpa;
	uint64_t cmdline_gpa;
	uint64_t rsdp_gpa;
	uint64_t map_gpa;
	uint32_t n_map;
	uint32_t reserved;
};

struct module {
	uint64_t gpa;
	uint64_t bytes;
	uint64_t cmdline_gpa;
	uint64_t reserved;
};

struct map_entry {
	uint64_t gpa;
	uint64_t bytes;
	uint32_t type;
	uint32_t reserved;
};

/* All of it in one page. */
struct start_page {
	struct start_info info;
	struct module initrd;
	struct map_entry map[BOOT_MAP_MAX];
};

void boot_pvh_write(const struct guest_ram *ram, const struct boot_info *info)
{
	struct start_page *page = guest_ram_ptr(ram, GPA(BOOT_INFO_GPA), sizeof(*page));
	struct boot_map_entry map[BOOT_MAP_MAX];
	unsigned n = boot_map(ram, map);

	memset(page, 0, sizeof(*page));
	page->info = (struct start_info){
		.magic = START_INFO_MAGIC,
		.version = START_INFO_VERSION,
		.cmdline_gpa = BOOT_CMDLINE_GPA,
		.rsdp_gpa = info->rsdp_gpa,
		.map_gpa = BOOT_INFO_GPA + offsetof(struct start_page, map),
		.n_map = n,
	};
	if (info->initrd_bytes > 0) {
		page->info.n_modules = 1;
		page->info.modules_gpa = BOOT_INFO_GPA + offsetof(struct start_page, initrd);
		page->initrd.gpa = info->initrd_gpa;
		page->initrd.bytes = info->initrd_bytes;
	}
	for (unsigned i = 0; i < n; i++)
		page->map[i] = (struct map_entry){
			.gpa = map[i].gpa,
			.bytes = map[i].bytes,
			.type = map[i].type,
		};
}

int boot_pvh_enter(int vcpu_fd, const struct boot_kernel *kernel, struct error *e)
{
	return x86_regs_set_pvh(vcpu_fd, (uint32_t)kernel->entry_gpa, (uint32_t)BOOT_INFO_GPA, e);
}
