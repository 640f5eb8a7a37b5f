/* Between the files of the provider: libvirt*.c. */
#pragma once

#include "memd/libvirt-link.h"
#include "memd/libvirt.h"
#include "memd/manager.h"
#include "memd/qemu-process.h"

/* One libvirt. */
struct libvirt_source {
	struct libvirt_source *next;
	struct libvirt *owner;
	char *uri;
	struct libvirt_link *link;
	bool connected;
	bool said; /* in the log, that it is not connected */
	uint64_t round_us; /* when the last was begun */
	bool rang;
};

/* Of one running domain, managed or not. */
struct domain {
	struct domain *next;
	struct libvirt_source *source;
	char uuid[DOMAIN_UUID_MAX];
	char *name; /* libvirt's; the guest's may differ */
	enum domain_phase phase;
	struct domain_figures figures;
	struct domain_facts facts; /* valid when facts_known */
	bool facts_known;
	bool seen; /* in this round */
	bool complained; /* in the log, about its settings */
	struct guest *guest; /* NULL: not managed */
	/* Its process. */
	struct find_job *finding; /* under way */
	uint64_t find_again_us;
	sd_event_source *exit_source;
	struct qemu_ram ram;
	uint64_t peak_pages; /* private and swapped, the most that was seen at once */
	/* The period of its statistics, as found; valid when period_changed. */
	uint32_t period_found_s, period_set_s;
	bool period_changed, period_under_way;
};

/* A period that a former memd changed, until the domain was seen again. */
struct period_note {
	struct period_note *next;
	char uuid[DOMAIN_UUID_MAX];
	uint32_t found_s, set_s;
	char uri[]; /* as in the configuration */
};

struct libvirt {
	struct manager *manager;
	const char *const *pid_directories;
	struct libvirt_source *sources;
	struct domain *domains;
	struct period_note *notes;
	sd_event_source *timer;
	bool leaving;
	unsigned n_restoring; /* calls that put something back, under way */
	void (*left)(void *context);
	void *left_context;
	sd_event_source *leave_timer;
};

/* libvirt-guest.c: a domain as a guest. */
extern const struct guest_ops guest_libvirt_ops;
/*
 * What the domain is to memd now: makes, changes or removes its guest by its facts, its settings
 * and the configuration.
 */
void domain_settle(struct domain *d);
/* What libvirt says of it now, to the guest. */
void domain_show(struct domain *d);
/* The guest goes; the domain stays. Nothing when there is none. */
void domain_drop_guest(struct domain *d, const char *reason);

/* libvirt-period.c: the period of statistics. */
/* Of libvirt_new. */
void period_load_notes(struct libvirt *v);
/* Changes, adopts or puts back the period, as the domain's part in the game is now. */
void period_settle(struct domain *d);
/* Puts back what was changed; nothing when nothing was, or it is under way. */
void period_restore(struct domain *d);
/* Writes what is changed at present. */
void period_save(const struct libvirt *v);
void period_free_notes(struct libvirt *v);

/* libvirt.c: a call that puts something back has ended. */
void libvirt_restored(struct libvirt *v);
