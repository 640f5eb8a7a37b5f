/* See client.h. */
#include "memd/memctl/client.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

int client_connect(struct memctl *m)
{
	sd_bus *bus = NULL;
	int r;

	if (strcmp(m->bus_name, "system") == 0)
		return sd_bus_open_system(&m->bus);
	if (strcmp(m->bus_name, "session") == 0)
		return sd_bus_open_user(&m->bus);
	r = sd_bus_new(&bus);
	if (r >= 0)
		r = sd_bus_set_address(bus, m->bus_name);
	if (r >= 0)
		r = sd_bus_set_bus_client(bus, 1);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r < 0) {
		sd_bus_unref(bus);
		return r;
	}
	m->bus = bus;
	return 0;
}

int client_call(struct memctl *m, const char *path, const char *interface, const char *method,
	sd_bus_error *e, sd_bus_message **ret_reply, const char *types, ...)
{
	_cleanup_message_ sd_bus_message *call = NULL;
	va_list arguments;
	int r;

	r = sd_bus_message_new_method_call(m->bus, &call, MEMD_BUS_NAME, path, interface, method);
	if (r < 0)
		return r;
	/* a status question must not start the daemon */
	r = sd_bus_message_set_auto_start(call, 0);
	if (r < 0)
		return r;
	va_start(arguments, types);
	r = sd_bus_message_appendv(call, types, arguments);
	va_end(arguments);
	if (r < 0)
		return r;
	r = sd_bus_call(m->bus, call, CLIENT_TIMEOUT_US, e, ret_reply);
	return r < 0 ? r : 0;
}

int client_guest_path(struct memctl *m, const char *name, sd_bus_error *e, char **ret_path)
{
	_cleanup_message_ sd_bus_message *reply = NULL;
	const char *path;
	char *copy;
	int r;

	r = client_call(m, MEMD_PATH, MEMD_MANAGER, "GetGuest", e, &reply, "s", name);
	if (r < 0)
		return r;
	r = sd_bus_message_read(reply, "o", &path);
	if (r < 0)
		return r;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	*ret_path = copy;
	return 0;
}

char *client_key_from_property(const char *property)
{
	size_t n = strlen(property);
	char *key = malloc(2 * n + 1);
	char *out = key;

	if (!key)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		bool upper = isupper((unsigned char)property[i]);
		bool after_lower = i > 0 && !isupper((unsigned char)property[i - 1]);
		bool before_lower = i > 0 && islower((unsigned char)property[i + 1]);

		/* "USec" is one word, as systemd spells it */
		if (strncmp(property + i, "USec", 4) == 0) {
			out = stpcpy(out, i > 0 ? "_usec" : "usec");
			i += 3;
			continue;
		}
		if (upper && (after_lower || before_lower))
			*out++ = '_';
		*out++ = (char)tolower((unsigned char)property[i]);
	}
	*out = '\0';
	return key;
}

/* Reads the value of one property. 1: read into *ret; 0: of a type that memd does not use, skipped. */
static int read_value(sd_bus_message *reply, struct json_object **ret)
{
	const char *contents;
	union {
		uint64_t u64;
		uint32_t u32;
		int b;
		const char *s;
	} value;
	char type;
	int r;

	r = sd_bus_message_peek_type(reply, NULL, &contents);
	if (r < 0)
		return r;
	if (strlen(contents) != 1 || !strchr("tubso", contents[0])) {
		r = sd_bus_message_skip(reply, "v");
		return r < 0 ? r : 0;
	}
	type = contents[0];
	r = sd_bus_message_enter_container(reply, 'v', contents);
	if (r < 0)
		return r;
	r = sd_bus_message_read_basic(reply, type, &value);
	if (r < 0)
		return r;
	switch (type) {
	case 't':
		*ret = json_object_new_uint64(value.u64);
		break;
	case 'u':
		*ret = json_object_new_uint64(value.u32);
		break;
	case 'b':
		*ret = json_object_new_boolean(value.b);
		break;
	default:
		*ret = json_object_new_string(value.s);
	}
	r = sd_bus_message_exit_container(reply);
	return r < 0 ? r : 1;
}

static int read_properties(sd_bus_message *reply, struct json_object *object)
{
	int r;

	r = sd_bus_message_enter_container(reply, 'a', "{sv}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
		_cleanup_free_ char *key = NULL;
		struct json_object *value;
		const char *name;

		r = sd_bus_message_read(reply, "s", &name);
		if (r < 0)
			return r;
		key = client_key_from_property(name);
		if (!key)
			return -ENOMEM;
		r = read_value(reply, &value);
		if (r < 0)
			return r;
		if (r > 0)
			json_object_object_add(object, key, value);
		r = sd_bus_message_exit_container(reply);
		if (r < 0)
			return r;
	}
	return r;
}

int client_properties(struct memctl *m, const char *path, const char *interface, sd_bus_error *e,
	struct json_object **ret)
{
	_cleanup_message_ sd_bus_message *reply = NULL;
	_cleanup_json_ struct json_object *object = json_object_new_object();
	int r;

	r = client_call(
		m, path, "org.freedesktop.DBus.Properties", "GetAll", e, &reply, "s", interface);
	if (r < 0)
		return r;
	r = read_properties(reply, object);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(object);
	return 0;
}

int client_guests(struct memctl *m, sd_bus_error *e, struct json_object **ret)
{
	_cleanup_message_ sd_bus_message *reply = NULL;
	_cleanup_json_ struct json_object *guests = json_object_new_array();
	const char *name, *path, *state;
	int r;

	r = client_call(m, MEMD_PATH, MEMD_MANAGER, "ListGuests", e, &reply, "");
	if (r < 0)
		return r;
	r = sd_bus_message_enter_container(reply, 'a', "(sos)");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_read(reply, "(sos)", &name, &path, &state)) > 0) {
		struct json_object *guest = json_object_new_object();

		json_object_object_add(guest, "name", json_object_new_string(name));
		json_object_object_add(guest, "path", json_object_new_string(path));
		json_object_object_add(guest, "state", json_object_new_string(state));
		json_object_array_add(guests, guest);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(guests);
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	struct json_object *const *left = a, *const *right = b;

	return strverscmp(figure_text(*left, "name"), figure_text(*right, "name"));
}

int client_snapshot(struct memctl *m, sd_bus_error *e, struct json_object **ret)
{
	_cleanup_json_ struct json_object *listed = NULL;
	_cleanup_json_ struct json_object *snapshot = json_object_new_object();
	struct json_object *host = NULL;
	struct json_object *guests = json_object_new_array();
	int r;

	json_object_object_add(snapshot, "guests", guests);
	r = client_properties(m, MEMD_PATH, MEMD_MANAGER, e, &host);
	if (r < 0)
		return r;
	json_object_object_add(snapshot, "host", host);
	r = client_guests(m, e, &listed);
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_object_array_length(listed); i++) {
		struct json_object *guest = NULL;
		const char *path = figure_text(json_object_array_get_idx(listed, i), "path");

		r = client_properties(m, path, MEMD_GUEST, e, &guest);
		if (r < 0 && (sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT) ||
				     sd_bus_error_has_name(e, MEMD_ERROR("NoSuchGuest")))) {
			sd_bus_error_free(e);
			continue;
		}
		if (r < 0)
			return r;
		json_object_array_add(guests, guest);
	}
	json_object_array_sort(guests, compare_names);
	*ret = TAKE_PTR(snapshot);
	return 0;
}

uint64_t figure_u64(struct json_object *object, const char *key)
{
	return json_object_get_uint64(json_object_object_get(object, key));
}

bool figure_is_known(struct json_object *object, const char *key)
{
	return json_object_object_get_ex(object, key, NULL);
}

const char *figure_text(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		return "-";
	return json_object_get_string(value);
}
