/* memd-policy: arguments, and the order in which it locks itself in. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "memd/base/cleanup.h"
#include "memd/base/log.h"
#include "policy/helper/helper.h"
#include "policy/policy-host.h"

static const char usage[] =
	"memd-policy: runs one policy for memd, apart from it\n"
	"\n"
	"  memd-policy --plugin DIR NAME     DIR/NAME.so; memd on descriptor 3, errors to 4\n"
	"  memd-policy --exec PROGRAM        a program that speaks JSON lines; likewise\n"
	"  memd-policy --check NAME|FILE [KEY=VALUE...]\n"
	"                                    tries a policy on made-up figures: a built-in one, a\n"
	"                                    plugin (FILE.so), or a program\n"
	"\n"
	"See memd-policy(3).\n";

/* Where the plugin is, what it must be called, and how it is run. */
struct wanted {
	const char *path;
	const char *name; /* NULL: as it likes */
	bool exec;
	bool check;
};

static int prepare_exec(const struct wanted *w, struct memd_policy *ret, struct error *e)
{
	int r = load_check_trusted(w->path, e);

	if (r < 0)
		return r;
	exec_set_command(w->path);
	*ret = policy_exec;
	r = sandbox_enter(SANDBOX_EXEC_BYTES, e);
	return r < 0 ? r : sandbox_filter(SANDBOX_EXEC, e);
}

static int prepare_plugin(const struct wanted *w, struct memd_policy *ret, struct error *e)
{
	void *handle;
	int fd, r;

	fd = load_open_plugin(w->path, e);
	if (fd < 0)
		return fd;
	r = sandbox_enter(SANDBOX_PLUGIN_BYTES, e);
	if (r == 0)
		r = sandbox_filter(SANDBOX_LOADING, e);
	if (r == 0)
		r = load_plugin(fd, &handle, e);
	if (r < 0)
		return r;
	close(fd);
	prctl(PR_SET_DUMPABLE, 0); /* was needed to find /proc/self/fd */
	r = sandbox_filter(w->check ? SANDBOX_RUNNING_TALKS : SANDBOX_RUNNING, e);
	if (r == 0)
		r = load_policy(handle, w->name, ret, e);
	return r;
}

static int prepare(const struct wanted *w, struct memd_policy *ret, struct error *e)
{
	int r = w->exec ? prepare_exec(w, ret, e) : prepare_plugin(w, ret, e);

	if (r < 0)
		error_prefix(e, "%s", w->path);
	return r;
}

/* By write(2) alone: dprintf would look where the pipe stands, which the filter refuses. */
static void say_why(const struct error *e, int r)
{
	char line[sizeof(e->text) + 1];
	int n = snprintf(line, sizeof(line), "%s\n", e->text[0] ? e->text : strerror(-r));

	if (write(HELPER_ERROR_FD, line, (size_t)n) < 0)
		return; /* memd is gone, and nobody else is there to tell */
}

static int run_for_memd(const struct wanted *w)
{
	struct memd_policy policy;
	struct error e = {0};
	int r;

	r = sandbox_forbid_files(&e);
	if (r == 0)
		r = prepare(w, &policy, &e);
	if (r == 0)
		r = serve(HELPER_SOCKET_FD, &policy, &e);
	if (r < 0)
		say_why(&e, r);
	return r < 0 ? 1 : 0;
}

static int run_check(const struct wanted *w, char *const *settings, size_t n)
{
	const struct memd_policy *builtin = policy_find_builtin(w->path);
	struct memd_policy policy;
	struct error e = {0};
	int r;

	if (builtin)
		return check(builtin, settings, n);
	if (!strchr(w->path, '/')) {
		fprintf(stderr, "memd-policy: %s is no built-in policy (%s), and no path\n",
			w->path, policy_builtin_names());
		return 1;
	}
	r = prepare(w, &policy, &e);
	if (r < 0) {
		fprintf(stderr, "memd-policy: %s\n", e.text[0] ? e.text : strerror(-r));
		return 1;
	}
	return check(&policy, settings, n);
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

static int run(int argc, char *argv[])
{
	_cleanup_free_ char *path = NULL;
	struct wanted wanted = {0};

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* before files are out of reach */
	signal(SIGPIPE, SIG_IGN);
	if (argc == 4 && strcmp(argv[1], "--plugin") == 0) {
		if (asprintf(&path, "%s/%s.so", argv[2], argv[3]) < 0)
			return 1;
		wanted = (struct wanted){.path = path, .name = argv[3]};
		return run_for_memd(&wanted);
	}
	if (argc == 3 && strcmp(argv[1], "--exec") == 0) {
		wanted = (struct wanted){.path = argv[2], .exec = true};
		return run_for_memd(&wanted);
	}
	if (argc >= 3 && strcmp(argv[1], "--check") == 0) {
		wanted = (struct wanted){
			.path = argv[2], .check = true, .exec = !ends_with(argv[2], ".so")};
		return run_check(&wanted, argv + 3, (size_t)argc - 3);
	}
	fputs(usage, argc == 2 && strcmp(argv[1], "--help") == 0 ? stdout : stderr);
	return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
}

int main(int argc, char *argv[])
{
	int code = run(argc, argv);

	/* What a plugin has left to be done at the exit is not done. */
	fflush(stdout);
	_exit(code);
}
