/*
 * memd-replay: a policy over a journal, for memctl(1). Reads the files it is given, starts memd-policy
 * where the policy needs it, writes to stdout, and touches nothing else.
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/log.h"
#include "memd/base/program.h"
#include "memd/base/units.h"
#include "memd/replay.h"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* memctl hands over the two files of a running memd. */
#define JOURNALS_MAX 16

static const char usage[] =
	"memd-replay [OPTION...] JOURNAL...: runs a policy over recorded decisions\n"
	"\n"
	"  --policy NAME    the policy; default: the one that was recorded last\n"
	"  --config FILE    its settings, and PolicyDir=, from here (memd.conf); default: as "
	"recorded\n"
	"  --ticks          one line of JSON for each tick before the summary\n"
	"  --what-if GUEST  what would change the target of that guest\n"
	"  --help\n"
	"\n"
	"JOURNAL: a file, the older first, or fd:N for a descriptor. See memd-journal(5).\n";

struct arguments {
	const char *policy;
	const char *config;
	const char *what_if;
	enum replay_detail detail;
	int fds[JOURNALS_MAX];
	size_t n;
};

static int open_journal(const char *name)
{
	struct error e = {0};
	uint64_t fd;

	if (strncmp(name, "fd:", 3) == 0 && units_parse_u64(name + 3, INT16_MAX, &fd, &e) == 0)
		return (int)fd;
	return open(name, O_RDONLY | O_CLOEXEC);
}

/* Negative: go on; else the exit code. */
static int parse_arguments(int argc, char *argv[], struct arguments *ret)
{
	static const struct option options[] = {
		{"policy", required_argument, NULL, 'p'},
		{"config", required_argument, NULL, 'c'},
		{"what-if", required_argument, NULL, 'w'},
		{"ticks", no_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'p':
			ret->policy = optarg;
			break;
		case 'c':
			ret->config = optarg;
			break;
		case 'w':
			ret->what_if = optarg;
			break;
		case 't':
			ret->detail = REPLAY_TICKS;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_OK;
		default:
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc || argc - optind > JOURNALS_MAX) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	for (; optind < argc; optind++) {
		int fd = open_journal(argv[optind]);

		if (fd < 0) {
			fprintf(stderr, "memd-replay: %s: %s\n", argv[optind], strerror(errno));
			return EXIT_FAILED;
		}
		ret->fds[ret->n++] = fd;
	}
	return -1;
}

static int run(const struct arguments *a, const struct host_config *config, struct error *e)
{
	_cleanup_free_ char *program = NULL;
	struct replay_options options = {
		.policy = a->policy,
		.config = config,
		.fds = a->fds,
		.n = a->n,
		.out = stdout,
	};
	int r = program_find(config ? config->policy_path : NULL, "policy/memd-policy",
		"/usr/libexec/memd/memd-policy", &program);

	if (r < 0)
		return r;
	options.program = program;
	if (a->what_if)
		return replay_what_if(&options, a->what_if, e);
	return replay_run(&options, a->detail, e);
}

int main(int argc, char *argv[])
{
	struct arguments arguments = {0};
	struct host_config config = {0};
	struct error e = {0};
	int r;

	log_open("memd-replay");
	r = parse_arguments(argc, argv, &arguments);
	if (r >= 0)
		return r;
	r = arguments.config ? host_config_load(arguments.config, &config, &e) : 0;
	if (r == 0)
		r = run(&arguments, arguments.config ? &config : NULL, &e);
	host_config_done(&config);
	if (r < 0) {
		fprintf(stderr, "memd-replay: %s\n", e.text[0] ? e.text : strerror(-r));
		return EXIT_FAILED;
	}
	return EXIT_OK;
}
