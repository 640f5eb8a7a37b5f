/*
 * fake-memd ADDRESS [GUESTS]: answers on org.memd1 as memd does, without a guest behind it, so that
 * its clients can be tested on a private bus and looked at. Figures are made up from each guest's
 * number and add up. Prints "ready" once it owns the name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/history-file.h"
#include "memd/base/units.h"

#define GUESTS_MAX 256
#define NO_GUEST   "org.memd1.Error.NoSuchGuest"

struct guest {
	const char *name, *state, *reason, *group, *target_reason, *console, *devices;
	const char *working_set_source, *agent_state, *agent_program, *agent_refusal;
	uint64_t claimed_used;
	uint32_t pid, vcpus, shares, mismatch_bp;
	int target_fixed, balloon_ready;
	uint64_t configured, min, max, target, resident, private, shared, shared_cost, swapped;
	uint64_t hint_runs;
	uint64_t untouched, zero, balloon_hole, reported, hinted, overhead;
	uint64_t saved_sharing, saved_zero, saved_balloon, saved_paging, balloon_target, balloon;
	uint64_t available, free, total, counter;
	sd_bus_slot *slot;
	char *path;
};

struct host {
	sd_bus *bus;
	struct guest guests[GUESTS_MAX];
	uint32_t n_guests, mismatch_bp;
	const char *version, *policy, *state, *cgroup_mode;
	uint64_t budget, used, peak, private, pool, swap_occupied, swap_used, overhead, configured;
	uint64_t saved_sharing, saved_zero, saved_balloon, saved_paging, counter;
};

static struct guest *find_guest(struct host *h, const char *name)
{
	for (uint32_t i = 0; i < h->n_guests; i++)
		if (strcmp(h->guests[i].name, name) == 0)
			return &h->guests[i];
	return NULL;
}

static int set_target(sd_bus_message *call, void *data, sd_bus_error *e)
{
	struct guest *g = data;
	uint64_t bytes;
	int r = sd_bus_message_read(call, "t", &bytes);

	if (r < 0)
		return r;
	if (bytes < g->min)
		return sd_bus_error_setf(e, "org.memd1.Error.BelowFloor",
			"%s: below its floor of %s", g->name, UNITS_BYTES(g->min));
	g->target = bytes;
	g->target_fixed = 1;
	return sd_bus_reply_method_return(call, "");
}

static int clear_target(sd_bus_message *call, void *data, sd_bus_error *e)
{
	((struct guest *)data)->target_fixed = 0;
	return sd_bus_reply_method_return(call, "");
}

static int pause_guest(sd_bus_message *call, void *data, sd_bus_error *e)
{
	((struct guest *)data)->state = "paused";
	return sd_bus_reply_method_return(call, "");
}

static int ask_hints(sd_bus_message *call, void *data, sd_bus_error *e)
{
	((struct guest *)data)->hint_runs++;
	return sd_bus_reply_method_return(call, "");
}

static int resume_guest(sd_bus_message *call, void *data, sd_bus_error *e)
{
	((struct guest *)data)->state = "running";
	return sd_bus_reply_method_return(call, "");
}

#define FIGURE(property, type, member)                                                             \
	SD_BUS_PROPERTY(property, type, NULL, offsetof(struct guest, member), 0)

static const sd_bus_vtable guest_vtable[] = {
	SD_BUS_VTABLE_START(0),
	FIGURE("Name", "s", name),
	FIGURE("State", "s", state),
	FIGURE("StateReason", "s", reason),
	FIGURE("Pid", "u", pid),
	FIGURE("AgentState", "s", agent_state),
	FIGURE("Vcpus", "u", vcpus),
	FIGURE("ShareGroup", "s", group),
	FIGURE("Shares", "u", shares),
	FIGURE("ConfiguredBytes", "t", configured),
	FIGURE("MinBytes", "t", min),
	FIGURE("MaxBytes", "t", max),
	FIGURE("TargetBytes", "t", target),
	FIGURE("TargetFixed", "b", target_fixed),
	FIGURE("TargetReason", "s", target_reason),
	FIGURE("ResidentBytes", "t", resident),
	FIGURE("PrivateBytes", "t", private),
	FIGURE("SharedBytes", "t", shared),
	FIGURE("SharedCostBytes", "t", shared_cost),
	FIGURE("SwappedBytes", "t", swapped),
	FIGURE("HoleUntouchedBytes", "t", untouched),
	FIGURE("HoleZeroBytes", "t", zero),
	FIGURE("HoleBalloonBytes", "t", balloon_hole),
	FIGURE("HoleReportedBytes", "t", reported),
	FIGURE("HoleHintedBytes", "t", hinted),
	FIGURE("HintRuns", "t", hint_runs),
	FIGURE("HintDroppedBytes", "t", hinted),
	FIGURE("HintWrittenBytes", "t", hint_runs),
	FIGURE("OverheadBytes", "t", overhead),
	FIGURE("SavedSharingBytes", "t", saved_sharing),
	FIGURE("SavedZeroBytes", "t", saved_zero),
	FIGURE("SavedBalloonBytes", "t", saved_balloon),
	FIGURE("SavedPagingBytes", "t", saved_paging),
	FIGURE("BalloonTargetBytes", "t", balloon_target),
	FIGURE("BalloonBytes", "t", balloon),
	FIGURE("BalloonReady", "b", balloon_ready),
	FIGURE("GuestAvailableBytes", "t", available),
	FIGURE("GuestFreeBytes", "t", free),
	FIGURE("GuestTotalBytes", "t", total),
	FIGURE("MajorFaults", "t", counter),
	FIGURE("RefaultBytes", "t", counter),
	FIGURE("ScanPasses", "t", counter),
	FIGURE("ScanCpuUSec", "t", counter),
	FIGURE("Mappings", "t", counter),
	FIGURE("DeviceNeedsReset", "t", counter),
	FIGURE("EmulationCompleted", "t", counter),
	FIGURE("MemoryWaits", "t", counter),
	FIGURE("LedgerMismatchBasisPoints", "u", mismatch_bp),
	FIGURE("WorkingSetBytes", "t", private),
	FIGURE("WorkingSetErrorBytes", "t", overhead),
	FIGURE("WorkingSetSource", "s", working_set_source),
	FIGURE("StallSome10BasisPoints", "u", mismatch_bp),
	FIGURE("ConsolePath", "s", console),
	FIGURE("Devices", "s", devices),
	SD_BUS_METHOD("SetTarget", "t", "", set_target, 0),
	SD_BUS_METHOD("ClearTarget", "", "", clear_target, 0),
	SD_BUS_METHOD("AskHints", "", "", ask_hints, 0),
	SD_BUS_METHOD("Pause", "", "", pause_guest, 0),
	SD_BUS_METHOD("Resume", "", "", resume_guest, 0),
	SD_BUS_VTABLE_END,
};

static int agent_figures(sd_bus *bus, const char *path, const char *interface, const char *property,
	sd_bus_message *reply, void *data, sd_bus_error *e)
{
	const struct guest *g = data;

	return sd_bus_message_append(reply, "a{st}", 3, "available_bytes", g->private, "pressure_some_bp",
		(uint64_t)150, "oom_kills", (uint64_t)2);
}

/* Claims half as much again as was sampled. */
static const sd_bus_vtable agent_vtable[] = {
	SD_BUS_VTABLE_START(0),
	FIGURE("State", "s", agent_state),
	FIGURE("Program", "s", agent_program),
	FIGURE("Version", "u", vcpus),
	FIGURE("Distrusted", "b", target_fixed),
	SD_BUS_PROPERTY("Figures", "a{st}", agent_figures, 0, 0),
	FIGURE("FloorBytes", "t", min),
	FIGURE("ClaimedUsedBytes", "t", claimed_used),
	FIGURE("SampledUsedBytes", "t", private),
	FIGURE("Requests", "t", counter),
	FIGURE("Refusal", "s", agent_refusal),
	SD_BUS_VTABLE_END,
};

/*
 * Figures of guest number i: what is private shrinks, what is swapped grows with i; all add up to
 * 256 MiB.
 */
static int add_guest(struct host *h, const char *name, uint64_t configured, const char *group)
{
	uint32_t i = h->n_guests;
	struct guest *g = &h->guests[i];
	uint64_t step = i % 12 * 2 * MIB;
	int r;

	if (i == GUESTS_MAX)
		return -ENOSPC;
	*g = (struct guest){
		.name = strdup(name),
		.group = strdup(group),
		.state = "running",
		.reason = "",
		.target_reason = "1000 of 12000 shares of 972 MiB, above its floor of 64 MiB",
		.working_set_source = "page-out",
		.agent_state = "present",
		.agent_program = "balloon-agent 0.1.0",
		.agent_refusal = "tasks wait for memory 12 % of the time",
		.claimed_used = (72 * MIB - step) / 2 * 3,
		.console = "/run/memd/guest/console",
		.devices = "Disk=/srv/web.img,ro\nRng=yes\n",
		.pid = 1000 + i,
		.vcpus = 2,
		.shares = 1000,
		.configured = configured,
		.min = configured / 4,
		.max = configured,
		.target = 80 * MIB,
		.private = 72 * MIB - step,
		.shared = 64 * MIB,
		.shared_cost = 6 * MIB,
		.swapped = 20 * MIB + step,
		.zero = 24 * MIB,
		.balloon_hole = 40 * MIB,
		.reported = 5 * MIB,
		.hinted = 3 * MIB,
		.untouched = configured - 228 * MIB,
		.overhead = 3 * MIB,
		.balloon_ready = 1,
		.balloon_target = 40 * MIB,
		.balloon = 40 * MIB,
		.total = configured,
		.counter = i,
	};
	g->resident = g->private + g->shared_cost + g->overhead;
	g->saved_sharing = g->shared - g->shared_cost;
	g->saved_zero = g->zero;
	g->saved_balloon = g->balloon_hole;
	g->saved_paging = g->swapped / 2;
	h->n_guests++;
	h->configured += configured;
	h->private += g->private;
	h->pool += g->shared_cost;
	h->swap_used += g->swapped;
	h->swap_occupied += g->swapped / 2;
	h->overhead += g->overhead;
	h->saved_sharing += g->saved_sharing;
	h->saved_zero += g->saved_zero;
	h->saved_balloon += g->saved_balloon;
	h->saved_paging += g->saved_paging;
	h->used = h->private + h->pool + h->swap_occupied + h->overhead;
	h->peak = h->used;
	if (sd_bus_path_encode("/org/memd1/guest", name, &g->path) < 0)
		return -ENOMEM;
	r = sd_bus_add_object_vtable(
		h->bus, NULL, g->path, "org.memd1.Agent", agent_vtable, g);
	if (r < 0)
		return r;
	return sd_bus_add_object_vtable(
		h->bus, &g->slot, g->path, "org.memd1.Guest", guest_vtable, g);
}

static int forecast_guests(sd_bus_message *call, void *data, sd_bus_error *e)
{
	const char *name;
	int r = sd_bus_message_read(call, "s", &name);

	if (r < 0)
		return r;
	if (strcmp(name, "none") == 0)
		return sd_bus_error_setf(e, "org.memd1.Error.NoSuchGuest", "there is no none.guest");
	return sd_bus_reply_method_return(call, "tttts", UINT64_C(5), UINT64_C(3), UINT64_C(4),
		UINT64_C(2), "one more lacks 8 MiB");
}

static int start_guest(sd_bus_message *call, void *data, sd_bus_error *e)
{
	struct host *h = data;
	const char *name, *key, *value, *group = "";
	uint64_t configured = 256 * MIB;
	int r = sd_bus_message_read(call, "s", &name);

	if (r < 0)
		return r;
	if (find_guest(h, name))
		return sd_bus_error_setf(e, "org.memd1.Error.GuestExists", "%s runs already", name);
	r = sd_bus_message_enter_container(call, 'a', "{ss}");
	while (r >= 0 && (r = sd_bus_message_read(call, "{ss}", &key, &value)) > 0) {
		if (strcmp(key, "Memory") == 0)
			r = units_parse_bytes(value, &configured, NULL);
		else if (strcmp(key, "ShareGroup") == 0)
			group = value;
		else
			return sd_bus_error_setf(
				e, "org.memd1.Error.BadSetting", "unknown key '%s'", key);
	}
	if (r >= 0)
		r = add_guest(h, name, configured, group);
	return r < 0 ? r : sd_bus_reply_method_return(call, "o", find_guest(h, name)->path);
}

static int stop_guest(sd_bus_message *call, void *data, sd_bus_error *e)
{
	const char *name;
	struct guest *g;
	int force, r = sd_bus_message_read(call, "sb", &name, &force);

	if (r < 0)
		return r;
	g = find_guest(data, name);
	if (!g)
		return sd_bus_error_setf(e, NO_GUEST, "There is no guest '%s'.", name);
	g->state = force ? "failed" : "powered-off";
	return sd_bus_reply_method_return(call, "");
}

static int get_guest(sd_bus_message *call, void *data, sd_bus_error *e)
{
	const char *name;
	struct guest *g;
	int r = sd_bus_message_read(call, "s", &name);

	if (r < 0)
		return r;
	g = find_guest(data, name);
	if (!g)
		return sd_bus_error_setf(e, NO_GUEST, "There is no guest '%s'.", name);
	return sd_bus_reply_method_return(call, "o", g->path);
}

static int list_guests(sd_bus_message *call, void *data, sd_bus_error *e)
{
	struct host *h = data;
	sd_bus_message *reply = NULL;
	int r = sd_bus_message_new_method_return(call, &reply);

	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(sos)");
	for (uint32_t i = 0; i < h->n_guests && r >= 0; i++)
		r = sd_bus_message_append(
			reply, "(sos)", h->guests[i].name, h->guests[i].path, h->guests[i].state);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	if (r >= 0)
		r = sd_bus_send(h->bus, reply, NULL);
	sd_bus_message_unref(reply);
	return r;
}

/* Two minutes of a history of anybody but "nobody", up to now. */
static int open_history(sd_bus_message *call, void *data, sd_bus_error *e)
{
	char path[] = "/tmp/fake-memd-history-XXXXXX";
	uint32_t now_s = (uint32_t)(clock_realtime_us() / US_PER_S);
	const char *name;
	int fd, r = sd_bus_message_read(call, "s", &name);

	if (r < 0)
		return r;
	if (strcmp(name, "nobody") == 0)
		return sd_bus_error_setf(e, NO_GUEST, "there is no history of %s", name);
	fd = mkstemp(path);
	if (fd < 0)
		return -errno;
	close(fd);
	fd = history_file_open(path);
	unlink(path);
	for (uint32_t t = now_s - 120; fd >= 0 && t <= now_s; t++) {
		struct history_record record = {
			.time_s = t,
			.resident_kib = 100 * 1024,
			.target_kib = 128 * 1024,
			.working_set_kib = t % 2 ? 64 * 1024 : HISTORY_UNKNOWN,
			.working_set_error_kib = t % 2 ? 1024 : HISTORY_UNKNOWN,
		};

		history_file_put_second(fd, &record);
	}
	r = fd < 0 ? fd : sd_bus_reply_method_return(call, "h", fd);
	if (fd >= 0)
		close(fd);
	return r;
}

static int reload(sd_bus_message *call, void *data, sd_bus_error *e)
{
	return sd_bus_error_set(e, "org.memd1.Error.BadSetting",
		"memd.conf:3: unknown key 'Colour' in [Host]; the old configuration stays");
}

#undef FIGURE
#define FIGURE(property, type, member)                                                             \
	SD_BUS_PROPERTY(property, type, NULL, offsetof(struct host, member), 0)

static const sd_bus_vtable manager_vtable[] = {
	SD_BUS_VTABLE_START(0),
	FIGURE("Version", "s", version),
	FIGURE("Policy", "s", policy),
	FIGURE("HostState", "s", state),
	FIGURE("CgroupMode", "s", cgroup_mode),
	FIGURE("BudgetBytes", "t", budget),
	FIGURE("UsedBytes", "t", used),
	FIGURE("PeakUsedBytes", "t", peak),
	FIGURE("GuestPrivateBytes", "t", private),
	FIGURE("PoolBytes", "t", pool),
	FIGURE("SwapOccupiedBytes", "t", swap_occupied),
	FIGURE("SwapUsedBytes", "t", swap_used),
	FIGURE("OverheadBytes", "t", overhead),
	FIGURE("ConfiguredBytes", "t", configured),
	FIGURE("SavedSharingBytes", "t", saved_sharing),
	FIGURE("SavedZeroBytes", "t", saved_zero),
	FIGURE("SavedBalloonBytes", "t", saved_balloon),
	FIGURE("SavedPagingBytes", "t", saved_paging),
	FIGURE("LedgerMismatchBasisPoints", "u", mismatch_bp),
	FIGURE("FreeableBytes", "t", pool),
	FIGURE("BracketKernelBytes", "t", private),
	FIGURE("TickUSec", "t", counter),
	FIGURE("NGuests", "u", n_guests),
	SD_BUS_METHOD("StartGuest", "sa{ss}", "o", start_guest, 0),
	SD_BUS_METHOD("ForecastGuests", "sa{ss}", "tttts", forecast_guests, 0),
	SD_BUS_METHOD("StopGuest", "sb", "", stop_guest, 0),
	SD_BUS_METHOD("ListGuests", "", "a(sos)", list_guests, 0),
	SD_BUS_METHOD("GetGuest", "s", "o", get_guest, 0),
	SD_BUS_METHOD("OpenHistory", "s", "h", open_history, 0),
	SD_BUS_METHOD("Reload", "", "", reload, 0),
	SD_BUS_VTABLE_END,
};

static int open_bus(struct host *h, const char *address)
{
	int r = sd_bus_new(&h->bus);

	if (r >= 0)
		r = sd_bus_set_address(h->bus, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(h->bus, 1);
	if (r >= 0)
		r = sd_bus_start(h->bus);
	if (r >= 0)
		r = sd_bus_add_object_vtable(
			h->bus, NULL, "/org/memd1", "org.memd1.Manager", manager_vtable, h);
	return r;
}

int main(int argc, char **argv)
{
	static struct host h = {
		.version = "0.1.0",
		.policy = "proportional",
		.state = "soft",
		.cgroup_mode = "v2",
		.budget = GIB,
		.mismatch_bp = 31,
		.counter = 1000000,
	};
	int n_guests = argc > 2 ? atoi(argv[2]) : 3;
	int r;

	if (argc < 2) {
		fprintf(stderr, "usage: fake-memd ADDRESS [GUESTS]\n");
		return 2;
	}
	r = open_bus(&h, argv[1]);
	for (int i = 1; i <= n_guests && r >= 0; i++) {
		char name[32];

		snprintf(name, sizeof(name), "guest-%d", i);
		r = add_guest(&h, name, 256 * MIB, "demo");
	}
	if (r >= 0)
		r = sd_bus_request_name(h.bus, "org.memd1", 0);
	if (r >= 0) {
		puts("ready");
		fflush(stdout);
	}
	while (r >= 0) {
		r = sd_bus_process(h.bus, NULL);
		if (r == 0)
			r = sd_bus_wait(h.bus, UINT64_MAX);
	}
	fprintf(stderr, "fake-memd: %s\n", strerror(-r));
	return 1;
}
