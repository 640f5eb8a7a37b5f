/*
 * Settings of other controllers as settings of memd. Pure: text in, text out. What has no equal is
 * said as a comment, never dropped in silence, and so is what could not be read.
 */
#pragma once

#include <stdio.h>

enum import_kind {
	IMPORT_MOM, /* mom.conf of oVirt's Memory Overcommitment Manager */
	IMPORT_KSMTUNED, /* ksmtuned.conf, Proxmox's as well */
	IMPORT_PROXMOX, /* qemu-server/NNN.conf of a virtual machine */
	IMPORT_KINDS,
};
/* "mom", "ksmtuned", "proxmox"; IMPORT_KINDS: none of them. */
enum import_kind import_kind_of(const char *name);

#define IMPORT_MAX (1U << 20) /* bytes of a file */

/* Writes a memd.conf (mom, ksmtuned) or a NAME.guest (proxmox). text is changed. */
void import_convert(enum import_kind kind, char *text, FILE *out);
