/*
 * memd-policy: the process in which policies run that are not memd's own. It loads one, locks
 * itself in, and answers memd's questions over a socket. Whatever goes wrong in here, a crash, a
 * loop, memory without end, ends at the borders of this process.
 *
 *   load.c     whether a file may be loaded, and loading it
 *   sandbox.c  isolation, in stages
 *   serve.c    the conversation with memd (policy/policy-proto.h)
 *   exec.c     the policy `exec`: JSON lines to a program; exec-json.c: the lines
 *   check.c    memd-policy --check: a policy tried on made-up figures
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/error.h"
#include "memd/policy.h"

/* What memd hands over: its socket, and a pipe for the line that says why this process ends. */
#define HELPER_SOCKET_FD 3
#define HELPER_ERROR_FD	 4

/*
 * load.c. A file is trusted when it and every directory above it belongs to root (or to who runs
 * memd-policy) and nobody else may write there; sticky directories above are allowed, but for the
 * one that it lies in. -EPERM, with the reason in *e; any errno of looking.
 */
int load_check_trusted(const char *path, struct error *e);
/* Opens the plugin at path after load_check_trusted. Returns the descriptor. */
int load_open_plugin(const char *path, struct error *e);
/* Loads what the descriptor names, RTLD_LOCAL. Code of the plugin (constructors) runs in here. */
int load_plugin(int fd, void **ret_handle, struct error *e);
/*
 * Takes the policy that the plugin exports: the smaller of its size and ours. name: what it must
 * call itself, NULL: whatever.
 */
int load_policy(void *handle, const char *name, struct memd_policy *ret, struct error *e);
/* Checks and copies a policy struct of whatever size. -EINVAL. */
int load_take_policy(const struct memd_policy *given, const char *name, struct memd_policy *ret,
	struct error *e);

/*
 * sandbox.c, in this order. Stage 1: no capabilities, no way to gain any, no root, limits, ends
 * with its parent. Then, for a plugin, SANDBOX_LOADING while it is loaded (files may be opened for
 * reading) and SANDBOX_RUNNING for the rest (nothing but memory and the socket); for `exec`,
 * SANDBOX_EXEC, which its program inherits.
 */
int sandbox_forbid_files(
	struct error *e); /* no file grows: not for --check, whose stdout may be one */
int sandbox_enter(size_t address_space_max_bytes, struct error *e);
enum sandbox_stage {
	SANDBOX_LOADING,
	SANDBOX_RUNNING,
	SANDBOX_RUNNING_TALKS, /* and writes to stdout: --check */
	SANDBOX_EXEC,
};
int sandbox_filter(enum sandbox_stage stage, struct error *e);

/* A plugin's memory, all in all; of `exec`, of each process. */
#define SANDBOX_PLUGIN_BYTES (UINT64_C(256) << 20)
#define SANDBOX_EXEC_BYTES   (UINT64_C(1) << 30)

/*
 * serve.c. Speaks until memd closes the socket: 0; -EPIPE when the policy says that it cannot go on
 * (*e holds its last line of log); negative errno when memd breaks the protocol.
 */
int serve(int fd, const struct memd_policy *policy, struct error *e);

/* exec.c. Settings go to the program; command outlives the policy. */
void exec_set_command(const char *command);
extern const struct memd_policy policy_exec;

/*
 * exec-json.c. One line for one tick, to be freed, with "\n"; NULL without memory. And the answer
 * to it, n bytes and a NUL: fills the proposals (same order as the view) that it names. -EPROTO with
 * the reason in *e.
 */
char *exec_format_view(const struct memd_host_view *view);
int exec_parse_answer(const char *text, size_t n, const struct memd_host_view *view,
	struct memd_proposal *const *proposals, struct error *e);

struct exec_setting {
	char *key;
	char *value;
};
/* The first line, and the answer to it: 0, -EINVAL when the program refuses, -EPROTO. */
char *exec_format_hello(const struct exec_setting *settings, size_t n);
int exec_parse_hello(const char *text, size_t n, struct error *e);

/* check.c. Configures, opens and evaluates; says on stdout what came of it. Returns an exit code. */
int check(const struct memd_policy *policy, char *const *settings, size_t n_settings);
