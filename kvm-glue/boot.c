/* Boot: reads the files, lays out guest memory, and lets the protocol's file write the rest (boot.h). */
#include "kvm-glue/boot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "kvm-glue/machine.h"
#include "kvm-glue/x86-pvm.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"

#define KERNEL_BYTES_MAX  (UINT64_C(1) << 30)
#define LINUX_CMDLINE_MAX UINT64_C(2048) /* COMMAND_LINE_SIZE of x86, with the NUL */

unsigned boot_map(const struct guest_ram *ram, struct boot_map_entry *map)
{
	const struct guest_ram_range *ranges;
	size_t n_ranges = guest_ram_ranges(ram, &ranges);
	unsigned n = 0;

	map[n++] = (struct boot_map_entry){0, BOOT_LOW_RAM_END, BOOT_MAP_RAM};
	map[n++] = (struct boot_map_entry){BOOT_ACPI_GPA, BOOT_ACPI_BYTES, BOOT_MAP_RESERVED};
	for (size_t i = 0; i < n_ranges; i++) {
		uint64_t gpa = u64_max(ranges[i].gpa, BOOT_KERNEL_MIN_GPA);

		map[n++] = (struct boot_map_entry){
			gpa, ranges[i].gpa + ranges[i].bytes - gpa, BOOT_MAP_RAM};
	}
	return n;
}

static int file_bytes(int fd, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

/*
 * Where ring 0 is emulated a kernel that decompresses itself takes minutes: it is done here, if it is
 * LZ4 (Debian's cloud kernels are), and what comes out is loaded as an ELF file.
 */
static int load_bzimage(const struct boot_request *q, const uint8_t *image, uint64_t bytes,
	const struct guest_ram *ram, struct boot_kernel *ret, struct error *e)
{
	uint8_t *elf;
	uint64_t elf_bytes;
	int r = BOOT_BZIMAGE_OTHER;

	if (q->backend == HOST_BACKEND_PVM)
		r = boot_bzimage_unpack(image, bytes, &elf, &elf_bytes, e);
	if (r == BOOT_BZIMAGE_OTHER)
		return boot_bzimage_load(image, bytes, ram, q->protocol, ret, e);
	if (r < 0)
		return r;
	r = boot_elf_load(elf, elf_bytes, ram, q->protocol, ret, e);
	munmap(elf, elf_bytes);
	return r;
}

/* Reads the kernel into pages of its own, given back at once afterwards, and loads it from there. */
static int load_kernel(const struct boot_request *q, const struct guest_ram *ram,
	struct boot_kernel *ret, struct error *e)
{
	uint64_t bytes = 0;
	void *image;
	int r;

	r = file_bytes(q->kernel_fd, &bytes);
	if (r < 0)
		return error_set(e, r, "no regular file");
	if (bytes == 0 || bytes > KERNEL_BYTES_MAX)
		return error_set(e, -ENOEXEC, "no kernel: it is %s (1 byte to %s are allowed)",
			UNITS_BYTES(bytes), UNITS_BYTES(KERNEL_BYTES_MAX));
	image = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (image == MAP_FAILED)
		return error_set(e, -errno, "no memory to read it: %s", strerror(errno));
	r = fd_read_full(q->kernel_fd, image, bytes);
	if (r < 0)
		error_set(e, r, "cannot be read: %s", strerror(-r));
	else if (boot_bzimage_is(image, bytes))
		r = load_bzimage(q, image, bytes, ram, ret, e);
	else
		r = boot_elf_load(image, bytes, ram, q->protocol, ret, e);
	munmap(image, bytes);
	return r;
}

/* The initrd goes to the end of low RAM, or of what the kernel can reach, out of the kernel's way. */
static int load_initrd(const struct boot_request *q, const struct guest_ram *ram,
	const struct boot_kernel *kernel, struct boot_info *info, struct error *e)
{
	const struct guest_ram_range *ranges;
	uint64_t bytes = 0, end_gpa, gpa;
	int r;

	if (q->initrd_fd < 0)
		return 0;
	r = file_bytes(q->initrd_fd, &bytes);
	if (r < 0)
		return error_set(e, r, "no regular file");
	guest_ram_ranges(ram, &ranges);
	end_gpa = u64_min(ranges[0].gpa + ranges[0].bytes, kernel->initrd_end_gpa);
	gpa = u64_align_down(end_gpa - u64_min(bytes, end_gpa), PAGE_BYTES);
	if (bytes == 0 || bytes > end_gpa || gpa < u64_align_up(kernel->end_gpa, PAGE_BYTES))
		return error_set(e, -EFBIG,
			"%s do not fit beside the kernel into %s of RAM: give the guest more "
			"memory",
			UNITS_BYTES(bytes), UNITS_BYTES(end_gpa));
	r = fd_read_full(q->initrd_fd, guest_ram_ptr(ram, GPA(gpa), bytes), bytes);
	if (r < 0)
		return error_set(e, r, "cannot be read: %s", strerror(-r));
	info->initrd_gpa = gpa;
	info->initrd_bytes = bytes;
	return 0;
}

static int write_cmdline(const struct boot_request *q, const struct guest_ram *ram,
	const struct boot_kernel *kernel, char *ret_cmdline, struct error *e)
{
	uint64_t max = kernel->is_linux ? LINUX_CMDLINE_MAX : BOOT_CMDLINE_MAX;
	char extra[512] = "";
	char text[BOOT_CMDLINE_MAX];
	int n, r;

	if (kernel->cmdline_max)
		max = u64_min(max, kernel->cmdline_max);
	if (kernel->is_linux && q->backend == HOST_BACKEND_PVM) {
		r = x86_pvm_linux_parameters(extra, sizeof(extra));
		if (r < 0)
			return r;
	}
	/* ours first: what follows " -- " in the user's is for the guest's init, not for its kernel */
	n = snprintf(text, sizeof(text), "%s%s%s", extra, q->cmdline[0] && extra[0] ? " " : "",
		q->cmdline);
	if (n < 0 || (uint64_t)n >= max)
		return error_set(e, -E2BIG,
			"the kernel's command line has %d bytes (with what this host needs); at "
			"most %d are allowed",
			n, (int)max - 1);
	memcpy(guest_ram_ptr(ram, GPA(BOOT_CMDLINE_GPA), BOOT_CMDLINE_MAX), text, (size_t)n + 1);
	memcpy(ret_cmdline, text, (size_t)n + 1);
	return 0;
}

int boot_guest(const struct boot_request *q, const struct guest_ram *ram, int vcpu_fd,
	char *ret_cmdline, struct error *e)
{
	struct boot_info info = {.rsdp_gpa = q->rsdp_gpa};
	struct boot_kernel kernel;
	int r;

	r = load_kernel(q, ram, &kernel, e);
	if (r < 0) {
		error_prefix(e, "kernel %s", q->kernel_path);
		return r;
	}
	r = load_initrd(q, ram, &kernel, &info, e);
	if (r < 0) {
		error_prefix(e, "initrd %s", q->initrd_path);
		return r;
	}
	r = write_cmdline(q, ram, &kernel, ret_cmdline, e);
	if (r < 0)
		return r;
	if (kernel.protocol == BOOT_PVH) {
		boot_pvh_write(ram, &info);
		return boot_pvh_enter(vcpu_fd, &kernel, e);
	}
	boot_linux_write(ram, &kernel, &info);
	return boot_linux_enter(vcpu_fd, &kernel, e);
}
