/*
 * The daemon as one object: configuration, guests, pools, policy, the tick and the bus. Everything
 * happens in one event loop; what may sleep in the kernel happens in workers.
 *
 *   manager.c  construction, registry, start and stop; manager-config.c: configuration
 *   tick.c     sample, evaluate, clamp, act; decide.c: evaluating
 *   sampling.c working sets and stalls
 *   evict.c    page-out
 *   wall.c     the cgroup and the budget between ticks
 *   admit.c    who may start, and how many more could
 *   bus.c, bus-guest.c  what of it is seen on D-Bus
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "memd/budget.h"
#include "memd/guest.h"
#include "memd/journal.h"
#include "memd/ledger.h"
#include "memd/own-costs.h"
#include "memd/policy-run.h"
#include "memd/pool-group.h"
#include "memd/refusal.h"
#include "memd/worker.h"
#include "policy/admission.h"
#include "policy/policy-host.h"

struct bus;
struct libvirt;

struct manager_options {
	const char *config_path; /* NULL: /etc/memd/memd.conf, which may be missing */
	const char *guests_dir;
	const char *bus_address; /* "system", "session" or an address; NULL: no bus (tests) */
	const char *runtime_dir;
	const char *state_dir;
	const char *const *libvirt_pid_dirs; /* NULL: where libvirt's packages have them */
};

/* Everything that the Manager object shows, in the types of D-Bus. */
struct host_figures {
	const char *version;
	const char *policy; /* that decides */
	const char *policy_chosen; /* the configured one */
	const char *policy_set_aside; /* why the configured one does not decide; "" */
	const char *host_state;
	const char *cgroup_mode;
	const char *journal_path; /* "" for none */
	uint64_t journal_dropped; /* ticks that are not in it */
	uint64_t budget_bytes;
	uint64_t used_bytes;
	uint64_t peak_used_bytes;
	uint64_t guest_private_bytes;
	uint64_t pool_bytes;
	uint64_t template_bytes;
	uint64_t swap_occupied_bytes;
	uint64_t swap_used_bytes;
	uint64_t overhead_bytes;
	uint64_t policy_bytes; /* of that, memd-policy and what it runs */
	uint64_t configured_bytes;
	uint64_t saved_sharing_bytes;
	uint64_t saved_zero_bytes;
	uint64_t saved_balloon_bytes;
	uint64_t saved_paging_bytes;
	uint64_t pool_unmapped_bytes;
	uint64_t freeable_bytes;
	uint64_t bracket_low_bytes, bracket_high_bytes, kernel_bytes;
	uint64_t mismatch_bytes;
	uint64_t allocated_bytes;
	uint64_t tick_us;
	uint64_t ticks;
	uint64_t policy_wait_us; /* from asking to deciding, in the last tick */
	uint64_t policy_cpu_us; /* that a policy of another process says it took */
	uint64_t fault_ns;
	uint64_t swap_free_bytes;
	const char *swap_state;
	uint32_t ledger_mismatch_bp;
	uint32_t n_guests;
	uint32_t policy_pid; /* 0: it runs in memd */
};

enum swap_state {
	SWAP_NONE,
	SWAP_FULL,
	SWAP_SLOW, /* on disk, and slower than SwapLatencyMax= */
	SWAP_GOOD,
};

/* Swap as it was last read. */
struct swap_room {
	enum swap_state state;
	bool in_ram; /* what is used next is zram */
	char path[64]; /* of what is used next, and its size */
	uint64_t size_bytes;
	uint64_t used_bytes;
	uint64_t free_bytes;
	uint64_t zram_occupied_bytes;
};

struct wall {
	enum cgroup_mode mode;
	struct cgroup *root; /* NULL with CGROUP_NONE */
	struct budget budget;
	struct budget_decision decision; /* the last */
	uint64_t usage_bytes; /* of root, as last read */
	uint64_t limit_bytes; /* as last set; UINT64_MAX: none */
	struct limit_job *limit_job; /* under way */
	sd_event_source *timer; /* the fast tick */
	uint64_t checked_us; /* when all of it was last read */
	uint64_t looked_us; /* v1, watched: when the usage was last read; else 0 */
	sd_event_source *threshold_source; /* v1: usage has crossed threshold_bytes */
	uint64_t threshold_bytes;
	/* What the last ledger saw, for estimates until the next. */
	uint64_t ledger_usage_bytes;
	uint64_t ledger_zram_bytes;
};

struct manager {
	struct manager_options options;
	sd_event *event;
	struct bus *bus;
	struct metrics_server *metrics; /* NULL: none, or none could be had */
	struct host_config config;
	char *vmm_path, *pool_path;
	uint64_t memory_total_bytes;
	uint64_t budget_bytes;
	struct guest_environment environment;
	struct libvirt *libvirt; /* NULL: none is asked */
	struct ksm_steering *ksm; /* NULL: it is left alone */
	uint64_t low_since_us; /* in state low; 0: it is not */
	uint64_t short_said_us; /* when HostShort was last said in this state; 0: not yet */
	struct guest **guests; /* by id, ascending */
	size_t n_guests;
	uint64_t last_id;
	struct pool_group *groups;
	struct template_store *templates;
	pid_t *strays; /* memd-vmm that run and could not be adopted: nobody knows what they map */
	size_t n_strays;
	struct worker *sampler; /* reads figures */
	struct worker *pager; /* pages out */
	struct worker *limiter; /* sets limits */
	struct policy_run *policy;
	struct reload *reload; /* under way; NULL: none */
	struct journal *journal; /* NULL: none is kept */
	uint8_t *last_frame; /* of the journal: the last tick; NULL before the first */
	size_t last_frame_bytes;

	/* The tick. */
	sd_event_source *tick_timer;
	sd_event_source *round_timer; /* the round ends without the late ones */
	bool in_round;
	uint64_t last_tick_us;
	struct own_costs own_costs;
	struct own_costs_reading *own_reading; /* under way; NULL: none */

	/* Sampling. */
	sd_event_source *sampling_timer;
	struct wss_files wss_files;
	struct fault_watch *fault_watch;
	double fault_us; /* what a major fault takes, as measured lately */

	struct swap_room swap;
	enum memd_host_state host_state;
	struct balloon_host balloon_host;
	struct ledger_host ledger;
	struct wall wall;

	struct host_figures figures;
	char status[96]; /* as last told to the service manager */
	bool exiting;
	bool libvirt_leaving; /* what was changed of its domains is being put back */
};

/*
 * Reads the configuration, connects to the bus, takes the name, adopts what a former memd left, and
 * starts what is to be started. options and its strings outlive the manager. Negative errno with
 * the reason in *e.
 */
int manager_new(const struct manager_options *options, struct manager **ret, struct error *e);
/* Guests that are left (KeepGuests=yes, or a second signal) live on. NULL is allowed. */
void manager_free(struct manager *m);
DEFINE_CLEANUP(struct manager *, manager_free)
/* What manager_run returns after SIGUSR2: to be started again, guests run on. EX_TEMPFAIL. */
#define MANAGER_EXIT_RESTART 75
/* Until SIGTERM or SIGINT, and the guests have stopped: 0; or SIGUSR2, see above. Negative errno. */
int manager_run(struct manager *m);
/* As on SIGTERM. */
void manager_exit(struct manager *m);

/*
 * Takes in a guest of another provider, which ends by environment.gone as any. Its id is the
 * manager's next (manager_next_id). -ENOMEM.
 */
int manager_add_guest(struct manager *m, struct guest *g);
uint64_t manager_next_id(struct manager *m);
/* NULL when there is none. */
struct guest *manager_find_guest(const struct manager *m, const char *name);

/*
 * Starts a guest from guests.d/NAME.guest, overridden by settings, or from settings alone. done is
 * called when it runs or has failed. *ret_guest lives until done at least. Refusals: BAD_SETTING,
 * GUEST_EXISTS, NO_SUCH_GUEST (no file and no settings), BELOW_FLOOR (the floors do not fit into
 * the budget), START_FAILED, NO_KVM.
 */
int manager_start_guest(struct manager *m, const char *name, const struct config_pair *settings,
	size_t n_settings, guest_done_fn done, void *context, struct guest **ret_guest,
	struct refusal *refusal);
/*
 * The settings of a guest: its file, overridden by settings, checked. BAD_SETTING, NO_SUCH_GUEST.
 * *ret is the caller's to end, also on failure.
 */
int manager_read_settings(struct manager *m, const char *name, const struct config_pair *settings,
	size_t n_settings, struct guest_config *ret, struct refusal *refusal);
/* The operator's target, 0 for automatic again. BELOW_FLOOR, ABOVE_CONFIGURED, NOT_RUNNING. */
int manager_set_target(struct manager *m, struct guest *g, uint64_t bytes, struct refusal *refusal);
/* Starts the memd-pool of the guest's group unless it runs. */
int manager_start_pool(struct manager *m, struct pool_group *group, struct error *e);
/*
 * Reads the configuration again; the last good one is kept on failure. 0: done is called, at once or
 * when the policy has opened. Refusals: BAD_SETTING, BUSY (another reload is under way), then done
 * is not called.
 */
int manager_reload(
	struct manager *m, guest_done_fn done, void *context, struct refusal *refusal);
/* A policy_run_ops.opened. */
void manager_policy_opened(void *context, int result, const char *why);
/* Opens, bounds or closes the journal, as the configuration has it. */
void manager_use_journal(struct manager *m);
/* Gives up a reload that is under way. */
void manager_reload_cancel(struct manager *m);
/* Reads the configuration and opens the policy, without doing anything: --check. */
int manager_check(const struct manager_options *options, struct error *e);
/* Of manager_new and manager_reload: what [Metrics] says; a failure is logged. */
void manager_open_metrics(struct manager *m);
/* Whether PolicyGroup= is a group that there is. -EINVAL. */
int manager_check_group(
	const struct manager *m, const struct guest_config *config, struct error *e);
/* Of manager_new. */
int manager_first_config(struct manager *m, struct error *e);

/* relief.c: what else can be done for a host that is short, beside taking memory from guests. */
/* As the configuration has it now. */
void relief_configure(struct manager *m);
void relief_tick(struct manager *m, uint64_t now_us);
void relief_done(struct manager *m);

/* decide.c */
extern const struct policy_run_ops decide_ops;
/* Ends in tick_act and tick_report, at once or from the loop. */
void decide_begin(struct manager *m, uint64_t now_us);
/* Writes what is known of the policy into the figures. */
void decide_show_policy(struct manager *m);
/* Notes in the journal which policy decides from now on. */
void decide_note_policy(struct manager *m);

/* admit.c */
/* Whether a guest of that configuration may start. BELOW_FLOOR: the floors do not fit. */
int admit_guest(struct manager *m, const struct guest_config *config, struct refusal *refusal);
/* How many more would; a sentence of why not one more goes to reason. */
void admit_forecast(struct manager *m, const struct guest_config *config,
	struct admission_forecast *ret, char *reason, size_t reason_size);

/* place.c: which CPUs guests run on, by the figures of this round. */
void manager_place_guests(struct manager *m, uint64_t now_us);

/* tick.c */
int tick_start(struct manager *m);
void tick_stop(struct manager *m);
/* A sample or a pool's figures arrived: the round may be complete. */
void tick_arrived(struct manager *m);
/* The targets are decided: acts on them, and says what changed. */
void tick_act(struct manager *m);
void tick_report(struct manager *m);
/* Tells a guest's memd-vmm how to scan. */
void tick_send_scan(struct manager *m, struct guest *g);

/* sampling.c */
int sampling_start(struct manager *m);
void sampling_stop(struct manager *m);
/* The guest goes; what is under way finds nobody. */
void sampling_cancel(struct guest *g);
/* The time it was paused for want of memory goes on, or ends. */
void sampling_state_changed(struct guest *g, enum guest_state old);

/* wall.c */
int wall_init(struct manager *m, struct error *e);
void wall_done(struct manager *m);
/*
 * Reads the cheap figures, moves the limit, pages out, pauses and resumes; comes again by itself
 * while it is near.
 */
void wall_check(struct manager *m);
/* Reads swap into m->swap. */
void wall_read_swap(struct manager *m);
