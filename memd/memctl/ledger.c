/* The verb ledger: the books, by guest and for the host. */
#include <stdio.h>
#include <string.h>
#include <sys/param.h>

#include "memd/base/units.h"
#include "memd/memctl/client.h"
#include "memd/memctl/draw.h"

/* What a guest's configured memory is made of, and what it costs. */
static const struct {
	const char *heading;
	const char *key;
} columns[] = {
	{"SIZE", "configured_bytes"},
	{"PRIVATE", "private_bytes"},
	{"SHARED", "shared_bytes"},
	{"SWAPPED", "swapped_bytes"},
	{"UNUSED", "hole_untouched_bytes"},
	{"ZERO", "hole_zero_bytes"},
	{"BALLOON", "hole_balloon_bytes"},
	{"FREE", "hole_reported_bytes"},
	{"HINTED", "hole_hinted_bytes"},
	{"PART", "shared_cost_bytes"},
	{"OVERHEAD", "overhead_bytes"},
	{"TABLES", "mapping_overhead_bytes"},
	{"COST", "resident_bytes"},
	{"TARGET", "target_bytes"},
	{"ZRAM", "swapped_occupied_bytes"},
};

static void print_heading(int name)
{
	printf("%-*s", name, "NAME");
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		printf(" %9s", columns[i].heading);
	puts("    OFF");
}

static void print_row(int name, struct json_object *guest)
{
	printf("%-*s", name, figure_text(guest, "name"));
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		printf(" %9s", DRAW_SIZE(figure_u64(guest, columns[i].key)));
	printf("  %.2f%%\n", (double)figure_u64(guest, "ledger_mismatch_basis_points") / 100);
}

static void print_sums(int name, struct json_object *guests)
{
	printf("%-*s", name, "sum");
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		uint64_t sum = 0;

		for (size_t k = 0; k < json_object_array_length(guests); k++)
			sum += figure_u64(json_object_array_get_idx(guests, k), columns[i].key);
		printf(" %9s", DRAW_SIZE(sum));
	}
	putchar('\n');
}

static void print_host(struct json_object *host)
{
	static const struct {
		const char *label, *key;
	} lines[] = {
		{"budget", "budget_bytes"},
		{"used", "used_bytes"},
		{"  guests' private", "guest_private_bytes"},
		{"  shared pools", "pool_bytes"},
		{"  swap in RAM", "swap_occupied_bytes"},
		{"  overhead", "overhead_bytes"},
		{"paged out", "swap_used_bytes"},
		{"swap left", "swap_free_bytes"},
		{"can be freed now", "freeable_bytes"},
		{"  of it in pools", "pool_unmapped_bytes"},
	};

	puts("\nhost");
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		printf("  %-18s %12s\n", lines[i].label,
			UNITS_BYTES(figure_u64(host, lines[i].key)));
	printf("private and swapped: memd %s to %s, the kernel between them %s\n",
		UNITS_BYTES(figure_u64(host, "bracket_low_bytes")),
		UNITS_BYTES(figure_u64(host, "bracket_high_bytes")),
		UNITS_BYTES(figure_u64(host, "bracket_kernel_bytes")));
	printf("off by %s, %.2f %%\n", UNITS_BYTES(figure_u64(host, "ledger_mismatch_bytes")),
		(double)figure_u64(host, "ledger_mismatch_basis_points") / 100);
}

enum memctl_exit verb_ledger(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *snapshot = NULL;
	struct json_object *guests;
	int name = (int)strlen("NAME");
	int r = client_snapshot(m, &e, &snapshot);

	if (r < 0)
		return client_report(m, NULL, r, &e);
	if (m->json) {
		memctl_print_json(snapshot);
		return MEMCTL_OK;
	}
	guests = json_object_object_get(snapshot, "guests");
	for (size_t i = 0; i < json_object_array_length(guests); i++)
		name = MAX(name,
			(int)strlen(figure_text(json_object_array_get_idx(guests, i), "name")));
	print_heading(name);
	for (size_t i = 0; i < json_object_array_length(guests); i++)
		print_row(name, json_object_array_get_idx(guests, i));
	print_sums(name, guests);
	print_host(json_object_object_get(snapshot, "host"));
	return MEMCTL_OK;
}
