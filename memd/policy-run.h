/*
 * The policy that decides: opened by name, asked each tick, watched, and set aside when it
 * misbehaves.
 *
 * DOC: supervision
 *
 * Built-in policies answer at once. Others live in a process (policy-child.h), and have a time
 * limit: what has not come by then is not waited for, and `proportional` decides this tick. So it
 * does whenever the policy fails, proposes what no policy may, or still works on an earlier tick.
 * Three such ticks in a row, or its death, and the policy is set aside: its process is ended,
 * `proportional` decides from then on, and the owner is told, until the configuration is read
 * again. Nothing here ever waits.
 *
 * Figures are copied, also the names: guests may go while a policy thinks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "policy/policy-host.h"

#define POLICY_STRIKES_MAX 3
#define POLICY_FALLBACK	   "proportional"
#define POLICY_EXEC	   "exec"

/* What kind of policy a name stands for. */
enum policy_kind {
	POLICY_KIND_BUILTIN,
	POLICY_KIND_PLUGIN, /* PluginDir=/NAME.so */
	POLICY_KIND_EXEC, /* [Policy exec] Command= */
};

struct policy_run;

/* One evaluation; all of it lives until the callback returns. */
struct policy_outcome {
	const char *policy; /* that decided: the chosen one's name, or POLICY_FALLBACK */
	bool fell_back;
	const struct memd_host_view *host; /* without guests */
	const struct policy_guest *guests;
	const struct policy_decision *decisions; /* n, as guests */
	size_t n;
	uint64_t wait_us; /* from asking to deciding */
	uint64_t policy_cpu_us; /* of another process, as it says; 0 for a built-in policy */
};
typedef void (*policy_decided_fn)(void *context, const struct policy_outcome *outcome);

struct policy_run_ops {
	/*
	 * Once, from the loop, unless the policy was open when policy_run_new returned: 0, or
	 * negative errno and why. May free the run.
	 */
	void (*opened)(void *context, int result, const char *why);
	/* After policy_run_evaluate, once: at once, or from the loop. May not free the run. */
	policy_decided_fn decided;
	/* The policy was set aside. May not free the run. */
	void (*set_aside)(void *context, const char *why);
};

struct policy_run_options {
	sd_event *event;
	const char *program; /* memd-policy; NULL: built-in policies only */
	const struct host_config *config; /* not kept */
	const char *policy; /* NULL: the configuration's Policy= */
	const struct policy_run_ops *ops;
	void *context;
};

/* Opens the policy. -EINVAL, ... with *e when that fails at once. */
int policy_run_new(
	const struct policy_run_options *options, struct policy_run **ret, struct error *e);
void policy_run_free(struct policy_run *run);
DEFINE_CLEANUP(struct policy_run *, policy_run_free)
/*
 * Runs the loop until the policy is open, for programs that have nothing else to do. What the
 * opening said; -EINVAL, ... with *e.
 */
int policy_run_wait(struct policy_run *run, struct error *e);

bool policy_run_is_open(const struct policy_run *run);

/* The name that was asked for. */
const char *policy_run_name(const struct policy_run *run);
enum policy_kind policy_run_kind(const struct policy_run *run);
/* Why it was set aside; "" while it is not. */
const char *policy_run_set_aside_reason(const struct policy_run *run);
/* The process it runs in; 0: this one. */
pid_t policy_run_pid(const struct policy_run *run);

/*
 * One tick, as policy_host_evaluate; `decided` follows within limit_us. An evaluation that is under
 * way is ended first, by the fallback. -ENOMEM, -EINVAL: `decided` is not called.
 */
int policy_run_evaluate(struct policy_run *run, const struct memd_host_view *host,
	const struct policy_guest *guests, size_t n, uint64_t limit_us);
/* Ends an evaluation that is under way now, by the fallback. */
void policy_run_give_up(struct policy_run *run);
