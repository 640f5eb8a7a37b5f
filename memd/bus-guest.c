/* The objects of the guests: /org/memd1/guest/NAME (sd_bus_path_encode). Decides nothing. */
#include <string.h>

#include "memd/base/units.h"
#include "memd/bus-internal.h"
#include "memd/guest-agent.h"

/* Everything that a guest's object shows, in the types of D-Bus; filled before it is read. */
struct guest_figures {
	struct guest *guest;
	const char *name;
	const char *state;
	const char *state_reason;
	const char *share_group;
	const char *policy_group;
	const char *target_reason;
	const char *console_path;
	const char *devices;
	uint32_t pid;
	uint32_t n_vcpus;
	uint32_t shares;
	uint32_t mismatch_bp;
	int32_t target_fixed;
	int32_t balloon_ready;
	uint64_t configured_bytes;
	uint64_t min_bytes;
	uint64_t max_bytes;
	uint64_t target_bytes;
	uint64_t balloon_target_bytes;
	uint64_t balloon_bytes;
	uint64_t guest_available_bytes;
	uint64_t guest_free_bytes;
	uint64_t guest_total_bytes;
	uint64_t major_faults;
	uint64_t refault_bytes;
	uint64_t scan_passes;
	uint64_t scan_cpu_us;
	uint64_t scan_mapped_bytes;
	uint64_t scan_thawed_bytes;
	uint64_t scan_broken_bytes;
	uint64_t scan_windows;
	uint64_t scan_frozen_p50_us;
	uint64_t scan_frozen_p99_us;
	uint64_t scan_frozen_max_us;
	uint64_t mappings;
	uint64_t device_needs_reset;
	uint64_t emulation_completed;
	uint64_t memory_waits;
	uint64_t critical_bytes;
	const char *memory_mode;
	const char *agent_state;
	const char *cpu_placement;
	const char *cpu_reason;
	const char *cpus;
	char cpus_text[PLACEMENT_TEXT_MAX];
	uint32_t cpu_load_bp;
	int32_t cpus_exclusive;
	int32_t memory_locked;
	const char *provider;
	const char *left_alone;
	const char *cannot;
	struct vmm_stats claims; /* for what is shown as it was said */
	uint64_t paged_out_bytes;
	uint64_t out_regions;
	uint64_t wrong_regions;
	uint64_t backoffs;
	uint64_t hint_runs;
	uint64_t hint_dropped_bytes;
	uint64_t hint_written_bytes;
	uint64_t hint_cpu_us;
	struct ledger_guest ledger;
	struct wss_figures wss;
	struct stall_figures stall;
};

/* What hangs on guest->bus. */
struct bus_guest {
	struct guest_figures figures;
	uint64_t published[BUS_PROPERTIES_MAX];
};

/* What the guest did not say is 0 on the bus. */
static uint64_t claimed(uint64_t bytes)
{
	return bytes == UINT64_MAX ? 0 : bytes;
}

static const char *const placement_names[] = {
	[PLACEMENT_SHARED] = "shared",
	[PLACEMENT_PINNED] = "pinned",
	[PLACEMENT_AUTO] = "auto",
};

static const char *memory_mode_name(uint64_t mode)
{
	static const char *const names[] = {
		[VMM_MEMORY_UNKNOWN] = "unknown",
		[VMM_MEMORY_EPT] = "EPT",
		[VMM_MEMORY_NPT] = "NPT",
		[VMM_MEMORY_SHADOW] = "shadow",
		[VMM_MEMORY_PVM] = "PVM",
	};

	return names[mode <= VMM_MEMORY_PVM ? mode : VMM_MEMORY_UNKNOWN];
}

/* The group whose policy decides; "": the host's does. */
static const char *policy_group(const struct guest *g)
{
	const struct manager *m = g->environment->context;
	const char *name = guest_config_policy_group(&g->config);

	return name && host_config_group(&m->config, name) ? name : "";
}

static void fill(struct guest *g, struct guest_figures *f)
{
	const struct vmm_stats *s = &g->sample.after;

	*f = (struct guest_figures){
		.guest = g,
		.name = g->name,
		.state = guest_state_name(g->state),
		.state_reason = g->state_reason,
		.share_group = g->config.share_group,
		.policy_group = policy_group(g),
		.target_reason = g->target_reason,
		.console_path = g->console_path,
		.devices = g->devices,
		.pid = (uint32_t)guest_pid(g),
		.n_vcpus = g->config.n_vcpus,
		.shares = g->config.shares,
		.mismatch_bp = g->ledger.mismatch_bp,
		.target_fixed = g->fixed_bytes != 0,
		.balloon_ready = s->balloon_ready != 0,
		.configured_bytes = g->config.memory_bytes,
		.min_bytes = g->min_bytes,
		.max_bytes = g->max_bytes,
		.target_bytes = g->target_bytes,
		.balloon_target_bytes = s->balloon_target_pages * PAGE_BYTES,
		.balloon_bytes = s->balloon_actual_pages * PAGE_BYTES,
		.guest_available_bytes = claimed(s->guest_available_bytes),
		.guest_free_bytes = claimed(s->guest_free_bytes),
		.guest_total_bytes = claimed(s->guest_total_bytes),
		.major_faults = claimed(s->guest_major_faults),
		.refault_bytes = g->reclaim.refault_pages * PAGE_BYTES,
		.scan_passes = s->scan_passes,
		.scan_cpu_us = s->scan_cpu_us,
		.scan_mapped_bytes = s->scan_pages_mapped * PAGE_BYTES,
		.scan_thawed_bytes = s->scan_pages_thawed * PAGE_BYTES,
		.scan_broken_bytes = s->scan_pages_broken * PAGE_BYTES,
		.scan_windows = s->scan_windows,
		.scan_frozen_p50_us = s->scan_frozen_p50_us,
		.scan_frozen_p99_us = s->scan_frozen_p99_us,
		.scan_frozen_max_us = s->scan_frozen_max_us,
		.mappings = s->ram_mappings,
		.device_needs_reset = s->device_needs_reset,
		.emulation_completed = s->emulation_completed,
		.memory_waits = s->memory_waits,
		.critical_bytes = g->critical_bytes,
		.memory_mode = memory_mode_name(s->memory_mode),
		.agent_state = guest_agent_state(g),
		.cpu_placement = placement_names[g->placement.mode],
		.cpu_reason = g->placement.reason,
		.cpu_load_bp =
			g->placement.load_bp == PLACEMENT_LOAD_UNKNOWN ? 0 : g->placement.load_bp,
		.cpus_exclusive = g->placement.exclusive,
		.memory_locked = g->config.memory_locked,
		.provider = g->ops->provider,
		.left_alone = g->left_alone,
		.cannot = guest_cannot(g),
		.claims = *s,
		.paged_out_bytes = g->reclaim.out_pages_total * PAGE_BYTES,
		.out_regions = g->reclaim.out_regions,
		.wrong_regions = g->reclaim.wrong_regions,
		.backoffs = g->pace.backoffs,
		.hint_runs = s->hint_runs,
		.hint_dropped_bytes = s->hint_dropped_pages * PAGE_BYTES,
		.hint_written_bytes = s->hint_written_pages * PAGE_BYTES,
		.hint_cpu_us = s->hint_cpu_us,
		.ledger = g->ledger,
		.wss = g->wss.figures,
		.stall = g->stall.figures,
	};
	placement_text(&g->placement.cpus, f->cpus_text);
	f->cpus = f->cpus_text;
}

/* The guest's figures, fresh; NULL for want of memory. */
static struct bus_guest *refresh(struct guest *g)
{
	struct bus_guest *shown = g->bus;

	if (!shown)
		shown = g->bus = calloc(1, sizeof(*shown));
	if (shown)
		fill(g, &shown->figures);
	return shown;
}

char *bus_guest_path(const struct guest *g)
{
	char *path;

	return sd_bus_path_encode(BUS_GUEST_PATH, g->name, &path) < 0 ? NULL : path;
}

static int method_set_target(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {0};
	uint64_t bytes;
	int r;

	r = sd_bus_message_read(message, "t", &bytes);
	if (r < 0)
		return r;
	if (bytes == 0) /* which would mean automatic */
		r = refusal_set(&refusal, REFUSAL_BELOW_FLOOR, -ERANGE,
			"0 is below the floor of guest %s; ClearTarget makes it automatic",
			g->name);
	else
		r = manager_set_target(g->environment->context, g, bytes, &refusal);
	return r < 0 ? bus_refuse(message, r, &refusal) : sd_bus_reply_method_return(message, NULL);
}

static int method_clear_target(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {0};
	int r = manager_set_target(g->environment->context, g, 0, &refusal);

	return r < 0 ? bus_refuse(message, r, &refusal) : sd_bus_reply_method_return(message, NULL);
}

/*
 * Answers at once when the request was refused; otherwise bus_answer_done does, with the reference
 * taken before.
 */
static int answer_later(sd_bus_message *message, int r, const struct refusal *refusal)
{
	if (r < 0)
		bus_answer_done(message, r, refusal);
	return 1;
}

static int method_pause(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {0};
	int r = guest_pause(g, GUEST_PAUSER_OPERATOR, "by the operator", bus_answer_done,
		sd_bus_message_ref(message), &refusal);

	return answer_later(message, r, &refusal);
}

static int method_resume(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {0};
	int r = guest_resume(
		g, GUEST_PAUSER_OPERATOR, bus_answer_done, sd_bus_message_ref(message), &refusal);

	return answer_later(message, r, &refusal);
}

static int method_power_button(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {0};
	int r = guest_power_button(g, bus_answer_done, sd_bus_message_ref(message), &refusal);

	return answer_later(message, r, &refusal);
}

static int method_ask_hints(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {0};
	int r = guest_ask_hints(g, bus_answer_done, sd_bus_message_ref(message), &refusal);

	return answer_later(message, r, &refusal);
}

static int method_stop(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {0};
	int force, r;

	r = sd_bus_message_read(message, "b", &force);
	if (r < 0)
		return r;
	r = guest_may_stop(g, &refusal);
	if (r < 0)
		return bus_refuse(message, r, &refusal);
	r = guest_stop(g, force ? GUEST_STOP_FORCE : GUEST_STOP_ORDERLY, bus_answer_done,
		sd_bus_message_ref(message));
	return answer_later(message, r, &refusal);
}

static int method_set_cpu_placement(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {.kind = REFUSAL_BAD_SETTING};
	const char *name;
	int r;

	r = sd_bus_message_read(message, "s", &name);
	if (r < 0)
		return r;
	/* As in the file; at the next tick it is so. */
	r = guest_config_set(&g->config, "CpuPlacement", name, &refusal.error);
	if (r < 0)
		return bus_refuse(message, r, &refusal);
	g->placement.mode = (enum placement_mode)g->config.cpu_placement;
	r = guest_save_settings(g); /* for the memd that adopts it */
	if (r < 0)
		return bus_refuse(message, r, &refusal);
	return sd_bus_reply_method_return(message, NULL);
}

static int method_snapshot(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct guest *g = ((struct guest_figures *)userdata)->guest;
	struct refusal refusal = {0};
	const char *directory;
	int r;

	r = sd_bus_message_read(message, "s", &directory);
	if (r < 0)
		return r;
	r = guest_snapshot(g, directory, bus_answer_done, sd_bus_message_ref(message), &refusal);
	return answer_later(message, r, &refusal);
}

static int method_explain(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	const struct guest *g = ((struct guest_figures *)userdata)->guest;

	return bus_explain(message, g->environment->context, g);
}

#define CONSTANT(name, type, field)                                                                \
	SD_BUS_PROPERTY(name, type, NULL, offsetof(struct guest_figures, field),                   \
		SD_BUS_VTABLE_PROPERTY_CONST)
#define FIGURE(name, type, field)                                                                  \
	SD_BUS_PROPERTY(name, type, NULL, offsetof(struct guest_figures, field),                   \
		SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

static const sd_bus_vtable guest_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("SetTarget", SD_BUS_ARGS("t", bytes), SD_BUS_NO_RESULT,
		method_set_target, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ClearTarget", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT,
		method_clear_target, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Pause", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_pause,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Resume", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_resume,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("PowerButton", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT,
		method_power_button, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("AskHints", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_ask_hints, 0),
	SD_BUS_METHOD_WITH_ARGS("Stop", SD_BUS_ARGS("b", force), SD_BUS_NO_RESULT, method_stop,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("SetCpuPlacement", SD_BUS_ARGS("s", placement), SD_BUS_NO_RESULT,
		method_set_cpu_placement, 0),
	SD_BUS_METHOD_WITH_ARGS(
		"Snapshot", SD_BUS_ARGS("s", directory), SD_BUS_NO_RESULT, method_snapshot, 0),
	SD_BUS_METHOD_WITH_ARGS("Explain", SD_BUS_NO_ARGS, SD_BUS_RESULT("as", sentences),
		method_explain, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL_WITH_ARGS(
		"StateChanged", SD_BUS_ARGS("s", old_state, "s", new_state, "s", reason), 0),
	CONSTANT("Name", "s", name),
	CONSTANT("Vcpus", "u", n_vcpus),
	CONSTANT("ShareGroup", "s", share_group),
	CONSTANT("Shares", "u", shares),
	CONSTANT("ConfiguredBytes", "t", configured_bytes),
	CONSTANT("MinBytes", "t", min_bytes),
	CONSTANT("MaxBytes", "t", max_bytes),
	CONSTANT("MemoryLocked", "b", memory_locked),
	CONSTANT("Provider", "s", provider),
	CONSTANT("ConsolePath", "s", console_path),
	CONSTANT("Devices", "s", devices),
	FIGURE("State", "s", state),
	FIGURE("StateReason", "s", state_reason),
	FIGURE("Pid", "u", pid),
	FIGURE("LeftAlone", "s", left_alone),
	FIGURE("Cannot", "s", cannot),
	FIGURE("TargetBytes", "t", target_bytes),
	FIGURE("TargetFixed", "b", target_fixed),
	FIGURE("TargetReason", "s", target_reason),
	FIGURE("PolicyGroup", "s", policy_group),
	FIGURE("ResidentBytes", "t", ledger.resident_bytes),
	FIGURE("PrivateBytes", "t", ledger.private_bytes),
	FIGURE("SharedBytes", "t", ledger.shared_bytes),
	FIGURE("SharedCostBytes", "t", ledger.shared_cost_bytes),
	FIGURE("TemplateBytes", "t", ledger.template_bytes),
	FIGURE("TemplateCostBytes", "t", ledger.template_cost_bytes),
	FIGURE("SwappedBytes", "t", ledger.swapped_bytes),
	FIGURE("HoleUntouchedBytes", "t", ledger.hole_untouched_bytes),
	FIGURE("HoleZeroBytes", "t", ledger.hole_zero_bytes),
	FIGURE("HoleBalloonBytes", "t", ledger.hole_balloon_bytes),
	FIGURE("HoleReportedBytes", "t", ledger.hole_reported_bytes),
	FIGURE("HoleHintedBytes", "t", ledger.hole_hinted_bytes),
	FIGURE("OverheadBytes", "t", ledger.overhead_bytes),
	FIGURE("MappingOverheadBytes", "t", ledger.tables_bytes),
	FIGURE("OverheadSwappedBytes", "t", ledger.overhead_swapped_bytes),
	FIGURE("SwappedOccupiedBytes", "t", ledger.swapped_occupied_bytes),
	FIGURE("FreeableBytes", "t", ledger.freeable_bytes),
	FIGURE("BracketLowBytes", "t", ledger.bracket_low_bytes),
	FIGURE("BracketHighBytes", "t", ledger.bracket_high_bytes),
	FIGURE("BracketKernelBytes", "t", ledger.kernel_bytes),
	FIGURE("LedgerMismatchBytes", "t", ledger.mismatch_bytes),
	FIGURE("SavedSharingBytes", "t", ledger.saved_sharing_bytes),
	FIGURE("SavedZeroBytes", "t", ledger.saved_zero_bytes),
	FIGURE("SavedBalloonBytes", "t", ledger.saved_balloon_bytes),
	FIGURE("SavedPagingBytes", "t", ledger.saved_paging_bytes),
	FIGURE("BalloonTargetBytes", "t", balloon_target_bytes),
	FIGURE("BalloonBytes", "t", balloon_bytes),
	FIGURE("BalloonReady", "b", balloon_ready),
	FIGURE("GuestAvailableBytes", "t", guest_available_bytes),
	FIGURE("GuestFreeBytes", "t", guest_free_bytes),
	FIGURE("GuestTotalBytes", "t", guest_total_bytes),
	FIGURE("HintRuns", "t", hint_runs),
	FIGURE("HintDroppedBytes", "t", hint_dropped_bytes),
	FIGURE("HintWrittenBytes", "t", hint_written_bytes),
	FIGURE("HintCpuUSec", "t", hint_cpu_us),
	FIGURE("MajorFaults", "t", major_faults),
	FIGURE("RefaultBytes", "t", refault_bytes),
	FIGURE("ScanPasses", "t", scan_passes),
	FIGURE("ScanCpuUSec", "t", scan_cpu_us),
	FIGURE("ScanMappedBytes", "t", scan_mapped_bytes),
	FIGURE("ScanThawedBytes", "t", scan_thawed_bytes),
	FIGURE("ScanBrokenBytes", "t", scan_broken_bytes),
	FIGURE("ScanWindows", "t", scan_windows),
	FIGURE("ScanFrozenP50USec", "t", scan_frozen_p50_us),
	FIGURE("ScanFrozenP99USec", "t", scan_frozen_p99_us),
	FIGURE("ScanFrozenMaxUSec", "t", scan_frozen_max_us),
	FIGURE("Mappings", "t", mappings),
	FIGURE("DeviceNeedsReset", "t", device_needs_reset),
	FIGURE("EmulationCompleted", "t", emulation_completed),
	FIGURE("MemoryWaits", "t", memory_waits),
	FIGURE("LedgerMismatchBasisPoints", "u", mismatch_bp),
	FIGURE("WorkingSetBytes", "t", wss.bytes),
	FIGURE("WorkingSetSlowBytes", "t", wss.slow_bytes),
	FIGURE("WorkingSetFastBytes", "t", wss.fast_bytes),
	FIGURE("WorkingSetErrorBytes", "t", wss.error_bytes),
	FIGURE("WorkingSetSource", "s", wss.source),
	FIGURE("PagedOutBytes", "t", paged_out_bytes),
	FIGURE("PageOutRegions", "t", out_regions),
	FIGURE("PageOutWrongRegions", "t", wrong_regions),
	FIGURE("PageOutBackoffs", "t", backoffs),
	FIGURE("CriticalBytes", "t", critical_bytes),
	FIGURE("Idle1Bytes", "t", wss.idle_bytes[0]),
	FIGURE("Idle5Bytes", "t", wss.idle_bytes[1]),
	FIGURE("Idle15Bytes", "t", wss.idle_bytes[2]),
	FIGURE("Idle60Bytes", "t", wss.idle_bytes[3]),
	FIGURE("Idle120Bytes", "t", wss.idle_bytes[4]),
	FIGURE("Idle600Bytes", "t", wss.idle_bytes[5]),
	FIGURE("Samples", "t", wss.samples),
	FIGURE("SamplesTouched", "t", wss.touched),
	FIGURE("SampleCpuUSec", "t", wss.cpu_us),
	FIGURE("SampleStallUSec", "t", wss.stall_us),
	FIGURE("SampleCostBasisPoints", "u", wss.cost_bp),
	FIGURE("SampleStallBasisPoints", "u", wss.stall_bp),
	FIGURE("SampleRateMilli", "u", wss.per_second_milli),
	FIGURE("StallSome10BasisPoints", "u", stall.some_10_bp),
	FIGURE("StallSome60BasisPoints", "u", stall.some_60_bp),
	FIGURE("StallSome300BasisPoints", "u", stall.some_300_bp),
	FIGURE("StallFull10BasisPoints", "u", stall.full_10_bp),
	FIGURE("StallFull60BasisPoints", "u", stall.full_60_bp),
	FIGURE("StallFull300BasisPoints", "u", stall.full_300_bp),
	FIGURE("StallSomeUSec", "t", stall.some_us),
	FIGURE("StallFullUSec", "t", stall.full_us),
	FIGURE("CpuPlacement", "s", cpu_placement),
	FIGURE("CpuPlacementReason", "s", cpu_reason),
	FIGURE("Cpus", "s", cpus),
	FIGURE("CpusExclusive", "b", cpus_exclusive),
	FIGURE("CpuLoadBasisPoints", "u", cpu_load_bp),
	FIGURE("MemoryMode", "s", memory_mode),
	FIGURE("AgentState", "s", agent_state),
	FIGURE("KvmSmallPages", "t", claims.kvm_pages_4k),
	FIGURE("KvmLargePages", "t", claims.kvm_pages_2m),
	FIGURE("KvmHugePages", "t", claims.kvm_pages_1g),
	FIGURE("KvmMmuUnsync", "t", claims.kvm_mmu_unsync),
	FIGURE("KvmMmuShadowZapped", "t", claims.kvm_mmu_shadow_zapped),
	FIGURE("KvmMmuPteWrites", "t", claims.kvm_mmu_pte_writes),
	FIGURE("KvmRemoteTlbFlushes", "t", claims.kvm_remote_tlb_flushes),
	FIGURE("KvmTlbFlushes", "t", claims.kvm_tlb_flushes),
	FIGURE("KvmPageFaults", "t", claims.kvm_page_faults),
	FIGURE("KvmPageFaultsFixed", "t", claims.kvm_page_faults_fixed),
	FIGURE("KvmPageFaultsGuest", "t", claims.kvm_page_faults_guest),
	FIGURE("KvmExits", "t", claims.kvm_exits),
	FIGURE("KvmHaltExits", "t", claims.kvm_halt_exits),
	FIGURE("KvmIoExits", "t", claims.kvm_io_exits),
	FIGURE("KvmMmioExits", "t", claims.kvm_mmio_exits),
	SD_BUS_VTABLE_END,
};
_Static_assert(ARRAY_SIZE(guest_vtable) <= BUS_PROPERTIES_MAX, "raise BUS_PROPERTIES_MAX");

void bus_guest_publish(struct bus *b, struct guest *g)
{
	struct bus_guest *shown = refresh(g);
	_cleanup_free_ char *path = bus_guest_path(g);

	if (shown && path)
		bus_emit_changed(b->connection, path, BUS_GUEST, guest_vtable, &shown->figures,
			shown->published);
	bus_agent_publish(b, g);
}

int bus_guest_find(struct bus *b, const char *path, struct guest **ret)
{
	_cleanup_free_ char *name = NULL;
	int r = sd_bus_path_decode(path, BUS_GUEST_PATH, &name);

	if (r <= 0)
		return r;
	*ret = manager_find_guest(b->manager, name);
	return *ret != NULL;
}

static int find_guest(sd_bus *connection, const char *path, const char *interface, void *userdata,
	void **ret_found, sd_bus_error *error)
{
	struct bus_guest *shown;
	struct guest *g;
	int r = bus_guest_find(userdata, path, &g);

	if (r <= 0)
		return r;
	shown = refresh(g);
	if (!shown)
		return -ENOMEM;
	*ret_found = &shown->figures;
	return 1;
}

static int list_guests(sd_bus *connection, const char *prefix, void *userdata, char ***ret_nodes,
	sd_bus_error *error)
{
	struct bus *b = userdata;
	size_t n = b->manager->n_guests;
	char **nodes = calloc(n + 1, sizeof(*nodes));

	if (!nodes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		nodes[i] = bus_guest_path(b->manager->guests[i]);
		if (nodes[i])
			continue;
		while (i-- > 0)
			free(nodes[i]);
		free(nodes);
		return -ENOMEM;
	}
	*ret_nodes = nodes;
	return 0;
}

int bus_guest_add_objects(struct bus *b)
{
	int r;

	r = sd_bus_add_fallback_vtable(
		b->connection, NULL, BUS_GUEST_PATH, BUS_GUEST, guest_vtable, find_guest, b);
	if (r >= 0)
		r = bus_agent_add_objects(b);
	if (r < 0)
		return r;
	return sd_bus_add_node_enumerator(b->connection, NULL, BUS_GUEST_PATH, list_guests, b);
}
