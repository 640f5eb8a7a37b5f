/*
 * DOC: finding a process again
 *
 * A process number may be taken by another process after a restart of memd, and the socket does not
 * tell (SO_PEERCRED names who called listen, which was the former memd). So the pid file holds the
 * number and the time the process began, in ticks since boot (/proc/PID/stat, field 22): both
 * together are unique while the host is up. The pidfd is opened first and the time read afterwards,
 * so that the process cannot be replaced in between.
 */
#include "memd/child.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"

#define STAT_MAX_BYTES	 4096
#define START_TIME_FIELD 22

static int read_start_time(pid_t pid, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[40], *p;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	r = fd_read_file_at(AT_FDCWD, path, STAT_MAX_BYTES, &text, NULL);
	if (r < 0)
		return r;
	p = strrchr(text, ')'); /* field 2 is the name in parentheses, which may hold anything */
	for (int field = 2; p && field < START_TIME_FIELD; field++) {
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	return p && sscanf(p, "%" SCNu64, ret) == 1 ? 0 : -EPROTO;
}

static int write_pid_file(const char *path, pid_t pid)
{
	_cleanup_close_ int fd = -1;
	uint64_t start_time;
	char text[64];
	int r, n;

	r = read_start_time(pid, &start_time);
	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	n = snprintf(text, sizeof(text), "%d %" PRIu64 "\n", (int)pid, start_time);
	return fd_write_full(fd, text, (size_t)n);
}

/*
 * Reads on in the line that the process writes when it does not start; as read(2), 0 also when
 * there is no room.
 */
static ssize_t read_error_text(struct child *c)
{
	size_t used = strlen(c->error_text);
	ssize_t n = read(c->error_fd, c->error_text + used, sizeof(c->error_text) - 1 - used);

	if (n > 0) {
		c->error_text[used + (size_t)n] = '\0';
		c->error_text[strcspn(c->error_text, "\n")] = '\0';
	}
	return n;
}

static int on_error_text(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct child *c = userdata;
	ssize_t n = read_error_text(c);

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return 0;
	c->error_source = sd_event_source_disable_unref(c->error_source);
	cleanup_closep(&c->error_fd);
	c->error_fd = -1;
	return 0;
}

static void describe_exit(const struct child *c, int *ret_code, char *ret_reason, size_t size)
{
	siginfo_t info = {0};

	*ret_code = -1;
	if (c->adopted || waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED) < 0) {
		snprintf(ret_reason, size, "process %d ended", (int)c->pid);
	} else if (info.si_code != CLD_EXITED) {
		snprintf(ret_reason, size, "process %d was killed by signal %d (%s)", (int)c->pid,
			info.si_status, strsignal(info.si_status));
	} else {
		*ret_code = info.si_status;
		if (c->error_text[0])
			snprintf(ret_reason, size, "%s", c->error_text);
		else if (info.si_status == 0)
			snprintf(ret_reason, size, "ended");
		else
			snprintf(ret_reason, size, "process %d exited with code %d", (int)c->pid,
				info.si_status);
	}
}

static int on_exit_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct child *c = userdata;
	void (*ended)(void *context, int code, const char *reason) = c->ended;
	void *context = c->context;
	char reason[CHILD_ERROR_MAX];
	int code;

	/* It may have written and ended at once. */
	while (c->error_fd >= 0 && read_error_text(c) > 0)
		continue;
	describe_exit(c, &code, reason, sizeof(reason));
	child_forget(c);
	ended(context, code, reason);
	return 0;
}

static int watch(struct child *c, sd_event *event)
{
	int r;

	r = sd_event_add_io(event, &c->exit_source, c->pidfd, EPOLLIN, on_exit_event, c);
	/* What it said before it ended, its reason above all, is heard first. */
	if (r >= 0)
		r = sd_event_source_set_priority(c->exit_source, SD_EVENT_PRIORITY_NORMAL + 10);
	if (r < 0 || c->error_fd < 0)
		return r < 0 ? r : 0;
	return sd_event_add_io(event, &c->error_source, c->error_fd, EPOLLIN, on_error_text, c);
}

int child_spawn(struct child *c, sd_event *event, const struct spawn_request *request,
	const char *pid_path, void (*ended)(void *context, int code, const char *reason),
	void *context, struct error *e)
{
	struct child fresh = CHILD_INIT;
	struct spawned spawned;
	int r;

	fresh.ended = ended;
	fresh.context = context;
	fresh.pid_path = pid_path ? strdup(pid_path) : NULL;
	if (pid_path && !fresh.pid_path)
		return -ENOMEM;
	r = spawn_program(request, &spawned, e);
	if (r < 0) {
		free(fresh.pid_path);
		return r;
	}
	fresh.pid = spawned.pid;
	fresh.pidfd = spawned.pidfd;
	fresh.error_fd = spawned.error_fd;
	*c = fresh;
	r = pid_path ? write_pid_file(pid_path, c->pid) : 0;
	if (r == 0)
		r = watch(c, event);
	if (r == 0)
		r = spawn_release(&spawned);
	cleanup_closep(&spawned.go_fd);
	if (r < 0) {
		child_signal(c, SIGKILL);
		waitpid(c->pid, NULL, 0);
		child_forget(c);
		return error_set(e, r, "cannot watch a new process: %s", strerror(-r));
	}
	return 0;
}

/* The process that a pid file names, if it lives: -ESRCH if not. */
static int find_process(const char *pid_path, pid_t *ret_pid, int *ret_pidfd, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int pidfd = -1;
	uint64_t expected, start_time;
	int pid, r;

	r = fd_read_file_at(AT_FDCWD, pid_path, STAT_MAX_BYTES, &text, NULL);
	if (r < 0)
		return error_set(
			e, r == -ENOENT ? -ESRCH : r, "cannot read %s: %s", pid_path, strerror(-r));
	/* One that was never released to run has left an empty file at most. */
	if (sscanf(text, "%d %" SCNu64, &pid, &expected) != 2 || pid <= 1)
		return error_set(e, -ESRCH, "%s holds no process number", pid_path);
	pidfd = fd_pidfd_open(pid);
	r = pidfd < 0 ? pidfd : read_start_time(pid, &start_time);
	if (r < 0 || start_time != expected || fd_pidfd_ended(pidfd))
		return error_set(e, -ESRCH, "process %d of %s is gone", pid, pid_path);
	*ret_pid = pid;
	*ret_pidfd = TAKE_FD(pidfd);
	return 0;
}

pid_t child_find(const char *pid_path)
{
	_cleanup_close_ int pidfd = -1;
	pid_t pid;

	return find_process(pid_path, &pid, &pidfd, NULL) == 0 ? pid : 0;
}

int child_adopt(struct child *c, sd_event *event, const char *pid_path,
	void (*ended)(void *context, int code, const char *reason), void *context, struct error *e)
{
	struct child fresh = CHILD_INIT;
	int r;

	fresh.adopted = true;
	fresh.ended = ended;
	fresh.context = context;
	r = find_process(pid_path, &fresh.pid, &fresh.pidfd, e);
	if (r < 0)
		return r;
	fresh.pid_path = strdup(pid_path);
	*c = fresh;
	r = fresh.pid_path ? watch(c, event) : -ENOMEM;
	if (r < 0)
		child_done(c);
	return r;
}

void child_signal(const struct child *c, int signal)
{
	if (c->pidfd >= 0)
		fd_pidfd_send_signal(c->pidfd, signal); /* one that is gone needs none */
}

void child_done(struct child *c)
{
	sd_event_source_disable_unref(c->exit_source);
	sd_event_source_disable_unref(c->error_source);
	cleanup_closep(&c->pidfd);
	cleanup_closep(&c->error_fd);
	free(c->pid_path);
	*c = (struct child)CHILD_INIT;
}

void child_forget(struct child *c)
{
	if (c->pid_path)
		unlink(c->pid_path);
	child_done(c);
}

static int on_abandoned_exit(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	siginfo_t info;

	/* -ECHILD for an adopted one, whose parent is somebody else. */
	(void)waitid(P_PIDFD, (id_t)fd, &info, WEXITED);
	sd_event_source_disable_unref(source); /* and closes the pidfd */
	return 0;
}

void child_abandon(struct child *c)
{
	sd_event *event = c->exit_source ? sd_event_source_get_event(c->exit_source) : NULL;
	sd_event_source *source;

	/* First: a descriptor is watched once. The loop outlives its sources. */
	c->exit_source = sd_event_source_disable_unref(c->exit_source);
	if (event &&
		sd_event_add_io(event, &source, c->pidfd, EPOLLIN, on_abandoned_exit, NULL) >= 0) {
		sd_event_source_set_io_fd_own(source, 1);
		sd_event_source_set_floating(source, 1);
		sd_event_source_unref(source);
		TAKE_FD(c->pidfd);
	}
	child_forget(c);
}
