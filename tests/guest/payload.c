/* See payload.h. */
#include "tests/guest/payload.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>

#include "memd/base/fd.h"

#define NOTE_XEN_PHYS32_ENTRY 18

struct payload {
	Elf64_Ehdr header;
	Elf64_Phdr segments[2];
	Elf64_Nhdr note;
	char name[4];
	uint64_t entry;
};

int payload_write(const char *path, const uint8_t *code, size_t bytes)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	struct payload p = {
		.header =
			{
				.e_type = ET_EXEC,
				.e_machine = EM_X86_64,
				.e_entry = PAYLOAD_GPA,
				.e_phoff = offsetof(struct payload, segments),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = 2,
			},
		.segments =
			{
				{.p_type = PT_NOTE,
					.p_offset = offsetof(struct payload, note),
					.p_filesz = sizeof(p) - offsetof(struct payload, note),
					.p_align = 4},
				{.p_type = PT_LOAD,
					.p_offset = sizeof(p),
					.p_paddr = PAYLOAD_GPA,
					.p_filesz = bytes,
					.p_memsz = bytes},
			},
		.note = {.n_namesz = sizeof(p.name),
			.n_descsz = sizeof(p.entry),
			.n_type = NOTE_XEN_PHYS32_ENTRY},
		.name = "Xen",
		.entry = PAYLOAD_GPA,
	};
	int r;

	if (fd < 0)
		return -errno;
	memcpy(p.header.e_ident, ELFMAG, SELFMAG);
	p.header.e_ident[EI_CLASS] = ELFCLASS64;
	p.header.e_ident[EI_DATA] = ELFDATA2LSB;
	r = fd_write_full(fd, &p, sizeof(p));
	return r < 0 ? r : fd_write_full(fd, code, bytes);
}
