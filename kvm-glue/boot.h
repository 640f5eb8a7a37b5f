/*
 * Putting a kernel into guest memory and the first vCPU at its entry. Everything that boot needs besides the kernel lies
 * below 1 MiB, at fixed places; kernels are loaded at 1 MiB and above only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dedup/guest-ram.h"
#include "kvm-glue/host.h"

/* Guest physical layout below 1 MiB. The page at 0x8000 and others below 0x10000 are left to guests' SIPI trampolines. */
#define BOOT_INFO_GPA                                                                              \
	UINT64_C(0x10000) /* zero page (Linux) or start_info with what it points to (PVH) */
#define BOOT_GDT_GPA	    UINT64_C(0x11000)
#define BOOT_PAGE_TABLE_GPA UINT64_C(0x12000) /* six pages */
#define BOOT_CMDLINE_GPA    UINT64_C(0x20000)
#define BOOT_CMDLINE_MAX    UINT64_C(4096) /* with the NUL */
#define BOOT_LOW_RAM_END    UINT64_C(0xa0000)
#define BOOT_ACPI_GPA	    UINT64_C(0xe0000) /* RSDP first: where Linux looks for it, too */
#define BOOT_ACPI_BYTES	    UINT64_C(0x20000)
#define BOOT_KERNEL_MIN_GPA UINT64_C(0x100000)

enum boot_protocol {
	BOOT_AUTO, /* only as a wish: Linux by its own, others by PVH */
	BOOT_PVH, /* by the ELF note XEN_ELFNOTE_PHYS32_ENTRY */
	BOOT_LINUX64, /* Documentation/x86/boot.rst, "64-bit boot protocol" */
};

/* Memory map as both protocols take it (e820 types). */
#define BOOT_MAP_RAM	  1
#define BOOT_MAP_RESERVED 2
#define BOOT_MAP_MAX	  (GUEST_RAM_RANGES_MAX + 3)
struct boot_map_entry {
	uint64_t gpa;
	uint64_t bytes;
	uint32_t type;
};
/* Fills map (BOOT_MAP_MAX entries) and returns how many. */
unsigned boot_map(const struct guest_ram *ram, struct boot_map_entry *map);

/* A kernel once it is in guest memory. */
#define BOOT_SETUP_HEADER_MAX 128
struct boot_kernel {
	enum boot_protocol protocol;
	bool is_linux; /* carries a note of Linux */
	uint64_t entry_gpa;
	uint64_t end_gpa; /* of all it needs before it can look after itself */
	uint64_t initrd_end_gpa; /* an initrd must end at or below; UINT64_MAX: anywhere */
	uint64_t cmdline_max; /* bytes with the NUL that it takes; 0: unknown */
	/* A bzImage's own setup header, which the zero page takes over; 0 bytes for an ELF kernel. */
	uint8_t setup_header[BOOT_SETUP_HEADER_MAX];
	unsigned setup_header_bytes;
};

/*
 * Copies the segments of an ELF64 x86-64 kernel to their physical addresses, for the entry wanted: BOOT_AUTO takes
 * the Linux protocol for a kernel that carries a note of Linux, PVH for any other. -ENOEXEC (no such ELF, or it lacks the note
 * that the entry needs), -EINVAL (malformed), -EFBIG (a segment does not fit into this guest's RAM); *e says what. Guest memory
 * may have been written then.
 */
int boot_elf_load(const uint8_t *image, uint64_t bytes, const struct guest_ram *ram,
	enum boot_protocol wanted, struct boot_kernel *ret, struct error *e);

/* Whether the file is a bzImage, whatever is wrong with it. */
bool boot_bzimage_is(const uint8_t *image, uint64_t bytes);
/*
 * The kernel inside, where that is LZ4: 0 with an ELF file in memory of its own (munmap it), whose
 * length is *ret_bytes; BOOT_BZIMAGE_OTHER: another compression; -EINVAL, -ENOMEM.
 */
#define BOOT_BZIMAGE_OTHER 1
int boot_bzimage_unpack(
	const uint8_t *image, uint64_t bytes, uint8_t **ret, uint64_t *ret_bytes, struct error *e);
/*
 * Copies the protected mode part of a bzImage (Documentation/x86/boot.rst) to where it wants to be,
 * for its 64-bit entry; it decompresses itself from there. -ENOEXEC (no 64-bit entry, or a protocol
 * older than 2.12), -EINVAL (malformed), -EFBIG (does not fit into this guest's RAM); *e says what.
 */
int boot_bzimage_load(const uint8_t *image, uint64_t bytes, const struct guest_ram *ram,
	enum boot_protocol wanted, struct boot_kernel *ret, struct error *e);

/* What a protocol hands over. initrd_bytes 0: none. rsdp_gpa 0: none. The command line is at BOOT_CMDLINE_GPA. */
struct boot_info {
	uint64_t initrd_gpa;
	uint64_t initrd_bytes;
	uint64_t rsdp_gpa;
};

/* Writes the structures of that protocol; the RAM has at least 2 MiB at 0. */
void boot_linux_write(const struct guest_ram *ram, const struct boot_kernel *kernel,
	const struct boot_info *info);
void boot_pvh_write(const struct guest_ram *ram, const struct boot_info *info);
/* Sets the vCPU up for the entry. An errno of KVM. */
int boot_linux_enter(int vcpu_fd, const struct boot_kernel *kernel, struct error *e);
int boot_pvh_enter(int vcpu_fd, const struct boot_kernel *kernel, struct error *e);

struct boot_request {
	enum boot_protocol protocol;
	int kernel_fd;
	int initrd_fd; /* -1: none */
	const char *kernel_path; /* for messages */
	const char *initrd_path;
	const char *cmdline;
	uint64_t rsdp_gpa;
	enum host_backend backend;
};

/*
 * Loads kernel and initrd, writes everything, and sets up vcpu_fd. ret_cmdline (BOOT_CMDLINE_MAX bytes): the command line that
 * the guest really gets. Errors as boot_elf_load, of reading the files, -E2BIG (command line), and of KVM.
 */
int boot_guest(const struct boot_request *request, const struct guest_ram *ram, int vcpu_fd,
	char *ret_cmdline, struct error *e);
