/* One thread, two lists, one eventfd. Knows nothing of what the jobs do. */
#include "memd/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "memd/base/clock.h"

struct list {
	struct job *first;
	struct job **last;
};

struct worker {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct list todo; /* under lock */
	struct list finished; /* under lock */
	atomic_bool stopping;
	bool finishing; /* under lock: end when there is nothing more to do */
	int event_fd; /* signalled when `finished` is not empty */
	sd_event_source *source;
};

static void list_init(struct list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_append(struct list *l, struct job *j)
{
	j->next = NULL;
	*l->last = j;
	l->last = &j->next;
}

static struct job *list_pop(struct list *l)
{
	struct job *j = l->first;

	if (!j)
		return NULL;
	l->first = j->next;
	if (!l->first)
		l->last = &l->first;
	return j;
}

static void *thread_main(void *argument)
{
	struct worker *w = argument;
	uint64_t one = 1;

	setpriority(PRIO_PROCESS, 0, 0); /* of this thread: the loop runs with more */
	pthread_mutex_lock(&w->lock);
	while (!atomic_load(&w->stopping)) {
		struct job *j = list_pop(&w->todo);

		if (!j && w->finishing)
			break;
		if (!j) {
			pthread_cond_wait(&w->work, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		j->run(j);
		pthread_mutex_lock(&w->lock);
		list_append(&w->finished, j);
		/* The counter of an eventfd only blocks near 2^64. */
		if (write(w->event_fd, &one, sizeof(one)) < 0)
			break;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static struct job *take(struct worker *w, struct list *from)
{
	struct job *j;

	pthread_mutex_lock(&w->lock);
	j = list_pop(from);
	pthread_mutex_unlock(&w->lock);
	return j;
}

static int on_finished(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct worker *w = userdata;
	uint64_t count;
	struct job *j;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	while ((j = take(w, &w->finished)))
		j->done(j);
	return 0;
}

int worker_new(sd_event *event, const char *name, struct worker **ret)
{
	_cleanup_(worker_freep) struct worker *w = calloc(1, sizeof(*w));
	sigset_t all, before;
	int r;

	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	list_init(&w->todo);
	list_init(&w->finished);
	w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->event_fd < 0)
		return -errno;
	r = sd_event_add_io(event, &w->source, w->event_fd, EPOLLIN, on_finished, w);
	if (r < 0)
		return r;
	/* Signals are the event loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->thread, NULL, thread_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r != 0)
		return -r;
	w->started = true;
	pthread_setname_np(w->thread, name);
	*ret = TAKE_PTR(w);
	return 0;
}

/* After the thread. */
static void release(struct worker *w)
{
	struct job *j;

	while ((j = list_pop(&w->finished)))
		j->done(j);
	while ((j = list_pop(&w->todo)))
		j->done(j);
	sd_event_source_disable_unref(w->source);
	if (w->event_fd >= 0)
		close(w->event_fd);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	if (w->started) {
		pthread_mutex_lock(&w->lock);
		atomic_store(&w->stopping, true);
		pthread_cond_signal(&w->work);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	release(w);
}

bool worker_finish(struct worker *w, uint64_t wait_us)
{
	uint64_t end_us = clock_realtime_us() + wait_us;
	const struct timespec end = {
		.tv_sec = (time_t)(end_us / US_PER_S),
		.tv_nsec = (long)(end_us % US_PER_S * 1000),
	};

	pthread_mutex_lock(&w->lock);
	w->finishing = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	if (pthread_timedjoin_np(w->thread, NULL, &end) != 0) {
		pthread_detach(w->thread);
		w->source = sd_event_source_disable_unref(w->source);
		return false;
	}
	release(w);
	return true;
}

void worker_submit(struct worker *w, struct job *j)
{
	pthread_mutex_lock(&w->lock);
	list_append(&w->todo, j);
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

bool worker_stopping(struct worker *w)
{
	return atomic_load(&w->stopping);
}
