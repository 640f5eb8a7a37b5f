/* See policy-run.h. */
#include "memd/policy-run.h"

#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/policy-child.h"
#include "policy/view-record.h"

/* Of one guest: it may be gone before the policy has answered. */
struct policy_names {
	char guest[VIEW_RECORD_NAME_MAX + 1];
	char group[CONFIG_GUEST_NAME_MAX + 1];
};

struct policy_run {
	sd_event *event;
	const struct policy_run_ops *ops;
	void *context;
	char *name;
	enum policy_kind kind;
	struct policy_child *child; /* NULL: built in, or set aside */
	struct policy_groups *groups; /* of both that follow */
	struct policy_host *chosen; /* NULL: not open yet, or set aside */
	struct policy_host *fallback;
	sd_event_source *limit_timer;
	bool opened;
	int open_result;
	char why[512]; /* of the opening, then of setting aside */
	bool is_set_aside;
	unsigned strikes;

	/* The evaluation under way. */
	bool under_way;
	uint64_t asked_us;
	struct memd_host_view host;
	size_t n;
	size_t n_room;
	struct policy_guest *guests;
	struct policy_decision *decisions;
	struct policy_names *names;
};

static void say_opened(struct policy_run *run, int result, const char *why)
{
	run->opened = true;
	run->open_result = result;
	snprintf(run->why, sizeof(run->why), "%s", why);
	if (run->ops->opened)
		run->ops->opened(run->context, result, why);
}

static void set_aside(struct policy_run *run, const char *why)
{
	policy_host_free(run->chosen);
	run->chosen = NULL;
	policy_child_free(run->child);
	run->child = NULL;
	run->is_set_aside = true;
	snprintf(run->why, sizeof(run->why), "%s", why);
	if (run->ops->set_aside)
		run->ops->set_aside(run->context, run->why);
}

/* A tick in which the policy was of no use. */
static void strike(struct policy_run *run, const char *why)
{
	char reason[400];

	if (++run->strikes < POLICY_STRIKES_MAX) {
		log_warning("policy %s: %s; %s decides this tick (%u of %d before it is set aside)",
			run->name, why, POLICY_FALLBACK, run->strikes, POLICY_STRIKES_MAX);
		return;
	}
	snprintf(reason, sizeof(reason), "%d ticks in a row; the last: %.300s", POLICY_STRIKES_MAX,
		why);
	set_aside(run, reason);
}

/* The end of an evaluation: says what was decided. */
static void finish(struct policy_run *run, const char *policy, bool fell_back)
{
	struct policy_outcome outcome = {
		.policy = policy,
		.fell_back = fell_back,
		.host = &run->host,
		.guests = run->guests,
		.decisions = run->decisions,
		.n = run->n,
		.wait_us = clock_monotonic_us() - run->asked_us,
		.policy_cpu_us = run->child ? policy_child_cpu_us(run->child) : 0,
	};

	run->under_way = false;
	sd_event_source_set_enabled(run->limit_timer, SD_EVENT_OFF);
	run->ops->decided(run->context, &outcome);
}

static void decide_by_fallback(struct policy_run *run)
{
	struct error e = {0};
	int r = policy_host_evaluate(
		run->fallback, &run->host, run->guests, run->n, run->decisions, &e);

	if (r < 0) /* without memory nothing is decided: targets stay */
		run->n = 0;
	finish(run, POLICY_FALLBACK, true);
}

/* Asks the chosen policy, or takes what it has answered. */
static void ask(struct policy_run *run)
{
	struct error e = {0};
	int r = policy_host_evaluate(
		run->chosen, &run->host, run->guests, run->n, run->decisions, &e);

	if (r == POLICY_PENDING)
		return;
	if (r == 0) {
		run->strikes = 0;
		finish(run, run->name, false);
		return;
	}
	if (run->child && policy_child_fault(run->child)[0])
		strike(run, policy_child_fault(run->child));
	else if (run->child && policy_child_busy(run->child))
		strike(run, "it still works on an earlier tick");
	else
		strike(run, e.text[0] ? e.text : strerror(-r));
	decide_by_fallback(run);
}

static int on_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct policy_run *run = userdata;

	if (!run->under_way)
		return 0;
	strike(run, "it took longer than its time limit");
	decide_by_fallback(run);
	return 0;
}

static void on_child_opened(void *context, int result, const char *why)
{
	struct policy_run *run = context;
	struct error e = {0};
	char text[512];

	if (result == 0)
		result = policy_host_new(policy_child_policy(run->child), NULL, 0,
			policy_child_calls(run->child), &run->chosen, &e);
	if (result == 0)
		policy_host_set_groups(run->chosen, run->groups);
	if (result < 0) {
		snprintf(text, sizeof(text), "the policy %s is refused: %.400s", run->name,
			e.text[0] ? e.text : why);
		policy_child_free(run->child);
		run->child = NULL;
		say_opened(run, result, text);
		return;
	}
	say_opened(run, 0, "");
}

static void on_child_answered(void *context)
{
	struct policy_run *run = context;

	if (run->under_way)
		ask(run);
	else
		policy_child_discard(run->child);
}

static void on_child_ended(void *context, const char *why)
{
	struct policy_run *run = context;

	set_aside(run, why);
	if (run->under_way)
		decide_by_fallback(run);
}

static const struct policy_child_ops child_ops = {
	.opened = on_child_opened,
	.answered = on_child_answered,
	.ended = on_child_ended,
};

static void on_builtin_log(void *host, int level, const char *line)
{
	log_write((enum log_level)level, "policy: %s", line);
}

static const struct memd_host_calls builtin_calls = {
	.size = sizeof(builtin_calls),
	.log = on_builtin_log,
};

/* Appends the section's pairs (NULL: none), but for that key; how many there are then. */
static size_t add_settings(const struct config_section *section, const char *but,
	struct policy_setting *settings, size_t n)
{
	for (size_t i = 0; section && i < section->n_pairs; i++)
		if (strcmp(section->pairs[i].key, but) != 0)
			settings[n++] = (struct policy_setting){
				section->pairs[i].key, section->pairs[i].value};
	return n;
}

/* Takes Command= out of the settings: it is ours, the rest is the program's. */
static const char *take_command(struct policy_setting *settings, size_t *n)
{
	const char *command = NULL;
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++) {
		if (strcmp(settings[i].key, "Command") == 0)
			command = settings[i].value;
		else
			settings[kept++] = settings[i];
	}
	*n = kept;
	return command;
}

static int open_child(struct policy_run *run, const struct policy_run_options *o,
	struct policy_setting *settings, size_t n, struct error *e)
{
	struct policy_child_options options = {
		.event = o->event,
		.program = o->program,
		.name = run->name,
		.directory = o->config->policy_dir,
		.settings = settings,
		.ops = &child_ops,
		.context = run,
	};

	if (run->kind == POLICY_KIND_EXEC) {
		options.command = take_command(settings, &n);
		if (!options.command)
			return error_set(e, -EINVAL,
				"Policy=exec: [Policy exec] is to have Command=, the program to "
				"ask");
	} else {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s.so", o->config->policy_dir, run->name) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		if (access(path, F_OK) < 0)
			return error_set(e, -EINVAL,
				"Policy=%s: there is no such policy; there are %s, and plugins in "
				"%s",
				run->name, policy_builtin_names(), o->config->policy_dir);
	}
	options.n_settings = n;
	return policy_child_new(&options, &run->child, e);
}

static int open_policy(struct policy_run *run, const struct policy_run_options *o, struct error *e)
{
	const struct memd_policy *builtin = policy_find_builtin(run->name);
	const struct config_section *section = host_config_policy(o->config, run->name);
	_cleanup_free_ struct policy_setting *settings = NULL;
	size_t n = section ? section->n_pairs : 0;
	int r;

	settings = calloc(n + 1, sizeof(*settings));
	if (!settings)
		return -ENOMEM;
	n = add_settings(section, "", settings, 0);
	if (!builtin) {
		run->kind =
			strcmp(run->name, POLICY_EXEC) == 0 ? POLICY_KIND_EXEC : POLICY_KIND_PLUGIN;
		return open_child(run, o, settings, n, e);
	}
	r = policy_host_new(builtin, settings, n, &builtin_calls, &run->chosen, e);
	if (r == 0)
		policy_host_set_groups(run->chosen, run->groups);
	run->opened = r == 0;
	return r;
}

static int open_fallback(struct policy_run *run, struct error *e)
{
	int r = policy_host_new(policy_find_builtin(POLICY_FALLBACK), NULL, 0, &builtin_calls,
		&run->fallback, e);

	if (r == 0)
		policy_host_set_groups(run->fallback, run->groups);
	return r;
}

/* The settings of a group's policy: those for all guests, then its own. */
static int group_options(const struct host_config *c, const struct config_section *group,
	struct policy_group_options *ret)
{
	const char *policy = config_group_policy(group);
	const struct config_section *general = host_config_policy(c, policy);
	struct policy_setting *settings = calloc(
		group->n_pairs + (general ? general->n_pairs : 0) + 1, sizeof(*settings));
	size_t n;

	if (!settings)
		return -ENOMEM;
	n = add_settings(general, "", settings, 0);
	n = add_settings(group, CONFIG_GROUP_POLICY, settings, n);
	*ret = (struct policy_group_options){group->name, policy, settings, n};
	return 0;
}

static int open_groups(struct policy_run *run, const struct host_config *c, struct error *e)
{
	struct policy_group_options *options;
	int r = 0;

	if (c->n_groups == 0)
		return 0;
	options = calloc(c->n_groups, sizeof(*options));
	if (!options)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < c->n_groups; i++)
		r = group_options(c, &c->groups[i], &options[i]);
	if (r == 0)
		r = policy_groups_new(options, c->n_groups, &builtin_calls, &run->groups, e);
	for (size_t i = 0; i < c->n_groups; i++)
		free((void *)(uintptr_t)options[i].settings);
	free(options);
	return r;
}

int policy_run_new(
	const struct policy_run_options *options, struct policy_run **ret, struct error *e)
{
	_cleanup_(policy_run_freep) struct policy_run *run = calloc(1, sizeof(*run));
	int r;

	if (!run)
		return -ENOMEM;
	run->event = sd_event_ref(options->event);
	run->ops = options->ops;
	run->context = options->context;
	run->name = strdup(options->policy ? options->policy : options->config->policy);
	if (!run->name)
		return -ENOMEM;
	r = sd_event_add_time(
		run->event, &run->limit_timer, CLOCK_MONOTONIC, 0, US_PER_MS, on_limit, run);
	if (r >= 0)
		r = sd_event_source_set_enabled(run->limit_timer, SD_EVENT_OFF);
	if (r >= 0)
		r = open_groups(run, options->config, e);
	if (r >= 0)
		r = open_fallback(run, e);
	if (r >= 0)
		r = open_policy(run, options, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(run);
	return 0;
}

void policy_run_free(struct policy_run *run)
{
	if (!run)
		return;
	sd_event_source_disable_unref(run->limit_timer);
	policy_host_free(run->chosen);
	policy_host_free(run->fallback);
	policy_groups_free(run->groups);
	policy_child_free(run->child);
	sd_event_unref(run->event);
	free(run->guests);
	free(run->decisions);
	free(run->names);
	free(run->name);
	free(run);
}

int policy_run_wait(struct policy_run *run, struct error *e)
{
	while (!run->opened) {
		int r = sd_event_run(run->event, UINT64_MAX);

		if (r < 0)
			return error_set(
				e, r, "waiting for the policy %s: %s", run->name, strerror(-r));
	}
	return run->open_result < 0 ? error_set(e, run->open_result, "%s", run->why) : 0;
}

bool policy_run_is_open(const struct policy_run *run)
{
	return run->opened && run->open_result == 0;
}

const char *policy_run_name(const struct policy_run *run)
{
	return run->name;
}

enum policy_kind policy_run_kind(const struct policy_run *run)
{
	return run->kind;
}

const char *policy_run_set_aside_reason(const struct policy_run *run)
{
	return run->is_set_aside ? run->why : "";
}

pid_t policy_run_pid(const struct policy_run *run)
{
	return run->child ? policy_child_pid(run->child) : 0;
}

static int make_room(struct policy_run *run, size_t n)
{
	if (n <= run->n_room)
		return 0;
	if (!GROW_ARRAY(run->guests, n) || !GROW_ARRAY(run->decisions, n) ||
		!GROW_ARRAY(run->names, n))
		return -ENOMEM;
	run->n_room = n;
	return 0;
}

void policy_run_give_up(struct policy_run *run)
{
	if (run->under_way)
		decide_by_fallback(run);
}

int policy_run_evaluate(struct policy_run *run, const struct memd_host_view *host,
	const struct policy_guest *guests, size_t n, uint64_t limit_us)
{
	int r;

	if (run->under_way) {
		strike(run, "it took longer than a tick");
		decide_by_fallback(run);
	}
	r = make_room(run, n);
	if (r < 0)
		return r;
	run->host = *host;
	run->n = n;
	for (size_t i = 0; i < n; i++) {
		struct policy_names *names = &run->names[i];

		run->guests[i] = guests[i];
		snprintf(names->guest, sizeof(names->guest), "%s", guests[i].view.name);
		run->guests[i].view.name = names->guest;
		if (!guests[i].group)
			continue;
		snprintf(names->group, sizeof(names->group), "%s", guests[i].group);
		run->guests[i].group = names->group;
	}
	run->asked_us = clock_monotonic_us();
	run->under_way = true;
	if (!run->chosen) {
		decide_by_fallback(run);
		return 0;
	}
	if (run->child) {
		sd_event_source_set_time_relative(run->limit_timer, limit_us);
		sd_event_source_set_enabled(run->limit_timer, SD_EVENT_ONESHOT);
	}
	ask(run);
	return 0;
}
