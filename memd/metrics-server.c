/*
 * Two libmicrohttpd daemons, one for each socket, without threads: their epoll descriptors are in
 * memd's loop. A client that is slow, silent or many costs its own connection (limits below) and
 * never a tick.
 *
 * An answer is made once a tick and format, whoever asks how often.
 *
 * A browser may be led to 127.0.0.1 by a foreign page whose name resolves there. So a request over
 * TCP has to name this host by its loopback name or address; there is nothing but GET and HEAD, and
 * the page's policy allows no source but memd.
 */
#include "memd/metrics-server.h"

#include <arpa/inet.h>
#include <grp.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/manager.h"
#include "memd/metrics.h"
#include "memd/web-page.h"

#define CONNECTIONS_MAX	 64U
#define TIMEOUT_S	 10U
#define CONNECTION_BYTES ((size_t)32768)
#define BACKLOG		 64
#define HOST_MAX	 64

struct listener {
	struct metrics_server *server;
	struct MHD_Daemon *daemon;
	sd_event_source *ready;
	sd_event_source *timer;
	bool checks_host;
};

struct metrics_server {
	struct manager *manager;
	char *socket_path;
	struct listener listeners[2];
	size_t n_listeners;
	struct {
		struct MHD_Response *response; /* NULL: none yet */
		uint64_t tick; /* that it was made in */
	} made[METRICS_FORMATS];
};

static struct MHD_Response *new_response(const void *text, size_t size, const char *type)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(
		size, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);

	if (!r)
		return NULL;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, "Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
		"frame-ancestors 'none'");
	return r;
}

static struct MHD_Response *make_metrics(const struct manager *m, enum metrics_format format)
{
	static const char *const types[METRICS_FORMATS] = {
		[METRICS_OPENMETRICS] =
			"application/openmetrics-text; version=1.0.0; charset=utf-8",
		[METRICS_PROMETHEUS] = "text/plain; version=0.0.4; charset=utf-8",
	};
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	metrics_print(f, m, format);
	return fclose(f) == 0 ? new_response(text, size, types[format]) : NULL;
}

/* Belongs to the server. */
static struct MHD_Response *metrics_of_this_tick(
	struct metrics_server *s, enum metrics_format format)
{
	uint64_t tick = s->manager->figures.ticks;

	if (s->made[format].response && s->made[format].tick == tick)
		return s->made[format].response;
	if (s->made[format].response)
		MHD_destroy_response(
			s->made[format].response); /* lives on for who is sent it now */
	s->made[format].response = make_metrics(s->manager, format);
	s->made[format].tick = tick;
	return s->made[format].response;
}

static enum MHD_Result answer_text(
	struct MHD_Connection *c, unsigned status, const void *text, size_t size, const char *type)
{
	struct MHD_Response *r = new_response(text, size, type);
	enum MHD_Result result;

	if (!r)
		return MHD_NO; /* the connection ends */
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return result;
}

static enum MHD_Result answer_error(struct MHD_Connection *c, unsigned status, const char *why)
{
	return answer_text(c, status, why, strlen(why), "text/plain; charset=utf-8");
}

/* The name without the port: Host = uri-host [":" port]. */
static bool is_loopback_name(const char *host)
{
	static const char *const names[] = {"127.0.0.1", "localhost"};
	size_t size = host ? strcspn(host, ":") : 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (size == strlen(names[i]) && strncasecmp(host, names[i], size) == 0)
			return true;
	return false;
}

static enum MHD_Result answer_metrics(struct metrics_server *s, struct MHD_Connection *c)
{
	const char *accept =
		MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
	bool open = accept && strstr(accept, "application/openmetrics-text");
	struct MHD_Response *r =
		metrics_of_this_tick(s, open ? METRICS_OPENMETRICS : METRICS_PROMETHEUS);

	return r ? MHD_queue_response(c, MHD_HTTP_OK, r) : MHD_NO;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *data, size_t *data_size,
	void **request_context)
{
	const struct listener *l = context;

	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_error(
			c, MHD_HTTP_METHOD_NOT_ALLOWED, "memd is only read here: GET or HEAD\n");
	if (l->checks_host && !is_loopback_name(MHD_lookup_connection_value(
				      c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST)))
		return answer_error(
			c, MHD_HTTP_FORBIDDEN, "ask for 127.0.0.1 or localhost by name\n");
	if (strcmp(url, "/metrics") == 0)
		return answer_metrics(l->server, c);
	for (size_t i = 0; i < n_web_files; i++)
		if (strcmp(url, web_files[i].url) == 0)
			return answer_text(c, MHD_HTTP_OK, web_files[i].begin,
				(size_t)(web_files[i].end - web_files[i].begin), web_files[i].type);
	return answer_error(c, MHD_HTTP_NOT_FOUND, "there are / and /metrics\n");
}

/*
 * When libmicrohttpd wants to run again although nothing arrives: connections that time out. And once a
 * second in any case: after CONNECTIONS_MAX were reached it listens again only in a run of its own,
 * which it does not ask for.
 */
static int set_timer(struct listener *l)
{
	MHD_UNSIGNED_LONG_LONG ms;
	uint64_t us = US_PER_S;
	int r;

	if (MHD_get_timeout(l->daemon, &ms) == MHD_YES)
		us = u64_min(us, ms * US_PER_MS);
	r = sd_event_source_set_time_relative(l->timer, us);
	return r < 0 ? r : sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

static int on_ready(sd_event_source *source, int fd, uint32_t events, void *context)
{
	struct listener *l = context;

	MHD_run(l->daemon);
	return set_timer(l);
}

static int on_timer(sd_event_source *source, uint64_t due_us, void *context)
{
	return on_ready(source, -1, 0, context);
}

/* Takes the listening socket over. */
static int add_listener(struct metrics_server *s, sd_event *event, int fd, bool checks_host)
{
	struct listener *l = &s->listeners[s->n_listeners];
	const union MHD_DaemonInfo *info;
	int r;

	l->server = s;
	l->checks_host = checks_host;
	l->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, l,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		CONNECTION_BYTES, MHD_OPTION_END);
	if (!l->daemon) {
		close(fd);
		return -EIO;
	}
	s->n_listeners++;
	info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return -EIO;
	r = sd_event_add_io(event, &l->ready, info->epoll_fd, EPOLLIN, on_ready, l);
	if (r >= 0)
		r = sd_event_add_time_relative(
			event, &l->timer, CLOCK_MONOTONIC, 0, 10 * US_PER_MS, on_timer, l);
	/* After the control tick, which is at normal priority. */
	if (r >= 0)
		r = sd_event_source_set_priority(l->ready, SD_EVENT_PRIORITY_IDLE);
	if (r >= 0)
		r = sd_event_source_set_priority(l->timer, SD_EVENT_PRIORITY_IDLE);
	return r < 0 ? r : 0;
}

static int listen_on(const struct sockaddr *address, socklen_t size, int *ret_fd)
{
	_cleanup_close_ int fd =
		socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (address->sa_family == AF_INET &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(fd, address, size) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int open_unix(struct metrics_server *s, sd_event *event, const char *path, struct error *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct group *group;
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(e, -ENAMETOOLONG, "%s is too long for a socket", path);
	strcpy(address.sun_path, path);
	unlink(path); /* of a former memd: whoever is here has the bus name, so there is no other */
	r = listen_on((const struct sockaddr *)&address, sizeof(address), &fd);
	if (r < 0)
		return error_set(e, r, "cannot listen on %s: %s", path, strerror(-r));
	s->socket_path = strdup(path);
	/* Where there is no such group (a test, a foreign distribution) it is for root alone. */
	group = getgrnam("memd");
	if (group && chown(path, (uid_t)-1, group->gr_gid) < 0)
		log_warning("%s stays with its group: %s", path, strerror(errno));
	if (!s->socket_path || chmod(path, 0660) < 0) {
		close(fd);
		return error_set(e, -ENOMEM, "cannot set up %s", path);
	}
	r = add_listener(s, event, fd, false);
	return r < 0 ? error_set(e, r, "cannot serve on %s: %s", path, strerror(-r)) : 0;
}

static int open_loopback(struct metrics_server *s, sd_event *event, uint32_t port, struct error *e)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd, r = listen_on((const struct sockaddr *)&address, sizeof(address), &fd);

	if (r == 0)
		r = add_listener(s, event, fd, true);
	return r < 0 ? error_set(e, r, "cannot serve on 127.0.0.1:%u (HttpPort=): %s", port,
			       strerror(-r))
		     : 0;
}

int metrics_server_new(struct manager *m, sd_event *event, const char *socket_path, uint32_t port,
	struct metrics_server **ret, struct error *e)
{
	struct metrics_server *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->manager = m;
	if (socket_path)
		r = open_unix(s, event, socket_path, e);
	if (r == 0 && port)
		r = open_loopback(s, event, port, e);
	if (r < 0) {
		metrics_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void metrics_server_free(struct metrics_server *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_listeners; i++) {
		sd_event_source_disable_unref(s->listeners[i].ready);
		sd_event_source_disable_unref(s->listeners[i].timer);
		MHD_stop_daemon(s->listeners[i].daemon);
	}
	for (size_t i = 0; i < METRICS_FORMATS; i++)
		if (s->made[i].response)
			MHD_destroy_response(s->made[i].response);
	if (s->socket_path)
		unlink(s->socket_path);
	free(s->socket_path);
	free(s);
}
