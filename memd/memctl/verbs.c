/* The verbs that act on memd or on one guest. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/units.h"
#include "memd/memctl/client.h"

/* As long as memd waits for its memd-vmm. */
#define SNAPSHOT_TIMEOUT_US UINT64_C(3600000000)

/* What a verb that changed something says: {"guest": NAME, "done": WHAT}, or "NAME: WHAT". */
static enum memctl_exit say_done(const struct memctl *m, const char *guest, const char *what)
{
	_cleanup_json_ struct json_object *object = NULL;

	if (!m->json) {
		printf("%s: %s\n", guest, what);
		return MEMCTL_OK;
	}
	object = json_object_new_object();
	json_object_object_add(object, "guest", json_object_new_string(guest));
	json_object_object_add(object, "done", json_object_new_string(what));
	memctl_print_json(object);
	return MEMCTL_OK;
}

static int append_settings(sd_bus_message *call, int argc, char **argv)
{
	int r = sd_bus_message_open_container(call, 'a', "{ss}");

	for (int i = 0; i < argc && r >= 0; i++) {
		size_t key_size = strcspn(argv[i], "=");
		_cleanup_free_ char *key = strndup(argv[i], key_size);

		if (!key)
			return -ENOMEM;
		r = sd_bus_message_append(call, "{ss}", key, argv[i] + key_size + 1);
	}
	return r < 0 ? r : sd_bus_message_close_container(call);
}

/* Calls a method of the manager that takes a name and settings. */
static enum memctl_exit call_with_settings(struct memctl *m, const char *method, const char *name,
	int n_settings, char **settings, sd_bus_message **ret_reply)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_message_ sd_bus_message *call = NULL;
	int r;

	r = sd_bus_message_new_method_call(
		m->bus, &call, MEMD_BUS_NAME, MEMD_PATH, MEMD_MANAGER, method);
	if (r >= 0)
		r = sd_bus_message_append(call, "s", name);
	if (r >= 0)
		r = append_settings(call, n_settings, settings);
	if (r >= 0)
		r = sd_bus_message_set_auto_start(call, 0);
	if (r >= 0)
		r = sd_bus_call(m->bus, call, CLIENT_TIMEOUT_US, &e, ret_reply);
	return r < 0 ? client_report(m, NULL, r, &e) : MEMCTL_OK;
}

static enum memctl_exit start_guest(
	struct memctl *m, const char *name, int n_settings, char **settings, const char *done)
{
	enum memctl_exit code =
		call_with_settings(m, "StartGuest", name, n_settings, settings, NULL);

	return code == MEMCTL_OK ? say_done(m, name, done) : code;
}

static enum memctl_exit check_settings(const struct memctl *m, int n, char **settings)
{
	for (int i = 0; i < n; i++)
		if (strcspn(settings[i], "=") == 0 || !strchr(settings[i], '='))
			return memctl_fail(m, MEMCTL_USAGE, NULL,
				"'%s' is no setting: they look like Memory=512M, see memd.guest(5)",
				settings[i]);
	return MEMCTL_OK;
}

enum memctl_exit verb_start(struct memctl *m, int argc, char **argv)
{
	enum memctl_exit code = check_settings(m, argc - 1, argv + 1);

	return code == MEMCTL_OK ? start_guest(m, argv[0], argc - 1, argv + 1, "started") : code;
}

static void add_count(struct json_object *object, const char *key, uint64_t n)
{
	json_object_object_add(object, key, json_object_new_uint64(n));
}

enum memctl_exit verb_fit(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_message_ sd_bus_message *reply = NULL;
	_cleanup_json_ struct json_object *object = NULL;
	enum memctl_exit code = check_settings(m, argc - 1, argv + 1);
	uint64_t fit, now, comfortable, backed;
	const char *reason;
	int r;

	if (code == MEMCTL_OK)
		code = call_with_settings(
			m, "ForecastGuests", argv[0], argc - 1, argv + 1, &reply);
	if (code != MEMCTL_OK)
		return code;
	r = sd_bus_message_read(reply, "tttts", &fit, &now, &comfortable, &backed, &reason);
	if (r < 0)
		return client_report(m, NULL, r, &e);
	if (!m->json) {
		printf("%" PRIu64 " more of %s would start\n"
		       "%" PRIu64 " of them at once, the others as memory is given\n"
		       "%" PRIu64 " beside what all guests use now\n"
		       "%" PRIu64 " with swap behind all that they may have\n"
		       "why: %s\n",
			fit, argv[0], now, comfortable, backed, reason);
		return MEMCTL_OK;
	}
	object = json_object_new_object();
	json_object_object_add(object, "template", json_object_new_string(argv[0]));
	add_count(object, "fit", fit);
	add_count(object, "fit_now", now);
	add_count(object, "fit_comfortably", comfortable);
	add_count(object, "fit_backed", backed);
	json_object_object_add(object, "reason", json_object_new_string(reason));
	memctl_print_json(object);
	return MEMCTL_OK;
}

enum memctl_exit verb_clone(struct memctl *m, int argc, char **argv)
{
	_cleanup_free_ char *setting = NULL;
	enum memctl_exit code = MEMCTL_OK;

	if (asprintf(&setting, "Snapshot=%s", argv[0]) < 0) {
		setting = NULL;
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "out of memory");
	}
	for (int i = 1; i < argc && code == MEMCTL_OK; i++)
		code = start_guest(m, argv[i], 1, &setting, "cloned");
	return code;
}

enum memctl_exit verb_stop(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	bool force = m->options & OPTION_FORCE;
	int r = client_call(
		m, MEMD_PATH, MEMD_MANAGER, "StopGuest", &e, NULL, "sb", argv[0], force);

	if (r < 0)
		return client_report(m, argv[0], r, &e);
	return say_done(m, argv[0], "stopped");
}

/* Calls a method without arguments of one guest. */
static enum memctl_exit call_guest(
	struct memctl *m, const char *name, const char *method, const char *done)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_free_ char *path = NULL;
	int r = client_guest_path(m, name, &e, &path);

	if (r >= 0)
		r = client_call(m, path, MEMD_GUEST, method, &e, NULL, "");
	if (r < 0)
		return client_report(m, name, r, &e);
	return say_done(m, name, done);
}

enum memctl_exit verb_snapshot(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_message_ sd_bus_message *call = NULL;
	_cleanup_free_ char *path = NULL;
	int r = client_guest_path(m, argv[0], &e, &path);

	if (r >= 0)
		r = sd_bus_message_new_method_call(
			m->bus, &call, MEMD_BUS_NAME, path, MEMD_GUEST, "Snapshot");
	if (r >= 0)
		r = sd_bus_message_append(call, "s", argv[1]);
	if (r >= 0)
		r = sd_bus_call(m->bus, call, SNAPSHOT_TIMEOUT_US, &e, NULL);
	if (r < 0)
		return client_report(m, argv[0], r, &e);
	return say_done(m, argv[0], "saved");
}

enum memctl_exit verb_hint(struct memctl *m, int argc, char **argv)
{
	return call_guest(m, argv[0], "AskHints", "asked for its free memory");
}

enum memctl_exit verb_pause(struct memctl *m, int argc, char **argv)
{
	return call_guest(m, argv[0], "Pause", "paused");
}

enum memctl_exit verb_resume(struct memctl *m, int argc, char **argv)
{
	return call_guest(m, argv[0], "Resume", "resumed");
}

/* A part of the guest needs its size, which memd knows. */
static enum memctl_exit parse_target(
	struct memctl *m, const char *name, const char *path, const char *text, uint64_t *ret_bytes)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *guest = NULL;
	struct error why = {};
	int r;

	r = client_properties(m, path, MEMD_GUEST, &e, &guest);
	if (r < 0)
		return client_report(m, name, r, &e);
	r = units_parse_bytes_or_percent(
		text, figure_u64(guest, "configured_bytes"), ret_bytes, &why);
	if (r < 0)
		return memctl_fail(m, MEMCTL_USAGE, NULL, "%s (or auto)", why.text);
	return MEMCTL_OK;
}

enum memctl_exit verb_set_target(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_free_ char *path = NULL;
	char done[64];
	enum memctl_exit code;
	uint64_t bytes;
	int r;

	if (strcmp(argv[1], "auto") == 0)
		return call_guest(m, argv[0], "ClearTarget", "the policy decides again");
	r = client_guest_path(m, argv[0], &e, &path);
	if (r < 0)
		return client_report(m, argv[0], r, &e);
	code = parse_target(m, argv[0], path, argv[1], &bytes);
	if (code != MEMCTL_OK)
		return code;
	r = client_call(m, path, MEMD_GUEST, "SetTarget", &e, NULL, "t", bytes);
	if (r < 0)
		return client_report(m, argv[0], r, &e);
	snprintf(done, sizeof(done), "target fixed at %s", UNITS_BYTES(bytes));
	return say_done(m, argv[0], done);
}

enum memctl_exit verb_set_cpus(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_free_ char *path = NULL;
	int r = client_guest_path(m, argv[0], &e, &path);

	if (r >= 0)
		r = client_call(m, path, MEMD_GUEST, "SetCpuPlacement", &e, NULL, "s", argv[1]);
	if (r < 0)
		return client_report(m, argv[0], r, &e);
	return say_done(m, argv[0], argv[1]);
}

enum memctl_exit verb_reload(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	int r = client_call(m, MEMD_PATH, MEMD_MANAGER, "Reload", &e, NULL, "");

	if (r < 0)
		return client_report(m, NULL, r, &e);
	return say_done(m, "memd", "configuration read again");
}

enum memctl_exit verb_version(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *host = NULL, *object = NULL;
	int r = client_properties(m, MEMD_PATH, MEMD_MANAGER, &e, &host);

	if (!m->json)
		puts("memctl " MEMD_VERSION);
	if (r < 0)
		return client_report(m, NULL, r, &e);
	if (!m->json) {
		printf("memd   %s\n", figure_text(host, "version"));
		return MEMCTL_OK;
	}
	object = json_object_new_object();
	json_object_object_add(object, "memctl", json_object_new_string(MEMD_VERSION));
	json_object_object_add(
		object, "memd", json_object_new_string(figure_text(host, "version")));
	memctl_print_json(object);
	return MEMCTL_OK;
}
