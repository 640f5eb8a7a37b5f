/*
 * memd on D-Bus: name org.memd1, object /org/memd1 (bus.c) and one object for each guest
 * (bus-guest.c). Vtables and their handlers only: they check nothing but types, call the manager,
 * and turn refusals into error names. All functions allow a NULL bus (tests).
 *
 * Properties are those that change with every tick: what changed is collected and said once a tick,
 * in one PropertiesChanged for each object (bus_publish).
 */
#pragma once

#include "memd/guest.h"
#include "policy/policy-host.h"

struct bus;
struct manager;

/*
 * address: "system", "session", an address, or NULL for none (*ret is NULL then). -EEXIST: another
 * memd has the name. When the bus goes away memd ends, and leaves its guests to the next one.
 */
int bus_open(struct manager *m, const char *address, struct bus **ret, struct error *e);
void bus_close(struct bus *b);

void bus_guest_added(struct bus *b, struct guest *g);
/* Before the guest is freed; its state_reason says why. */
void bus_guest_removed(struct bus *b, struct guest *g);
void bus_guest_state_changed(struct bus *b, struct guest *g, enum guest_state old);
void bus_host_state_changed(
	struct bus *b, enum memd_host_state old, enum memd_host_state now, const char *reason);
/* A guest, and what the host would have more without it. */
struct bus_relief {
	const char *name;
	uint64_t bytes;
};
/* The host is short, for so long; who would help most by leaving, the largest first. */
void bus_host_short(struct bus *b, uint64_t short_us, const struct bus_relief *list, size_t n);
void bus_policy_set_aside(
	struct bus *b, const char *policy, const char *successor, const char *reason);
/* Says what changed since the last time. */
void bus_publish(struct bus *b);
