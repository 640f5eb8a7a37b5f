/*
 * The devices of a guest's configuration, as memd-vmm wants to be told of them, as the settings
 * file keeps them, and as a person reads them.
 */
#pragma once

#include <stddef.h>

#include "config/config.h"

#define GUEST_DEVICES_MAX 24 /* DEVICES_MAX of memd-vmm */

struct guest_devices {
	size_t n;
	struct {
		const char *key; /* "Disk" */
		const char *option; /* "--disk" */
		char *value; /* NULL: the option takes none */
	} list[GUEST_DEVICES_MAX];
	char *text; /* what the values point into */
};

/* In the order of the keys. -E2BIG when there are too many, -ENOMEM. */
int guest_devices_init(
	struct guest_devices *ret, const struct guest_config *config, struct error *e);
void guest_devices_done(struct guest_devices *d);

/*
 * "Disk=/srv/web.img", one a line with '\n' behind each, as in a .guest file; the caller's to free.
 * The errors of guest_devices_init.
 */
int guest_devices_text(const struct guest_config *config, char **ret, struct error *e);
