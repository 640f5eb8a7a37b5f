/*
 * The devices that a guest is given by options (--disk, --net, --rng, ...): one operations table
 * for each kind, which stands in the file of the device, and one list of devices for each guest.
 * What needs privileges is opened first; then the sandbox closes, and the devices are plugged in.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kvm-glue/machine.h"
#include "kvm-glue/pci.h"
#include "memd/base/error.h"

#define DEVICES_MAX 24 /* slots of the bus that are left for them */

/*
 * What memd-vmm knows about a kind of device.
 *
 * open: spec is the option's value, e carries no option name. Files, sockets, helper programs: what
 *   needs privileges or a name in the file system. *ret is what the others get.
 * plug: makes the device in that slot, with its thread running.
 * free: takes it out, ends its thread, closes everything; NULL and one that was never plugged are
 *   allowed. After vCPUs have stopped.
 * needs_reset: times the guest broke a rule of the device.
 * calls: numbers of the system calls that its thread makes beyond what all threads may
 *   (sandbox.c), ended by -1.
 */
struct device_kind {
	const char *option; /* "disk": --disk on the command line */
	int (*open)(const char *spec, void **ret, struct error *e);
	int (*plug)(void *device, struct machine *m, struct pci_bus *pci, unsigned slot);
	void (*free)(void *device);
	uint64_t (*needs_reset)(void *device);
	const int *calls;
};

/* A device asked for: spec points to where it was said. */
struct device_request {
	const struct device_kind *kind;
	const char *spec;
};

struct devices;

/* Opens them in order. Any errno, *e names the option. Nothing is left open on failure. */
int devices_open(
	const struct device_request *requests, size_t n, struct devices **ret, struct error *e);
/* Plugs them in, from first_slot on. */
int devices_plug(struct devices *d, struct machine *m, struct pci_bus *pci, unsigned first_slot,
	struct error *e);
/* NULL is allowed. */
void devices_free(struct devices *d);
DEFINE_CLEANUP(struct devices *, devices_free)

/* Times the guest broke a rule of any of them. Any thread. */
uint64_t devices_needs_reset(const struct devices *d);
/* Hands the system calls of each kind that is there to allow(), which returns 0 or an error. */
int devices_each_call(
	const struct devices *d, int (*allow)(void *context, int call), void *context);

/*
 * A spec is words with commas in between: "/srv/web.img,ro,queues=4". Copies the first word;
 * -EINVAL when it is empty or longer than size - 1, -ENAMETOOLONG.
 */
int device_spec_first(const char *spec, char *ret, size_t size, struct error *e);
/*
 * Goes through the words behind the first: *cursor begins as spec. Returns 1 with the next word
 * ("queues=4") split at its first '=' (value NULL when there is none), 0 at the end, -EINVAL for
 * one that is empty or too long.
 */
struct device_spec_word {
	char text[256];
	const char *value;
};
int device_spec_next(const char **cursor, struct device_spec_word *ret, struct error *e);
/* A value that is a number of min..max. -EINVAL, -ERANGE. */
int device_spec_number(const struct device_spec_word *w, uint64_t min, uint64_t max, uint64_t *ret,
	struct error *e);
/* For a word that the device does not know: -EINVAL. */
int device_spec_unknown(const struct device_spec_word *w, const char *known, struct error *e);
