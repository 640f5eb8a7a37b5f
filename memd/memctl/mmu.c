/* `memctl mmu`: how the host virtualizes a guest's memory, in words, from KVM's own figures. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/units.h"
#include "memd/memctl/client.h"

#define PAGE_2M_BYTES (2 * MIB)
#define PAGE_1G_BYTES (1 * GIB)

static const char *explain_mode(const char *mode)
{
	static const struct {
		const char *mode;
		const char *words;
	} modes[] = {
		{"EPT", "The CPU (Intel) walks two levels of page tables, the guest's and the "
			"host's: KVM steps in\n"
			"only when the host's has no page there yet."},
		{"NPT", "The CPU (AMD) walks two levels of page tables, the guest's and the "
			"host's: "
			"KVM steps in\n"
			"only when the host's has no page there yet."},
		{"shadow",
			"The CPU has virtualization, but no second level of page tables (EPT, "
			"NPT), "
			"or it is\n"
			"switched off: KVM keeps shadow page tables in place of the guest's, and "
			"each change of the\n"
			"guest's has to be followed. Expect many page faults."},
		{"PVM", "This host has no hardware virtualization to offer, as in most cloud "
			"instances: KVM's PVM\n"
			"back end keeps shadow page tables in place of the guest's, and runs the "
			"guest's kernel in an\n"
			"emulator. Expect many page faults, and a slow kernel."},
	};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(mode, modes[i].mode) == 0)
			return modes[i].words;
	return "How the host does it is not known.";
}

static void print_sizes(struct json_object *guest)
{
	const uint64_t small = figure_u64(guest, "kvm_small_pages");
	const uint64_t large = figure_u64(guest, "kvm_large_pages");
	const uint64_t huge = figure_u64(guest, "kvm_huge_pages");
	const uint64_t mapped = small * PAGE_BYTES + large * PAGE_2M_BYTES + huge * PAGE_1G_BYTES;

	puts("mapped now");
	printf("  %s in %" PRIu64 " pages of 4 KiB, %" PRIu64 " of 2 MiB, %" PRIu64 " of 1 GiB\n",
		UNITS_BYTES(mapped), small, large, huge);
	if (mapped == 0)
		puts("  Nothing: the guest has not run lately, or its mappings were taken away.");
	else if (large + huge == 0)
		puts("  All in small pages: memory can be shared and paged out page by page, and "
		     "the CPU's TLB\n  reaches less of it.");
	else
		puts("  Large pages make the guest faster; to share or page out a part of one, the "
		     "kernel splits it.");
}

static void print_following(struct json_object *guest)
{
	const uint64_t unsync = figure_u64(guest, "kvm_mmu_unsync");

	puts("following the guest's page tables");
	printf("  %" PRIu64 " shadow pages are out of date on purpose (brought up to date when the "
	       "guest flushes\n"
	       "  its TLB), %" PRIu64 " writes to page tables were caught, %" PRIu64
	       " shadow pages were thrown away\n",
		unsync, figure_u64(guest, "kvm_mmu_pte_writes"),
		figure_u64(guest, "kvm_mmu_shadow_zapped"));
}

static void print_counts(struct json_object *guest)
{
	puts("page faults that KVM took");
	printf("  %" PRIu64 ", of which it mended %" PRIu64 " itself and handed %" PRIu64
	       " on to the guest\n",
		figure_u64(guest, "kvm_page_faults"), figure_u64(guest, "kvm_page_faults_fixed"),
		figure_u64(guest, "kvm_page_faults_guest"));
	puts("TLB flushes");
	printf("  %" PRIu64 " of all vCPUs because the host changed a mapping (sharing, page-out), "
	       "%" PRIu64 " of single ones\n",
		figure_u64(guest, "kvm_remote_tlb_flushes"), figure_u64(guest, "kvm_tlb_flushes"));
	puts("exits from the guest");
	printf("  %" PRIu64 ": %" PRIu64 " because a vCPU had nothing to do, %" PRIu64
	       " for ports and %" PRIu64 " for registers of devices\n",
		figure_u64(guest, "kvm_exits"), figure_u64(guest, "kvm_halt_exits"),
		figure_u64(guest, "kvm_io_exits"), figure_u64(guest, "kvm_mmio_exits"));
}

enum memctl_exit verb_mmu(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *guest = NULL;
	_cleanup_free_ char *path = NULL;
	const char *mode;
	int r = client_guest_path(m, argv[0], &e, &path);

	if (r >= 0)
		r = client_properties(m, path, MEMD_GUEST, &e, &guest);
	if (r < 0)
		return client_report(m, argv[0], r, &e);
	if (m->json) {
		memctl_print_json(guest);
		return MEMCTL_OK;
	}
	mode = figure_text(guest, "memory_mode");
	printf("%s: memory virtualized by %s\n%s\n\n", argv[0], *mode ? mode : "?",
		explain_mode(mode));
	print_sizes(guest);
	if (strcmp(mode, "EPT") != 0 && strcmp(mode, "NPT") != 0)
		print_following(guest);
	print_counts(guest);
	return MEMCTL_OK;
}
