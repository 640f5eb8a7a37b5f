/* Reading what memd's own processes cost; see own-costs.h. */
#include "memd/own-costs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/procfs.h"
#include "memd/ledger.h"

struct own_costs_reading {
	struct job job; /* first */
	pid_t policy_pid;
	own_costs_fn done; /* NULL: cancelled */
	void *context;
	struct own_costs costs;
};

static uint64_t cost_of(pid_t pid)
{
	struct smaps_rollup rollup;
	uint64_t page_table_bytes;

	if (procfs_read_smaps_rollup(pid, &rollup) < 0 ||
		procfs_read_page_table_bytes(pid, &page_table_bytes) < 0)
		return 0; /* it has ended */
	return ledger_process_bytes(&rollup, page_table_bytes);
}

/* Processes that were found; the first n_seen were asked for their children, too. */
struct tree {
	pid_t pids[OWN_COSTS_PROCESSES_MAX];
	size_t n, n_seen;
};

/* "12 13 ": /proc/PID/task/TID/children */
static void add_children_of_thread(struct tree *t, int task_fd, const char *thread)
{
	_cleanup_free_ char *text = NULL;
	char path[64], *at, *end;

	snprintf(path, sizeof(path), "%.20s/children", thread);
	if (fd_read_file_at(task_fd, path, 64 << 10, &text, NULL) < 0)
		return;
	for (at = text; t->n < OWN_COSTS_PROCESSES_MAX; at = end) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			return;
		t->pids[t->n++] = (pid_t)pid;
	}
}

static void add_children(struct tree *t, pid_t pid)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			add_children_of_thread(t, dirfd(dir), entry->d_name);
}

uint64_t own_costs_of_tree(pid_t pid)
{
	struct tree t = {.pids = {pid}, .n = 1};
	uint64_t bytes = 0;

	while (t.n_seen < t.n) {
		bytes += cost_of(t.pids[t.n_seen]);
		add_children(&t, t.pids[t.n_seen]);
		t.n_seen++;
	}
	return bytes;
}

static void run(struct job *j)
{
	struct own_costs_reading *reading = (struct own_costs_reading *)j;

	reading->costs.memd_bytes = cost_of(0);
	if (reading->policy_pid)
		reading->costs.policy_bytes = own_costs_of_tree(reading->policy_pid);
}

static void done(struct job *j)
{
	struct own_costs_reading *reading = (struct own_costs_reading *)j;

	if (reading->done)
		reading->done(reading->context, &reading->costs);
	free(reading);
}

int own_costs_begin(struct worker *worker, pid_t policy_pid, own_costs_fn when_done, void *context,
	struct own_costs_reading **ret)
{
	struct own_costs_reading *reading = calloc(1, sizeof(*reading));

	if (!reading)
		return -ENOMEM;
	reading->job.run = run;
	reading->job.done = done;
	reading->policy_pid = policy_pid;
	reading->done = when_done;
	reading->context = context;
	*ret = reading;
	worker_submit(worker, &reading->job);
	return 0;
}

void own_costs_cancel(struct own_costs_reading *reading)
{
	if (reading)
		reading->done = NULL;
}
