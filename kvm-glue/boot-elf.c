/*
 * The ELF loader. The file is input like any other: every offset, size and address in it is checked before use, and
 * nothing is written outside of guest RAM or below BOOT_KERNEL_MIN_GPA.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "kvm-glue/boot.h"
#include "memd/base/overflow.h"

#define SEGMENTS_MAX	      64
#define NOTE_XEN_PHYS32_ENTRY 18 /* xen/include/public/elfnote.h */

struct loader {
	const uint8_t *image;
	uint64_t bytes;
	const struct guest_ram *ram;
	Elf64_Ehdr header;
	Elf64_Phdr segments[SEGMENTS_MAX];
	bool is_linux;
	bool has_pvh;
	uint64_t pvh_entry_gpa;
	struct error *e;
};

static int read_header(struct loader *l)
{
	const Elf64_Ehdr *h = &l->header;

	if (l->bytes < sizeof(l->header) || memcmp(l->image, ELFMAG, SELFMAG) != 0)
		return error_set(l->e, -ENOEXEC,
			"neither an ELF file (vmlinux) nor a bzImage (vmlinuz)");
	memcpy(&l->header, l->image, sizeof(l->header));
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
		h->e_machine != EM_X86_64 || (h->e_type != ET_EXEC && h->e_type != ET_DYN))
		return error_set(l->e, -ENOEXEC,
			"an ELF file, but no x86-64 executable (class %u, machine %u, type %u)",
			h->e_ident[EI_CLASS], h->e_machine, h->e_type);
	if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > SEGMENTS_MAX)
		return error_set(l->e, -EINVAL,
			"malformed ELF: %u program headers of %u bytes (1 to %d of %zu are "
			"allowed)",
			h->e_phnum, h->e_phentsize, SEGMENTS_MAX, sizeof(Elf64_Phdr));
	if (!u64_range_within(h->e_phoff, h->e_phnum * sizeof(Elf64_Phdr), 0, l->bytes))
		return error_set(l->e, -EINVAL,
			"malformed ELF: its program headers lie outside of the file");
	memcpy(l->segments, l->image + h->e_phoff, h->e_phnum * sizeof(Elf64_Phdr));
	return 0;
}

/* One note: its name and what it says. desc lies within the image. */
static void take_note(struct loader *l, const char *name, uint64_t name_bytes, uint32_t type,
	const uint8_t *desc, uint64_t desc_bytes)
{
	if (name_bytes == sizeof("Linux") && memcmp(name, "Linux", sizeof("Linux")) == 0)
		l->is_linux = true;
	if (name_bytes == sizeof("Xen") && memcmp(name, "Xen", sizeof("Xen")) == 0 &&
		type == NOTE_XEN_PHYS32_ENTRY && (desc_bytes == 4 || desc_bytes == 8)) {
		l->pvh_entry_gpa = 0;
		memcpy(&l->pvh_entry_gpa, desc, desc_bytes); /* little endian on both sides */
		l->has_pvh = true;
	}
}

static int read_notes(struct loader *l, const Elf64_Phdr *p)
{
	uint64_t align = p->p_align == 8 ? 8 : 4;
	uint64_t at = p->p_offset, end;

	if (p->p_filesz == 0)
		return 0;
	if (!u64_range_within(p->p_offset, p->p_filesz, 0, l->bytes))
		return error_set(l->e, -EINVAL, "malformed ELF: notes outside of the file");
	end = p->p_offset + p->p_filesz;
	while (end - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		uint64_t name, desc, next;

		memcpy(&note, l->image + at, sizeof(note));
		/* sums of a file offset and 32-bit sizes: no overflow */
		name = at + sizeof(note);
		desc = u64_align_up(name + note.n_namesz, align);
		next = u64_align_up(desc + note.n_descsz, align);
		if (desc > end || desc + note.n_descsz > end)
			return error_set(
				l->e, -EINVAL, "malformed ELF: a note is longer than its segment");
		take_note(l, (const char *)l->image + name, note.n_namesz, note.n_type,
			l->image + desc, note.n_descsz);
		if (next >= end)
			break;
		at = next;
	}
	return 0;
}

/* Whether two segments overlap in guest memory; both were checked to lie in RAM, so nothing wraps. */
static bool overlap(const Elf64_Phdr *a, const Elf64_Phdr *b)
{
	return a->p_paddr < b->p_paddr + b->p_memsz && b->p_paddr < a->p_paddr + a->p_memsz;
}

static int check_segment(struct loader *l, unsigned index)
{
	const Elf64_Phdr *p = &l->segments[index];

	if (p->p_filesz > p->p_memsz ||
		(p->p_filesz > 0 && !u64_range_within(p->p_offset, p->p_filesz, 0, l->bytes)))
		return error_set(l->e, -EINVAL,
			"malformed or truncated ELF: segment %u (%" PRIu64
			" bytes at file offset %" PRIu64 ") does not lie in the file of %" PRIu64
			" bytes",
			index, p->p_filesz, p->p_offset, l->bytes);
	if (p->p_paddr < BOOT_KERNEL_MIN_GPA)
		return error_set(l->e, -EINVAL,
			"segment %u is to be loaded at 0x%" PRIx64 ", below 1 MiB", index,
			p->p_paddr);
	if (!guest_ram_ptr(l->ram, GPA(p->p_paddr), p->p_memsz))
		return error_set(l->e, -EFBIG,
			"segment %u (%s at 0x%" PRIx64
			") does not fit into the guest's %s of RAM: give it more memory",
			index, UNITS_BYTES(p->p_memsz), p->p_paddr,
			UNITS_BYTES(guest_ram_pages(l->ram) * PAGE_BYTES));
	for (unsigned i = 0; i < index; i++)
		if (l->segments[i].p_type == PT_LOAD && l->segments[i].p_memsz > 0 &&
			overlap(p, &l->segments[i]))
			return error_set(l->e, -EINVAL, "malformed ELF: segments %u and %u overlap",
				i, index);
	return 0;
}

static int load_segments(struct loader *l, uint64_t *ret_end_gpa)
{
	uint64_t end_gpa = 0;
	int r;

	for (unsigned i = 0; i < l->header.e_phnum; i++) {
		const Elf64_Phdr *p = &l->segments[i];

		if (p->p_type != PT_LOAD || p->p_memsz == 0)
			continue;
		r = check_segment(l, i);
		if (r < 0)
			return r;
		/* What is beyond p_filesz is zero already: fresh RAM. */
		if (p->p_filesz > 0)
			memcpy(guest_ram_ptr(l->ram, GPA(p->p_paddr), p->p_filesz),
				l->image + p->p_offset, p->p_filesz);
		end_gpa = u64_max(end_gpa, p->p_paddr + p->p_memsz);
	}
	if (end_gpa == 0)
		return error_set(l->e, -EINVAL, "the ELF file has nothing to load");
	*ret_end_gpa = end_gpa;
	return 0;
}

static bool is_loaded(const struct loader *l, uint64_t gpa)
{
	for (unsigned i = 0; i < l->header.e_phnum; i++) {
		const Elf64_Phdr *p = &l->segments[i];

		if (p->p_type == PT_LOAD && u64_range_within(gpa, 1, p->p_paddr, p->p_memsz))
			return true;
	}
	return false;
}

static int choose_entry(const struct loader *l, enum boot_protocol wanted, struct boot_kernel *elf)
{
	if (wanted == BOOT_AUTO)
		wanted = l->is_linux ? BOOT_LINUX64 : BOOT_PVH;
	if (wanted == BOOT_PVH && !l->has_pvh)
		return error_set(l->e, -ENOEXEC,
			"no kernel to boot by PVH: the ELF note XEN_ELFNOTE_PHYS32_ENTRY is "
			"missing (CONFIG_PVH)");
	if (wanted == BOOT_LINUX64 && !l->is_linux)
		return error_set(l->e, -ENOEXEC, "an ELF file, but no Linux: it has no Linux note");
	elf->protocol = wanted;
	elf->is_linux = l->is_linux;
	elf->entry_gpa = wanted == BOOT_PVH ? l->pvh_entry_gpa : l->header.e_entry;
	if (!is_loaded(l, elf->entry_gpa) || (wanted == BOOT_PVH && elf->entry_gpa > UINT32_MAX))
		return error_set(l->e, -EINVAL,
			"malformed ELF: its entry 0x%" PRIx64 " lies in no segment",
			elf->entry_gpa);
	return 0;
}

int boot_elf_load(const uint8_t *image, uint64_t bytes, const struct guest_ram *ram,
	enum boot_protocol wanted, struct boot_kernel *ret, struct error *e)
{
	struct loader l = {.image = image, .bytes = bytes, .ram = ram, .e = e};
	struct boot_kernel elf = {.initrd_end_gpa = UINT64_MAX};
	int r;

	r = read_header(&l);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < l.header.e_phnum; i++) {
		r = l.segments[i].p_type == PT_NOTE ? read_notes(&l, &l.segments[i]) : 0;
		if (r < 0)
			return r;
	}
	r = load_segments(&l, &elf.end_gpa);
	if (r < 0)
		return r;
	r = choose_entry(&l, wanted, &elf);
	if (r < 0)
		return r;
	*ret = elf;
	return 0;
}
