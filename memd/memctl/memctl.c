/*
 * memctl, the command line of memd: reads the options, finds the verb, connects where the verb
 * needs memd, and turns the outcome into an exit code.
 */
#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/memctl/client.h"

/* Below this, reading the figures costs more than it shows. */
#define INTERVAL_US_MIN (100 * US_PER_MS)

enum memctl_exit memctl_fail(
	const struct memctl *m, enum memctl_exit code, const char *name, const char *format, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "memctl: %s\n", text);
	if (m->json) {
		_cleanup_json_ struct json_object *object = json_object_new_object();
		struct json_object *error = json_object_new_object();

		json_object_object_add(error, "name", json_object_new_string(name ? name : ""));
		json_object_object_add(error, "message", json_object_new_string(text));
		json_object_object_add(error, "exit_code", json_object_new_int(code));
		json_object_object_add(object, "error", error);
		memctl_print_json(object);
	}
	return code;
}

void memctl_print_json(struct json_object *object)
{
	puts(json_object_to_json_string_ext(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
}

static const struct verb *find_verb(const char *name)
{
	for (unsigned i = 0; i < n_verbs; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static enum memctl_exit no_such_verb(const struct memctl *m, const char *name)
{
	_cleanup_free_ const char **names = calloc(n_verbs, sizeof(*names));
	const char *nearest;

	if (!names)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "out of memory");
	for (unsigned i = 0; i < n_verbs; i++)
		names[i] = verbs[i].name;
	nearest = client_nearest(name, names, n_verbs);
	if (nearest)
		return memctl_fail(
			m, MEMCTL_USAGE, NULL, "no verb '%s'; did you mean '%s'?", name, nearest);
	return memctl_fail(m, MEMCTL_USAGE, NULL, "no verb '%s'; see: memctl help", name);
}

static void print_verb_help(const struct verb *verb)
{
	printf("memctl %s %s\n\n%s.\n\n%s\n", verb->name, verb->arguments, verb->summary,
		verb->help);
}

enum memctl_exit verb_help(struct memctl *m, int argc, char **argv)
{
	if (argc > 0) {
		const struct verb *verb = find_verb(argv[0]);

		if (!verb)
			return no_such_verb(m, argv[0]);
		print_verb_help(verb);
		return MEMCTL_OK;
	}
	printf("memctl [--bus system|session|ADDRESS] [--json] VERB ...: asks memd, the memory "
	       "manager of this "
	       "host's guests.\n\n");
	for (unsigned i = 0; i < n_verbs; i++) {
		_cleanup_free_ char *synopsis = NULL;

		if (asprintf(&synopsis, "%s %s", verbs[i].name, verbs[i].arguments) >= 0)
			printf("  %-34s %s\n", synopsis, verbs[i].summary);
	}
	printf("\n"
	       "  --bus BUS   where memd is: system (the default), session, or a D-Bus address. "
	       "MEMD_BUS sets "
	       "the default\n"
	       "  --json      one JSON object on stdout instead of text; sizes in bytes\n"
	       "\n"
	       "memctl help VERB tells more, with an example. Exit codes: 0 done, 1 refused, 2 "
	       "wrong usage, 3 "
	       "memd is not reachable.\n");
	return MEMCTL_OK;
}

/* Fails (with a message) when the verb does not take what was given. */
static enum memctl_exit check_usage(const struct memctl *m, const struct verb *verb, int argc)
{
	static const char *const option_names[] = {"--force", "--lines", "--interval", "--count",
		"--verbose", "--remove", "--plot", "--policy", "--config"};

	for (unsigned i = 0; i < ARRAY_SIZE(option_names); i++)
		if (m->options & ~verb->options & (1U << i))
			return memctl_fail(m, MEMCTL_USAGE, NULL,
				"'%s' takes no %s; see: memctl help %s", verb->name,
				option_names[i], verb->name);
	if (argc < verb->min_arguments || (verb->max_arguments >= 0 && argc > verb->max_arguments))
		return memctl_fail(
			m, MEMCTL_USAGE, NULL, "usage: memctl %s %s", verb->name, verb->arguments);
	return MEMCTL_OK;
}

enum memctl_exit memctl_connect(struct memctl *m)
{
	int r = m->bus ? 0 : client_connect(m);

	if (r < 0)
		return memctl_fail(m, MEMCTL_UNREACHABLE, NULL,
			"cannot reach the bus '%s': %s. Is dbus-daemon running? --bus (or "
			"MEMD_BUS) names another bus",
			m->bus_name, strerror(-r));
	return MEMCTL_OK;
}

static enum memctl_exit run_verb(struct memctl *m, const struct verb *verb, int argc, char **argv)
{
	enum memctl_exit code = check_usage(m, verb, argc);

	if (code == MEMCTL_OK && verb->needs_memd)
		code = memctl_connect(m);
	return code == MEMCTL_OK ? verb->run(m, argc, argv) : code;
}

static enum memctl_exit parse_interval(struct memctl *m, const char *text)
{
	struct error e = {};

	if (units_parse_time(text, &m->interval_us, &e) < 0)
		return memctl_fail(m, MEMCTL_USAGE, NULL, "--interval: %s", e.text);
	if (m->interval_us < INTERVAL_US_MIN)
		return memctl_fail(
			m, MEMCTL_USAGE, NULL, "--interval: %s is less than 100ms", text);
	m->options |= OPTION_INTERVAL;
	return MEMCTL_OK;
}

static enum memctl_exit parse_count(struct memctl *m, const char *text)
{
	struct error e = {};

	if (units_parse_u64(text, UINT32_MAX, &m->count, &e) < 0)
		return memctl_fail(m, MEMCTL_USAGE, NULL, "--count: %s", e.text);
	m->options |= OPTION_COUNT;
	return MEMCTL_OK;
}

/* Reads all options, wherever they stand. *ret_help: --help was among them. */
static enum memctl_exit parse_options(
	struct memctl *m, int argc, char **argv, bool *ret_help, bool *ret_version)
{
	static const struct option options[] = {
		{"bus", required_argument, NULL, 'b'},
		{"json", no_argument, NULL, 'j'},
		{"force", no_argument, NULL, 'f'},
		{"lines", no_argument, NULL, 'l'},
		{"interval", required_argument, NULL, 'i'},
		{"count", required_argument, NULL, 'n'},
		{"verbose", no_argument, NULL, 'v'},
		{"remove", no_argument, NULL, 'r'},
		{"plot", required_argument, NULL, 'p'},
		{"policy", required_argument, NULL, 'P'},
		{"config", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{},
	};
	enum memctl_exit code = MEMCTL_OK;
	int c;

	while (code == MEMCTL_OK && (c = getopt_long(argc, argv, "vh", options, NULL)) >= 0) {
		switch (c) {
		case 'b':
			m->bus_name = optarg;
			break;
		case 'j':
			m->json = true;
			break;
		case 'f':
			m->options |= OPTION_FORCE;
			break;
		case 'l':
			m->options |= OPTION_LINES;
			break;
		case 'i':
			code = parse_interval(m, optarg);
			break;
		case 'n':
			code = parse_count(m, optarg);
			break;
		case 'v':
			m->options |= OPTION_VERBOSE;
			break;
		case 'r':
			m->options |= OPTION_REMOVE;
			break;
		case 'p':
			m->options |= OPTION_PLOT;
			m->plot_path = optarg;
			break;
		case 'P':
			m->options |= OPTION_POLICY;
			m->policy = optarg;
			break;
		case 'c':
			m->options |= OPTION_CONFIG;
			m->config_path = optarg;
			break;
		case 'h':
			*ret_help = true;
			break;
		case 'V':
			*ret_version = true;
			break;
		default:
			code = MEMCTL_USAGE; /* getopt has said what */
		}
	}
	return code;
}

enum memctl_exit memctl_main(int argc, char **argv)
{
	const char *bus = getenv("MEMD_BUS");
	struct memctl m = {.bus_name = bus && *bus ? bus : "system", .interval_us = US_PER_S};
	bool help = false, version = false;
	const struct verb *verb;
	enum memctl_exit code;

	setlocale(LC_CTYPE, "");
	code = parse_options(&m, argc, argv, &help, &version);
	if (code != MEMCTL_OK)
		return code;
	if (version && optind == argc) {
		puts("memctl " MEMD_VERSION);
		return MEMCTL_OK;
	}
	if (help)
		return verb_help(&m, argc - optind, argv + optind);
	if (optind == argc) {
		verb_help(&m, 0, NULL);
		return MEMCTL_USAGE;
	}
	verb = find_verb(argv[optind]);
	if (!verb)
		return no_such_verb(&m, argv[optind]);
	code = run_verb(&m, verb, argc - optind - 1, argv + optind + 1);
	sd_bus_flush_close_unref(m.bus);
	return code;
}
