/*
 * What is said to libvirt, in the thread of its link: the only file that calls its library. Every
 * function but the first two may wait for as long as libvirtd likes.
 */
#pragma once

#include "memd/libvirt-link.h"

struct remote;

/* Not connected. uri outlives it. ret_bell_fd: readable when something happened; stays its own. */
int remote_new(const char *uri, struct remote **ret, int *ret_bell_fd);
/* After remote_disconnect. NULL is allowed. */
void remote_free(struct remote *remote);

/* Connects if need be, and lists all running domains. -EIO with *e; it is not connected then. */
int remote_round(struct remote *remote, struct libvirt_report *ret, struct error *e);
/* -ENOTCONN, -ENOENT (no such domain), -EOPNOTSUPP, -EIO with *e. */
int remote_set_memory(struct remote *remote, const char *uuid, uint64_t bytes, struct error *e);
int remote_set_period(struct remote *remote, const char *uuid, uint32_t seconds, struct error *e);
void remote_disconnect(struct remote *remote);
