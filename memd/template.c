/* The registry of templates (template.h). A snapshot that was replaced under its name is another one. */
#include "memd/template.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/template-file.h"

struct waiter {
	struct waiter *next;
	template_ready_fn ready;
	void *context;
};

struct template
{
	struct template *next;
	struct template_store *store;
	struct stat identity; /* of the RAM file */
	uint64_t bytes;
	unsigned n_holders;
	int memfd;
	struct waiter *waiters;
};

/* The template may have been let go when it is done: it frees it then. */
struct load {
	struct job job; /* first */
	struct template *template;
	uint64_t bytes;
	int fd;
	int memfd;
	int result;
	struct error error;
};

struct template_store {
	struct worker *worker;
	struct template *first;
};

int template_store_new(sd_event *event, struct template_store **ret)
{
	struct template_store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	r = worker_new(event, "memd-template", &s->worker);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void free_template(struct template *t)
{
	struct template **p = &t->store->first;

	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	cleanup_closep(&t->memfd);
	free(t);
}

void template_store_free(struct template_store *s)
{
	if (!s)
		return;
	worker_free(s->worker);
	while (s->first)
		free_template(s->first);
	free(s);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void load_run(struct job *j)
{
	struct load *l = (struct load *)j;

	l->result = template_file_load(l->fd, l->bytes, &l->memfd, &l->error);
}

static void load_done(struct job *j)
{
	struct load *l = (struct load *)j;
	struct template *t = l->template;
	struct waiter *w;

	t->memfd = TAKE_FD(l->memfd);
	t->n_holders++; /* until all have heard */
	while ((w = t->waiters)) {
		t->waiters = w->next;
		if (l->result < 0)
			t->n_holders--;
		w->ready(w->context, l->result, &l->error);
		free(w);
	}
	if (--t->n_holders == 0)
		free_template(t);
	cleanup_closep(&l->fd);
	free(l);
}

/* fd becomes the job's. */
static int begin_load(struct template *t, int fd)
{
	struct load *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	*l = (struct load){
		.job = {.run = load_run, .done = load_done},
		.template = t,
		.bytes = t->bytes,
		.fd = fd,
		.memfd = -1,
		.result = -ECANCELED,
	};
	worker_submit(t->store->worker, &l->job);
	return 0;
}

static int add_template(struct template_store *s, int *fd, const struct stat *identity,
	uint64_t bytes, struct template **ret)
{
	struct template *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	*t = (struct template){
		.next = s->first,
		.store = s,
		.identity = *identity,
		.bytes = bytes,
		.memfd = -1,
	};
	r = begin_load(t, *fd);
	if (r < 0) {
		free(t);
		return r;
	}
	*fd = -1;
	s->first = t;
	*ret = t;
	return 0;
}

int template_acquire(struct template_store *s, const char *directory, uint64_t bytes,
	template_ready_fn ready, void *context, struct template **ret, struct error *e)
{
	_cleanup_free_ struct waiter *w = malloc(sizeof(*w));
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	struct template *t;
	struct stat identity;
	int r;

	if (!w || asprintf(&path, "%s/ram", directory) < 0) {
		path = NULL;
		return error_set(e, -ENOMEM, "out of memory");
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &identity) < 0)
		return error_set(e, -errno, "snapshot %s: %s", path, strerror(errno));
	for (t = s->first; t; t = t->next)
		if (is_same(&t->identity, &identity) && t->bytes == bytes)
			break;
	if (!t) {
		r = add_template(s, &fd, &identity, bytes, &t);
		if (r < 0)
			return error_set(e, r, "snapshot %s: %s", path, strerror(-r));
	}
	t->n_holders++;
	*ret = t;
	if (t->memfd >= 0)
		return TEMPLATE_LOADED;
	*w = (struct waiter){.next = t->waiters, .ready = ready, .context = context};
	t->waiters = TAKE_PTR(w);
	return 0;
}

/* Whether somebody who waits was taken off the list: the load is under way then. */
static bool forget_waiter(struct template *t, const void *context)
{
	for (struct waiter **p = &t->waiters; *p; p = &(*p)->next) {
		struct waiter *w = *p;

		if (w->context != context)
			continue;
		*p = w->next;
		free(w);
		return true;
	}
	return false;
}

void template_release(struct template *t, void *context)
{
	bool loading;

	if (!t)
		return;
	loading = forget_waiter(t, context);
	if (--t->n_holders == 0 && !loading)
		free_template(t);
}

int template_fd(const struct template *t)
{
	return t->memfd;
}

const struct template *template_first(const struct template_store *s)
{
	return s->first;
}

const struct template *template_next(const struct template *t)
{
	return t->next;
}

uint64_t template_bytes(const struct template *t)
{
	return t->memfd >= 0 ? template_file_allocated_bytes(t->memfd) : 0;
}
