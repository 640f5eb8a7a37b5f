/* The connection, the Manager object, and what both objects share. Decides nothing. */
#include <string.h>

#include "memd/base/log.h"
#include "memd/base/units.h"
#include "memd/bus-internal.h"

#define SETTINGS_MAX 64

static const char *const refusal_names[] = {
	[REFUSAL_FAILED] = SD_BUS_ERROR_FAILED,
	[REFUSAL_NO_SUCH_GUEST] = "org.memd1.Error.NoSuchGuest",
	[REFUSAL_GUEST_EXISTS] = "org.memd1.Error.GuestExists",
	[REFUSAL_BAD_SETTING] = "org.memd1.Error.BadSetting",
	[REFUSAL_BELOW_FLOOR] = "org.memd1.Error.BelowFloor",
	[REFUSAL_ABOVE_CONFIGURED] = "org.memd1.Error.AboveConfigured",
	[REFUSAL_NO_KVM] = "org.memd1.Error.NoKvm",
	[REFUSAL_START_FAILED] = "org.memd1.Error.StartFailed",
	[REFUSAL_NOT_RUNNING] = "org.memd1.Error.NotRunning",
	[REFUSAL_BUSY] = "org.memd1.Error.Busy",
	[REFUSAL_NOT_SUPPORTED] = "org.memd1.Error.NotSupported",
};

int bus_refuse(sd_bus_message *call, int result, const struct refusal *refusal)
{
	sd_bus_error error = SD_BUS_ERROR_MAKE_CONST(refusal_names[refusal->kind],
		refusal->error.text[0] ? refusal->error.text : strerror(-result));

	return sd_bus_reply_method_error(call, &error);
}

void bus_answer_done(void *context, int result, const struct refusal *refusal)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *call = context;

	if (result < 0)
		bus_refuse(call, result, refusal);
	else
		sd_bus_reply_method_return(call, NULL);
}

/* FNV-1a, 64 bit: a changed string is told from an unchanged one. */
static uint64_t hash_bytes(const void *bytes, size_t n)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static uint64_t hash_property(const sd_bus_vtable *v, const void *values)
{
	const char *at = (const char *)values + v->x.property.offset;
	const char *text;

	switch (v->x.property.signature[0]) {
	case 's':
		text = *(const char *const *)(const void *)at;
		return text ? hash_bytes(text, strlen(text)) : 0;
	case 't':
		return hash_bytes(at, sizeof(uint64_t));
	default: /* u, b */
		return hash_bytes(at, sizeof(uint32_t));
	}
}

void bus_emit_changed(sd_bus *connection, const char *path, const char *interface,
	const sd_bus_vtable *vtable, const void *values, uint64_t *published)
{
	char *changed[BUS_PROPERTIES_MAX + 1];
	size_t n = 0;

	for (size_t i = 0; i < BUS_PROPERTIES_MAX && vtable[i].type != _SD_BUS_VTABLE_END; i++) {
		uint64_t hash;

		if (vtable[i].type != _SD_BUS_VTABLE_PROPERTY ||
			!(vtable[i].flags & SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE))
			continue;
		hash = hash_property(&vtable[i], values);
		if (hash == published[i])
			continue;
		published[i] = hash;
		/* Not written to. */
		changed[n++] = (char *)(uintptr_t)vtable[i].x.property.member;
	}
	changed[n] = NULL;
	if (n > 0)
		sd_bus_emit_properties_changed_strv(connection, path, interface, changed);
}

/* The Manager object. */

struct start_call {
	sd_bus_message *message;
	char *path;
};

static void on_started(void *context, int result, const struct refusal *refusal)
{
	struct start_call *call = context;

	if (result < 0)
		bus_refuse(call->message, result, refusal);
	else
		sd_bus_reply_method_return(call->message, "o", call->path);
	sd_bus_message_unref(call->message);
	free(call->path);
	free(call);
}

/* Reads a{ss}; the strings are the message's. -E2BIG above SETTINGS_MAX. */
static int read_pairs(sd_bus_message *message, struct config_pair *ret, size_t *ret_n)
{
	size_t n = 0;
	int r;

	r = sd_bus_message_enter_container(message, 'a', "{ss}");
	while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "ss")) > 0) {
		const char *key, *value;

		r = sd_bus_message_read(message, "ss", &key, &value);
		if (r < 0)
			return r;
		if (n == SETTINGS_MAX)
			return -E2BIG;
		ret[n++] = (struct config_pair){
			.key = (char *)(uintptr_t)key,
			.value = (char *)(uintptr_t)value,
		};
		r = sd_bus_message_exit_container(message);
	}
	if (r >= 0)
		r = sd_bus_message_exit_container(message);
	if (r < 0)
		return r;
	*ret_n = n;
	return 0;
}

static int method_start_guest(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;
	struct config_pair settings[SETTINGS_MAX];
	struct refusal refusal = {0};
	struct start_call *call;
	struct guest *g;
	const char *name;
	size_t n;
	int r;

	r = sd_bus_message_read(message, "s", &name);
	if (r >= 0)
		r = read_pairs(message, settings, &n);
	if (r < 0)
		return r;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	r = sd_bus_path_encode(BUS_GUEST_PATH, name, &call->path);
	if (r < 0) {
		free(call);
		return r;
	}
	call->message = sd_bus_message_ref(message);
	r = manager_start_guest(b->manager, name, settings, n, on_started, call, &g, &refusal);
	if (r < 0)
		on_started(call, r, &refusal);
	return 1;
}

static int method_forecast(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;
	struct config_pair settings[SETTINGS_MAX];
	struct guest_config config = {0};
	struct admission_forecast f;
	struct refusal refusal = {0};
	const char *name;
	char reason[400];
	size_t n;
	int r;

	r = sd_bus_message_read(message, "s", &name);
	if (r >= 0)
		r = read_pairs(message, settings, &n);
	if (r < 0)
		return r;
	refusal.kind = REFUSAL_BAD_SETTING;
	r = guest_name_valid(name, &refusal.error)
		    ? manager_read_settings(b->manager, name, settings, n, &config, &refusal)
		    : -EINVAL;
	if (r == 0)
		admit_forecast(b->manager, &config, &f, reason, sizeof(reason));
	guest_config_done(&config);
	if (r < 0)
		return bus_refuse(message, r, &refusal);
	return sd_bus_reply_method_return(
		message, "tttts", f.n, f.n_now, f.n_comfortable, f.n_backed, reason);
}

static int refuse_unknown(sd_bus_message *message, const char *name)
{
	struct refusal refusal = {.kind = REFUSAL_NO_SUCH_GUEST};

	error_set(&refusal.error, -ENOENT,
		"there is no guest %s; `memctl list` shows those there are, `memctl start` starts "
		"one",
		name);
	return bus_refuse(message, -ENOENT, &refusal);
}

static int method_stop_guest(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;
	struct refusal refusal = {0};
	struct guest *g;
	const char *name;
	int force, r;

	r = sd_bus_message_read(message, "sb", &name, &force);
	if (r < 0)
		return r;
	g = manager_find_guest(b->manager, name);
	if (!g)
		return refuse_unknown(message, name);
	r = guest_may_stop(g, &refusal);
	if (r < 0)
		return bus_refuse(message, r, &refusal);
	r = guest_stop(g, force ? GUEST_STOP_FORCE : GUEST_STOP_ORDERLY, bus_answer_done,
		sd_bus_message_ref(message));
	if (r < 0)
		sd_bus_message_unref(message);
	return r < 0 ? r : 1;
}

static int method_list_guests(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct bus *b = userdata;
	int r;

	r = sd_bus_message_new_method_return(message, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(sos)");
	for (size_t i = 0; r >= 0 && i < b->manager->n_guests; i++) {
		const struct guest *g = b->manager->guests[i];
		_cleanup_free_ char *path = bus_guest_path(g);

		if (!path)
			return -ENOMEM;
		r = sd_bus_message_append(
			reply, "(sos)", g->name, path, guest_state_name(g->state));
	}
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	if (r < 0)
		return r;
	return sd_bus_send(NULL, reply, NULL);
}

static int method_get_guest(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	_cleanup_free_ char *path = NULL;
	struct bus *b = userdata;
	struct guest *g;
	const char *name;
	int r;

	r = sd_bus_message_read(message, "s", &name);
	if (r < 0)
		return r;
	g = manager_find_guest(b->manager, name);
	if (!g)
		return refuse_unknown(message, name);
	path = bus_guest_path(g);
	return path ? sd_bus_reply_method_return(message, "o", path) : -ENOMEM;
}

static int method_reload(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;
	struct refusal refusal = {.kind = REFUSAL_BAD_SETTING};
	int r = manager_reload(b->manager, bus_answer_done, sd_bus_message_ref(message), &refusal);

	if (r < 0)
		bus_answer_done(message, r, &refusal);
	return 1;
}

static int method_open_history(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;
	_cleanup_close_ int fd = -1;
	const char *name;
	int r;

	r = sd_bus_message_read(message, "s", &name);
	if (r < 0)
		return r;
	fd = history_open_read(b->manager->options.state_dir, name);
	if (fd < 0)
		return sd_bus_error_setf(error, "org.memd1.Error.NoSuchGuest",
			"there is no history of a guest %s: %s", name, strerror(-fd));
	/* The message has a descriptor of its own. */
	return sd_bus_reply_method_return(message, "h", fd);
}

#define FIGURE(name, type, field)                                                                  \
	SD_BUS_PROPERTY(name, type, NULL, offsetof(struct host_figures, field),                    \
		SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

static const sd_bus_vtable manager_methods[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("StartGuest", SD_BUS_ARGS("s", name, "a{ss}", settings),
		SD_BUS_RESULT("o", guest), method_start_guest, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ForecastGuests", SD_BUS_ARGS("s", template, "a{ss}", settings),
		SD_BUS_RESULT(
			"t", fit, "t", fit_now, "t", fit_comfortably, "t", fit_backed, "s", reason),
		method_forecast, 0),
	SD_BUS_METHOD_WITH_ARGS("StopGuest", SD_BUS_ARGS("s", name, "b", force), SD_BUS_NO_RESULT,
		method_stop_guest, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListGuests", SD_BUS_NO_ARGS,
		SD_BUS_RESULT("a(sos)", names_paths_states), method_list_guests,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("GetGuest", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", guest),
		method_get_guest, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("OpenHistory", SD_BUS_ARGS("s", name), SD_BUS_RESULT("h", file),
		method_open_history, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("OpenJournal", SD_BUS_NO_ARGS, SD_BUS_RESULT("ah", files),
		bus_method_open_journal, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListPolicies", SD_BUS_NO_ARGS,
		SD_BUS_RESULT("a(sss)", names_kinds_descriptions), bus_method_list_policies,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL_WITH_ARGS("GuestAdded", SD_BUS_ARGS("s", name, "o", guest), 0),
	SD_BUS_SIGNAL_WITH_ARGS("GuestRemoved", SD_BUS_ARGS("s", name, "o", guest, "s", reason), 0),
	SD_BUS_SIGNAL_WITH_ARGS(
		"HostStateChanged", SD_BUS_ARGS("s", old_state, "s", new_state, "s", reason), 0),
	SD_BUS_SIGNAL_WITH_ARGS("HostShort", SD_BUS_ARGS("t", usec, "a(st)", guests), 0),
	SD_BUS_SIGNAL_WITH_ARGS(
		"PolicySetAside", SD_BUS_ARGS("s", policy, "s", successor, "s", reason), 0),
	SD_BUS_VTABLE_END,
};

static const sd_bus_vtable manager_properties[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Version", "s", NULL, offsetof(struct host_figures, version),
		SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("CgroupMode", "s", NULL, offsetof(struct host_figures, cgroup_mode),
		SD_BUS_VTABLE_PROPERTY_CONST),
	FIGURE("Policy", "s", policy),
	FIGURE("PolicyChosen", "s", policy_chosen),
	FIGURE("PolicySetAside", "s", policy_set_aside),
	FIGURE("PolicyPid", "u", policy_pid),
	FIGURE("PolicyWaitUSec", "t", policy_wait_us),
	FIGURE("PolicyCpuUSec", "t", policy_cpu_us),
	FIGURE("JournalPath", "s", journal_path),
	FIGURE("JournalDropped", "t", journal_dropped),
	FIGURE("HostState", "s", host_state),
	FIGURE("NGuests", "u", n_guests),
	FIGURE("BudgetBytes", "t", budget_bytes),
	FIGURE("UsedBytes", "t", used_bytes),
	FIGURE("PeakUsedBytes", "t", peak_used_bytes),
	FIGURE("ConfiguredBytes", "t", configured_bytes),
	FIGURE("GuestPrivateBytes", "t", guest_private_bytes),
	FIGURE("PoolBytes", "t", pool_bytes),
	FIGURE("TemplateBytes", "t", template_bytes),
	FIGURE("SwapUsedBytes", "t", swap_used_bytes),
	FIGURE("SwapOccupiedBytes", "t", swap_occupied_bytes),
	FIGURE("OverheadBytes", "t", overhead_bytes),
	FIGURE("PolicyBytes", "t", policy_bytes),
	FIGURE("SavedSharingBytes", "t", saved_sharing_bytes),
	FIGURE("SavedZeroBytes", "t", saved_zero_bytes),
	FIGURE("SavedBalloonBytes", "t", saved_balloon_bytes),
	FIGURE("SavedPagingBytes", "t", saved_paging_bytes),
	FIGURE("PoolUnmappedBytes", "t", pool_unmapped_bytes),
	FIGURE("FreeableBytes", "t", freeable_bytes),
	FIGURE("BracketLowBytes", "t", bracket_low_bytes),
	FIGURE("BracketHighBytes", "t", bracket_high_bytes),
	FIGURE("BracketKernelBytes", "t", kernel_bytes),
	FIGURE("LedgerMismatchBytes", "t", mismatch_bytes),
	FIGURE("LedgerMismatchBasisPoints", "u", ledger_mismatch_bp),
	FIGURE("AllocatedBytes", "t", allocated_bytes),
	FIGURE("TickUSec", "t", tick_us),
	FIGURE("Ticks", "t", ticks),
	FIGURE("MajorFaultNSec", "t", fault_ns),
	FIGURE("SwapState", "s", swap_state),
	FIGURE("SwapFreeBytes", "t", swap_free_bytes),
	SD_BUS_VTABLE_END,
};

/* Signals and publishing. */

void bus_guest_added(struct bus *b, struct guest *g)
{
	_cleanup_free_ char *path = b ? bus_guest_path(g) : NULL;

	if (path)
		sd_bus_emit_signal(
			b->connection, BUS_PATH, BUS_MANAGER, "GuestAdded", "so", g->name, path);
}

void bus_guest_removed(struct bus *b, struct guest *g)
{
	_cleanup_free_ char *path = b ? bus_guest_path(g) : NULL;

	if (path)
		sd_bus_emit_signal(b->connection, BUS_PATH, BUS_MANAGER, "GuestRemoved", "sos",
			g->name, path, g->state_reason);
}

void bus_guest_state_changed(struct bus *b, struct guest *g, enum guest_state old)
{
	_cleanup_free_ char *path = b ? bus_guest_path(g) : NULL;

	if (!path)
		return;
	sd_bus_emit_signal(b->connection, path, BUS_GUEST, "StateChanged", "sss",
		guest_state_name(old), guest_state_name(g->state), g->state_reason);
	sd_bus_emit_properties_changed(
		b->connection, path, BUS_GUEST, "State", "StateReason", NULL);
}

void bus_host_state_changed(
	struct bus *b, enum memd_host_state old, enum memd_host_state now, const char *reason)
{
	if (b)
		sd_bus_emit_signal(b->connection, BUS_PATH, BUS_MANAGER, "HostStateChanged", "sss",
			host_state_name(old), host_state_name(now), reason);
}

void bus_host_short(struct bus *b, uint64_t short_us, const struct bus_relief *list, size_t n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *signal = NULL;
	int r;

	if (!b)
		return;
	r = sd_bus_message_new_signal(b->connection, &signal, BUS_PATH, BUS_MANAGER, "HostShort");
	if (r >= 0)
		r = sd_bus_message_append(signal, "t", short_us);
	if (r >= 0)
		r = sd_bus_message_open_container(signal, 'a', "(st)");
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = sd_bus_message_append(signal, "(st)", list[i].name, list[i].bytes);
	if (r >= 0)
		r = sd_bus_message_close_container(signal);
	if (r >= 0)
		(void)sd_bus_send(NULL, signal, NULL); /* who listens hears the next, too */
}

void bus_policy_set_aside(
	struct bus *b, const char *policy, const char *successor, const char *reason)
{
	if (b)
		sd_bus_emit_signal(b->connection, BUS_PATH, BUS_MANAGER, "PolicySetAside", "sss",
			policy, successor, reason);
}

void bus_publish(struct bus *b)
{
	if (!b)
		return;
	bus_emit_changed(b->connection, BUS_PATH, BUS_MANAGER, manager_properties,
		&b->manager->figures, b->published);
	for (size_t i = 0; i < b->manager->n_guests; i++)
		bus_guest_publish(b, b->manager->guests[i]);
}

/* The connection. */

static int on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;

	log_error("the bus is gone: ending; guests run on until the next memd finds them");
	return sd_event_exit(b->manager->event, -ENOTCONN);
}

static int connect_bus(const char *address, sd_bus **ret)
{
	_cleanup_(sd_bus_flush_close_unrefp) sd_bus *connection = NULL;
	int r;

	if (strcmp(address, "system") == 0)
		return sd_bus_open_system(ret);
	if (strcmp(address, "session") == 0)
		return sd_bus_open_user(ret);
	r = sd_bus_new(&connection);
	if (r >= 0)
		r = sd_bus_set_address(connection, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(connection, 1);
	if (r >= 0)
		r = sd_bus_start(connection);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(connection);
	return 0;
}

static int add_objects(struct bus *b)
{
	int r;

	r = sd_bus_add_object_vtable(
		b->connection, NULL, BUS_PATH, BUS_MANAGER, manager_methods, b);
	if (r >= 0)
		r = sd_bus_add_object_vtable(b->connection, NULL, BUS_PATH, BUS_MANAGER,
			manager_properties, &b->manager->figures);
	if (r >= 0)
		r = bus_guest_add_objects(b);
	if (r >= 0)
		r = sd_bus_match_signal(b->connection, NULL, NULL, "/org/freedesktop/DBus/Local",
			"org.freedesktop.DBus.Local", "Disconnected", on_disconnected, b);
	return r;
}

int bus_open(struct manager *m, const char *address, struct bus **ret, struct error *e)
{
	struct bus *b;
	int r;

	if (!address) {
		*ret = NULL;
		return 0;
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->manager = m;
	r = connect_bus(address, &b->connection);
	if (r >= 0)
		r = bus_authorize_init(b);
	if (r < 0) {
		error_set(e, r,
			"cannot connect to the bus %s: %s; start dbus, or give another one with "
			"--bus",
			address, strerror(-r));
		goto fail;
	}
	r = add_objects(b);
	if (r >= 0)
		r = sd_bus_attach_event(b->connection, m->event, SD_EVENT_PRIORITY_NORMAL);
	if (r >= 0)
		r = sd_bus_request_name(b->connection, "org.memd1", 0);
	if (r < 0) {
		error_set(e, r, "cannot take the name org.memd1 on the bus %s: %s%s", address,
			strerror(-r), r == -EEXIST ? " (another memd runs there)" : "");
		goto fail;
	}
	*ret = b;
	return 0;
fail:
	bus_close(b);
	return r;
}

void bus_close(struct bus *b)
{
	if (!b)
		return;
	bus_authorize_done(b);
	sd_bus_flush_close_unref(b->connection);
	free(b);
}
