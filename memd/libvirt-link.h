/*
 * The connection to one libvirt. Every call into its library (libvirt-remote.h) is made in a worker
 * thread, since it waits for libvirtd, and libvirtd for QEMU; what comes of it is
 * handed to the event loop as plain figures.
 *
 * DOC: what is believed, and when
 *
 * Life-cycle events only say that it is time to look: what is there is always read as a list of all
 * running domains (a round), so that an event that was lost, or a libvirtd that was started again,
 * leaves nothing wrong for longer than a period. A domain's XML is read when it is new, after an
 * event, and else once a minute.
 *
 * A connection that fails is tried again, after 1 s, then 2, up to a minute. A libvirtd that does
 * not answer ends the connection by keepalive. Should the library not come back all the same, the
 * thread is left behind when memd ends, and nothing else waits for it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "memd/base/error.h"
#include "memd/libvirt-xml.h"

#define DOMAIN_UUID_MAX 37 /* as text, with the NUL */

enum domain_phase {
	DOMAIN_RUNNING,
	DOMAIN_PAUSED,
	DOMAIN_MIGRATING, /* away from here, or to here */
	DOMAIN_CRASHED, /* its process is kept for a look */
	DOMAIN_ENDING,
};

/* What libvirt says of its memory (virDomainMemoryStats), UINT64_MAX: nothing. */
struct domain_figures {
	uint64_t actual_bytes; /* what the balloon leaves it */
	uint64_t rss_bytes;
	uint64_t free_bytes, available_bytes, total_bytes, disk_caches_bytes;
	uint64_t swap_in_bytes, swap_out_bytes, major_faults, minor_faults;
	uint64_t updated_us; /* CLOCK_MONOTONIC of the guest's last report; 0: it made none */
};

struct domain_report {
	char uuid[DOMAIN_UUID_MAX];
	char *name;
	enum domain_phase phase;
	struct domain_figures figures;
	struct domain_facts *facts; /* NULL: as in the round before */
	struct error facts_error; /* why there are none, where there should be */
};

/* All running domains, in no order. */
struct libvirt_report {
	struct domain_report *domains;
	size_t n;
};

struct libvirt_link;

struct libvirt_link_ops {
	/* It can be asked now, or no more; why: for people, "" when it can. */
	void (*changed)(void *context, bool connected, const char *why);
	/* A round has ended. *report is the receiver's (libvirt_report_done). */
	void (*reported)(void *context, struct libvirt_report *report);
	/* Something happened that a round would show. */
	void (*rang)(void *context);
};

/* Connects at the first round. uri, ops and context outlive the link. Negative errno. */
int libvirt_link_new(sd_event *event, const char *uri, const struct libvirt_link_ops *ops,
	void *context, struct libvirt_link **ret);
/* Waits a moment for the call under way; jobs not begun are not run. NULL is allowed. */
void libvirt_link_free(struct libvirt_link *l);

/* Begins a round; nothing while one is under way, or it is too early to connect again. */
void libvirt_link_round(struct libvirt_link *l, uint64_t now_us);

/* The answer to what follows. result: 0, or negative errno with *e. */
typedef void (*libvirt_done_fn)(void *context, int result, const struct error *e);
/* -ENOTCONN, -ENOMEM: done is not called. bytes: what the balloon shall leave to the domain. */
int libvirt_link_set_memory(struct libvirt_link *l, const char *uuid, uint64_t bytes,
	libvirt_done_fn done, void *context);
/* How often the guest is asked for statistics, of the running domain; 0: never. */
int libvirt_link_set_period(struct libvirt_link *l, const char *uuid, uint32_t seconds,
	libvirt_done_fn done, void *context);
/* `done` of what is under way for that context is not called. */
void libvirt_link_forget(struct libvirt_link *l, const void *context);

void libvirt_report_done(struct libvirt_report *r);
