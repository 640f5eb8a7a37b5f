/* See memory.h. */
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/line.h"

#define RANGES_MAX     8
#define HIGH_MAP_BYTES (UINT64_C(512) << 30) /* what one PDPT reaches */
#define HIGH_TABLES    32 /* GiB above 4 GiB that can be mapped */
#define BOOT_MAP_END   (UINT64_C(4) << 30)
#define GIB_BYTES      (UINT64_C(1) << 30)
/*
 * present, writable, user, accessed (and dirty, huge): no table write by the CPU, which costs an
 * exit under shadow paging
 */
#define PTE_TABLE      UINT64_C(0x27)
#define PTE_HUGE       UINT64_C(0xe7)

extern uint64_t boot_pdpt[512];
extern uint8_t image_end[];

static struct {
	uint64_t start, end;
} ranges[RANGES_MAX];
static unsigned n_ranges;
static uint64_t ram_bytes;
static uint64_t high_tables[HIGH_TABLES][512] __attribute__((aligned(4096)));
static unsigned n_high_tables;

void memory_map_device(uint64_t gpa, uint64_t bytes)
{
	uint64_t end = gpa + bytes;

	if (gpa < BOOT_MAP_END)
		gpa = BOOT_MAP_END;
	for (uint64_t gib = ALIGN_DOWN(gpa, GIB_BYTES); gib < end && gib < HIGH_MAP_BYTES;
		gib += GIB_BYTES) {
		uint64_t *entry = &boot_pdpt[gib / GIB_BYTES];

		if (*entry || n_high_tables == HIGH_TABLES)
			continue;
		for (unsigned i = 0; i < 512; i++)
			high_tables[n_high_tables][i] = (gib + i * GUEST_CHUNK) | PTE_HUGE;
		*entry = (uintptr_t)high_tables[n_high_tables++] | PTE_TABLE;
	}
}

bool memory_init(const struct start_info *info)
{
	const struct memory_map_entry *map = (const void *)info->memory_map;
	/*
	 * Low memory holds firmware's tables, the trampoline and start_info; then comes the image.
	 */
	uint64_t first = ALIGN_UP((uintptr_t)image_end, GUEST_PAGE);

	for (unsigned i = 0; info->version >= 1 && i < info->n_memory_map; i++) {
		uint64_t start = ALIGN_UP(map[i].address, GUEST_PAGE);
		uint64_t end = ALIGN_DOWN(map[i].address + map[i].bytes, GUEST_PAGE);

		if (map[i].type != MEMORY_MAP_RAM)
			continue;
		ram_bytes += map[i].bytes;
		if (start < first)
			start = first;
		if (end <= start || n_ranges == RANGES_MAX)
			continue;
		if (end > BOOT_MAP_END)
			memory_map_device(start, end - start);
		ranges[n_ranges].start = start;
		ranges[n_ranges++].end = end;
	}
	return n_ranges > 0;
}

uint64_t memory_ram_bytes(void)
{
	return ram_bytes;
}

void *memory_alloc(uint64_t bytes)
{
	uint64_t start = ranges[0].start;

	bytes = ALIGN_UP(bytes, GUEST_PAGE);
	if (bytes > ranges[0].end - start)
		line_print_and_stop("not enough memory for the tables");
	ranges[0].start += bytes;
	return (void *)start;
}

void memory_align_to_chunk(void)
{
	ranges[0].start = MIN(ALIGN_UP(ranges[0].start, GUEST_CHUNK), ranges[0].end);
}

uint64_t memory_n_pages(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < n_ranges; i++)
		n += (ranges[i].end - ranges[i].start) / GUEST_PAGE;
	return n;
}

uint64_t *memory_page(uint64_t i)
{
	unsigned r = 0;

	while (i >= (ranges[r].end - ranges[r].start) / GUEST_PAGE) {
		i -= (ranges[r].end - ranges[r].start) / GUEST_PAGE;
		r++;
	}
	return (uint64_t *)(ranges[r].start + i * GUEST_PAGE);
}
