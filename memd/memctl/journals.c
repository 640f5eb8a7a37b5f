/* See journals.h. */
#include "memd/memctl/journals.h"

#include <fcntl.h>
#include <string.h>

#include "memd/base/program.h"

#define ARGUMENTS_MAX 32
#define LIVE_FDS_MAX  4

/* The arguments of memd-replay as they grow; texts are kept until the end. */
struct command {
	char *argv[ARGUMENTS_MAX + 1];
	size_t n;
	int fds[LIVE_FDS_MAX]; /* to be inherited */
	size_t n_fds;
	char fd_names[LIVE_FDS_MAX][16];
	char *program;
};

static void command_done(struct command *c)
{
	for (size_t i = 0; i < c->n_fds; i++)
		cleanup_closep(&c->fds[i]);
	free(c->program);
}

static int add(struct command *c, const char *argument)
{
	if (c->n == ARGUMENTS_MAX)
		return -E2BIG;
	c->argv[c->n++] = (char *)(uintptr_t)argument;
	return 0;
}

/* Asks the running memd for its journal, as descriptors: so whoever may ask needs not read files. */
static int add_live(struct memctl *m, struct command *c, sd_bus_error *e)
{
	_cleanup_message_ sd_bus_message *reply = NULL;
	int fd, r;

	r = client_call(m, MEMD_PATH, MEMD_MANAGER, "OpenJournal", e, &reply, "");
	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'a', "h");
	while (r >= 0 && c->n_fds < LIVE_FDS_MAX &&
		(r = sd_bus_message_read(reply, "h", &fd)) > 0) {
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

		if (copy < 0)
			return -errno;
		c->fds[c->n_fds] = copy;
		snprintf(c->fd_names[c->n_fds], sizeof(c->fd_names[0]), "fd:%d", copy);
		r = add(c, c->fd_names[c->n_fds++]);
	}
	return r < 0 ? r : 0;
}

static enum memctl_exit add_journals(
	struct memctl *m, struct command *c, char *const *names, size_t n_names)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	enum memctl_exit code;
	int r = 0;

	if (n_names > 0 && !(n_names == 1 && strcmp(names[0], "live") == 0)) {
		for (size_t i = 0; r == 0 && i < n_names; i++)
			r = add(c, names[i]);
		return r < 0 ? memctl_fail(m, MEMCTL_USAGE, NULL, "too many journals") : MEMCTL_OK;
	}
	code = memctl_connect(m);
	if (code != MEMCTL_OK)
		return code;
	r = add_live(m, c, &e);
	return r < 0 ? client_report(m, NULL, r, &e) : MEMCTL_OK;
}

enum memctl_exit journals_replay(struct memctl *m, char *const *arguments, size_t n,
	char *const *names, size_t n_names, struct replay_lines *ret)
{
	_cleanup_(command_done) struct command c = {0};
	enum memctl_exit code;
	int r = program_find(
		NULL, "memd/memd-replay", "/usr/libexec/memd/memd-replay", &c.program);

	if (r == 0)
		r = add(&c, c.program);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add(&c, arguments[i]);
	if (r < 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "memd-replay: %s", strerror(-r));
	code = add_journals(m, &c, names, n_names);
	if (code != MEMCTL_OK)
		return code;
	*ret = (struct replay_lines){0};
	r = helper_start(&ret->helper, c.argv, -1, c.fds, c.n_fds, HELPER_OUTPUT_READ);
	if (r < 0)
		return memctl_fail(
			m, MEMCTL_REFUSED, NULL, "cannot start memd-replay: %s", strerror(-r));
	return MEMCTL_OK;
}

struct json_object *journals_next(struct replay_lines *l, const char **ret_raw)
{
	if (getline(&l->line, &l->room, l->helper.out) < 0)
		return NULL;
	l->line[strcspn(l->line, "\n")] = '\0';
	if (ret_raw)
		*ret_raw = l->line;
	return json_tokener_parse(l->line);
}

enum memctl_exit journals_end(struct replay_lines *l)
{
	int code = helper_end(&l->helper);

	free(l->line);
	l->line = NULL;
	return code == 0 ? MEMCTL_OK : MEMCTL_REFUSED;
}
