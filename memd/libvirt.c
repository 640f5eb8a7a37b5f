/* The registry of libvirt's domains, and when they are looked at; see libvirt.h. */
#include "memd/libvirt.h"

#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/units.h"
#include "memd/libvirt-internal.h"

/* A libvirt without a domain of ours is looked at so often, and when it rings. */
#define IDLE_ROUND_US (10 * US_PER_S)
/* Putting settings back does not keep memd from ending for longer. */
#define LEAVE_MAX_US  (5 * US_PER_S)

/* Debian's, of the system's and of root's own session. */
static const char *const default_pid_directories[] = {
	"/run/libvirt/qemu", "/run/user/0/libvirt/qemu/run", "/root/.cache/libvirt/qemu/run", NULL};

static void free_domain(struct domain *d)
{
	struct domain **p = &d->source->owner->domains;

	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	libvirt_link_forget(d->source->link, d);
	sd_event_source_disable_unref(d->exit_source);
	free(d->name);
	free(d);
}

static struct domain *find_domain(struct libvirt_source *s, const char *uuid)
{
	for (struct domain *d = s->owner->domains; d; d = d->next)
		if (d->source == s && strcmp(d->uuid, uuid) == 0)
			return d;
	return NULL;
}

static struct domain *get_domain(struct libvirt_source *s, const char *uuid)
{
	struct domain *d = find_domain(s, uuid);

	if (d)
		return d;
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->source = s;
	snprintf(d->uuid, sizeof(d->uuid), "%s", uuid);
	d->next = s->owner->domains;
	s->owner->domains = d;
	return d;
}

/* A domain that was seen; what is owned in *in is taken. */
static void take_report(struct libvirt_source *s, struct domain_report *in)
{
	struct domain *d = get_domain(s, in->uuid);

	if (!d)
		return;
	if (d->name && strcmp(d->name, in->name) != 0) /* its names here, too, go by that */
		domain_drop_guest(d, "the domain was renamed");
	free(d->name);
	d->name = TAKE_PTR(in->name);
	d->seen = true;
	d->phase = in->phase;
	d->figures = in->figures;
	if (in->facts) {
		d->facts = *in->facts;
		d->facts_known = true;
	} else if (in->facts_error.text[0] && !d->complained) {
		log_warning("domain %s is not managed: %s", d->name, in->facts_error.text);
		d->complained = true;
	}
	if (in->facts)
		domain_settle(d);
	domain_show(d);
	period_settle(d);
}

static void on_reported(void *context, struct libvirt_report *report)
{
	struct libvirt_source *s = context;
	struct domain *next;

	for (struct domain *d = s->owner->domains; d; d = d->next)
		d->seen = false;
	for (size_t i = 0; i < report->n; i++)
		take_report(s, &report->domains[i]);
	libvirt_report_done(report);
	for (struct domain *d = s->owner->domains; d; d = next) {
		next = d->next;
		if (d->source != s || d->seen)
			continue;
		domain_drop_guest(d, "libvirt ended it");
		if (d->period_under_way && s->owner->leaving)
			libvirt_restored(s->owner);
		free_domain(d);
		period_save(s->owner);
	}
}

static void on_changed(void *context, bool connected, const char *why)
{
	struct libvirt_source *s = context;

	if (connected && !s->connected)
		log_notice("libvirt %s: connected", s->uri);
	else if (!connected && (s->connected || !s->said))
		log_notice("libvirt %s: %s; its guests keep what they have, and memd tries again",
			s->uri, why);
	s->said = !connected;
	s->connected = connected;
}

static void on_rang(void *context)
{
	struct libvirt_source *s = context;

	s->rang = true;
	libvirt_link_round(s->link, clock_monotonic_us());
}

static bool has_guests(const struct libvirt_source *s)
{
	for (const struct domain *d = s->owner->domains; d; d = d->next)
		if (d->source == s && d->guest)
			return true;
	return false;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct libvirt *v = userdata;
	uint64_t now_us = clock_monotonic_us();

	sd_event_source_set_time_relative(source, v->manager->config.tick_us);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	for (struct libvirt_source *s = v->sources; s; s = s->next) {
		if (!s->rang && s->connected && !has_guests(s) &&
			now_us - s->round_us < IDLE_ROUND_US)
			continue;
		s->rang = false;
		s->round_us = now_us;
		libvirt_link_round(s->link, now_us);
	}
	return 0;
}

static int add_source(struct libvirt *v, const char *uri, size_t n)
{
	static const struct libvirt_link_ops ops = {
		.changed = on_changed,
		.reported = on_reported,
		.rang = on_rang,
	};
	struct libvirt_source *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return r;
	s->owner = v;
	s->uri = strndup(uri, n);
	if (s->uri)
		r = libvirt_link_new(v->manager->event, s->uri, &ops, s, &s->link);
	if (r < 0) {
		free(s->uri);
		free(s);
		return r;
	}
	s->next = v->sources;
	v->sources = s;
	return 0;
}

static int add_sources(struct libvirt *v)
{
	const char *uri = v->manager->config.libvirt_uris;
	int r = 0;

	if (!uri)
		uri = CONFIG_LIBVIRT_URI;
	while (r == 0 && uri[0]) {
		size_t n = strcspn(uri, "\n");

		r = add_source(v, uri, n);
		uri += n + (uri[n] == '\n');
	}
	return r;
}

int libvirt_new(struct manager *m, const char *const *pid_directories, struct libvirt **ret,
	struct error *e)
{
	_cleanup_(libvirt_freep) struct libvirt *v = NULL;
	int r;

	*ret = NULL;
	if (m->config.manage_libvirt == CONFIG_LIBVIRT_NO)
		return 0;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->manager = m;
	v->pid_directories = pid_directories ? pid_directories : default_pid_directories;
	period_load_notes(v);
	r = add_sources(v);
	if (r >= 0)
		r = sd_event_add_time_relative(
			m->event, &v->timer, CLOCK_MONOTONIC, 0, 10 * US_PER_MS, on_timer, v);
	if (r < 0)
		return error_set(e, r, "cannot begin to look at libvirt: %s", strerror(-r));
	*ret = TAKE_PTR(v);
	return 0;
}

void libvirt_reconfigured(struct libvirt *v)
{
	for (struct domain *d = v ? v->domains : NULL; d; d = d->next) {
		d->complained = false;
		domain_settle(d);
		period_settle(d);
	}
}

static void end_leaving(struct libvirt *v)
{
	void (*left)(void *context) = v->left;

	v->leave_timer = sd_event_source_disable_unref(v->leave_timer);
	v->left = NULL;
	if (left)
		left(v->left_context);
}

void libvirt_restored(struct libvirt *v)
{
	if (v->n_restoring > 0 && --v->n_restoring == 0 && v->leaving)
		end_leaving(v);
}

static int on_leave_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	log_warning("libvirt does not answer: what was changed of its domains is noted in the "
		    "runtime directory, and put back by the next memd");
	end_leaving(userdata);
	return 0;
}

void libvirt_leave(struct libvirt *v, void (*done)(void *context), void *context)
{
	if (!v)
		return;
	v->leaving = true;
	v->left = done;
	v->left_context = context;
	for (struct domain *d = v->domains; d; d = d->next)
		period_restore(d);
	if (v->n_restoring == 0 ||
		sd_event_add_time_relative(v->manager->event, &v->leave_timer, CLOCK_MONOTONIC,
			LEAVE_MAX_US, 10 * US_PER_MS, on_leave_timeout, v) < 0)
		end_leaving(v);
}

void libvirt_free(struct libvirt *v)
{
	struct libvirt_source *s;

	if (!v)
		return;
	sd_event_source_disable_unref(v->timer);
	sd_event_source_disable_unref(v->leave_timer);
	while (v->domains) {
		if (v->domains->guest)
			v->domains->guest->domain = NULL;
		free_domain(v->domains);
	}
	while ((s = v->sources)) {
		v->sources = s->next;
		libvirt_link_free(s->link);
		free(s->uri);
		free(s);
	}
	period_free_notes(v);
	free(v);
}
