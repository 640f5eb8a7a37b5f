/*
 * Programs beside memd-vmm that do for one guest what memd-vmm must not be able to do once it has
 * shut itself in: they talk to it over a socket, and end when its end is closed.
 */
#pragma once

#include "memd/base/error.h"

#define HELPER_FD	 3 /* of the program: a SOCK_SEQPACKET socket */
#define HELPER_SECOND_FD 4 /* what else it was given */
#define HELPER_READY	 1 /* its first message, of so many bytes: it is up */

/*
 * Starts `program`, which lies in the folder of ours, with these arguments (ended by NULL; the first
 * is for its own name and is set), without an environment, and waits until it is up. second_fd: -1,
 * or a descriptor for it; stays the caller's. *ret_fd: the other end of its socket. -ECHILD when it
 * ended, having logged why; any errno of processes and sockets. Before there are threads.
 */
int helper_start(const char *program, char *argv[], int second_fd, int *ret_fd, struct error *e);
