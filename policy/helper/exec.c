/*
 * The policy `exec`: asks a program, in lines of JSON over two pipes. Whatever the program does ends
 * as an error here, and this process with it when memd has waited long enough.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <syslog.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "policy/helper/helper.h"

#define SETTINGS_MAX	 64
/* An answer: at most so much, and so much for each guest. */
#define LINE_BYTES_MIN	 4096
#define LINE_BYTES_GUEST 512

/* There is one at a time, as there is one process; keys come before there is a state. */
static struct {
	const char *command;
	struct exec_setting settings[SETTINGS_MAX];
	size_t n_settings;
} config;

struct program {
	const struct memd_host_calls *calls;
	pid_t pid;
	int to_fd, from_fd;
	char *line; /* the answer that is being read */
	size_t line_room;
};

void exec_set_command(const char *command)
{
	config.command = command;
}

static int exec_config(const struct memd_host_calls *calls, const char *key, const char *value)
{
	struct exec_setting *s = &config.settings[config.n_settings];

	if (config.n_settings == SETTINGS_MAX)
		return -E2BIG;
	*s = (struct exec_setting){strdup(key), strdup(value)};
	if (!s->key || !s->value) {
		free(s->key);
		free(s->value);
		return -ENOMEM;
	}
	config.n_settings++;
	return 0;
}

static void say(const struct memd_host_calls *calls, const char *what, const char *why)
{
	char line[256];

	snprintf(line, sizeof(line), "%.100s: %.110s%s%.40s", config.command, what, why ? ": " : "",
		why ? why : "");
	calls->log(calls->host, LOG_ERR, line);
}

/* In the child. */
static void run_program(int in, int out)
{
	static char path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
	char *const argv[] = {(char *)(uintptr_t)config.command, NULL};
	char *const environment[] = {path, NULL};

	signal(SIGPIPE, SIG_DFL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || dup2(in, STDIN_FILENO) < 0 ||
		dup2(out, STDOUT_FILENO) < 0)
		_exit(127);
	close_range(STDERR_FILENO + 1, ~0U, 0);
	execve(argv[0], argv, environment);
	perror(argv[0]);
	_exit(127);
}

static int start_program(struct program *p)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) < 0)
		return -errno;
	p->to_fd = to[1];
	if (pipe2(from, O_CLOEXEC) < 0) {
		close(to[0]);
		return -errno;
	}
	p->from_fd = from[0];
	p->pid = fork();
	if (p->pid == 0)
		run_program(to[0], from[1]);
	close(to[0]);
	close(from[1]);
	return p->pid < 0 ? -errno : 0;
}

/* The program is gone: says how, and what that means. */
static int report_end(struct program *p)
{
	char why[64];
	int status;

	if (p->pid <= 0 || waitpid(p->pid, &status, 0) != p->pid)
		snprintf(why, sizeof(why), "its pipe is closed");
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "signal %d", WTERMSIG(status));
	else
		snprintf(why, sizeof(why), "exit code %d", WEXITSTATUS(status));
	p->pid = 0;
	say(p->calls, "the program ended", why);
	return -EPIPE;
}

/* Reads one line into p->line, without its "\n"; *ret_n bytes and a NUL. */
static int read_line(struct program *p, size_t max_bytes, size_t *ret_n)
{
	size_t n = 0;

	for (;;) {
		ssize_t got;

		if (n == p->line_room) {
			size_t room = p->line_room ? 2 * p->line_room : LINE_BYTES_MIN;

			if (n >= max_bytes) {
				say(p->calls, "its answer is too long", NULL);
				return -EPROTO;
			}
			if (!GROW_ARRAY(p->line, room + 1))
				return -ENOMEM;
			p->line_room = room;
		}
		got = read(p->from_fd, p->line + n, p->line_room - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return report_end(p);
		n += (size_t)got;
		if (p->line[n - 1] == '\n')
			break;
	}
	p->line[n - 1] = '\0';
	*ret_n = n - 1;
	return 0;
}

/* One line there, one line back. */
static int ask(struct program *p, const char *question, size_t max_bytes, size_t *ret_n)
{
	int r = fd_write_full(p->to_fd, question, strlen(question));

	if (r == -EPIPE)
		return report_end(p);
	return r < 0 ? r : read_line(p, max_bytes, ret_n);
}

static void exec_close(void *state)
{
	struct program *p = state;

	cleanup_closep(&p->to_fd);
	cleanup_closep(&p->from_fd);
	if (p->pid > 0 && kill(p->pid, SIGKILL) == 0)
		waitpid(p->pid, NULL, 0);
	free(p->line);
	free(p);
}

static int greet(struct program *p)
{
	_cleanup_free_ char *hello = exec_format_hello(config.settings, config.n_settings);
	struct error e = {0};
	size_t n;
	int r;

	if (!hello)
		return -ENOMEM;
	r = start_program(p);
	if (r == 0)
		r = ask(p, hello, LINE_BYTES_MIN, &n);
	if (r < 0)
		return r;
	r = exec_parse_hello(p->line, n, &e);
	if (r < 0)
		say(p->calls, e.text, NULL);
	return r;
}

static int exec_open(const struct memd_host_calls *calls, void **ret_state)
{
	struct program *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->calls = calls;
	p->to_fd = p->from_fd = -1;
	r = greet(p);
	if (r < 0) {
		exec_close(p);
		return r;
	}
	*ret_state = p;
	return 0;
}

static int exec_evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	_cleanup_free_ char *question = exec_format_view(view);
	struct program *p = state;
	struct error e = {0};
	size_t n;
	int r;

	if (!question)
		return -ENOMEM;
	r = ask(p, question, LINE_BYTES_MIN + (size_t)view->n_guests * LINE_BYTES_GUEST, &n);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < view->n_guests; i++)
		snprintf(proposals[i]->reason, MEMD_REASON_MAX,
			"the program did not name this guest");
	r = exec_parse_answer(p->line, n, view, proposals, &e);
	if (r < 0)
		say(p->calls, e.text, NULL);
	return r;
}

const struct memd_policy policy_exec = {
	.size = sizeof(policy_exec),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "exec",
	.description = "asks a program, in lines of JSON",
	.config = exec_config,
	.open = exec_open,
	.evaluate = exec_evaluate,
	.close = exec_close,
};
