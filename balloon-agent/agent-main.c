/*
 * balloon-agent: finds the port, opens what it reads, locks itself in, and serves (agent.h).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#include "balloon-agent/agent.h"
#include "balloon-agent/lock-in.h"
#include "balloon-agent/show.h"
#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/log.h"
#include "memd/base/units.h"

#define EXIT_USAGE	2
#define EXIT_NO_PORT	3
#define PORT_BY_UDEV	"/dev/virtio-ports/" AGENT_PORT_NAME
#define PORTS_OF_KERNEL "/sys/class/virtio-ports"

struct options {
	const char *port;
	int port_fd;
	const char *root;
	uint64_t floor_bytes;
	bool show;
};

static const char usage[] =
	"balloon-agent [--port PATH | --port-fd N] [--floor SIZE] [--root DIRECTORY]\n"
	"balloon-agent --show [--root DIRECTORY]\n"
	"\n"
	"Tells the host how much memory this guest can spare and needs, over the virtio port\n"
	"" AGENT_PORT_NAME ", and makes room when it is asked to. See balloon-agent(8).\n"
	"\n"
	"  --port PATH       the port; without it, the one of that name\n"
	"  --port-fd N       a port that is open already, or a connected socket\n"
	"  --floor SIZE      says that the guest needs at least this much (512M)\n"
	"  --root DIRECTORY  has the proc and sys to read, instead of /\n"
	"  --show            prints what would be reported, and exits\n"
	"  --help, --version\n";

/* A kernel's port by its name, for guests without udev. */
static int open_by_name(void)
{
	_cleanup_closedir_ DIR *ports = opendir(PORTS_OF_KERNEL);
	struct dirent *entry;

	while (ports && (entry = readdir(ports))) {
		_cleanup_free_ char *name = NULL;
		char path[sizeof(entry->d_name) + 16];

		snprintf(path, sizeof(path), "%s/name", entry->d_name);
		if (entry->d_name[0] == '.' ||
			fd_read_file_at(dirfd(ports), path, 256, &name, NULL) < 0)
			continue;
		name[strcspn(name, "\n")] = '\0';
		if (strcmp(name, AGENT_PORT_NAME) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	}
	errno = ENOENT;
	return -1;
}

static int open_port(const struct options *o)
{
	int fd = o->port_fd;

	if (fd >= 0) {
		int r = fd_set_nonblock(fd, true);

		if (r < 0)
			log_error("--port-fd %d: %s", fd, strerror(-r));
		return r < 0 ? r : fd;
	}
	fd = open(o->port ? o->port : PORT_BY_UDEV, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && !o->port && errno == ENOENT)
		fd = open_by_name();
	if (fd >= 0)
		return fd;
	log_error("%s: %s; the host gives the guest a virtio-serial port of that name",
		o->port ? o->port : AGENT_PORT_NAME, strerror(errno));
	return -errno;
}

static int open_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int parse(int argc, char **argv, struct options *o)
{
	enum { PORT = 256, PORT_FD, ROOT, FLOOR, SHOW, HELP, VERSION };
	static const struct option options[] = {
		{"port", required_argument, NULL, PORT},
		{"port-fd", required_argument, NULL, PORT_FD},
		{"root", required_argument, NULL, ROOT},
		{"floor", required_argument, NULL, FLOOR},
		{"show", no_argument, NULL, SHOW},
		{"help", no_argument, NULL, HELP},
		{"version", no_argument, NULL, VERSION},
		{0},
	};
	struct error e = {0};
	uint64_t fd;
	int option, r = 0;

	while (r == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case PORT:
			o->port = optarg;
			break;
		case PORT_FD:
			r = units_parse_u64(optarg, INT_MAX, &fd, &e);
			o->port_fd = r < 0 ? -1 : (int)fd;
			break;
		case ROOT:
			o->root = optarg;
			break;
		case FLOOR:
			r = units_parse_bytes(optarg, &o->floor_bytes, &e);
			break;
		case SHOW:
			o->show = true;
			break;
		case HELP:
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		case VERSION:
			puts("balloon-agent " MEMD_VERSION);
			exit(EXIT_SUCCESS);
		default:
			return -EINVAL; /* getopt said why */
		}
	}
	if (r == 0 && (optind < argc || (o->port && o->port_fd >= 0)))
		r = error_set(&e, -EINVAL, "%s",
			optind < argc ? argv[optind] : "--port and --port-fd exclude each other");
	if (r < 0)
		log_error("%s (see --help)", e.text);
	return r;
}

static int serve(struct agent *a)
{
	int r = lock_in_memory();

	if (r < 0)
		log_warning("its memory is not locked: %s", strerror(-r));
	r = lock_in_calls();
	if (r < 0)
		log_warning("it is not locked in: %s", strerror(-r));
	r = agent_run(a);
	if (r < 0)
		log_error("the port: %s", strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
	struct options o = {.port_fd = -1, .root = "/"};
	_cleanup_close_ int root_fd = -1;
	int port_fd = -1, code, r;
	struct agent a;

	log_open("balloon-agent");
	if (parse(argc, argv, &o) < 0)
		return EXIT_USAGE;
	root_fd = open(o.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0) {
		log_error("--root %s: %s", o.root, strerror(errno));
		return EXIT_USAGE;
	}
	if (!o.show)
		port_fd = open_port(&o);
	if (port_fd < 0 && !o.show)
		return EXIT_NO_PORT;
	r = agent_init(&a, port_fd, open_signals(), root_fd, o.floor_bytes);
	if (r < 0)
		log_error("%s/proc/meminfo: %s", o.root, strerror(-r));
	code = r < 0 ? EXIT_FAILURE : o.show ? show_report(&a) : serve(&a);
	agent_done(&a);
	return code;
}
