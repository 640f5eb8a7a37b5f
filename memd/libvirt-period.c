/*
 * How often a domain's guest is asked for statistics: changed while memd manages it, written down
 * before, and put back. The state file has a line for each: UUID, found, set, URI.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/libvirt-internal.h"

#define STATE_MAX (4U << 20)

static char *state_path(const struct libvirt *v)
{
	char *path;

	return asprintf(&path, "%s/libvirt.state", v->manager->options.runtime_dir) < 0 ? NULL
											: path;
}

static void add_note(
	struct libvirt *v, const char *uri, const char *uuid, uint32_t found_s, uint32_t set_s)
{
	struct period_note *n = calloc(1, sizeof(*n) + strlen(uri) + 1);

	if (!n)
		return;
	strcpy(n->uri, uri);
	snprintf(n->uuid, sizeof(n->uuid), "%s", uuid);
	n->found_s = found_s;
	n->set_s = set_s;
	n->next = v->notes;
	v->notes = n;
}

void period_load_notes(struct libvirt *v)
{
	_cleanup_free_ char *path = state_path(v), *text = NULL;
	char *line, *rest;

	if (!path || fd_read_file_at(AT_FDCWD, path, STATE_MAX, &text, NULL) < 0)
		return;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char uuid[DOMAIN_UUID_MAX];
		uint32_t found_s, set_s;
		int at = 0;

		if (sscanf(line, "%36s %" SCNu32 " %" SCNu32 " %n", uuid, &found_s, &set_s, &at) ==
				3 &&
			at > 0 && line[at])
			add_note(v, line + at, uuid, found_s, set_s);
	}
}

void period_free_notes(struct libvirt *v)
{
	struct period_note *n;

	while ((n = v->notes)) {
		v->notes = n->next;
		free(n);
	}
}

static void print_notes(const struct libvirt *v, FILE *f)
{
	for (const struct period_note *n = v->notes; n; n = n->next)
		fprintf(f, "%s %" PRIu32 " %" PRIu32 " %s\n", n->uuid, n->found_s, n->set_s,
			n->uri);
	for (const struct domain *d = v->domains; d; d = d->next)
		if (d->period_changed)
			fprintf(f, "%s %" PRIu32 " %" PRIu32 " %s\n", d->uuid, d->period_found_s,
				d->period_set_s, d->source->uri);
}

void period_save(const struct libvirt *v)
{
	_cleanup_free_ char *path = state_path(v), *text = NULL;
	size_t size;
	FILE *f = path ? open_memstream(&text, &size) : NULL;
	int r = -ENOMEM;

	if (f) {
		print_notes(v, f);
		r = fclose(f) == 0 ? fd_replace_file(path, text) : -ENOMEM;
	}
	if (r < 0)
		log_warning("what was changed of libvirt's domains is not written down, and stays "
			    "if memd is killed: %s",
			strerror(-r));
}

/* What a former memd noted of it, taken out of the list; false: nothing that still holds. */
static bool take_note(struct domain *d)
{
	struct period_note **p = &d->source->owner->notes;

	for (; *p; p = &(*p)->next) {
		struct period_note *n = *p;
		bool holds;

		if (strcmp(n->uuid, d->uuid) != 0 || strcmp(n->uri, d->source->uri) != 0)
			continue;
		/* Another value: the domain was started anew, or somebody set it since. */
		holds = n->set_s == d->facts.stats_period_s;
		if (holds) {
			d->period_found_s = n->found_s;
			d->period_set_s = n->set_s;
		}
		*p = n->next;
		free(n);
		return holds;
	}
	return false;
}

static void on_period_set(void *context, int result, const struct error *e)
{
	struct domain *d = context;

	d->period_under_way = false;
	if (result == 0)
		return;
	log_warning("guest %s: %s; memd does without what the guest says",
		d->guest ? d->guest->name : d->name, e->text);
	d->period_changed = false;
	period_save(d->source->owner);
}

static void on_period_restored(void *context, int result, const struct error *e)
{
	struct domain *d = context;

	d->period_under_way = false;
	if (result < 0)
		log_warning("domain %s: its period of statistics stays at %" PRIu32
			    " s instead of %" PRIu32 " s: %s",
			d->name, d->period_set_s, d->period_found_s, e->text);
	else
		d->period_changed = false;
	period_save(d->source->owner);
	libvirt_restored(d->source->owner);
}

static bool is_wanted(const struct domain *d)
{
	return d->guest && !guest_is_left_alone(d->guest) && d->facts.balloon &&
	       !d->source->owner->leaving;
}

static void change(struct domain *d)
{
	uint64_t tick_us = d->source->owner->manager->config.tick_us;
	uint32_t wanted_s = (uint32_t)u64_max(tick_us / US_PER_S, 1);

	if (d->facts.stats_period_s && d->facts.stats_period_s <= wanted_s)
		return; /* it is asked often enough */
	d->period_found_s = d->facts.stats_period_s;
	d->period_set_s = wanted_s;
	d->period_changed = true;
	period_save(d->source->owner);
	d->period_under_way =
		libvirt_link_set_period(d->source->link, d->uuid, wanted_s, on_period_set, d) == 0;
	if (!d->period_under_way)
		d->period_changed = false;
}

void period_restore(struct domain *d)
{
	if (!d->period_changed || d->period_under_way)
		return;
	d->period_under_way = libvirt_link_set_period(d->source->link, d->uuid, d->period_found_s,
				      on_period_restored, d) == 0;
	d->source->owner->n_restoring += d->period_under_way;
}

void period_settle(struct domain *d)
{
	if (!d->facts_known || d->period_under_way)
		return;
	if (!d->period_changed && take_note(d))
		d->period_changed = true;
	if (is_wanted(d) && !d->period_changed)
		change(d);
	else if (!is_wanted(d) && d->phase != DOMAIN_MIGRATING)
		period_restore(d);
}
