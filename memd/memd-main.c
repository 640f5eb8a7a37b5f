/* memd: arguments. Everything else is the manager's, and configuration. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/log.h"
#include "memd/manager.h"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char usage[] =
	"memd [OPTION...]: memory overcommit for KVM guests\n"
	"\n"
	"  --config FILE        configuration (/etc/memd/memd.conf); FILE.d/*.conf are drop-ins\n"
	"  --guests-dir DIR     definitions of guests, NAME.guest (/etc/memd/guests.d)\n"
	"  --bus BUS            system (the default), session, or the address of a bus\n"
	"  --runtime-dir DIR    sockets of guests and pools (/run/memd)\n"
	"  --state-dir DIR      what outlives a boot (/var/lib/memd)\n"
	"  --check              reads the configuration, says what is wrong with it, and ends\n"
	"  --help, --version\n"
	"\n"
	"SIGHUP reads the configuration again. SIGTERM stops the guests (KeepGuests=no) and ends. SIGUSR2\n"
	"ends with exit code 75 and leaves the guests to the next memd, for upgrades.\n"
	"MEMD_LOG=debug says more.\n";

enum option_id {
	OPTION_CONFIG = 256,
	OPTION_GUESTS_DIR,
	OPTION_BUS,
	OPTION_RUNTIME_DIR,
	OPTION_STATE_DIR,
	OPTION_CHECK,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{"config", required_argument, NULL, OPTION_CONFIG},
	{"guests-dir", required_argument, NULL, OPTION_GUESTS_DIR},
	{"bus", required_argument, NULL, OPTION_BUS},
	{"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
	{"state-dir", required_argument, NULL, OPTION_STATE_DIR},
	{"check", no_argument, NULL, OPTION_CHECK},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

struct arguments {
	struct manager_options options;
	bool check;
};

/* Negative: go on; else the exit code. */
static int parse_arguments(int argc, char *argv[], struct arguments *ret)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		switch (c) {
		case OPTION_CONFIG:
			ret->options.config_path = optarg;
			break;
		case OPTION_GUESTS_DIR:
			ret->options.guests_dir = optarg;
			break;
		case OPTION_BUS:
			ret->options.bus_address = optarg;
			break;
		case OPTION_RUNTIME_DIR:
			ret->options.runtime_dir = optarg;
			break;
		case OPTION_STATE_DIR:
			ret->options.state_dir = optarg;
			break;
		case OPTION_CHECK:
			ret->check = true;
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			return EXIT_OK;
		case OPTION_VERSION:
			puts("memd " MEMD_VERSION);
			return EXIT_OK;
		default:
			fputs("memd: try --help\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "memd: what is '%s'? try --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

static int run(const struct manager_options *options)
{
	_cleanup_(manager_freep) struct manager *m = NULL;
	struct error e = {0};
	int r;

	r = manager_new(options, &m, &e);
	if (r < 0) {
		log_error("%s", e.text);
		return EXIT_FAILED;
	}
	r = manager_run(m);
	if (r < 0) {
		log_error("ended: %s", strerror(-r));
		return EXIT_FAILED;
	}
	return r;
}

int main(int argc, char *argv[])
{
	struct arguments arguments = {
		.options =
			{
				.guests_dir = "/etc/memd/guests.d",
				.bus_address = "system",
				.runtime_dir = "/run/memd",
				.state_dir = "/var/lib/memd",
			},
	};
	struct error e = {0};
	int r;

	log_open("memd");
	r = parse_arguments(argc, argv, &arguments);
	if (r >= 0)
		return r;
	if (!arguments.check)
		return run(&arguments.options);
	if (manager_check(&arguments.options, &e) < 0) {
		log_error("%s", e.text);
		return EXIT_FAILED;
	}
	puts("the configuration is good");
	return EXIT_OK;
}
