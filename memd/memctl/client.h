/*
 * memd as a client sees it: connecting, calling, and the figures of its objects. Properties become JSON
 * objects with the names in lower case ("UsedBytes" is "used_bytes"), the one form that every verb
 * reads and --json prints. Never prints, but for client_report().
 */
#pragma once

#include "memd/memctl/memctl.h"

#define MEMD_BUS_NAME	   "org.memd1"
#define MEMD_PATH	   "/org/memd1"
#define MEMD_MANAGER	   "org.memd1.Manager"
#define MEMD_GUEST	   "org.memd1.Guest"
#define MEMD_ERROR(suffix) "org.memd1.Error." suffix

/* How long memd may take over one call: stopping a guest waits for it to power off. */
#define CLIENT_TIMEOUT_US UINT64_C(120000000)

/* Connects m->bus to the bus m->bus_name. Negative errno. */
int client_connect(struct memctl *m);

/*
 * Calls a method of memd with arguments as sd_bus_message_append() takes them. ret_reply may be NULL.
 * Negative errno with *e set by the other side or by sd-bus.
 */
int client_call(struct memctl *m, const char *path, const char *interface, const char *method,
	sd_bus_error *e, sd_bus_message **ret_reply, const char *types, ...);

/* The object path of a guest, to be freed. Fails with NoSuchGuest. */
int client_guest_path(struct memctl *m, const char *name, sd_bus_error *e, char **ret_path);

/* All properties of one object as JSON. */
int client_properties(struct memctl *m, const char *path, const char *interface, sd_bus_error *e,
	struct json_object **ret);

/* Array of {"name", "path", "state"}, in memd's order. */
int client_guests(struct memctl *m, sd_bus_error *e, struct json_object **ret);

/*
 * {"host": {...}, "guests": [{...}, ...]}, every figure of memd; guests by name. A guest that goes while
 * it is read is left out.
 */
int client_snapshot(struct memctl *m, sd_bus_error *e, struct json_object **ret);

/*
 * Says what a failed call means and what to do next, and returns the exit code. `guest` is the guest that
 * was asked for, or NULL.
 */
enum memctl_exit client_report(struct memctl *m, const char *guest, int r, const sd_bus_error *e);

/* The name among n that is nearest to `name` by edit distance, or NULL when none is near. */
const char *client_nearest(const char *name, const char *const *names, size_t n);

/* "ScanCpuUSec" -> "scan_cpu_usec". To be freed; NULL when out of memory. */
char *client_key_from_property(const char *property);

/* A figure by key; absent is 0 in the first, so use the second where that matters. */
uint64_t figure_u64(struct json_object *object, const char *key);
bool figure_is_known(struct json_object *object, const char *key);
/* A text by key; "-" when absent. Belongs to the object. */
const char *figure_text(struct json_object *object, const char *key);

static inline void sd_bus_message_unrefpp(sd_bus_message **message)
{
	sd_bus_message_unref(*message);
}
#define _cleanup_message_   _cleanup_(sd_bus_message_unrefpp)
#define _cleanup_bus_error_ _cleanup_(sd_bus_error_free)
