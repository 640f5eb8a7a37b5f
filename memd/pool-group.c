/* Starts, finds and asks one memd-pool. Never sees a page. */
#include "memd/pool-group.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/log.h"
#include "memd/ledger.h"

int pool_group_new(sd_event *event, struct worker *sampler, const char *name, const char *program,
	const char *runtime_dir, void (*sampled)(void *context), void *context,
	struct pool_group **ret)
{
	struct pool_group *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->event = sd_event_ref(event);
	g->sampler = sampler;
	g->child = (struct child)CHILD_INIT;
	g->sampled = sampled;
	g->context = context;
	g->name = strdup(name);
	g->program = strdup(program);
	if (asprintf(&g->socket_path, "%s/pool/%s.sock", runtime_dir, name) < 0)
		g->socket_path = NULL;
	if (asprintf(&g->pid_path, "%s/pool/%s.pid", runtime_dir, name) < 0)
		g->pid_path = NULL;
	if (!g->name || !g->program || !g->socket_path || !g->pid_path) {
		pool_group_free(g, POOL_GROUP_KEEP);
		return -ENOMEM;
	}
	*ret = g;
	return 0;
}

/* Ends a reading that is under way without figures. */
static void give_up_reading(struct pool_group *g)
{
	process_sampler_cancel(g->reading);
	g->reading = NULL;
	if (g->asked) {
		g->asked = false;
		g->sampled(g->context);
	}
}

static void disconnect(struct pool_group *g)
{
	ipc_link_free(g->link);
	g->link = NULL;
	g->process = sample_process_unref(g->process);
	g->memfd_bytes = g->process_bytes = g->references = 0;
	g->fresh = false;
	give_up_reading(g);
}

void pool_group_free(struct pool_group *g, enum pool_group_end end)
{
	if (!g)
		return;
	g->asked = false;
	disconnect(g);
	if (end == POOL_GROUP_STOP && g->child.pid) {
		/*
		 * It holds nothing that is not lost with its members: it may go as fast as it can.
		 */
		child_signal(&g->child, SIGTERM);
		child_abandon(&g->child);
		unlink(g->socket_path);
	} else {
		child_done(&g->child);
	}
	sd_event_unref(g->event);
	free(g->name);
	free(g->program);
	free(g->socket_path);
	free(g->pid_path);
	free(g);
}

static void on_message(void *context, const struct ipc_message *m)
{
	/* Nothing is said to memd unasked; a newer memd-pool may, and is not listened to. */
}

static void on_closed(void *context, int error)
{
	struct pool_group *g = context;

	log_warning("pool of group %s: the connection is gone (%s)", g->name,
		error ? strerror(-error) : "closed");
	disconnect(g);
	child_signal(&g->child, SIGTERM); /* one that does not talk is replaced at the next tick */
}

static void on_ended(void *context, int code, const char *reason)
{
	struct pool_group *g = context;

	log_warning("pool of group %s: %s; its members keep what they have mapped, and announce it "
		    "to the "
		    "next",
		g->name, reason);
	disconnect(g);
}

static int start_process(struct pool_group *g, const char *members, struct error *e)
{
	/* execve does not write to them. */
	char *argv[] = {g->program, (char[]){"--listen-fd"}, (char[]){"3"},
		*members ? (char[]){"--expect"} : NULL, (char *)(uintptr_t)members, NULL};
	_cleanup_close_ int socket_fd = ipc_listen(g->socket_path, 0600);
	struct spawn_request request = {.argv = argv, .socket_fd = socket_fd, .procs_fd = -1};

	if (socket_fd < 0)
		return error_set(e, socket_fd, "cannot listen on %s: %s", g->socket_path,
			strerror(-socket_fd));
	return child_spawn(&g->child, g->event, &request, g->pid_path, on_ended, g, e);
}

bool pool_group_is_up(const struct pool_group *g)
{
	return g->link;
}

int pool_group_start(struct pool_group *g, const char *members, struct error *e)
{
	static const struct ipc_link_ops ops = {.message = on_message, .closed = on_closed};
	_cleanup_close_ int fd = -1;
	int r;

	if (g->link)
		return 0;
	if (!g->child.pid) {
		r = child_adopt(&g->child, g->event, g->pid_path, on_ended, g, NULL);
		if (r < 0)
			r = start_process(g, members, e);
		if (r < 0)
			return r;
		log_info("pool of group %s: memd-pool is process %d%s", g->name, (int)g->child.pid,
			g->child.adopted ? ", adopted" : "");
	}
	fd = ipc_connect(g->socket_path);
	if (fd < 0)
		return error_set(e, fd, "cannot connect to %s: %s", g->socket_path, strerror(-fd));
	r = sample_process_new(g->child.pid, g->child.pidfd, NULL, 0, &g->process);
	if (r == 0)
		r = ipc_link_new(g->event, fd, &ops, g, &g->link);
	if (r < 0) {
		g->process = sample_process_unref(g->process);
		return error_set(e, r, "cannot watch memd-pool: %s", strerror(-r));
	}
	TAKE_FD(fd);
	return 0;
}

int pool_group_connect(const struct pool_group *g)
{
	return g->link ? ipc_connect(g->socket_path) : -ENOTCONN;
}

static void on_sampled(void *context, int error, struct kernel_sample *s)
{
	struct pool_group *g = context;

	g->reading = NULL;
	g->asked = false;
	if (error == 0) {
		g->process_bytes = ledger_process_bytes(&s->rollup, s->page_table_bytes);
		g->fresh = true;
		kernel_sample_done(s);
	}
	g->sampled(g->context);
}

static void on_stats(void *context, int error, const struct ipc_message *reply)
{
	struct pool_group *g = context;
	struct pool_stats stats;

	if (error || reply->header.type != POOL_STATS ||
		!ipc_payload_copy(reply, POOL_STATS_MIN_BYTES, &stats, sizeof(stats)) ||
		process_sampler_begin(g->sampler, g->process, on_sampled, g, &g->reading) < 0) {
		give_up_reading(g);
		return;
	}
	g->memfd_bytes = stats.memfd_bytes;
	g->references = stats.references;
}

bool pool_group_sample(struct pool_group *g, uint64_t timeout_us)
{
	g->fresh = false;
	if (!g->link || g->asked)
		return false;
	g->asked = ipc_link_request(
			   g->link, POOL_GET_STATS, NULL, 0, NULL, 0, timeout_us, on_stats, g) == 0;
	return g->asked;
}
