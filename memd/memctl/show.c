/* The verbs that print figures once: list, show, status. */
#include <langinfo.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#include "memd/base/units.h"
#include "memd/memctl/client.h"
#include "memd/memctl/frame.h"

#define BAR_COLUMNS 56

/* "  name        1.5 GiB", or "-" when memd does not say. */
static void print_bytes(const char *label, struct json_object *object, const char *key)
{
	if (figure_is_known(object, key))
		printf("  %-16s %12s", label, UNITS_BYTES(figure_u64(object, key)));
	else
		printf("  %-16s %12s", label, "-");
}

static void print_bytes_line(const char *label, struct json_object *object, const char *key)
{
	print_bytes(label, object, key);
	putchar('\n');
}

static void print_saved(struct json_object *object)
{
	puts("saved by");
	print_bytes_line("sharing", object, "saved_sharing_bytes");
	print_bytes_line("zero pages", object, "saved_zero_bytes");
	print_bytes_line("balloon", object, "saved_balloon_bytes");
	print_bytes_line("paging", object, "saved_paging_bytes");
}

static void print_host(struct json_object *host)
{
	struct style style = stdout_style();

	printf("memd %s, policy %s, host state %s, %s guests, cgroups %s\n\n",
		figure_text(host, "version"), figure_text(host, "policy"),
		figure_text(host, "host_state"), figure_text(host, "n_guests"),
		figure_text(host, "cgroup_mode"));
	if (figure_is_known(host, "policy_set_aside") && *figure_text(host, "policy_set_aside"))
		printf("the policy %s is set aside: %s; memctl reload tries it again\n\n",
			figure_text(host, "policy_chosen"), figure_text(host, "policy_set_aside"));
	frame_host_bar(stdout, &style, host, BAR_COLUMNS);
	puts("\n");
	print_bytes_line("budget", host, "budget_bytes");
	print_bytes_line("configured", host, "configured_bytes");
	print_bytes_line("used", host, "used_bytes");
	print_bytes_line("  private", host, "guest_private_bytes");
	print_bytes_line("  shared pool", host, "pool_bytes");
	print_bytes_line("  swap in RAM", host, "swap_occupied_bytes");
	print_bytes_line("  overhead", host, "overhead_bytes");
	print_bytes_line("peak", host, "peak_used_bytes");
	print_bytes_line("paged out", host, "swap_used_bytes");
	print_saved(host);
	printf("ledger and kernel differ by %.2f %%\n",
		(double)figure_u64(host, "ledger_mismatch_basis_points") / 100);
}

enum memctl_exit verb_status(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *host = NULL;
	int r = client_properties(m, MEMD_PATH, MEMD_MANAGER, &e, &host);

	if (r < 0)
		return client_report(m, NULL, r, &e);
	if (m->json)
		memctl_print_json(host);
	else
		print_host(host);
	return MEMCTL_OK;
}

static void print_guest_memory(struct json_object *guest)
{
	puts("memory");
	print_bytes_line("configured", guest, "configured_bytes");
	print_bytes_line("private", guest, "private_bytes");
	print_bytes("shared", guest, "shared_bytes");
	printf("   its part of the pool: %s\n",
		UNITS_BYTES(figure_u64(guest, "shared_cost_bytes")));
	if (figure_u64(guest, "template_bytes") > 0) {
		print_bytes("template", guest, "template_bytes");
		printf("   its part of the template: %s\n",
			UNITS_BYTES(figure_u64(guest, "template_cost_bytes")));
	}
	print_bytes_line("swapped", guest, "swapped_bytes");
	print_bytes_line("in the balloon", guest, "hole_balloon_bytes");
	print_bytes_line("reported free", guest, "hole_reported_bytes");
	print_bytes_line("hinted free", guest, "hole_hinted_bytes");
	print_bytes_line("zero", guest, "hole_zero_bytes");
	print_bytes_line("never touched", guest, "hole_untouched_bytes");
	print_bytes("cost", guest, "resident_bytes");
	printf("   overhead in it: %s\n", UNITS_BYTES(figure_u64(guest, "overhead_bytes")));
}

static void print_guest_target(struct json_object *guest)
{
	puts("target");
	print_bytes("target", guest, "target_bytes");
	printf("   %s\n", figure_text(guest, "target_reason"));
	print_bytes_line("floor", guest, "min_bytes");
	print_bytes_line("limit", guest, "max_bytes");
	print_bytes("balloon", guest, "balloon_bytes");
	printf("   wanted: %s\n", UNITS_BYTES(figure_u64(guest, "balloon_target_bytes")));
}

/* One a line. */
static void print_guest_devices(const char *devices)
{
	if (*devices)
		puts("devices");
	for (size_t n; *devices; devices += n + (devices[n] == '\n')) {
		n = strcspn(devices, "\n");
		printf("  %.*s\n", (int)n, devices);
	}
}

static double percent(struct json_object *guest, const char *key)
{
	return (double)figure_u64(guest, key) / 100;
}

static void print_guest_use(struct json_object *guest)
{
	const char *source = figure_text(guest, "working_set_source");

	puts("in use");
	if (!*source || !figure_u64(guest, "working_set_bytes")) {
		puts("  working set                 - (not known yet)");
	} else {
		print_bytes("working set", guest, "working_set_bytes");
		printf("   +- %s, by %s\n",
			UNITS_BYTES(figure_u64(guest, "working_set_error_bytes")), source);
		print_bytes_line("idle for 1 min", guest, "idle60_bytes");
		print_bytes_line("idle for 10 min", guest, "idle600_bytes");
	}
	printf("  waited for memory: some %.2f %% of 10 s, %.2f %% of 60 s, %.2f %% of 300 s; all "
	       "vCPUs %.2f, %.2f, %.2f %%\n",
		percent(guest, "stall_some10_basis_points"),
		percent(guest, "stall_some60_basis_points"),
		percent(guest, "stall_some300_basis_points"),
		percent(guest, "stall_full10_basis_points"),
		percent(guest, "stall_full60_basis_points"),
		percent(guest, "stall_full300_basis_points"));
	printf("  sampling costs %.2f %% of a core, and %.2f %% of the guest's time\n",
		percent(guest, "sample_cost_basis_points"),
		percent(guest, "sample_stall_basis_points"));
}

/* Whether the guest has that text, and it says something. */
static bool is_said(struct json_object *guest, const char *key)
{
	const char *text = figure_text(guest, key);

	return text[0] && strcmp(text, "-") != 0;
}

static void print_guest(struct json_object *guest)
{
	struct style style = stdout_style();
	const char *reason = figure_text(guest, "state_reason");

	draw_text(stdout, &style, EMPHASIS_BOLD, figure_text(guest, "name"));
	printf("  %s%s%s%s, pid %s, %s vCPUs, share group %s\n\n", figure_text(guest, "state"),
		*reason ? " (" : "", reason, *reason ? ")" : "", figure_text(guest, "pid"),
		figure_text(guest, "vcpus"),
		*figure_text(guest, "share_group") ? figure_text(guest, "share_group") : "none");
	frame_guest_bar(stdout, &style, guest, BAR_COLUMNS);
	puts("\n");
	print_guest_memory(guest);
	print_guest_target(guest);
	print_saved(guest);
	print_guest_use(guest);
	puts("the guest says");
	print_bytes_line("available", guest, "guest_available_bytes");
	print_bytes_line("free", guest, "guest_free_bytes");
	print_bytes_line("total", guest, "guest_total_bytes");
	puts("counters");
	printf("  major faults %s, mappings %s, scan passes %s, memory waits %s\n",
		figure_text(guest, "major_faults"), figure_text(guest, "mappings"),
		figure_text(guest, "scan_passes"), figure_text(guest, "memory_waits"));
	printf("  instructions emulated %s, devices reset %s\n",
		figure_text(guest, "emulation_completed"),
		figure_text(guest, "device_needs_reset"));
	print_guest_devices(figure_text(guest, "devices"));
	printf("  asked for free memory %s times, got %s, %s was in use again\n",
		figure_text(guest, "hint_runs"),
		UNITS_BYTES(figure_u64(guest, "hint_dropped_bytes")),
		UNITS_BYTES(figure_u64(guest, "hint_written_bytes")));
	printf("CPUs     %s (%s)\n", figure_text(guest, "cpus"),
		figure_text(guest, "cpu_placement_reason"));
	if (is_said(guest, "left_alone"))
		printf("left     alone: %s\n", figure_text(guest, "left_alone"));
	if (is_said(guest, "cannot"))
		printf("run by   %s; memd cannot: %s\n", figure_text(guest, "provider"),
			figure_text(guest, "cannot"));
	if (is_said(guest, "console_path"))
		printf("console  %s\n", figure_text(guest, "console_path"));
}

enum memctl_exit verb_show(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *guest = NULL;
	_cleanup_free_ char *path = NULL;
	int r = client_guest_path(m, argv[0], &e, &path);

	if (r >= 0)
		r = client_properties(m, path, MEMD_GUEST, &e, &guest);
	if (r < 0)
		return client_report(m, argv[0], r, &e);
	if (m->json)
		memctl_print_json(guest);
	else
		print_guest(guest);
	return MEMCTL_OK;
}

static void print_list(struct json_object *guests)
{
	size_t n = json_object_array_length(guests);
	int name = (int)strlen("NAME");

	if (n == 0) {
		puts("no guest; start one: memctl start NAME");
		return;
	}
	for (size_t i = 0; i < n; i++)
		name = MAX(name,
			(int)strlen(figure_text(json_object_array_get_idx(guests, i), "name")));
	printf("%-*s %-11s%8s%8s%9s%9s%9s%9s  %-12s  %s\n", name, "NAME", "STATE", "SIZE", "COST",
		"TARGET", "SHARED", "SWAPPED", "BALLOON", "AGENT", "CPUS");
	for (size_t i = 0; i < n; i++) {
		struct json_object *guest = json_object_array_get_idx(guests, i);
		struct json_object *fixed = json_object_object_get(guest, "target_fixed");

		printf("%-*s %-11s%8s%8s%8s%c%9s%9s%9s  %-12s  %s%s%s%s%s\n", name,
			figure_text(guest, "name"), figure_text(guest, "state"),
			DRAW_SIZE(figure_u64(guest, "configured_bytes")),
			DRAW_SIZE(figure_u64(guest, "resident_bytes")),
			DRAW_SIZE(figure_u64(guest, "target_bytes")),
			json_object_get_boolean(fixed) ? '*' : ' ',
			DRAW_SIZE(figure_u64(guest, "shared_bytes")),
			DRAW_SIZE(figure_u64(guest, "swapped_bytes")),
			DRAW_SIZE(figure_u64(guest, "balloon_bytes")),
			figure_text(guest, "agent_state"), figure_text(guest, "cpus"),
			json_object_get_boolean(json_object_object_get(guest, "cpus_exclusive"))
				? " alone"
				: "",
			json_object_get_boolean(json_object_object_get(guest, "memory_locked"))
				? ", memory locked"
				: "",
			strcmp(figure_text(guest, "provider"), "libvirt") == 0 ? ", libvirt" : "",
			is_said(guest, "left_alone") ? ", left alone" : "");
	}
}

enum memctl_exit verb_list(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *snapshot = NULL;
	struct json_object *guests;
	int r = client_snapshot(m, &e, &snapshot);

	if (r < 0)
		return client_report(m, NULL, r, &e);
	guests = json_object_object_get(snapshot, "guests");
	if (m->json)
		memctl_print_json(guests);
	else
		print_list(guests);
	return MEMCTL_OK;
}
