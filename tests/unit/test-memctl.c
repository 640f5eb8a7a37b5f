/* memctl as a user meets it: the program run against fake-memd on a private bus. */
#include <json-c/json.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "memd/memctl/memctl.h"
#include "tests/unit/memctl-env.h"

#define ARGUMENTS_MAX 12

static struct memctl_env env;

/* What one run of memctl left. */
struct outcome {
	int code;
	char *out, *err;
};

static void outcome_done(struct outcome *o)
{
	free(o->out);
	free(o->err);
}
#define _cleanup_outcome_ _cleanup_(outcome_done)

static char *read_output(const char *name)
{
	char *text = memctl_env_read(&env, name);

	assert_non_null(text);
	return text;
}

static int exit_code(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Runs memctl with the words of `line`, separated by single blanks. */
static struct outcome memctl(const char *line)
{
	char program[MEMCTL_ENV_TEXT_MAX], words[512];
	const char *argv[ARGUMENTS_MAX + 2] = {program};
	char *rest = words;
	struct outcome o;

	snprintf(program, sizeof(program), "%s/memd/memctl", env.build);
	snprintf(words, sizeof(words), "%s", line);
	for (unsigned i = 1; i <= ARGUMENTS_MAX && rest && *rest; i++)
		argv[i] = strsep(&rest, " ");
	o.code = exit_code(memctl_env_spawn(&env, argv, "out", "err"));
	o.out = read_output("out");
	o.err = read_output("err");
	return o;
}

static void assert_contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no '%s' in: %s", part, text);
}

static unsigned count_lines(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static struct json_object *parse(const char *text)
{
	struct json_object *object = json_tokener_parse(text);

	if (!object)
		fail_msg("no JSON: %s", text);
	return object;
}

static uint64_t number(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		fail_msg("no key '%s'", key);
	return json_object_get_uint64(value);
}

static void list_shows_every_guest(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("list");

	assert_int_equal(o.code, MEMCTL_OK);
	assert_contains(o.out, "guest-1 running");
	assert_contains(o.out, "guest-3 running");
	assert_string_equal(o.err, "");
}

static void list_says_who_has_an_agent(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("list");

	assert_contains(o.out, " AGENT ");
	assert_contains(o.out, " present ");
}

static void agent_shows_what_was_said_and_how_far_off_it_is(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("agent guest-2");

	assert_int_equal(o.code, MEMCTL_OK);
	assert_contains(o.out, "agent present, balloon-agent 0.1.0");
	assert_contains(o.out, "50 % more");
	assert_contains(o.out, "tasks wait for memory 12 % of the time");
	assert_contains(o.out, "pressure some                    1.50 %");
}

static void agent_as_json_has_the_figures_by_name(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("agent guest-2 --json");
	_cleanup_json_ struct json_object *agent = parse(o.out), *figures;

	assert_int_equal(count_lines(o.out), 1);
	figures = json_object_get(json_object_object_get(agent, "figures"));
	assert_int_equal(number(figures, "oom_kills"), 2);
	assert_true(number(agent, "claimed_used_bytes") > number(agent, "sampled_used_bytes"));
}

static void agent_of_nobody_is_refused(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("agent nobody");

	assert_int_equal(o.code, MEMCTL_REFUSED);
}

static void list_as_json_is_one_line_with_sizes_in_bytes(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("--json list");
	_cleanup_json_ struct json_object *guests = parse(o.out);

	assert_int_equal(count_lines(o.out), 1);
	assert_true(json_object_array_length(guests) >= 3);
	assert_int_equal(
		number(json_object_array_get_idx(guests, 0), "configured_bytes"), 268435456);
}

static void show_adds_up(void **state)
{
	static const char *const parts[] = {"private_bytes", "shared_bytes", "swapped_bytes",
		"hole_untouched_bytes", "hole_zero_bytes", "hole_balloon_bytes",
		"hole_reported_bytes", "hole_hinted_bytes"};
	_cleanup_outcome_ struct outcome o = memctl("show guest-2 --json");
	_cleanup_json_ struct json_object *guest = parse(o.out);
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		sum += number(guest, parts[i]);
	assert_int_equal(sum, number(guest, "configured_bytes"));
}

static void show_says_where_the_memory_is_and_why(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("show guest-1");

	assert_int_equal(o.code, MEMCTL_OK);
	assert_contains(o.out, "in the balloon         40 MiB");
	assert_contains(o.out, "1000 of 12000 shares");
	assert_contains(o.out, "devices\n  Disk=/srv/web.img,ro\n  Rng=yes\n");
	assert_contains(o.out, ", by page-out\n");
	assert_contains(o.out, "waited for memory: some ");
}

static void ledger_has_a_line_a_guest_and_adds_up(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("ledger");
	_cleanup_outcome_ struct outcome j = memctl("ledger --json");
	_cleanup_json_ struct json_object *ledger = parse(j.out);
	struct json_object *guests = json_object_object_get(ledger, "guests");

	assert_int_equal(o.code, MEMCTL_OK);
	assert_contains(o.out, "guest-1 ");
	assert_contains(o.out, "guest-3 ");
	assert_contains(o.out, "\nsum ");
	assert_contains(o.out, "can be freed now");
	assert_true(json_object_array_length(guests) >= 3);
	assert_true(number(json_object_object_get(ledger, "host"), "budget_bytes") > 0);
}

static void history_shows_averages_of_intervals(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("history guest-1 --interval 10s --count 3");
	_cleanup_outcome_ struct outcome j =
		memctl("history guest-1 --interval 10s --count 3 --json");
	_cleanup_json_ struct json_object *points = parse(j.out);
	struct json_object *first = json_object_array_get_idx(points, 0);

	assert_int_equal(o.code, MEMCTL_OK);
	assert_contains(o.out, "100M");
	assert_int_equal(json_object_array_length(points), 3);
	assert_int_equal(number(first, "resident_bytes"), 100 * MIB);
	assert_int_equal(number(first, "working_set_bytes"), 64 * MIB);
}

static void history_of_nobody_is_refused(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("history nobody");
	_cleanup_outcome_ struct outcome none = memctl("history guest-1 --interval 1h --count 3");
	_cleanup_outcome_ struct outcome zero = memctl("history guest-1 --count 0");

	assert_int_equal(o.code, MEMCTL_REFUSED);
	assert_int_equal(none.code, MEMCTL_REFUSED); /* no minute was written */
	assert_contains(none.err, "no history of guest guest-1 in that time");
	assert_int_equal(zero.code, MEMCTL_USAGE);
}

static void history_is_drawn_by_gnuplot(void **state)
{
	_cleanup_outcome_ struct outcome bad = memctl("history guest-1 --plot /tmp/x.gif");
	char arguments[128], path[] = "/tmp/memctl-plot-XXXXXX.svg";
	_cleanup_free_ char *text = NULL;
	int fd = mkstemps(path, 4);

	assert_int_equal(bad.code, MEMCTL_USAGE);
	assert_true(fd >= 0);
	close(fd);
	snprintf(arguments, sizeof(arguments), "history guest-1 --interval 1s --count 60 --plot %s",
		path);
	{
		_cleanup_outcome_ struct outcome o = memctl(arguments);

		if (o.code == MEMCTL_REFUSED && strstr(o.err, "apt-get install gnuplot-nox"))
			print_message("# not on this host: gnuplot\n");
		else
			assert_int_equal(o.code, MEMCTL_OK);
		if (o.code == MEMCTL_OK) {
			assert_int_equal(fd_read_file_at(AT_FDCWD, path, 4 * MIB, &text, NULL), 0);
			assert_contains(text, "<svg");
			assert_contains(text, "in use");
		}
	}
	unlink(path);
}

static void unknown_guest_is_answered_with_names_and_the_nearest(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("show gest-2");

	assert_int_equal(o.code, MEMCTL_REFUSED);
	assert_contains(o.err, "Guests: guest-1, guest-2, guest-3");
	assert_contains(o.err, "Did you mean 'guest-2'?");
	assert_string_equal(o.out, "");
}

static void far_names_are_not_guessed(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("stop database");

	assert_int_equal(o.code, MEMCTL_REFUSED);
	assert_null(strstr(o.err, "Did you mean"));
}

static void error_as_json_has_name_message_and_exit_code(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("--json show nobody");
	_cleanup_json_ struct json_object *object = parse(o.out);
	struct json_object *error = json_object_object_get(object, "error");

	assert_string_equal(json_object_get_string(json_object_object_get(error, "name")),
		"org.memd1.Error.NoSuchGuest");
	assert_int_equal(number(error, "exit_code"), MEMCTL_REFUSED);
	assert_contains(o.err, "nobody");
}

static void set_target_takes_a_part_of_the_guest(void **state)
{
	_cleanup_outcome_ struct outcome set = memctl("set-target guest-1 50%");
	_cleanup_outcome_ struct outcome o = memctl("show guest-1 --json");
	_cleanup_json_ struct json_object *guest = parse(o.out);

	assert_int_equal(set.code, MEMCTL_OK);
	assert_int_equal(number(guest, "target_bytes"), 134217728);
	assert_true(json_object_get_boolean(json_object_object_get(guest, "target_fixed")));
}

static void set_target_auto_gives_it_back(void **state)
{
	_cleanup_outcome_ struct outcome set = memctl("set-target guest-1 100M");
	_cleanup_outcome_ struct outcome clear = memctl("set-target guest-1 auto");
	_cleanup_outcome_ struct outcome o = memctl("show guest-1 --json");
	_cleanup_json_ struct json_object *guest = parse(o.out);

	assert_int_equal(clear.code, MEMCTL_OK);
	assert_false(json_object_get_boolean(json_object_object_get(guest, "target_fixed")));
}

static void target_below_the_floor_is_refused_in_memds_words(void **state)
{
	_cleanup_outcome_ struct outcome below = memctl("set-target guest-2 67108863");
	_cleanup_outcome_ struct outcome at = memctl("set-target guest-2 67108864");

	assert_int_equal(below.code, MEMCTL_REFUSED);
	assert_contains(below.err, "below its floor of 64 MiB");
	assert_int_equal(at.code, MEMCTL_OK);
}

static void target_that_is_no_size_is_wrong_usage(void **state)
{
	_cleanup_outcome_ struct outcome text = memctl("set-target guest-2 much");
	_cleanup_outcome_ struct outcome huge = memctl("set-target guest-2 99999999999T");

	assert_int_equal(text.code, MEMCTL_USAGE);
	assert_contains(text.err, "much");
	assert_int_equal(huge.code, MEMCTL_USAGE);
}

static void start_hands_settings_over(void **state)
{
	_cleanup_outcome_ struct outcome start = memctl("start extra Memory=512M ShareGroup=a=b");
	_cleanup_outcome_ struct outcome o = memctl("show extra --json");
	_cleanup_json_ struct json_object *guest = parse(o.out);

	assert_int_equal(start.code, MEMCTL_OK);
	assert_string_equal(start.out, "extra: started\n");
	assert_int_equal(number(guest, "configured_bytes"), 536870912);
	assert_string_equal(
		json_object_get_string(json_object_object_get(guest, "share_group")), "a=b");
}

static void fit_says_how_many_more_and_why(void **state)
{
	_cleanup_outcome_ struct outcome text = memctl("fit web Memory=512M");
	_cleanup_outcome_ struct outcome o = memctl("fit web --json");
	_cleanup_outcome_ struct outcome none = memctl("fit none");
	_cleanup_outcome_ struct outcome wrong = memctl("fit web Memory");
	_cleanup_json_ struct json_object *forecast = parse(o.out);

	assert_int_equal(text.code, MEMCTL_OK);
	assert_contains(text.out, "5 more of web would start\n3 of them at once");
	assert_contains(text.out, "why: one more lacks 8 MiB\n");
	assert_int_equal(number(forecast, "fit"), 5);
	assert_int_equal(number(forecast, "fit_now"), 3);
	assert_int_equal(number(forecast, "fit_comfortably"), 4);
	assert_int_equal(number(forecast, "fit_backed"), 2);
	assert_int_equal(none.code, MEMCTL_REFUSED);
	assert_int_equal(wrong.code, MEMCTL_USAGE);
}

static void start_of_a_running_guest_is_refused(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("start guest-1");

	assert_int_equal(o.code, MEMCTL_REFUSED);
	assert_contains(o.err, "guest-1 runs already");
}

static void setting_without_key_or_value_sign_is_wrong_usage(void **state)
{
	_cleanup_outcome_ struct outcome none = memctl("start x Memory");
	_cleanup_outcome_ struct outcome empty = memctl("start x =512M");

	assert_int_equal(none.code, MEMCTL_USAGE);
	assert_contains(none.err, "Memory=512M");
	assert_int_equal(empty.code, MEMCTL_USAGE);
}

static void pause_and_resume_change_the_state(void **state)
{
	_cleanup_outcome_ struct outcome pause = memctl("pause guest-3");
	_cleanup_outcome_ struct outcome paused = memctl("list");
	_cleanup_outcome_ struct outcome resume = memctl("resume guest-3");
	_cleanup_outcome_ struct outcome resumed = memctl("list");

	assert_int_equal(pause.code, MEMCTL_OK);
	assert_contains(paused.out, "guest-3 paused");
	assert_int_equal(resume.code, MEMCTL_OK);
	assert_contains(resumed.out, "guest-3 running");
}

static void hint_asks_the_guest(void **state)
{
	_cleanup_outcome_ struct outcome before = memctl("show guest-3 --json");
	_cleanup_outcome_ struct outcome hint = memctl("hint guest-3");
	_cleanup_outcome_ struct outcome after = memctl("show guest-3 --json");
	_cleanup_json_ struct json_object *was = parse(before.out);
	_cleanup_json_ struct json_object *is = parse(after.out);

	assert_int_equal(hint.code, MEMCTL_OK);
	assert_contains(hint.out, "guest-3: asked for its free memory");
	assert_int_equal(number(is, "hint_runs"), number(was, "hint_runs") + 1);
}

static void stop_is_orderly_unless_forced(void **state)
{
	_cleanup_outcome_ struct outcome start = memctl("start orderly");
	_cleanup_outcome_ struct outcome stop = memctl("stop orderly");
	_cleanup_outcome_ struct outcome start2 = memctl("start forced");
	_cleanup_outcome_ struct outcome stop2 = memctl("stop forced --force");
	_cleanup_outcome_ struct outcome o = memctl("list");

	assert_int_equal(stop.code, MEMCTL_OK);
	assert_int_equal(stop2.code, MEMCTL_OK);
	assert_contains(o.out, "orderly powered-off");
	assert_contains(o.out, "forced  failed");
}

static void status_shows_what_each_mechanism_saves(void **state)
{
	_cleanup_outcome_ struct outcome text = memctl("status");
	_cleanup_outcome_ struct outcome o = memctl("status --json");
	_cleanup_json_ struct json_object *host = parse(o.out);

	assert_contains(text.out, "ledger and kernel differ by 0.31 %");
	assert_true(number(host, "saved_sharing_bytes") > 0);
	assert_int_equal(number(host, "budget_bytes"), 1073741824);
	assert_int_equal(number(host, "tick_usec"), 1000000);
}

static void refused_reload_names_file_and_line(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("reload");

	assert_int_equal(o.code, MEMCTL_REFUSED);
	assert_contains(o.err, "memd.conf:3");
}

static void top_off_a_terminal_prints_one_line_an_interval(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("top --interval 100ms --count 3");

	assert_int_equal(o.code, MEMCTL_OK);
	assert_int_equal(count_lines(o.out), 3);
	assert_contains(o.out, "budget=1.0G");
	assert_null(strchr(o.out, '\033'));
}

static void top_verbose_adds_a_line_for_each_guest(void **state)
{
	_cleanup_outcome_ struct outcome list = memctl("list");
	_cleanup_outcome_ struct outcome o = memctl("top -v --count 1");

	/* the list has a heading where top has the host */
	assert_int_equal(count_lines(o.out), count_lines(list.out));
}

static void top_as_json_is_one_object_an_interval(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("top --json --interval 100ms --count 2");
	char *second = strchr(o.out, '\n');

	assert_int_equal(count_lines(o.out), 2);
	*second++ = '\0';
	_cleanup_json_ struct json_object *first = parse(o.out);
	_cleanup_json_ struct json_object *last = parse(second);

	assert_non_null(json_object_object_get(first, "host"));
	assert_non_null(json_object_object_get(last, "guests"));
}

static void interval_is_bounded(void **state)
{
	_cleanup_outcome_ struct outcome below = memctl("top --interval 99ms --count 1");
	_cleanup_outcome_ struct outcome at = memctl("top --interval 100ms --count 1");

	assert_int_equal(below.code, MEMCTL_USAGE);
	assert_int_equal(at.code, MEMCTL_OK);
}

static void options_of_other_verbs_are_refused(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("list --force");

	assert_int_equal(o.code, MEMCTL_USAGE);
	assert_contains(o.err, "'list' takes no --force");
}

static void wrong_number_of_arguments_shows_the_usage(void **state)
{
	_cleanup_outcome_ struct outcome few = memctl("set-target guest-1");
	_cleanup_outcome_ struct outcome many = memctl("pause guest-1 guest-2");

	assert_int_equal(few.code, MEMCTL_USAGE);
	assert_contains(few.err, "memctl set-target NAME SIZE|auto");
	assert_int_equal(many.code, MEMCTL_USAGE);
}

static void unknown_verb_is_answered_with_the_nearest(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("lsit");

	assert_int_equal(o.code, MEMCTL_USAGE);
	assert_contains(o.err, "did you mean 'list'?");
}

static void every_verb_has_help_with_an_example(void **state)
{
	for (unsigned i = 0; i < n_verbs; i++) {
		char line[64], example[64];

		snprintf(line, sizeof(line), "help %s", verbs[i].name);
		snprintf(example, sizeof(example), "\n  memctl %s", verbs[i].name);
		_cleanup_outcome_ struct outcome o = memctl(line);

		assert_int_equal(o.code, MEMCTL_OK);
		assert_contains(o.out, example);
	}
}

static void missing_bus_is_exit_3_and_named(void **state)
{
	_cleanup_outcome_ struct outcome o = memctl("--bus unix:path=/nonexistent/bus list");

	assert_int_equal(o.code, MEMCTL_UNREACHABLE);
	assert_contains(o.err, "/nonexistent/bus");
}

/* Runs last: ends fake-memd. */
static void memd_gone_from_its_bus_is_exit_3_and_says_how_to_start_it(void **state)
{
	int status;

	kill(env.memd, SIGTERM);
	waitpid(env.memd, &status, 0);
	env.memd = 0;
	_cleanup_outcome_ struct outcome o = memctl("status --json");
	_cleanup_json_ struct json_object *object = parse(o.out);

	assert_int_equal(o.code, MEMCTL_UNREACHABLE);
	assert_contains(o.err, "Start it: systemctl start memd");
	assert_int_equal(number(json_object_object_get(object, "error"), "exit_code"), 3);
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
		cmocka_unit_test(list_shows_every_guest),
		cmocka_unit_test(list_says_who_has_an_agent),
		cmocka_unit_test(agent_shows_what_was_said_and_how_far_off_it_is),
		cmocka_unit_test(agent_as_json_has_the_figures_by_name),
		cmocka_unit_test(agent_of_nobody_is_refused),
		cmocka_unit_test(list_as_json_is_one_line_with_sizes_in_bytes),
		cmocka_unit_test(show_adds_up),
		cmocka_unit_test(ledger_has_a_line_a_guest_and_adds_up),
		cmocka_unit_test(history_shows_averages_of_intervals),
		cmocka_unit_test(history_of_nobody_is_refused),
		cmocka_unit_test(history_is_drawn_by_gnuplot),
		cmocka_unit_test(show_says_where_the_memory_is_and_why),
		cmocka_unit_test(unknown_guest_is_answered_with_names_and_the_nearest),
		cmocka_unit_test(far_names_are_not_guessed),
		cmocka_unit_test(error_as_json_has_name_message_and_exit_code),
		cmocka_unit_test(set_target_takes_a_part_of_the_guest),
		cmocka_unit_test(set_target_auto_gives_it_back),
		cmocka_unit_test(target_below_the_floor_is_refused_in_memds_words),
		cmocka_unit_test(target_that_is_no_size_is_wrong_usage),
		cmocka_unit_test(start_hands_settings_over),
		cmocka_unit_test(fit_says_how_many_more_and_why),
		cmocka_unit_test(start_of_a_running_guest_is_refused),
		cmocka_unit_test(setting_without_key_or_value_sign_is_wrong_usage),
		cmocka_unit_test(pause_and_resume_change_the_state),
		cmocka_unit_test(hint_asks_the_guest),
		cmocka_unit_test(stop_is_orderly_unless_forced),
		cmocka_unit_test(status_shows_what_each_mechanism_saves),
		cmocka_unit_test(refused_reload_names_file_and_line),
		cmocka_unit_test(top_off_a_terminal_prints_one_line_an_interval),
		cmocka_unit_test(top_verbose_adds_a_line_for_each_guest),
		cmocka_unit_test(top_as_json_is_one_object_an_interval),
		cmocka_unit_test(interval_is_bounded),
		cmocka_unit_test(options_of_other_verbs_are_refused),
		cmocka_unit_test(wrong_number_of_arguments_shows_the_usage),
		cmocka_unit_test(unknown_verb_is_answered_with_the_nearest),
		cmocka_unit_test(every_verb_has_help_with_an_example),
		cmocka_unit_test(missing_bus_is_exit_3_and_named),
		cmocka_unit_test(memd_gone_from_its_bus_is_exit_3_and_says_how_to_start_it),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("memctl", tests, start, stop);
}
