/* memctl top on a terminal: a pseudo-terminal stands for it, fake-memd for memd. */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <utmp.h>

#include "memd/base/clock.h"
#include "memd/memctl/memctl.h"
#include "tests/unit/memctl-env.h"

#define SCREEN_ON   "\033[?1049h"
#define SCREEN_OFF  "\033[?1049l"
#define CURSOR_HIDE "\033[?25l"
#define CURSOR_SHOW "\033[?25h"

#define OUTPUT_MAX     (256 * 1024)
#define OUTPUT_WAIT_MS 10000

static struct memctl_env env;

/* memctl top on a terminal of its own. */
struct session {
	int terminal; /* our end */
	pid_t pid;
	struct termios before;
	char output[OUTPUT_MAX]; /* all that it wrote */
	size_t size;
};

static void child(const char *variable)
{
	char program[MEMCTL_ENV_TEXT_MAX];

	snprintf(program, sizeof(program), "%s/memd/memctl", env.build);
	memctl_env_child(&env);
	setenv("TERM", "xterm", 1);
	setenv("LC_ALL", "C.UTF-8", 1);
	unsetenv("NO_COLOR");
	if (variable)
		setenv(variable, "1", 1);
	execl(program, program, "top", "--interval", "100ms", NULL);
	_exit(127);
}

/* variable: set to 1 for memctl, or NULL. */
static struct session *session_open(const char *variable)
{
	struct winsize size = {.ws_col = 100, .ws_row = 30};
	struct session *s = calloc(1, sizeof(*s));
	int its_end;

	assert_non_null(s);
	/* Not forkpty(): what the terminal was is read before memctl can change it. */
	assert_int_equal(openpty(&s->terminal, &its_end, NULL, NULL, &size), 0);
	assert_int_equal(tcgetattr(s->terminal, &s->before), 0);
	s->pid = fork();
	if (s->pid == 0) {
		close(s->terminal);
		if (login_tty(its_end) != 0)
			_exit(127);
		child(variable);
	}
	assert_true(s->pid > 0);
	close(its_end);
	return s;
}

/* Reads until what came since `from` has text, or the other end closes, or 10 s. */
static bool wait_for(struct session *s, size_t from, const char *text)
{
	struct pollfd p = {.fd = s->terminal, .events = POLLIN};

	while (!text || !strstr(s->output + from, text)) {
		ssize_t n;

		if (poll(&p, 1, OUTPUT_WAIT_MS) <= 0)
			return false;
		n = read(s->terminal, s->output + s->size, sizeof(s->output) - 1 - s->size);
		if (n <= 0) /* EIO: the last writer closed */
			return false;
		s->size += (size_t)n;
	}
	return true;
}

/* Waits for the end, checks that the terminal is as it was, and returns the exit code. */
static int session_close(struct session *s)
{
	struct termios after;
	int status;

	wait_for(s, s->size, NULL);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	assert_int_equal(tcgetattr(s->terminal, &after), 0);
	assert_int_equal(after.c_lflag, s->before.c_lflag);
	assert_non_null(strstr(s->output, CURSOR_SHOW SCREEN_OFF));
	close(s->terminal);
	free(s);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void live_screen_is_entered_and_left_with_q(void **state)
{
	struct session *s = session_open(NULL);

	assert_true(wait_for(s, 0, SCREEN_ON CURSOR_HIDE));
	assert_true(wait_for(s, 0, "guest-3"));
	assert_int_equal(write(s->terminal, "q", 1), 1);
	assert_int_equal(session_close(s), MEMCTL_OK);
}

static void other_keys_do_nothing(void **state)
{
	struct session *s = session_open(NULL);
	size_t from;

	assert_true(wait_for(s, 0, "guest-3"));
	assert_int_equal(write(s->terminal, "x", 1), 1);
	from = s->size;
	assert_true(wait_for(s, from, "guest-3"));
	assert_null(strstr(s->output, "x\033"));
	assert_int_equal(write(s->terminal, "q", 1), 1);
	assert_int_equal(session_close(s), MEMCTL_OK);
}

static void press(struct session *s, const char *keys)
{
	assert_int_equal(write(s->terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static void keys_choose_the_order_and_a_guest(void **state)
{
	struct session *s = session_open(NULL);

	assert_true(wait_for(s, 0, "by name   s order"));
	assert_true(wait_for(s, 0, "\n>guest-1"));
	press(s, "\033[B");
	assert_true(wait_for(s, 0, "\n>guest-2"));
	press(s, "jj");
	assert_true(wait_for(s, 0, "\n>guest-3"));
	press(s, "s");
	assert_true(wait_for(s, 0, "by cost"));
	press(s, "r");
	assert_true(wait_for(s, 0, "by cost, reversed"));
	press(s, "q");
	assert_int_equal(session_close(s), MEMCTL_OK);
}

static void keys_pause_and_show_the_guest(void **state)
{
	struct session *s = session_open(NULL);
	size_t from;

	assert_true(wait_for(s, 0, "\n>guest-1"));
	press(s, "p");
	assert_true(wait_for(s, 0, "guest-1: paused"));
	press(s, "p");
	assert_true(wait_for(s, 0, "guest-1: goes on"));
	from = s->size;
	press(s, "\n");
	assert_true(wait_for(s, from, SCREEN_OFF));
	assert_true(wait_for(s, from, "-- Enter goes back --"));
	assert_non_null(strstr(s->output + from, "share group"));
	from = s->size;
	press(s, "\n");
	assert_true(wait_for(s, from, SCREEN_ON));
	assert_true(wait_for(s, from, "guest-3"));
	press(s, "q");
	assert_int_equal(session_close(s), MEMCTL_OK);
}

static void terminal_is_restored_on_each_ending_signal(void **state)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct session *s = session_open(NULL);

		assert_true(wait_for(s, 0, "guest-3"));
		kill(s->pid, signals[i]);
		assert_int_equal(session_close(s), MEMCTL_OK);
	}
}

static void screen_follows_the_size_of_the_window(void **state)
{
	struct winsize small = {.ws_col = 60, .ws_row = 10};
	struct session *s = session_open(NULL);

	assert_true(wait_for(s, 0, "guest-3"));
	assert_null(strstr(s->output, "more: a taller window"));
	assert_int_equal(ioctl(s->terminal, TIOCSWINSZ, &small), 0);
	assert_true(wait_for(s, 0, "and 2 more: a taller window"));
	assert_int_equal(write(s->terminal, "q", 1), 1);
	assert_int_equal(session_close(s), MEMCTL_OK);
}

static void no_colour_is_written_under_NO_COLOR(void **state)
{
	struct session *plain = session_open("NO_COLOR"), *coloured = session_open(NULL);

	assert_true(wait_for(plain, 0, "guest-3"));
	assert_true(wait_for(coloured, 0, "guest-3"));
	assert_null(strstr(plain->output, "\033[34m"));
	assert_non_null(strstr(coloured->output, "\033[34m"));
	assert_int_equal(write(plain->terminal, "q", 1), 1);
	assert_int_equal(write(coloured->terminal, "q", 1), 1);
	assert_int_equal(session_close(plain), MEMCTL_OK);
	assert_int_equal(session_close(coloured), MEMCTL_OK);
}

static void suspended_it_gives_the_screen_back_and_takes_it_again(void **state)
{
	struct session *s = session_open(NULL);
	size_t from;
	int status;

	assert_true(wait_for(s, 0, "guest-3"));
	kill(s->pid, SIGTSTP);
	assert_int_equal(waitpid(s->pid, &status, WUNTRACED), s->pid);
	assert_true(WIFSTOPPED(status));
	assert_true(wait_for(s, 0, SCREEN_OFF));
	from = s->size;
	kill(s->pid, SIGCONT);
	assert_true(wait_for(s, from, SCREEN_ON));
	assert_int_equal(write(s->terminal, "q", 1), 1);
	assert_int_equal(session_close(s), MEMCTL_OK);
}

/* Runs last: ends fake-memd. */
static void terminal_is_restored_when_memd_goes(void **state)
{
	struct session *s = session_open(NULL);

	assert_true(wait_for(s, 0, "guest-3"));
	kill(env.memd, SIGTERM);
	assert_true(wait_for(s, 0, "memd is not running"));
	assert_true(strstr(s->output, SCREEN_OFF) < strstr(s->output, "memd is not running"));
	assert_int_equal(session_close(s), MEMCTL_UNREACHABLE);
}

static int start(void **state)
{
	return memctl_env_start(&env, 3);
}

static int stop(void **state)
{
	return memctl_env_stop(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(live_screen_is_entered_and_left_with_q),
		cmocka_unit_test(other_keys_do_nothing),
		cmocka_unit_test(keys_choose_the_order_and_a_guest),
		cmocka_unit_test(keys_pause_and_show_the_guest),
		cmocka_unit_test(terminal_is_restored_on_each_ending_signal),
		cmocka_unit_test(screen_follows_the_size_of_the_window),
		cmocka_unit_test(no_colour_is_written_under_NO_COLOR),
		cmocka_unit_test(suspended_it_gives_the_screen_back_and_takes_it_again),
		cmocka_unit_test(terminal_is_restored_when_memd_goes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("memctl-top", tests, start, stop);
}
