/* The interface org.memd1.Agent of a guest's object: what its agent says, and what that is worth. */
#include <inttypes.h>
#include <string.h>

#include "balloon-agent/names.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/bus-internal.h"
#include "memd/guest-agent.h"

#define BUS_AGENT "org.memd1.Agent"

/* Everything that the interface shows, in the types of D-Bus; filled before it is read. */
struct agent_figures {
	const struct guest *guest;
	const char *state;
	const char *program;
	const char *refusal;
	const char *wish;
	uint32_t version;
	int32_t distrusted;
	uint64_t report_us, refused_us, wished_us;
	uint64_t floor_bytes;
	uint64_t claimed_used_bytes, sampled_used_bytes;
	uint64_t claimed_needed_bytes, working_set_bytes;
	uint64_t requests, grants, refusals, unanswered, asks, distresses;
	struct agent_counters counters;
};

/* What the host knows that the guest has use for: its pages, wherever they are, and its zeros. */
static uint64_t sampled_used_bytes(const struct guest *g)
{
	const struct vmm_stats *s = &g->sample.after;
	uint64_t absent_pages = s->hole_untouched_pages + s->hole_reported_pages +
				s->hole_hinted_pages + s->hole_balloon_pages;

	return u64_sub_or_zero(s->ram_pages, absent_pages) * PAGE_BYTES;
}

static void fill_agent(const struct guest_agent *a, struct agent_figures *f)
{
	f->refusal = a->refusal;
	f->wish = a->wish;
	f->refused_us = a->refused_us;
	f->wished_us = a->wished_us;
	f->requests = a->requests;
	f->grants = a->grants;
	f->refusals = a->refusals;
	f->unanswered = a->unanswered;
	f->asks = a->asks;
	f->distresses = a->distresses;
	if (!a->session)
		return;
	f->program = agent_session_program(a->session);
	f->version = agent_session_version(a->session);
	f->counters = *agent_session_counters(a->session);
	(void)agent_session_report(a->session, &f->report_us);
}

static void fill(const struct guest *g, struct agent_figures *f)
{
	const struct agent_message *m;
	uint64_t us, total;

	*f = (struct agent_figures){
		.guest = g,
		.state = guest_agent_state(g),
		.program = "",
		.refusal = "",
		.wish = "",
		.distrusted = g->judge.claims.distrusted,
		.floor_bytes = guest_agent_floor_bytes(g),
		.sampled_used_bytes = sampled_used_bytes(g),
		.working_set_bytes = g->wss.figures.valid ? g->wss.figures.bytes : 0,
	};
	if (g->agent)
		fill_agent(g->agent, f);
	m = guest_agent_report(g, &us);
	if (!m)
		return;
	total = agent_get(m, AGENT_TOTAL, 0);
	f->claimed_used_bytes = u64_sub_or_zero(total, agent_get(m, AGENT_FREE, total));
	f->claimed_needed_bytes = u64_sub_or_zero(total, agent_get(m, AGENT_AVAILABLE, total));
}

static int append(sd_bus_message *reply, const char *key, uint64_t value)
{
	return sd_bus_message_append(reply, "{st}", key, value);
}

/* Of counters also what they grew by in a second, between the last two reports. */
static int append_rates(sd_bus_message *reply, const struct agent_session *s)
{
	static const struct {
		enum agent_field field;
		const char *key;
	} rates[] = {
		{AGENT_FAULTS, "faults_per_second"},
		{AGENT_MAJOR_FAULTS, "major_faults_per_second"},
		{AGENT_REFAULTS_ANON, "refaults_anon_per_second"},
		{AGENT_REFAULTS_FILE, "refaults_file_per_second"},
	};
	uint64_t now_us, before_us;
	const struct agent_message *now = agent_session_report(s, &now_us);
	const struct agent_message *before = agent_session_report_before(s, &before_us);
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rates) && r >= 0 && now_us > before_us; i++) {
		unsigned __int128 grown;

		if (!agent_has(now, rates[i].field) || !agent_has(before, rates[i].field))
			continue;
		grown = u64_sub_or_zero(now->value[rates[i].field], before->value[rates[i].field]);
		grown = grown * 1000000 / (now_us - before_us);
		r = append(reply, rates[i].key, grown > UINT64_MAX ? UINT64_MAX : (uint64_t)grown);
	}
	return r;
}

/* What was said of the last report, and nothing that was not. */
static int get_figures(sd_bus *connection, const char *path, const char *interface,
	const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct guest *g = ((const struct agent_figures *)userdata)->guest;
	uint64_t us;
	const struct agent_message *m = guest_agent_report(g, &us);
	int r = sd_bus_message_open_container(reply, 'a', "{st}");

	for (const struct agent_name *n = agent_names; m && n->key && r >= 0; n++)
		if (agent_has(m, n->field))
			r = append(reply, n->key, agent_get(m, n->field, 0));
	if (m && r >= 0)
		r = append_rates(reply, g->agent->session);
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

#define FIGURE(name, type, field)                                                                  \
	SD_BUS_PROPERTY(name, type, NULL, offsetof(struct agent_figures, field),                   \
		SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

static const sd_bus_vtable agent_vtable[] = {
	SD_BUS_VTABLE_START(0),
	FIGURE("State", "s", state),
	FIGURE("Program", "s", program),
	FIGURE("Version", "u", version),
	FIGURE("Distrusted", "b", distrusted),
	SD_BUS_PROPERTY("Figures", "a{st}", get_figures, 0, 0),
	FIGURE("ReportUSec", "t", report_us),
	FIGURE("FloorBytes", "t", floor_bytes),
	FIGURE("ClaimedUsedBytes", "t", claimed_used_bytes),
	FIGURE("SampledUsedBytes", "t", sampled_used_bytes),
	FIGURE("ClaimedNeededBytes", "t", claimed_needed_bytes),
	FIGURE("WorkingSetBytes", "t", working_set_bytes),
	FIGURE("Requests", "t", requests),
	FIGURE("Grants", "t", grants),
	FIGURE("Refusals", "t", refusals),
	FIGURE("Unanswered", "t", unanswered),
	FIGURE("Refusal", "s", refusal),
	FIGURE("RefusedUSec", "t", refused_us),
	FIGURE("Asks", "t", asks),
	FIGURE("Distresses", "t", distresses),
	FIGURE("Wish", "s", wish),
	FIGURE("WishedUSec", "t", wished_us),
	FIGURE("Reports", "t", counters.reports),
	FIGURE("IgnoredMessages", "t", counters.ignored),
	FIGURE("NonsenseMessages", "t", counters.nonsense),
	FIGURE("GarbageBytes", "t", counters.garbage_bytes),
	FIGURE("Throttled", "t", counters.throttled),
	SD_BUS_VTABLE_END,
};
_Static_assert(ARRAY_SIZE(agent_vtable) <= BUS_PROPERTIES_MAX, "raise BUS_PROPERTIES_MAX");

void bus_agent_publish(struct bus *b, struct guest *g)
{
	_cleanup_free_ char *path = bus_guest_path(g);
	struct agent_figures figures;

	if (!g->agent || !path)
		return;
	if (!g->agent->published)
		g->agent->published = calloc(ARRAY_SIZE(agent_vtable), sizeof(uint64_t));
	if (!g->agent->published)
		return;
	fill(g, &figures);
	bus_emit_changed(
		b->connection, path, BUS_AGENT, agent_vtable, &figures, g->agent->published);
}

static int find_agent(sd_bus *connection, const char *path, const char *interface, void *userdata,
	void **ret_found, sd_bus_error *error)
{
	static struct agent_figures figures; /* read before another object is looked for */
	struct guest *g;
	int r = bus_guest_find(userdata, path, &g);

	if (r <= 0)
		return r;
	fill(g, &figures);
	*ret_found = &figures;
	return 1;
}

int bus_agent_add_objects(struct bus *b)
{
	int r = sd_bus_add_fallback_vtable(
		b->connection, NULL, BUS_GUEST_PATH, BUS_AGENT, agent_vtable, find_agent, b);

	return r < 0 ? r : 0;
}
