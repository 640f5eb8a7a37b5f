/*
 * The templates of clones: for each snapshot that guests were started from, one memfd with its RAM,
 * loaded in a worker when the first of them starts, and let go with the last. memd holds it and
 * counts what it costs; it never maps it.
 */
#pragma once

#include <stdint.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include "memd/base/error.h"
#include "memd/worker.h"

struct template_store;
struct template;

/* result 0: t is loaded; negative errno: it is not, *e says why, and the caller's hold on t is gone. */
typedef void (*template_ready_fn)(void *context, int result, const struct error *e);

/* Negative errno. */
int template_store_new(sd_event *event, struct template_store **ret);
/* Holders are gone. NULL is allowed. */
void template_store_free(struct template_store *s);

/*
 * Takes hold of the template of the snapshot in that directory, whose RAM has so many bytes. 0: ready
 * will be called once. TEMPLATE_LOADED: it is there, ready is not called. -ENOENT, ... when there is
 * no such file.
 */
#define TEMPLATE_LOADED 1
int template_acquire(struct template_store *s, const char *directory, uint64_t bytes,
	template_ready_fn ready, void *context, struct template **ret, struct error *e);
/* Lets go; before `ready`, too, which is then not called. NULL is allowed. */
void template_release(struct template *t, void *context);
/* -1 while it is not loaded. The template's. */
int template_fd(const struct template *t);

/* For the ledger: all there are. */
const struct template *template_first(const struct template_store *s);
const struct template *template_next(const struct template *t);
uint64_t template_bytes(const struct template *t);
