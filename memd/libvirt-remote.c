/* The one file that calls libvirt; see libvirt-remote.h, and libvirt-link.h for what is believed. */
#include "memd/libvirt-remote.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/base/text.h"
#include "memd/base/units.h"

/* libvirtd is dead when it did not answer 3 times in a row. */
#define KEEPALIVE_S	2
#define KEEPALIVE_COUNT 3
#define XML_PERIOD_US	(60 * US_PER_S)
#define NAME_MAX_BYTES	255
#define DOMAINS_MAX	16384

/* Between libvirt's event thread, which rings, and the loop. Counted: either may be the last. */
struct bell {
	atomic_uint n_refs;
	atomic_bool xml_stale;
	int event_fd;
};

/* Of the worker thread, while there is one. */
struct remote {
	const char *uri;
	virConnectPtr connection; /* NULL: none */
	struct bell *bell;
	char (*known)[DOMAIN_UUID_MAX]; /* domains whose XML was read */
	size_t n_known;
	uint64_t xml_us; /* when all were last read */
};

/* Events. */

static void bell_unref(void *opaque)
{
	struct bell *b = opaque;

	if (atomic_fetch_sub(&b->n_refs, 1) > 1)
		return;
	close(b->event_fd);
	free(b);
}

static struct bell *bell_ref(struct bell *b)
{
	atomic_fetch_add(&b->n_refs, 1);
	return b;
}

static void ring(struct bell *b)
{
	uint64_t one = 1;

	atomic_store(&b->xml_stale, true);
	/* The counter of an eventfd only blocks near 2^64. */
	if (write(b->event_fd, &one, sizeof(one)) < 0)
		return;
}

/* Each kind of event has arguments of its own, and says the same here. */
static int on_life_cycle(
	virConnectPtr connection, virDomainPtr domain, int event, int detail, void *opaque)
{
	ring(opaque);
	return 0;
}

static void on_device(
	virConnectPtr connection, virDomainPtr domain, const char *alias, void *opaque)
{
	ring(opaque);
}

static void on_metadata(
	virConnectPtr connection, virDomainPtr domain, int type, const char *uri, void *opaque)
{
	ring(opaque);
}

static void on_tunable(virConnectPtr connection, virDomainPtr domain,
	virTypedParameterPtr parameters, int n, void *opaque)
{
	ring(opaque);
}

static void on_closed(virConnectPtr connection, int reason, void *opaque)
{
	ring(opaque);
}

/* libvirt wants one loop in a process: its own, in a thread that lives as long as memd. */
static void *run_events(void *argument)
{
	while (virEventRunDefaultImpl() == 0)
		;
	return NULL;
}

static void on_error(void *context, virErrorPtr error)
{
	/* What went wrong is in the result of the call: nothing is printed. */
}

static int events_result;

static void start_events(void)
{
	pthread_t thread;
	sigset_t all, before;
	int r;

	virSetErrorFunc(NULL, on_error);
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0) {
		events_result = -EIO;
		return;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, NULL, run_events, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	events_result = -r;
	if (r == 0) {
		pthread_setname_np(thread, "memd-virt-event");
		pthread_detach(thread);
	}
}

/* In the worker thread. */

static int say_last_error(struct error *e, const char *what)
{
	const virError *last = virGetLastError();
	int r = error_set(
		e, -EIO, "%s: %s", what, last && last->message ? last->message : "no reason given");

	if (last && last->code == VIR_ERR_NO_DOMAIN)
		r = -ENOENT;
	else if (last && last->code == VIR_ERR_NO_SUPPORT)
		r = -EOPNOTSUPP;
	text_clean(e->text);
	return r;
}

void remote_disconnect(struct remote *remote)
{
	if (!remote->connection)
		return;
	virConnectUnregisterCloseCallback(remote->connection, on_closed);
	virConnectClose(remote->connection);
	remote->connection = NULL;
	remote->n_known = 0;
	remote->xml_us = 0;
}

static void watch(struct remote *remote)
{
	static const struct {
		int id;
		virConnectDomainEventGenericCallback callback;
	} events[] = {
		{VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_life_cycle)},
		{VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device)},
		{VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device)},
		{VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_metadata)},
		{VIR_DOMAIN_EVENT_ID_TUNABLE, VIR_DOMAIN_EVENT_CALLBACK(on_tunable)},
	};
	virConnectPtr c = remote->connection;

	/* A driver that lacks one of them is looked at by the clock alone. */
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (virConnectDomainEventRegisterAny(c, NULL, events[i].id, events[i].callback,
			    bell_ref(remote->bell), bell_unref) < 0)
			bell_unref(remote->bell);
	if (virConnectRegisterCloseCallback(c, on_closed, bell_ref(remote->bell), bell_unref) < 0)
		bell_unref(remote->bell);
	(void)virConnectSetKeepAlive(c, KEEPALIVE_S, KEEPALIVE_COUNT); /* test: has none */
}

static int connect_remote(struct remote *remote, struct error *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (remote->connection && virConnectIsAlive(remote->connection) == 1)
		return 0;
	remote_disconnect(remote);
	pthread_once(&once, start_events);
	if (events_result < 0)
		return error_set(e, events_result, "libvirt's event loop does not start");
	remote->connection = virConnectOpen(remote->uri);
	if (!remote->connection)
		return say_last_error(e, "cannot connect");
	watch(remote);
	return 0;
}

/* UINT64_MAX stays what it is: not said. */
static uint64_t kib(uint64_t n)
{
	return n > UINT64_MAX / 1024 ? UINT64_MAX : n * 1024;
}

static uint64_t monotonic_of(uint64_t realtime_s)
{
	uint64_t now_us = clock_realtime_us(), age_us;

	if (realtime_s == 0 || realtime_s > now_us / US_PER_S + 1)
		return 0;
	age_us = u64_sub_or_zero(now_us, realtime_s * US_PER_S);
	/* from before the boot: long ago, but said */
	return u64_max(u64_sub_or_zero(clock_monotonic_us(), age_us), 1);
}

static void read_memory(virDomainPtr domain, struct domain_figures *f)
{
	virDomainMemoryStatStruct stats[VIR_DOMAIN_MEMORY_STAT_NR];
	int n = virDomainMemoryStats(domain, stats, VIR_DOMAIN_MEMORY_STAT_NR, 0);

	for (int i = 0; i < n; i++) {
		uint64_t v = stats[i].val;

		switch (stats[i].tag) {
		case VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON:
			f->actual_bytes = kib(v);
			break;
		case VIR_DOMAIN_MEMORY_STAT_RSS:
			f->rss_bytes = kib(v);
			break;
		case VIR_DOMAIN_MEMORY_STAT_UNUSED:
			f->free_bytes = kib(v);
			break;
		case VIR_DOMAIN_MEMORY_STAT_USABLE:
			f->available_bytes = kib(v);
			break;
		case VIR_DOMAIN_MEMORY_STAT_AVAILABLE:
			f->total_bytes = kib(v);
			break;
		case VIR_DOMAIN_MEMORY_STAT_DISK_CACHES:
			f->disk_caches_bytes = kib(v);
			break;
		case VIR_DOMAIN_MEMORY_STAT_SWAP_IN:
			f->swap_in_bytes = kib(v);
			break;
		case VIR_DOMAIN_MEMORY_STAT_SWAP_OUT:
			f->swap_out_bytes = kib(v);
			break;
		case VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT:
			f->major_faults = v;
			break;
		case VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT:
			f->minor_faults = v;
			break;
		case VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE:
			f->updated_us = monotonic_of(v);
			break;
		default:
			break;
		}
	}
}

static enum domain_phase read_phase(virDomainPtr domain)
{
	virDomainJobInfo job = {0};
	int state = 0, reason = 0;

	if (virDomainGetState(domain, &state, &reason, 0) < 0)
		return DOMAIN_ENDING;
	switch (state) {
	case VIR_DOMAIN_PAUSED:
		if (reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_POSTCOPY ||
			reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
			return DOMAIN_MIGRATING;
		return reason == VIR_DOMAIN_PAUSED_CRASHED ? DOMAIN_CRASHED : DOMAIN_PAUSED;
	case VIR_DOMAIN_PMSUSPENDED:
		return DOMAIN_PAUSED;
	case VIR_DOMAIN_CRASHED:
		return DOMAIN_CRASHED;
	case VIR_DOMAIN_RUNNING:
	case VIR_DOMAIN_BLOCKED:
		/* A job that moves memory: migration, saving, a dump. */
		if (virDomainGetJobInfo(domain, &job) == 0 &&
			(job.type == VIR_DOMAIN_JOB_BOUNDED ||
				job.type == VIR_DOMAIN_JOB_UNBOUNDED))
			return DOMAIN_MIGRATING;
		return DOMAIN_RUNNING;
	default:
		return DOMAIN_ENDING;
	}
}

static bool knows(const struct remote *remote, const char *uuid)
{
	for (size_t i = 0; i < remote->n_known; i++)
		if (strcmp(remote->known[i], uuid) == 0)
			return true;
	return false;
}

static void read_facts(virDomainPtr domain, struct domain_report *d)
{
	char *xml = virDomainGetXMLDesc(domain, 0);
	struct domain_facts *facts = calloc(1, sizeof(*facts));
	int r = facts ? 0 : -ENOMEM;

	if (!xml)
		r = say_last_error(&d->facts_error, "libvirt does not show its settings");
	if (r == 0)
		r = domain_xml_parse(xml, strlen(xml), facts, &d->facts_error);
	free(xml);
	if (r < 0)
		free(facts);
	else
		d->facts = facts;
}

/* false: it ended meanwhile, or there is no memory. */
static bool read_domain(
	struct remote *remote, virDomainPtr domain, bool read_all, struct domain_report *d)
{
	const char *name = virDomainGetName(domain);

	*d = (struct domain_report){0};
	memset(&d->figures, 0xff, sizeof(d->figures)); /* UINT64_MAX: not said */
	d->figures.updated_us = 0;
	if (!name || strlen(name) > NAME_MAX_BYTES || virDomainGetUUIDString(domain, d->uuid) < 0)
		return false;
	d->name = strdup(name);
	if (!d->name)
		return false;
	d->phase = read_phase(domain);
	if (d->phase == DOMAIN_RUNNING)
		read_memory(domain, &d->figures);
	if (read_all || !knows(remote, d->uuid))
		read_facts(domain, d);
	return true;
}

static void note_known(struct remote *remote, const struct libvirt_report *report)
{
	char(*known)[DOMAIN_UUID_MAX] = calloc(report->n + 1, sizeof(*known));
	size_t n = 0;

	for (size_t i = 0; known && i < report->n; i++) {
		const struct domain_report *d = &report->domains[i];

		if (d->facts || knows(remote, d->uuid))
			memcpy(known[n++], d->uuid, DOMAIN_UUID_MAX);
	}
	free(remote->known);
	remote->known = known;
	remote->n_known = n;
}

int remote_round(struct remote *remote, struct libvirt_report *ret, struct error *e)
{
	struct libvirt_report report = {0};
	uint64_t now_us = clock_monotonic_us();
	virDomainPtr *domains = NULL;
	bool read_all;
	int n, r = connect_remote(remote, e);

	if (r < 0)
		return r;
	n = virConnectListAllDomains(remote->connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
	if (n < 0) {
		r = say_last_error(e, "cannot list its domains");
		remote_disconnect(remote);
		return r;
	}
	read_all = atomic_exchange(&remote->bell->xml_stale, false) ||
		   now_us - remote->xml_us >= XML_PERIOD_US;
	if (read_all)
		remote->xml_us = now_us;
	report.domains = calloc((size_t)n + 1, sizeof(*report.domains));
	for (int i = 0; i < n; i++) {
		if (report.domains && report.n < DOMAINS_MAX) {
			struct domain_report *d = &report.domains[report.n];

			if (read_domain(remote, domains[i], read_all, d))
				report.n++;
			else
				free(d->name);
		}
		virDomainFree(domains[i]);
	}
	free(domains);
	if (!report.domains)
		return -ENOMEM;
	note_known(remote, &report);
	*ret = report;
	return 0;
}

static virDomainPtr find_domain(
	struct remote *remote, const char *uuid, int *ret_result, struct error *e)
{
	virDomainPtr domain = NULL;

	*ret_result = -ENOTCONN;
	if (!remote->connection)
		return NULL;
	domain = virDomainLookupByUUIDString(remote->connection, uuid);
	*ret_result = domain ? 0 : say_last_error(e, "cannot find the domain");
	return domain;
}

int remote_set_memory(struct remote *remote, const char *uuid, uint64_t bytes, struct error *e)
{
	int r;
	virDomainPtr domain = find_domain(remote, uuid, &r, e);

	if (!domain)
		return r;
	if (virDomainSetMemoryFlags(domain, (unsigned long)(bytes / 1024), VIR_DOMAIN_AFFECT_LIVE) <
		0)
		r = say_last_error(e, "libvirt does not set its balloon");
	virDomainFree(domain);
	return r;
}

int remote_set_period(struct remote *remote, const char *uuid, uint32_t seconds, struct error *e)
{
	int r;
	virDomainPtr domain = find_domain(remote, uuid, &r, e);

	if (!domain)
		return r;
	if (virDomainSetMemoryStatsPeriod(domain, (int)seconds, VIR_DOMAIN_AFFECT_LIVE) < 0)
		r = say_last_error(e, "libvirt does not set its period of statistics");
	virDomainFree(domain);
	return r;
}

int remote_new(const char *uri, struct remote **ret, int *ret_bell_fd)
{
	struct remote *remote = calloc(1, sizeof(*remote));
	struct bell *bell = calloc(1, sizeof(*bell));
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (!remote || !bell || fd < 0) {
		cleanup_closep(&fd);
		free(remote);
		free(bell);
		return -ENOMEM;
	}
	atomic_init(&bell->n_refs, 1);
	bell->event_fd = *ret_bell_fd = fd;
	remote->uri = uri;
	remote->bell = bell;
	*ret = remote;
	return 0;
}

void remote_free(struct remote *remote)
{
	if (!remote)
		return;
	bell_unref(remote->bell);
	free(remote->known);
	free(remote);
}
