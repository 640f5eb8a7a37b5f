/*
 * Metrics for whoever scrapes them, and a page to look at: HTTP on a Unix socket
 * (RUNTIME/metrics.sock), and on 127.0.0.1 where the configuration says so. Reads only; nothing here
 * changes anything, and nobody but the host's own users gets here.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "memd/base/error.h"

struct manager;
struct metrics_server;

/*
 * Listens on socket_path (NULL: not), which is replaced, and on 127.0.0.1:port (0: not). Negative
 * errno with *e.
 */
int metrics_server_new(struct manager *m, sd_event *event, const char *socket_path, uint32_t port,
	struct metrics_server **ret, struct error *e);
/* NULL is allowed. */
void metrics_server_free(struct metrics_server *s);
