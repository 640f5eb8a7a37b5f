/*
 * What all virtio devices have in common: queues, the thread that serves them, and what happens
 * when the guest breaks a rule.
 *
 * DOC: the device thread and reset
 * The thread sleeps on the queues' doorbells (eventfds, which KVM signals by itself), on one
 * descriptor that the class watches, and on wake_fd. It looks at rings only with run_lock held and
 * `running` true. A reset clears `running` under the same lock, in the vCPU thread that wrote the
 * status: so when the write returns, no chain is being worked on and none will be, and whatever
 * notification still sits in a doorbell finds a device that does not run. The lock is held for one
 * bounded batch (a queue's worth of chains), during which a freeze may make the thread wait; nobody
 * but that guest's own vCPUs ever waits for it.
 *
 * Must never: be waited for by the scanner, the census or the control thread.
 */
#include "kvm-glue/virtio-device.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#define TAG_POSITIONS SNAPSHOT_TAG('v', 'q', 'p', 's')

/*
 * Takes run_lock in turn. A thread that works through batches would else take the lock again before
 * the one that waits for it has woken up, and a reset could take as long as the guest has requests:
 * who waits holds `turn`, so the next batch waits behind it.
 */
static void run_begin(struct virtio_device *d)
{
	pthread_mutex_lock(&d->turn);
	pthread_mutex_lock(&d->run_lock);
	pthread_mutex_unlock(&d->turn);
}

static void drain(int fd)
{
	eventfd_t ignored;

	eventfd_read(fd, &ignored);
}

/* What a handler returned; false when the device cannot go on. run_lock held. */
static bool served(struct virtio_device *d, int result)
{
	if (result < 0) {
		virtio_device_break(d, "malformed request or queue");
		return false;
	}
	if (result == VIRTIO_SERVE_AGAIN)
		d->serve_all = true;
	return true;
}

/* Serves the queues of the mask and then `woken`; run_lock held. */
static void serve(struct virtio_device *d, unsigned mask, bool woken)
{
	if (d->serve_all) {
		mask = ~0U;
		d->serve_all = false;
	}
	for (unsigned q = 0; q < d->class->n_queues; q++)
		if ((mask & 1U << q) && d->queues[q].size != 0 && !served(d, d->class->serve(d, q)))
			return;
	if (woken && d->class->woken)
		served(d, d->class->woken(d));
}

static void *thread_main(void *arg)
{
	enum {
		WAKE,
		WATCH,
		DOORBELLS,
	};
	struct virtio_device *d = arg;
	struct pollfd fds[DOORBELLS + VIRTIO_QUEUES_MAX] = {0};
	unsigned n = DOORBELLS + d->class->n_queues;

	pthread_setname_np(pthread_self(), d->class->name);
	fds[WAKE] = (struct pollfd){.fd = d->wake_fd, .events = POLLIN};
	for (unsigned q = 0; q < d->class->n_queues; q++)
		fds[DOORBELLS + q] = (struct pollfd){.fd = d->doorbells[q], .events = POLLIN};

	while (!atomic_load(&d->quit)) {
		unsigned mask = 0;
		bool again;

		run_begin(d);
		fds[WATCH] = (struct pollfd){.fd = -1};
		if (d->running && d->class->watch)
			d->class->watch(d, &fds[WATCH]);
		again = d->running && d->serve_all;
		pthread_mutex_unlock(&d->run_lock);

		if (poll(fds, n, again ? 0 : -1) < 0)
			continue; /* EINTR; nothing else can be wrong with these descriptors */
		if (fds[WAKE].revents)
			drain(d->wake_fd);
		for (unsigned q = 0; q < d->class->n_queues; q++) {
			if (!fds[DOORBELLS + q].revents)
				continue;
			drain(d->doorbells[q]);
			mask |= 1U << q;
		}
		run_begin(d);
		if (d->running)
			serve(d, mask, fds[WAKE].revents || fds[WATCH].revents);
		pthread_mutex_unlock(&d->run_lock);
	}
	return NULL;
}

int virtio_device_init(struct virtio_device *d, const struct virtio_class *class, struct machine *m)
{
	d->class = class;
	d->machine = m;
	d->ratelimit = (struct log_ratelimit)LOG_RATELIMIT_INIT;
	pthread_mutex_init(&d->turn, NULL);
	pthread_mutex_init(&d->run_lock, NULL);
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
		d->doorbells[q] = -1;
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->wake_fd < 0)
		return -errno;
	for (unsigned q = 0; q < class->n_queues; q++) {
		d->doorbells[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (d->doorbells[q] < 0)
			return -errno;
	}
	return 0;
}

int virtio_device_run(struct virtio_device *d)
{
	sigset_t all, old;
	int r;

	/* Signals are for the threads that expect them: vCPUs and the control thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&d->thread, NULL, thread_main, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	d->thread_started = true;
	return 0;
}

void virtio_device_halt(struct virtio_device *d)
{
	if (!d->thread_started)
		return;
	atomic_store(&d->quit, true);
	virtio_device_wake(d);
	pthread_join(d->thread, NULL);
	d->thread_started = false;
}

void virtio_device_done(struct virtio_device *d)
{
	if (!d->class)
		return;
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
		cleanup_closep(&d->doorbells[q]);
	cleanup_closep(&d->wake_fd);
	pthread_mutex_destroy(&d->run_lock);
	pthread_mutex_destroy(&d->turn);
}

uint64_t virtio_device_offered(const struct virtio_device *d)
{
	return d->class->features | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX |
	       VIRTIO_F_INDIRECT_DESC;
}

/* Sets up the queues that the driver enabled; -EINVAL, -EFAULT. */
static int queues_init(
	struct virtio_device *d, uint64_t features, const struct virtio_queue_setup *setup)
{
	unsigned flags = (features & VIRTIO_F_EVENT_IDX ? VIRTQ_EVENT_IDX : 0) |
			 (features & VIRTIO_F_INDIRECT_DESC ? VIRTQ_INDIRECT : 0);

	for (unsigned q = 0; q < d->class->n_queues; q++) {
		int r;

		if (!setup[q].enabled)
			continue;
		if (setup[q].size > d->class->queue_size)
			return -EINVAL;
		r = virtq_init(&d->queues[q], d->machine->ram, setup[q].size,
			GPA(setup[q].descriptors_gpa), GPA(setup[q].driver_gpa),
			GPA(setup[q].device_gpa), flags);
		if (r < 0)
			return r;
	}
	return 0;
}

void virtio_device_start(struct virtio_device *d, uint64_t features,
	const struct virtio_queue_setup setup[VIRTIO_QUEUES_MAX])
{
	run_begin(d);
	if (queues_init(d, features, setup) < 0) {
		virtio_device_break(d, "queue outside of memory, misaligned or of a wrong size");
	} else {
		d->features = features;
		d->running = true;
		/*
		 * Drivers notify before DRIVER_OK too (Linux's balloon does): look once at
		 * everything.
		 */
		d->serve_all = true;
		d->class->started(d);
	}
	pthread_mutex_unlock(&d->run_lock);
	virtio_device_wake(d);
}

static void queues_done(struct virtio_device *d)
{
	d->running = false;
	d->serve_all = false;
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
		virtq_done(&d->queues[q]);
}

void virtio_device_stop(struct virtio_device *d)
{
	run_begin(d);
	queues_done(d);
	d->features = 0;
	d->class->stopped(d);
	pthread_mutex_unlock(&d->run_lock);
}

void virtio_device_notify(struct virtio_device *d, unsigned queue)
{
	if (queue < d->class->n_queues)
		eventfd_write(d->doorbells[queue], 1);
}

void virtio_device_pushed(struct virtio_device *d, unsigned queue)
{
	if (virtq_needs_interrupt(&d->queues[queue]))
		d->transport_ops->interrupt_queue(d, queue);
}

void virtio_device_wake(struct virtio_device *d)
{
	eventfd_write(d->wake_fd, 1);
}

void virtio_device_break(struct virtio_device *d, const char *what)
{
	uint64_t count = atomic_fetch_add(&d->needs_reset_count, 1) + 1;

	queues_done(d);
	if (log_ratelimit_pass(&d->ratelimit))
		log_warning("%s: the guest broke the protocol (%s), the device waits for a reset "
			    "(%llu times so far)",
			d->class->name, what, (unsigned long long)count);
	d->transport_ops->needs_reset(d);
}

void virtio_device_quiesce(struct virtio_device *d)
{
	run_begin(d);
}

void virtio_device_unquiesce(struct virtio_device *d)
{
	d->serve_all = d->running; /* what `save` took back is popped again */
	pthread_mutex_unlock(&d->run_lock);
	virtio_device_wake(d);
}

int virtio_device_save(struct virtio_device *d, struct snapshot_writer *w, struct error *e)
{
	struct virtq_position positions[VIRTIO_QUEUES_MAX] = {0};
	int r;

	if (!d->class->save)
		return error_set(e, -EOPNOTSUPP, "the device %s cannot be saved", d->class->name);
	r = d->class->save(d, w);
	if (r < 0)
		return error_set(e, r, "saving the device %s: %s", d->class->name, strerror(-r));
	/* After `save`, which may have moved them. */
	for (unsigned q = 0; q < d->class->n_queues; q++)
		positions[q] = virtq_position(&d->queues[q]);
	snapshot_put(w, TAG_POSITIONS, positions, d->class->n_queues * sizeof(positions[0]));
	return 0;
}

/* run_lock held. */
static int restore(struct virtio_device *d, uint64_t features,
	const struct virtio_queue_setup *setup, struct snapshot_reader *r)
{
	const struct virtq_position *positions;
	const void *array;
	size_t n;

	if (setup) {
		if (queues_init(d, features, setup) < 0)
			return -EINVAL;
		d->features = features;
		d->running = true;
		d->class->started(d);
	}
	if (d->class->restore(d, r) < 0 ||
		snapshot_get_array(
			r, TAG_POSITIONS, sizeof(*positions), VIRTIO_QUEUES_MAX, &array, &n) < 0 ||
		n != d->class->n_queues)
		return -EINVAL;
	positions = array;
	for (unsigned q = 0; q < n; q++)
		if (d->queues[q].size != 0)
			virtq_set_position(&d->queues[q], positions[q]);
	d->serve_all = d->running;
	return 0;
}

int virtio_device_restore(struct virtio_device *d, uint64_t features,
	const struct virtio_queue_setup *setup, struct snapshot_reader *r)
{
	int result;

	run_begin(d);
	result = restore(d, features, setup, r);
	if (result < 0)
		queues_done(d);
	pthread_mutex_unlock(&d->run_lock);
	virtio_device_wake(d);
	return result;
}
