/* Between bus.c and the other files of the bus only. */
#pragma once

#include <systemd/sd-bus.h>

#include "memd/bus.h"
#include "memd/manager.h"

#define BUS_PATH	   "/org/memd1"
#define BUS_GUEST_PATH	   "/org/memd1/guest"
#define BUS_MANAGER	   "org.memd1.Manager"
#define BUS_GUEST	   "org.memd1.Guest"
#define BUS_PROPERTIES_MAX 160

struct bus {
	sd_bus *connection;
	struct manager *manager;
	uint64_t published[BUS_PROPERTIES_MAX]; /* what was said of the Manager object */
	struct bus_pending *pending; /* calls that wait for polkit */
	size_t n_pending;
};

/*
 * Emits PropertiesChanged for those properties of the vtable that emit changes, lie at an offset of
 * values, and differ from what `published` (a hash for each entry of the vtable, BUS_PROPERTIES_MAX
 * of them) remembers.
 */
void bus_emit_changed(sd_bus *connection, const char *path, const char *interface,
	const sd_bus_vtable *vtable, const void *values, uint64_t *published);

/* The D-Bus error for a refusal. result: the negative errno. */
int bus_refuse(sd_bus_message *call, int result, const struct refusal *refusal);
/*
 * A guest_done_fn that answers the call (context: a reference to it, given back) with an empty
 * message.
 */
void bus_answer_done(void *context, int result, const struct refusal *refusal);

/* bus-authorize.c: before any method that changes something. */
int bus_authorize_init(struct bus *b);
void bus_authorize_done(struct bus *b);

/* bus-guest.c */
int bus_guest_add_objects(struct bus *b);
/* The object's path, the caller's to free; NULL for want of memory. */
char *bus_guest_path(const struct guest *g);
void bus_guest_publish(struct bus *b, struct guest *g);
/* The guest whose object has that path. 1; 0: there is none; negative errno. */
int bus_guest_find(struct bus *b, const char *path, struct guest **ret);

/* bus-agent.c */
int bus_agent_add_objects(struct bus *b);
void bus_agent_publish(struct bus *b, struct guest *g);

/* bus-policy.c */
int bus_method_list_policies(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_open_journal(sd_bus_message *message, void *userdata, sd_bus_error *error);
/* Answers with the sentences about a guest. */
int bus_explain(sd_bus_message *message, const struct manager *m, const struct guest *g);
