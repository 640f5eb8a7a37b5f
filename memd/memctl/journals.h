/* memd-replay on journals: those that are named, or those of the memd that runs. */
#pragma once

#include "memd/memctl/client.h"
#include "memd/memctl/helper.h"

struct replay_lines {
	struct helper helper;
	char *line;
	size_t room;
};

/*
 * Starts memd-replay with arguments[n] before the journals names[n_names]; no name, or "live": of
 * the running memd, which is connected to when it is not yet. On failure says why.
 */
enum memctl_exit journals_replay(struct memctl *m, char *const *arguments, size_t n,
	char *const *names, size_t n_names, struct replay_lines *ret);
/* The next line as an object, to be put; NULL at the end. raw (may be NULL): the line itself. */
struct json_object *journals_next(struct replay_lines *l, const char **ret_raw);
/* Its exit code as ours; what went wrong it has said itself. */
enum memctl_exit journals_end(struct replay_lines *l);
