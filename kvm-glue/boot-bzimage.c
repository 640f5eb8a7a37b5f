/*
 * bzImage (Documentation/x86/boot.rst): a setup header that says where the rest wants to be, and the
 * rest, which starts in 64-bit mode 512 bytes in and decompresses itself, whatever it is compressed
 * with. The image is a file of unknown origin: every number in it is checked.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm-glue/boot.h"
#include "kvm-glue/lz4.h"
#include "memd/base/overflow.h"

enum {
	HEADER_OFFSET = 0x1f1,
	MAGIC_OFFSET = 0x202,
	HEADER_END_OFFSET = 0x201, /* one byte: the header ends so far behind MAGIC_OFFSET */
	SECTOR_BYTES = 512,
	SETUP_SECTORS_DEFAULT = 4,
	ENTRY64_OFFSET = 512,
	PROTOCOL_2_12 = 0x020c, /* xloadflags */
	BOOT_FLAG = 0xaa55,
};
#define KERNEL_BYTES_MAX (1u << 30)
#define HEADER_MAGIC	 0x53726448 /* "HdrS" */

bool boot_bzimage_is(const uint8_t *image, uint64_t bytes)
{
	uint32_t magic;

	if (bytes < MAGIC_OFFSET + sizeof(magic))
		return false;
	memcpy(&magic, image + MAGIC_OFFSET, sizeof(magic));
	return magic == HEADER_MAGIC;
}

/* The header as far as the image has one; the rest is zero. */
static int read_header(
	const uint8_t *image, uint64_t bytes, struct setup_header *ret, unsigned *ret_bytes)
{
	unsigned end = MAGIC_OFFSET + image[HEADER_END_OFFSET];
	unsigned n = end - HEADER_OFFSET;

	if (end > bytes || n > BOOT_SETUP_HEADER_MAX)
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, image + HEADER_OFFSET, n < sizeof(*ret) ? n : sizeof(*ret));
	*ret_bytes = n;
	return ret->boot_flag == BOOT_FLAG ? 0 : -EINVAL;
}

static uint64_t setup_bytes_of(const struct setup_header *h)
{
	return (uint64_t)((h->setup_sects ? h->setup_sects : SETUP_SECTORS_DEFAULT) + 1) *
	       SECTOR_BYTES;
}

int boot_bzimage_unpack(
	const uint8_t *image, uint64_t bytes, uint8_t **ret, uint64_t *ret_bytes, struct error *e)
{
	struct setup_header h;
	unsigned header_bytes;
	uint64_t offset;
	uint32_t size;
	size_t n;
	void *p;
	int r;

	/* payload_length counts four bytes behind the data, which say how long the kernel is. */
	if (read_header(image, bytes, &h, &header_bytes) < 0 || h.payload_length <= sizeof(size) ||
		u64_add_overflows(setup_bytes_of(&h), h.payload_offset, &offset) ||
		!u64_range_within(offset, h.payload_length, 0, bytes))
		return error_set(e, -EINVAL, "malformed: its payload lies outside of the file");
	if (!lz4_is_legacy_frame(image + offset, h.payload_length))
		return BOOT_BZIMAGE_OTHER;
	memcpy(&size, image + offset + h.payload_length - sizeof(size), sizeof(size));
	if (size == 0 || size > KERNEL_BYTES_MAX)
		return error_set(e, -EINVAL, "malformed: a kernel of %u bytes", size);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return error_set(e, -errno, "no memory to decompress it: %s", strerror(errno));
	r = lz4_legacy_decompress(image + offset, h.payload_length - sizeof(size), p, size, &n);
	if (r < 0 || n != size) {
		munmap(p, size);
		return error_set(e, -EINVAL, "malformed: what is compressed in it is damaged");
	}
	*ret = p;
	*ret_bytes = size;
	return 0;
}

/*
 * Where the kernel is put: where it prefers, or, if that is no RAM and it can be moved, as low as
 * kernels may be. 0: nowhere.
 */
static uint64_t place(const struct guest_ram *ram, const struct setup_header *h)
{
	uint64_t align = h->kernel_alignment, low;

	if (h->pref_address >= BOOT_KERNEL_MIN_GPA &&
		guest_ram_ptr(ram, GPA(h->pref_address), h->init_size))
		return h->pref_address;
	if (!h->relocatable_kernel || align == 0 || (align & (align - 1)) != 0)
		return 0;
	low = u64_align_up(BOOT_KERNEL_MIN_GPA, align);
	return guest_ram_ptr(ram, GPA(low), h->init_size) ? low : 0;
}

int boot_bzimage_load(const uint8_t *image, uint64_t bytes, const struct guest_ram *ram,
	enum boot_protocol wanted, struct boot_kernel *ret, struct error *e)
{
	struct boot_kernel kernel = {.protocol = BOOT_LINUX64, .is_linux = true};
	struct setup_header h;
	uint64_t setup_bytes, code_bytes, gpa;

	if (read_header(image, bytes, &h, &kernel.setup_header_bytes) < 0)
		return error_set(e, -EINVAL, "malformed setup header");
	if (wanted == BOOT_PVH)
		return error_set(e, -ENOEXEC,
			"a bzImage has no PVH entry: leave the boot protocol to memd-vmm, or give "
			"it "
			"the vmlinux");
	if (h.version < PROTOCOL_2_12 || !(h.xloadflags & XLF_KERNEL_64))
		return error_set(e, -ENOEXEC,
			"no 64-bit entry (boot protocol %u.%02u): a 64-bit Linux of 3.8 or later "
			"is "
			"needed",
			h.version >> 8, h.version & 0xff);
	setup_bytes = setup_bytes_of(&h);
	if (setup_bytes >= bytes || bytes - setup_bytes <= ENTRY64_OFFSET)
		return error_set(e, -EINVAL, "cut short: nothing behind its setup code");
	code_bytes = bytes - setup_bytes;
	if (h.init_size < code_bytes)
		return error_set(e, -EINVAL, "malformed: it needs less memory than it is long");
	gpa = place(ram, &h);
	if (gpa == 0)
		return error_set(e, -EFBIG,
			"needs %s at 0x%llx to decompress itself: give the guest more memory",
			UNITS_BYTES(h.init_size), (unsigned long long)h.pref_address);
	memcpy(guest_ram_ptr(ram, GPA(gpa), code_bytes), image + setup_bytes, code_bytes);
	memcpy(kernel.setup_header, image + HEADER_OFFSET, kernel.setup_header_bytes);
	kernel.entry_gpa = gpa + ENTRY64_OFFSET;
	kernel.end_gpa = gpa + h.init_size;
	kernel.initrd_end_gpa = (uint64_t)h.initrd_addr_max + 1;
	kernel.cmdline_max = (uint64_t)h.cmdline_size + 1;
	*ret = kernel;
	return 0;
}
