/*
 * Guests that libvirt runs, as guests of memd: which of its domains are managed, what becomes of
 * them, and what memd changed of theirs. The connection is libvirt-link.h's, their processes
 * qemu-process.h's, what their memory shall be is decided by the tick as for any guest.
 *
 * DOC: what memd does to a domain, and undoes
 *
 * Of its memory: the balloon's target, and pages of its process that the kernel is asked to page
 * out. Both it keeps when memd ends, since giving all back at once could be more than the host has.
 * Of its settings: the period of the balloon's statistics, without which the guest says nothing. The
 * period as found is written to RUNTIME/libvirt.state before it is changed, and put back when memd
 * ends or no longer manages the domain; a memd that was killed leaves that to the next.
 *
 * A domain whose memory cannot be taken (locked, pinned by a device, in huge pages, encrypted) is
 * shown and counted, and otherwise left alone. While it is migrated, saved or dumped nothing is
 * done to any: pages that go out would be read back at once.
 */
#pragma once

#include <stdbool.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"

struct manager;
struct libvirt;

/*
 * Begins to look, as m->config has it; with ManageLibvirt=no nothing is begun and *ret is NULL.
 * pid_directories: where libvirt keeps its pid files, NULL: where its packages do. Negative errno.
 */
int libvirt_new(struct manager *m, const char *const *pid_directories, struct libvirt **ret,
	struct error *e);
/* The configuration was read again: whoever is managed no longer is let go. NULL is allowed. */
void libvirt_reconfigured(struct libvirt *v);
/*
 * Puts settings back; `done` is called when that is done, or has taken too long. Nothing is changed
 * afterwards.
 */
void libvirt_leave(struct libvirt *v, void (*done)(void *context), void *context);
/* Its guests stay the manager's to free. NULL is allowed. */
void libvirt_free(struct libvirt *v);
DEFINE_CLEANUP(struct libvirt *, libvirt_free)
