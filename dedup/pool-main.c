/*
 * memd-pool: the pool of one trust group in a process of its own. Started by memd with a listening
 * socket; runs until SIGTERM or SIGINT. Holds no mapping of what it stores, and no file but the
 * socket and its memfds.
 */
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "dedup/pool-server.h"
#include "memd/base/log.h"

#define EXIT_USAGE 2

struct options {
	int listen_fd;
	uint64_t max_bytes; /* 0: no limit */
	char *expect; /* process numbers with commas; NULL: none */
};

static void usage(FILE *to)
{
	fprintf(to, "memd-pool --listen-fd N [--max-bytes SIZE]\n"
		    "Holds the shared pages of one trust group. Started by memd.\n"
		    "  --listen-fd N     listening Unix socket (SOCK_SEQPACKET) handed down\n"
		    "  --max-bytes SIZE  hold no more than this, for example 4G\n"
		    "  --expect PID,...  processes that may map pages of an earlier memd-pool\n"
		    "  --version\n");
}

/* A listening socket, or a message and -EINVAL. */
static int parse_listen_fd(const char *text, int *ret_fd, struct error *e)
{
	int listening = 0, r;
	socklen_t size = sizeof(listening);
	uint64_t fd;

	r = units_parse_u64(text, INT32_MAX, &fd, e);
	if (r < 0)
		return r;
	if (getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening)
		return error_set(e, -EINVAL, "descriptor %s is not a listening socket", text);
	*ret_fd = (int)fd;
	return 0;
}

/* 0, 1 when everything is said and done, or negative errno with a message. */
static int parse_options(int argc, char **argv, struct options *ret, struct error *e)
{
	static const struct option options[] = {
		{"listen-fd", required_argument, NULL, 'l'},
		{"max-bytes", required_argument, NULL, 'm'},
		{"expect", required_argument, NULL, 'e'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c, r = 0;

	*ret = (struct options){.listen_fd = -1};
	while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'l':
			r = parse_listen_fd(optarg, &ret->listen_fd, e);
			error_prefix(e, "--listen-fd");
			break;
		case 'm':
			r = units_parse_bytes(optarg, &ret->max_bytes, e);
			error_prefix(e, "--max-bytes");
			break;
		case 'e':
			ret->expect = optarg;
			break;
		case 'v':
			printf("memd-pool " MEMD_VERSION "\n");
			return 1;
		case 'h':
			usage(stdout);
			return 1;
		default:
			return error_set(e, -EINVAL, "see memd-pool --help");
		}
	}
	if (r == 0 && (ret->listen_fd < 0 || optind < argc))
		return error_set(e, -EINVAL,
			"--listen-fd is missing or there is too much; see memd-pool --help");
	return r;
}

/* Each 64 MiB of pages take two descriptors. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int expect(struct pool_server *server, char *list, struct error *e)
{
	char *left = NULL;

	for (char *word = strtok_r(list, ",", &left); word; word = strtok_r(NULL, ",", &left)) {
		uint64_t pid;
		int r = units_parse_u64(word, INT32_MAX, &pid, e);

		if (r < 0)
			return r;
		r = pool_server_expect(server, (pid_t)pid);
		if (r < 0)
			return error_set(e, r, "process %s: %s", word, strerror(-r));
	}
	return 0;
}

static int run(const struct options *options, struct error *e)
{
	const struct pool_limits limits = {.max_pages = options->max_bytes / PAGE_BYTES};
	_cleanup_(pool_freep) struct pool *pool = NULL;
	_cleanup_(pool_server_freep) struct pool_server *server = NULL;
	_cleanup_close_ int stop_fd = -1;
	sigset_t stop;
	int r;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	stop_fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
	if (stop_fd < 0)
		return -errno;
	r = pool_new(&limits, &pool);
	if (r == 0)
		r = pool_server_new(pool, options->listen_fd, &server);
	if (r == 0 && options->expect) {
		r = expect(server, options->expect, e);
		error_prefix(e, "--expect");
	}
	return r < 0 ? r : pool_server_run(server, stop_fd);
}

int main(int argc, char **argv)
{
	struct options options;
	struct error e = {0};
	int r;

	log_open("memd-pool");
	r = parse_options(argc, argv, &options, &e);
	if (r > 0)
		return EXIT_SUCCESS;
	if (r < 0) {
		log_error("%s", e.text);
		return EXIT_USAGE;
	}
	raise_descriptor_limit();
	r = run(&options, &e);
	if (r < 0) {
		log_error("cannot serve: %s", e.text[0] ? e.text : strerror(-r));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
