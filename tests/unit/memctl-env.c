/* See memctl-env.h. */
#include "tests/unit/memctl-env.h"

#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"

#define OUTPUT_MAX	  (256 * 1024)
#define START_TIMEOUT_US  (10 * US_PER_S)
#define START_INTERVAL_US (10 * US_PER_MS)

void memctl_env_child(const struct memctl_env *env)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	setenv("MEMD_BUS", env->address, 1);
}

static int open_output(struct memctl_env *env, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", env->directory, name);
	return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

pid_t memctl_env_spawn(struct memctl_env *env, const char *const argv[], const char *out_name,
	const char *err_name)
{
	_cleanup_close_ int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int out = open_output(env, out_name);
	_cleanup_close_ int err = open_output(env, err_name);
	pid_t pid = fork();

	if (pid == 0) {
		dup2(in, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		memctl_env_child(env);
		setenv("LC_ALL", "C", 1);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	return pid;
}

char *memctl_env_read(struct memctl_env *env, const char *name)
{
	char path[128];
	char *text = NULL;
	size_t size;

	snprintf(path, sizeof(path), "%s/%s", env->directory, name);
	return fd_read_file_at(AT_FDCWD, path, OUTPUT_MAX, &text, &size) < 0 ? NULL : text;
}

static int wait_for_output(struct memctl_env *env, const char *name)
{
	for (uint64_t us = 0; us < START_TIMEOUT_US; us += START_INTERVAL_US) {
		_cleanup_free_ char *text = memctl_env_read(env, name);

		if (text && *text)
			return 0;
		clock_sleep_us(START_INTERVAL_US);
	}
	return -1;
}

static int start_bus(struct memctl_env *env)
{
	char config[MEMCTL_ENV_TEXT_MAX], address[128];
	const char *argv[] = {"dbus-daemon", config, address, "--nofork", "--print-address", NULL};

	snprintf(config, sizeof(config), "--config-file=%s/../../tests/private-bus.conf",
		env->build);
	snprintf(address, sizeof(address), "--address=%s", env->address);
	env->bus = memctl_env_spawn(env, argv, "bus-out", "bus-err");
	return wait_for_output(env, "bus-out");
}

static int start_memd(struct memctl_env *env, unsigned n_guests)
{
	char program[MEMCTL_ENV_TEXT_MAX], number[16];
	const char *argv[] = {program, env->address, number, NULL};

	snprintf(program, sizeof(program), "%s/tests/unit/fake-memd", env->build);
	snprintf(number, sizeof(number), "%u", n_guests);
	env->memd = memctl_env_spawn(env, argv, "memd-out", "memd-err");
	return wait_for_output(env, "memd-out");
}

int memctl_env_start(struct memctl_env *env, unsigned n_guests)
{
	ssize_t n;

	*env = (struct memctl_env){.directory = "/tmp/test-memctl.XXXXXX"};
	n = readlink("/proc/self/exe", env->build, sizeof(env->build) - 1);
	if (n < 0 || !mkdtemp(env->directory))
		return -1;
	for (unsigned i = 0; i < 3; i++) /* build/PRESET/tests/unit/test-NAME */
		dirname(env->build);
	snprintf(env->address, sizeof(env->address), "unix:path=%s/bus", env->directory);
	if (start_bus(env) < 0)
		return -1;
	return start_memd(env, n_guests);
}

int memctl_env_stop(struct memctl_env *env)
{
	static const char *const files[] = {
		"out", "err", "bus-out", "bus-err", "memd-out", "memd-err", "bus"};
	char path[128];

	if (env->memd > 0)
		kill(env->memd, SIGTERM);
	if (env->bus > 0)
		kill(env->bus, SIGTERM);
	while (wait(NULL) > 0)
		;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", env->directory, files[i]);
		unlink(path);
	}
	return rmdir(env->directory);
}
