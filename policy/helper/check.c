/*
 * memd-policy --check: a policy tried before memd gets it, on three made-up guests of which one is
 * idle, one busy and one new, on a host that is short. Nothing of the real host is read.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/text.h"
#include "memd/base/units.h"
#include "policy/helper/helper.h"

#define TICKS	 3
#define N_GUESTS ARRAY_SIZE(guests)

static const struct memd_guest_view guests[] = {
	{
		.size = sizeof(guests[0]),
		.name = "idle",
		.id = 1,
		.flags = MEMD_GUEST_BALLOON_READY | MEMD_GUEST_CAN_PAGE,
		.shares = 1000,
		.configured_bytes = 1024 * MIB,
		.min_bytes = 256 * MIB,
		.max_bytes = 1024 * MIB,
		.target_bytes = 700 * MIB,
		.resident_bytes = 690 * MIB,
		.swapped_bytes = 100 * MIB,
	},
	{
		.size = sizeof(guests[0]),
		.name = "busy",
		.id = 2,
		.flags = MEMD_GUEST_BALLOON_READY | MEMD_GUEST_CAN_PAGE,
		.shares = 2000,
		.configured_bytes = 1024 * MIB,
		.min_bytes = 256 * MIB,
		.max_bytes = 1024 * MIB,
		.target_bytes = 700 * MIB,
		.resident_bytes = 700 * MIB,
		.swapped_bytes = 200 * MIB,
		.refault_bytes = 20 * MIB,
	},
	{
		.size = sizeof(guests[0]),
		.name = "new",
		.id = 3,
		.flags = MEMD_GUEST_CAN_PAGE,
		.shares = 1000,
		.configured_bytes = 512 * MIB,
		.min_bytes = 64 * MIB,
		.max_bytes = 512 * MIB,
		.resident_bytes = 16 * MIB,
	},
};

static const struct memd_host_view host = {
	.size = sizeof(host),
	.now_us = 1000000,
	.tick_us = 1000000,
	.budget_bytes = 1536 * MIB,
	.used_bytes = 1520 * MIB,
	.overhead_bytes = 114 * MIB,
	.state = MEMD_HOST_HARD,
	.n_guests = N_GUESTS,
};

static void on_log(void *context, int level, const char *line)
{
	printf("  it says (%d): %s\n", level, line);
}

static const struct memd_host_calls calls = {.size = sizeof(calls), .log = on_log};

static int fail(const char *what, int r)
{
	printf("refused: %s: %s\n", what, strerror(-r));
	return 1;
}

static int configure(const struct memd_policy *p, char *const *settings, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		char *value = strchr(settings[i], '=');

		if (!value || value == settings[i])
			return fail(settings[i], -EINVAL);
		if (!p->config)
			return fail("the policy takes no settings", -EINVAL);
		*value = '\0';
		r = p->config(&calls, settings[i], value + 1);
		*value = '=';
		if (r < 0)
			return fail(settings[i], r);
	}
	r = p->config_complete ? p->config_complete(&calls) : 0;
	return r < 0 ? fail("its settings do not fit together", r) : 0;
}

/* Says what was proposed; whether memd would take it. */
static bool report(struct memd_proposal *p, const struct memd_guest_view *g, bool speak)
{
	bool usable = p->target_bytes > 0 && p->target_bytes <= g->configured_bytes;

	p->reason[MEMD_REASON_MAX - 1] = '\0';
	text_clean(p->reason);
	if (speak)
		printf("  %-5s %s of %s: %s\n", g->name, UNITS_BYTES(p->target_bytes),
			UNITS_BYTES(g->configured_bytes), p->reason[0] ? p->reason : "(no reason)");
	if (!usable)
		printf("refused: guest %s: %" PRIu64 " bytes proposed, it has %" PRIu64 "\n",
			g->name, p->target_bytes, g->configured_bytes);
	else if (!p->reason[0])
		printf("refused: guest %s: a proposal without a reason\n", g->name);
	return usable && p->reason[0];
}

static int tick(
	const struct memd_policy *policy, void *state, unsigned number, uint64_t targets[N_GUESTS])
{
	struct memd_guest_view views[N_GUESTS];
	const struct memd_guest_view *view_list[N_GUESTS];
	struct memd_proposal proposals[N_GUESTS], *proposal_list[N_GUESTS];
	struct memd_host_view view = host;
	bool usable = true;
	int r;

	for (size_t i = 0; i < N_GUESTS; i++) {
		views[i] = guests[i];
		views[i].target_bytes = targets[i];
		view_list[i] = &views[i];
		proposals[i] = (struct memd_proposal){
			.size = sizeof(proposals[i]), .target_bytes = targets[i]};
		proposal_list[i] = &proposals[i];
	}
	view.now_us += number * view.tick_us;
	view.guests = view_list;
	r = policy->evaluate(state, &view, proposal_list);
	if (r < 0)
		return fail("evaluate() failed", r);
	for (size_t i = 0; i < N_GUESTS; i++) {
		usable = report(&proposals[i], &guests[i], number == TICKS - 1) && usable;
		targets[i] = proposals[i].target_bytes;
	}
	return usable ? 0 : 1;
}

int check(const struct memd_policy *policy, char *const *settings, size_t n_settings)
{
	uint64_t targets[N_GUESTS];
	void *state = NULL;
	int r;

	printf("policy %s: %s\n", policy->name, policy->description ? policy->description : "");
	if (configure(policy, settings, n_settings) != 0)
		return 1;
	r = policy->open ? policy->open(&calls, &state) : 0;
	if (r < 0)
		return fail("it does not start", r);
	for (size_t i = 0; i < N_GUESTS; i++)
		targets[i] = guests[i].target_bytes;
	for (unsigned i = 0; r == 0 && i < TICKS; i++)
		r = tick(policy, state, i, targets);
	if (policy->close)
		policy->close(state);
	if (r == 0)
		puts("good");
	return r;
}
