/*
 * The pool's end of the protocol (memd/base/pool-proto.h): connections of members and of memd, all
 * of them hostile. One thread. A connection that breaks the protocol is closed; its references come
 * back when its process ends; one that does not read its replies is not read from either.
 */
#pragma once

#include "dedup/pool.h"

struct pool_server;

/* pool outlives the server. listen_fd (or -1) stays the caller's. -ENOMEM, or an errno of epoll. */
int pool_server_new(struct pool *pool, int listen_fd, struct pool_server **ret);
/* Closes all connections. NULL is allowed. */
void pool_server_free(struct pool_server *s);
DEFINE_CLEANUP(struct pool_server *, pool_server_free)

/*
 * The process may map files of an earlier memd-pool: they are restored until all such have announced
 * what they hold, or have ended. One that is gone already is none. Before pool_server_run.
 */
int pool_server_expect(struct pool_server *s, pid_t pid);

/*
 * Takes over a connected socket, also on failure. Not while pool_server_run runs in another thread.
 */
int pool_server_add(struct pool_server *s, int fd);
/*
 * Serves until stop_fd is readable (signalfd, eventfd), at least what is there to be served at
 * once. 0, or an errno of epoll. May be called again.
 */
int pool_server_run(struct pool_server *s, int stop_fd);
