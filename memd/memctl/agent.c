/* memctl agent: what a guest's agent said last, and how far that is from what was sampled. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/memctl/client.h"
#include "memd/memctl/draw.h"

#define MEMD_AGENT "org.memd1.Agent"

/* Ages are of this host's monotonic clock, which memd and memctl share. */
static void print_when(struct json_object *agent, const char *key)
{
	uint64_t us = figure_u64(agent, key), now_us = clock_monotonic_us();

	if (us && now_us >= us)
		printf(" (%" PRIu64 " s ago)", (now_us - us) / US_PER_S);
}

static void print_reason(
	const char *label, struct json_object *agent, const char *key, const char *when)
{
	if (!*figure_text(agent, key))
		return;
	printf("  %-16s %s", label, figure_text(agent, key));
	print_when(agent, when);
	putchar('\n');
}

/* "  in use   claimed 1.5 GiB   sampled 1 GiB   50 % more" */
static void print_difference(const char *label, struct json_object *agent, const char *claimed_key,
	const char *sampled_key)
{
	uint64_t claimed = figure_u64(agent, claimed_key), sampled = figure_u64(agent, sampled_key);
	double apart = sampled ? ((double)claimed - (double)sampled) / (double)sampled * 100 : 0;

	printf("  %-16s claimed %10s   sampled %10s", label, UNITS_BYTES(claimed),
		sampled ? UNITS_BYTES(sampled) : "-");
	if (sampled)
		printf("   %.0f %% %s", apart < 0 ? -apart : apart, apart < 0 ? "less" : "more");
	putchar('\n');
}

/* Keys say what they count: "free_bytes", "pressure_some_bp". */
static void print_figure(const char *key, uint64_t value)
{
	size_t n = strlen(key);
	char label[64];

	snprintf(label, sizeof(label), "%s", key);
	for (char *at = label; *at; at++)
		if (*at == '_')
			*at = ' ';
	if (n > 6 && strcmp(key + n - 6, "_bytes") == 0)
		printf("  %-26.*s %12s\n", (int)(n - 6), label, UNITS_BYTES(value));
	else if (n > 3 && strcmp(key + n - 3, "_bp") == 0)
		printf("  %-26.*s %10.2f %%\n", (int)(n - 3), label, (double)value / 100);
	else if (n > 5 && strcmp(key + n - 5, "_usec") == 0)
		printf("  %-26.*s %10.3f s\n", (int)(n - 5), label, (double)value / US_PER_S);
	else
		printf("  %-26s %12" PRIu64 "\n", label, value);
}

static void print_agent(const char *name, struct json_object *agent)
{
	struct style style = stdout_style();
	const char *program = figure_text(agent, "program");

	draw_text(stdout, &style, EMPHASIS_BOLD, name);
	printf("  agent %s", figure_text(agent, "state"));
	if (*program)
		printf(", %s, protocol %s", program, figure_text(agent, "version"));
	if (json_object_get_boolean(json_object_object_get(agent, "distrusted")))
		printf(", not believed");
	puts("\n\nclaimed and sampled");
	print_difference("in use", agent, "claimed_used_bytes", "sampled_used_bytes");
	print_difference("needed", agent, "claimed_needed_bytes", "working_set_bytes");
	printf("  %-16s %s\n", "floor that counts", UNITS_BYTES(figure_u64(agent, "floor_bytes")));
	printf("asked to make room %s times: %s granted, %s refused, %s without an answer\n",
		figure_text(agent, "requests"), figure_text(agent, "grants"),
		figure_text(agent, "refusals"), figure_text(agent, "unanswered"));
	print_reason("last refusal", agent, "refusal", "refused_usec");
	printf("asked for memory %s times, in distress %s times\n", figure_text(agent, "asks"),
		figure_text(agent, "distresses"));
	print_reason("last reason", agent, "wish", "wished_usec");
	printf("%s reports taken, %s messages nonsense, %s not known, %s bytes of garbage, made to "
	       "wait "
	       "%s times\n",
		figure_text(agent, "reports"), figure_text(agent, "nonsense_messages"),
		figure_text(agent, "ignored_messages"), figure_text(agent, "garbage_bytes"),
		figure_text(agent, "throttled"));
	printf("said last");
	print_when(agent, "report_usec");
	putchar('\n');
	json_object_object_foreach(json_object_object_get(agent, "figures"), key, value)
		print_figure(key, json_object_get_uint64(value));
}

/* The property that is a dictionary: a{st}. */
static int read_figures(
	struct memctl *m, const char *path, sd_bus_error *e, struct json_object *agent)
{
	struct json_object *figures = json_object_new_object();
	_cleanup_message_ sd_bus_message *reply = NULL;
	const char *key;
	uint64_t value;
	int r;

	json_object_object_add(agent, "figures", figures);
	r = client_call(m, path, "org.freedesktop.DBus.Properties", "Get", e, &reply, "ss",
		MEMD_AGENT, "Figures");
	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'v', "a{st}");
	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'a', "{st}");
	while (r >= 0 && (r = sd_bus_message_read(reply, "{st}", &key, &value)) > 0)
		json_object_object_add(figures, key, json_object_new_uint64(value));
	return r;
}

enum memctl_exit verb_agent(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *agent = NULL;
	_cleanup_free_ char *path = NULL;
	int r = client_guest_path(m, argv[0], &e, &path);

	if (r >= 0)
		r = client_properties(m, path, MEMD_AGENT, &e, &agent);
	if (r >= 0)
		r = read_figures(m, path, &e, agent);
	if (r < 0)
		return client_report(m, argv[0], r, &e);
	json_object_object_add(agent, "name", json_object_new_string(argv[0]));
	if (m->json)
		memctl_print_json(agent);
	else
		print_agent(argv[0], agent);
	return MEMCTL_OK;
}
