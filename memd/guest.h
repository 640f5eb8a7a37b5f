/*
 * One guest: its settings, whoever runs it, and its life from start to end. What it shall cost is
 * decided elsewhere (tick.c).
 *
 * DOC: life cycle
 *
 *     starting -> running <-> paused -> powered-off | failed -> gone
 *
 * A guest is `starting` until memd-vmm says that it runs, or ends: then whoever started it gets the
 * answer, and of a failure the line that memd-vmm wrote. It is paused while anybody wants it
 * paused: the operator, or memd for want of memory. It is gone, and its object freed, when its
 * process has ended, however that came about; the reason is kept in state_reason until then.
 * Nothing here waits: what takes time ends in a callback or a timer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "memd/balloon.h"
#include "memd/base/cgroup.h"
#include "memd/child.h"
#include "memd/hints.h"
#include "memd/history.h"
#include "memd/judge.h"
#include "memd/ledger.h"
#include "memd/pace.h"
#include "memd/placement.h"
#include "memd/pool-group.h"
#include "memd/process-sampler.h"
#include "memd/reclaim.h"
#include "memd/refusal.h"
#include "memd/stall.h"
#include "memd/vmm-link.h"
#include "memd/wss-probe.h"
#include "policy/policy-host.h"

enum guest_state {
	GUEST_STARTING = VMM_STATE_STARTING,
	GUEST_RUNNING = VMM_STATE_RUNNING,
	GUEST_PAUSED = VMM_STATE_PAUSED,
	GUEST_POWERED_OFF = VMM_STATE_POWERED_OFF,
	GUEST_FAILED = VMM_STATE_FAILED,
};
/* "starting", "running", "paused", "powered-off", "failed". */
const char *guest_state_name(enum guest_state state);

struct guest;
struct domain;
struct guest_agent;
struct template;
struct template_store;
struct guest_command;
struct pageout;

/* What guests need of the daemon; outlives them. */
struct guest_environment {
	sd_event *event;
	struct worker *sampler;
	struct template_store *templates;
	const char *runtime_dir; /* runtime_dir/guest exists */
	const char *vmm_path;
	enum cgroup_mode cgroup_mode;
	struct cgroup *cgroup; /* the parent of the guests', NULL with CGROUP_NONE */
	/* The state changed; the reason is in the guest. May not free it. */
	void (*state_changed)(struct guest *g, enum guest_state old);
	/* memd-vmm said HELLO: the link can be used. */
	void (*connected)(struct guest *g);
	/* A sample that was begun has ended, g->sample.fresh says how. May not free it. */
	void (*sampled)(struct guest *g);
	/* The process has ended; the receiver frees the guest. */
	void (*gone)(struct guest *g);
	void *context;
};

/* An answer to somebody who waits. error->text is set when result is negative. */
typedef void (*guest_done_fn)(void *context, int result, const struct refusal *refusal);

struct guest_waiter {
	struct guest_waiter *next;
	guest_done_fn done;
	void *context;
};

enum guest_stop_how {
	GUEST_STOP_ORDERLY, /* power button; after GUEST_STOP_TIMEOUT_US as with force */
	GUEST_STOP_FORCE, /* QUIT, then SIGKILL when that is not heard */
};
#define GUEST_STOP_TIMEOUT_US UINT64_C(10000000)

/* One reading of all figures: claims, kernel, claims again. */
struct guest_sample {
	enum {
		GUEST_SAMPLE_IDLE,
		GUEST_SAMPLE_BEFORE,
		GUEST_SAMPLE_KERNEL,
		GUEST_SAMPLE_AFTER,
	} phase;
	bool fresh; /* complete, of this round */
	bool valid; /* complete, of some round */
	struct vmm_stats before, after;
	struct kernel_sample kernel;
	struct process_reading *reading;
};

/*
 * What the manager needs of whoever runs a guest: one table for guests of memd-vmm
 * (guest-command.c), one for those of libvirt (libvirt.c). A member that is NULL cannot be done to
 * guests of this provider. Everything returns at once; `done` (NULL: nobody waits) is called when
 * it is so, and not at all when a negative errno was returned.
 */
struct guest_ops {
	const char *provider; /* "memd", "libvirt": what people see */
	bool (*is_up)(const struct guest *g); /* it can be asked, and told, something */
	/* guest_sample_begin, guest_sample_cancel */
	bool (*sample_begin)(struct guest *g);
	void (*sample_cancel)(struct guest *g);
	/* The answer ends in guest_balloon_told. */
	int (*set_balloon)(struct guest *g, uint64_t bytes);
	int (*set_scan)(struct guest *g, const struct vmm_set_scan *scan);
	int (*set_cpus)(struct guest *g, const struct vmm_set_cpus *cpus);
	int (*pause)(struct guest *g, guest_done_fn done, void *context);
	int (*resume)(struct guest *g, guest_done_fn done, void *context);
	int (*power_button)(struct guest *g, guest_done_fn done, void *context);
	int (*ask_hints)(struct guest *g, guest_done_fn done, void *context);
	int (*snapshot)(struct guest *g, const int fds[2], guest_done_fn done, void *context);
	int (*stop)(struct guest *g, enum guest_stop_how how, guest_done_fn done, void *context);
	/*
	 * Our end of a channel to the agent in the guest: a connected, non-blocking stream socket, or
	 * negative errno. done, if it is ever called, says what became of the other end.
	 */
	int (*open_agent)(struct guest *g, guest_done_fn done, void *context);
	const char *cannot; /* what is NULL above, for people; "": nothing */
	const char *instead; /* what people use for that */
};
extern const struct guest_ops guest_vmm_ops;

struct guest {
	const struct guest_ops *ops;
	struct domain *domain; /* of libvirt's guests, the provider's; NULL: one of memd-vmm */
	const struct guest_environment *environment;
	uint64_t id; /* never given twice */
	char name[CONFIG_GUEST_NAME_MAX + 1];
	struct guest_config config;
	char *console_path;
	char *devices; /* those of the configuration, one a line, for people */
	char *socket_path;
	char *settings_path;
	char *target_path;
	char *pid_path;
	struct cgroup *cgroup;

	enum guest_state state;
	char state_reason[VMM_REASON_MAX];
	struct child child;
	struct template *template; /* of a clone; NULL: none, or one that a former memd loaded */
	struct placement placement;
	uint64_t last_vcpu_cpu_us, last_sample_us; /* of the sample that its load was last taken from */
	bool cpus_sent; /* to this memd-vmm: what follows */
	bool cpus_sent_exclusive;
	cpu_set_t cpus_sent_set;
	struct vmm_link *link; /* NULL: not connected */
	bool greeted; /* HELLO has come */
	struct sample_process *process; /* since HELLO */
	struct guest_waiter *start_waiters;
	struct guest_waiter *stop_waiters;
	struct guest_command *commands; /* under way */
	sd_event_source *timer; /* of a start or a stop that takes too long */
	enum { GUEST_STAYS, GUEST_STOPS_ORDERLY, GUEST_STOPS_NOW, GUEST_IS_KILLED } stopping;
	char pause_reason[VMM_REASON_MAX];
	bool paused_by_operator;
	bool paused_by_host;
	uint64_t paused_us; /* when the host did */

	struct pool_group *group; /* the manager's; NULL: does not share */
	bool attaching;
	uint64_t attach_again_us; /* not before: it joins the pool when its scanner gets to it */

	struct guest_sample sample;
	struct ledger_guest ledger; /* of the last valid sample */

	/* How much of it is in use, and what it waited for: sampling.c. */
	char left_alone[160]; /* why memd takes nothing from it now; "": it does */
	struct wss wss;
	enum wss_method wss_method;
	struct wss_probe *probe; /* under way, NULL: none */
	uint64_t sampling_us; /* when that was last begun, 0: never */
	uint64_t random; /* draws the pages */
	struct stall stall;
	double running; /* the part of the time that memory let it run, lately */
	uint64_t paused_total_us; /* by memd for want of memory, in pauses that are over */
	uint64_t paused_since_us; /* 0: it is not now */
	uint64_t critical_bytes; /* with less it thrashed; 0: not seen */
	struct judge judge; /* whether it is believed, and what its memory costs */

	/* Decided by the tick. */
	uint64_t target_bytes; /* 0: none yet */
	uint64_t fixed_bytes; /* the operator's, 0: automatic */
	char target_reason[POLICY_REASON_MAX];
	uint64_t min_bytes, max_bytes;
	struct balloon balloon;
	struct hints hints;
	uint64_t balloon_target_bytes; /* as last sent */
	bool balloon_sending;
	uint64_t major_faults_last;
	struct reclaim reclaim;
	struct pace pace;
	/* Sharing is tried before page-out: see tick.c. */
	uint64_t scan_wait_until_us; /* 0: not waiting for the scanner */
	uint64_t scan_wait_passes; /* it had made so many when the wait began */
	uint64_t scanned_until_us; /* what the scanner left may be paged out */
	bool scan_fast; /* as last sent */
	uint64_t over_since_us; /* since when it costs more than its target; 0: it does not */
	struct pageout *pageout; /* under way, NULL: none */

	struct history history;

	struct guest_agent *agent; /* guest-agent.c's; NULL: there was no channel yet */

	void *bus; /* the bus file's, freed with the guest; NULL: none yet */
};

/*
 * A guest that does not run yet. config is taken on success (and cleared), checked before by
 * guest_config_check. -ENOMEM.
 */
int guest_new(const struct guest_environment *environment, uint64_t id, const char *name,
	struct guest_config *config, struct guest **ret);
/*
 * The part of it that any provider's guest has. config is taken on success (and cleared). -ENOMEM.
 */
int guest_new_of(const struct guest_environment *environment, const struct guest_ops *ops,
	uint64_t id, const char *name, struct guest_config *config, struct guest **ret);
/*
 * Frees it; the process, if there is one, lives on. Whoever still waits gets an answer. NULL is
 * allowed.
 */
void guest_free(struct guest *g);

/* Starts memd-vmm. The answer comes to guest_wait_started. Negative errno: nothing was started. */
int guest_launch(struct guest *g, struct refusal *refusal);
/* Takes over the memd-vmm that a former memd left. Negative errno. */
int guest_adopt(struct guest *g, struct error *e);
/*
 * guest-snapshot.c: takes a snapshot into a directory, which is made; done is called when it is on
 * disk, or has failed and nothing of it is left. Negative errno: neither begun nor called.
 */
int guest_snapshot(struct guest *g, const char *directory, guest_done_fn done, void *context,
	struct refusal *refusal);
/*
 * Fills in what a guest with Snapshot= takes from there: memory, vCPUs, trust group. -EINVAL when
 * the configuration wants something else, or the errors of reading the snapshot's settings.
 */
int guest_snapshot_complete(struct guest_config *c, struct error *e);
/* Writes the settings that guest_adopt's caller reads again. */
int guest_save_settings(const struct guest *g);
/* Writes the operator's target, which guest_adopt reads again. */
int guest_save_target(const struct guest *g);
/* Of guest_adopt. */
void guest_load_target(struct guest *g);
/* Removes what a guest whose process is gone has left: its files and its cgroup. */
void guest_remove_traces(struct guest *g);

/* done is called when the guest runs, or has failed to start: at once when that is so. */
int guest_wait_started(struct guest *g, guest_done_fn done, void *context);

/* Whether it is memd's to stop: 0, or NOT_SUPPORTED. */
int guest_may_stop(const struct guest *g, struct refusal *refusal);
/*
 * done (NULL: nobody waits) is called when the process is gone. -ENOMEM, -EOPNOTSUPP (see
 * guest_may_stop).
 */
int guest_stop(struct guest *g, enum guest_stop_how how, guest_done_fn done, void *context);

enum guest_pauser {
	GUEST_PAUSER_OPERATOR,
	GUEST_PAUSER_HOST,
};
/*
 * Pauses or resumes on behalf of one of the two. done (NULL: nobody waits) is called when it is so.
 * A guest that cannot be paused now: REFUSAL_NOT_RUNNING. reason becomes the state's.
 */
int guest_pause(struct guest *g, enum guest_pauser who, const char *reason, guest_done_fn done,
	void *context, struct refusal *refusal);
int guest_resume(struct guest *g, enum guest_pauser who, guest_done_fn done, void *context,
	struct refusal *refusal);

int guest_power_button(struct guest *g, guest_done_fn done, void *context, struct refusal *refusal);

/*
 * Asks the guest for its free memory; done (NULL: nobody waits) is called when memd-vmm has passed
 * that on. What comes of it is in the statistics.
 */
int guest_ask_hints(struct guest *g, guest_done_fn done, void *context, struct refusal *refusal);

/* Fire and forget: what did not arrive is noticed at the next tick and said again. */
void guest_send_balloon(struct guest *g, uint64_t bytes);
/* The provider's answer to that: negative when it did not arrive. */
void guest_balloon_told(struct guest *g, int result);
void guest_send_scan(struct guest *g, const struct vmm_set_scan *scan);
void guest_attach_pool(struct guest *g);
/* Tells where its vCPUs run, unless it knows. */
void guest_send_cpus(struct guest *g);

/* Whether it is there to be asked. */
bool guest_is_up(const struct guest *g);
/* Of the guest's memory; 0: none, or none was found. */
pid_t guest_pid(const struct guest *g);
/* What cannot be done to it, words with spaces between; "" for a guest of memd-vmm. */
const char *guest_cannot(const struct guest *g);
/* Whether its memory is not memd's to take: locked, or for the reason in g->left_alone. */
bool guest_is_left_alone(const struct guest *g);
/* A memd-vmm that has not answered by then has no figures this time. */
#define GUEST_SAMPLE_TIMEOUT_US UINT64_C(2000000)
/* Begins a sample. false: nothing will come (environment->sampled is not called). */
bool guest_sample_begin(struct guest *g);
/* Ends one that is under way without figures, silently. */
void guest_sample_cancel(struct guest *g);
/* A provider's sample has ended. */
void guest_sample_ended(struct guest *g, bool complete);
