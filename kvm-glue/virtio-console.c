/*
 * virtio-console with two ports (virtio 1.2, 5.3).
 *
 * DOC: what is kept
 * Nothing that the guest sends is kept but the chain it came in. Console output goes to a callback
 * that takes all of it; its input is taken from a callback when the driver has a buffer for it. The
 * agent's port is agent-port.c's. Control messages to the guest are not queued either: per port
 * a few bits say what it has still to be told, and saying it twice is no different from saying it
 * once.
 *
 * Must never: keep a byte of the guest's outside of its chain.
 */
#include "kvm-glue/virtio-console.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/agent-port.h"
#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/overflow.h"

enum {
	F_MULTIPORT = 1,

	N_PORTS = 2,
	PORT_CONSOLE = 0,
	PORT_AGENT = 1,

	/* 5.3.2 */
	QUEUE_CONSOLE_RX = 0,
	QUEUE_CONSOLE_TX = 1,
	QUEUE_CONTROL_RX = 2,
	QUEUE_CONTROL_TX = 3,
	QUEUE_AGENT_RX = 4,
	QUEUE_AGENT_TX = 5,
	N_QUEUES = 6,
	QUEUE_SIZE = 64,

	COPY_BYTES = 4096,
};

/* 5.3.6.2 */
enum control_event {
	EVENT_DEVICE_READY = 0,
	EVENT_DEVICE_ADD = 1,
	EVENT_PORT_READY = 3,
	EVENT_CONSOLE_PORT = 4,
	EVENT_PORT_OPEN = 6,
	EVENT_PORT_NAME = 7,
};

struct control_message {
	uint32_t id;
	uint16_t event;
	uint16_t value;
	char name[sizeof(VIRTIO_CONSOLE_AGENT_NAME) - 1]; /* of PORT_NAME only */
};
#define CONTROL_BYTES offsetof(struct control_message, name)

/* What the driver has still to be told about a port, in this order. */
enum {
	TELL_ADD = 1 << 0,
	TELL_CONSOLE = 1 << 1,
	TELL_NAME = 1 << 2,
	TELL_CLOSED = 1 << 3, /* our end was closed; both may be set: closed and opened again */
	TELL_OPEN = 1 << 4,
	TELL_ALL = (1 << 5) - 1,
};

/* 5.3.4 */
struct console_config {
	uint16_t cols;
	uint16_t rows;
	uint32_t max_nr_ports;
};

#define TAG_CONSOLE SNAPSHOT_TAG('c', 'o', 'n', 's')

struct saved_console {
	uint64_t held_skip_bytes;
	struct {
		uint8_t tell;
		uint8_t added;
		uint8_t guest_open;
		uint8_t ready;
	} ports[N_PORTS];
	uint32_t agent_attached;
	uint32_t reserved;
};

struct virtio_console {
	struct virtio_device device; /* first */
	struct virtio_pci *pci;
	virtio_console_output output;
	bool (*input_available)(void *context); /* NULL: there is no input */
	size_t (*input_read)(void *context, uint8_t *ret, size_t max);
	void *context; /* of output and input */

	/* under run_lock */
	unsigned tell[N_PORTS];
	bool added[N_PORTS]; /* announced, or about to be */
	bool guest_open[N_PORTS];
	bool ready[N_PORTS]; /* the driver set the port up */
	struct agent_port *agent;
	struct virtq_chain chain; /* the one at work */
	uint8_t copy[COPY_BYTES];

	pthread_mutex_t lock; /* what follows; never held for longer than a copy */
	struct virtio_console_stats stats;
};

static struct virtio_console *of_device(struct virtio_device *d)
{
	return (struct virtio_console *)d;
}

static void count(struct virtio_console *c, uint64_t *counter, uint64_t n)
{
	pthread_mutex_lock(&c->lock);
	*counter += n;
	pthread_mutex_unlock(&c->lock);
}

static struct control_message next_message(
	const struct virtio_console *c, unsigned port, unsigned *ret_bit)
{
	struct control_message m = {.id = port};

	if (c->tell[port] & TELL_ADD) {
		*ret_bit = TELL_ADD;
		m.event = EVENT_DEVICE_ADD;
	} else if (c->tell[port] & TELL_CONSOLE) {
		*ret_bit = TELL_CONSOLE;
		m.event = EVENT_CONSOLE_PORT;
		m.value = 1;
	} else if (c->tell[port] & TELL_NAME) {
		*ret_bit = TELL_NAME;
		m.event = EVENT_PORT_NAME;
		m.value = 1;
		memcpy(m.name, VIRTIO_CONSOLE_AGENT_NAME, sizeof(m.name));
	} else if (c->tell[port] & TELL_CLOSED) {
		*ret_bit = TELL_CLOSED;
		m.event = EVENT_PORT_OPEN;
	} else {
		*ret_bit = TELL_OPEN;
		m.event = EVENT_PORT_OPEN;
		m.value = 1;
	}
	return m;
}

/*
 * Tells the driver one thing about a port. 0, VIRTQ_EMPTY, or -EPROTO when the buffer is too small
 * or not for writing.
 */
static int tell_one(struct virtio_console *c, unsigned port)
{
	struct control_message m;
	size_t bytes;
	unsigned bit;
	int r;

	r = virtq_next(&c->device.queues[QUEUE_CONTROL_RX], &c->chain);
	if (r != 0)
		return r;
	m = next_message(c, port, &bit);
	bytes = m.event == EVENT_PORT_NAME ? sizeof(m) : CONTROL_BYTES;
	if (c->chain.n_readable > 0 || c->chain.writable_bytes < bytes) {
		virtq_push(&c->device.queues[QUEUE_CONTROL_RX], &c->chain, 0);
		return -EPROTO;
	}
	virtq_chain_write(&c->chain, 0, &m, bytes);
	virtq_push(&c->device.queues[QUEUE_CONTROL_RX], &c->chain, (uint32_t)bytes);
	c->tell[port] &= ~bit;
	return 0;
}

/* Tells the driver as much as it has buffers for. 0, -EPROTO. */
static int tell_driver(struct virtio_console *c)
{
	int r = 0;

	for (unsigned port = 0; port < N_PORTS && r == 0; port++)
		while (c->tell[port] && r == 0)
			r = tell_one(c, port);
	virtio_device_pushed(&c->device, QUEUE_CONTROL_RX);
	return r < 0 ? r : 0;
}

/* The driver has set a port up: what it is, what it is called, and whether our end is open. */
static void port_ready(struct virtio_console *c, unsigned port)
{
	c->ready[port] = true;
	if (port == PORT_CONSOLE)
		c->tell[port] |= TELL_CONSOLE | TELL_OPEN;
	else
		c->tell[port] |= TELL_NAME | (agent_port_attached(c->agent) ? TELL_OPEN : 0);
}

/* False when the message makes no sense. */
static bool control_message(struct virtio_console *c, const struct control_message *m)
{
	if (m->event == EVENT_DEVICE_READY) {
		for (unsigned port = 0; port < N_PORTS && m->value == 1; port++) {
			if (!c->added[port])
				c->tell[port] |= TELL_ADD;
			c->added[port] = true;
		}
		return true;
	}
	if (m->id >= N_PORTS || !c->added[m->id])
		return false;
	switch (m->event) {
	case EVENT_PORT_READY:
		if (m->value == 1)
			port_ready(c, m->id);
		return true;
	case EVENT_PORT_OPEN:
		c->guest_open[m->id] = m->value == 1;
		return true;
	default:
		return false;
	}
}

/* Console input: only as much as there are buffers for. 0, -EPROTO. */
static int serve_console_rx(struct virtio_console *c)
{
	struct virtq *q = &c->device.queues[QUEUE_CONSOLE_RX];
	int r = 0;

	for (unsigned n = 0; n < q->size && r == 0; n++) {
		size_t got;

		if (!c->input_available || !c->guest_open[PORT_CONSOLE] ||
			!c->input_available(c->context))
			break;
		r = virtq_next(&c->device.queues[QUEUE_CONSOLE_RX], &c->chain);
		if (r != 0)
			break;
		if (c->chain.n_readable > 0 || c->chain.writable_bytes == 0)
			r = -EPROTO;
		got = r == 0 ? c->input_read(c->context, c->copy,
				       u64_min(sizeof(c->copy), c->chain.writable_bytes))
			     : 0;
		virtq_chain_write(&c->chain, 0, c->copy, got);
		virtq_push(q, &c->chain, (uint32_t)got);
	}
	virtio_device_pushed(&c->device, QUEUE_CONSOLE_RX);
	return r < 0 ? r : 0;
}

/* 0, VIRTIO_SERVE_AGAIN, -EPROTO for a message that is none. */
static int serve_control(struct virtio_console *c)
{
	struct virtq *q = &c->device.queues[QUEUE_CONTROL_TX];
	int r = 0;

	for (unsigned n = 0; n < q->size && r == 0; n++) {
		struct control_message m = {0};

		r = virtq_next(&c->device.queues[QUEUE_CONTROL_TX], &c->chain);
		if (r != 0)
			break;
		if (c->chain.n_writable > 0 ||
			virtq_chain_read(&c->chain, 0, &m, CONTROL_BYTES) < CONTROL_BYTES)
			r = -EPROTO;
		else if (!control_message(c, &m))
			count(c, &c->stats.ignored_messages, 1);
		virtq_push(q, &c->chain, 0);
	}
	virtio_device_pushed(&c->device, QUEUE_CONTROL_TX);
	if (r < 0)
		return r;
	if (tell_driver(c) < 0 || serve_console_rx(c) < 0)
		return -EPROTO;
	return r == VIRTQ_EMPTY ? 0 : VIRTIO_SERVE_AGAIN;
}

/* Console output: each chain to the callback, piece by piece. */
static int serve_console(struct virtio_console *c)
{
	struct virtq *q = &c->device.queues[QUEUE_CONSOLE_TX];
	int r = 0;

	for (unsigned n = 0; n < q->size && r == 0; n++) {
		size_t bytes;

		r = virtq_next(&c->device.queues[QUEUE_CONSOLE_TX], &c->chain);
		if (r != 0)
			break;
		if (c->chain.n_writable > 0)
			r = -EPROTO;
		for (uint64_t at = 0; r == 0 && at < c->chain.readable_bytes; at += bytes) {
			bytes = virtq_chain_read(&c->chain, at, c->copy, sizeof(c->copy));
			c->output(c->context, c->copy, bytes);
			count(c, &c->stats.output_bytes, bytes);
		}
		virtq_push(q, &c->chain, 0);
	}
	virtio_device_pushed(&c->device, QUEUE_CONSOLE_TX);
	if (r < 0)
		return r;
	return r == VIRTQ_EMPTY ? 0 : VIRTIO_SERVE_AGAIN;
}

/* Somebody came to the agent's port or went: for agent-port.c. */
static void agent_changed(void *context, bool attached)
{
	struct virtio_console *c = context;

	if (!c->ready[PORT_AGENT])
		return;
	if (!attached)
		c->tell[PORT_AGENT] &= ~(unsigned)TELL_OPEN;
	c->tell[PORT_AGENT] |= attached ? TELL_OPEN : TELL_CLOSED;
}

static int console_serve(struct virtio_device *d, unsigned queue)
{
	struct virtio_console *c = of_device(d);

	switch (queue) {
	case QUEUE_CONSOLE_RX:
		return serve_console_rx(c);
	case QUEUE_CONSOLE_TX:
		return serve_console(c);
	case QUEUE_CONTROL_RX:
		return tell_driver(c);
	case QUEUE_CONTROL_TX:
		return serve_control(c);
	case QUEUE_AGENT_RX:
		return agent_port_serve_rx(c->agent, c->guest_open[PORT_AGENT]);
	case QUEUE_AGENT_TX:
		return agent_port_serve_tx(c->agent);
	default:
		return 0;
	}
}

/* The agent's socket moved, or a new one is there. */
static int console_woken(struct virtio_device *d)
{
	struct virtio_console *c = of_device(d);
	int tx, r;

	agent_port_take(c->agent);
	tx = agent_port_serve_tx(c->agent);
	r = tx < 0 ? tx : agent_port_serve_rx(c->agent, c->guest_open[PORT_AGENT]);
	if (r >= 0)
		r = serve_console_rx(c);
	if (r >= 0)
		r = tell_driver(c);
	return r < 0 ? r : tx;
}

static void console_watch(struct virtio_device *d, struct pollfd *ret)
{
	struct virtio_console *c = of_device(d);

	agent_port_watch(c->agent, c->guest_open[PORT_AGENT], ret);
}

static void console_config_read(
	struct virtio_device *d, uint32_t offset, uint8_t *data, unsigned size)
{
	static const struct console_config config = {.max_nr_ports = N_PORTS};

	memcpy(data, (const uint8_t *)&config + offset, size);
}

/* Nothing in there is the driver's to write. */
static void console_config_write(
	struct virtio_device *d, uint32_t offset, const uint8_t *data, unsigned size)
{
}

static void console_stopped(struct virtio_device *d)
{
	struct virtio_console *c = of_device(d);

	c->chain.popped = false;
	agent_port_stopped(c->agent);
	for (unsigned port = 0; port < N_PORTS; port++) {
		c->tell[port] = 0;
		c->added[port] = false;
		c->guest_open[port] = false;
		c->ready[port] = false;
	}
}

/* Without MULTIPORT there is port 0 and nothing else. */
static void console_started(struct virtio_device *d)
{
	if (d->features & UINT64_C(1) << F_MULTIPORT)
		return;
	for (unsigned q = QUEUE_CONTROL_RX; q < N_QUEUES; q++)
		virtq_done(&d->queues[q]);
}

static int console_save(struct virtio_device *d, struct snapshot_writer *w)
{
	struct virtio_console *c = of_device(d);
	struct saved_console saved = {
		.agent_attached = agent_port_attached(c->agent),
		.held_skip_bytes = agent_port_take_back(c->agent),
	};

	for (unsigned port = 0; port < N_PORTS; port++) {
		saved.ports[port].tell = c->tell[port];
		saved.ports[port].added = c->added[port];
		saved.ports[port].guest_open = c->guest_open[port];
		saved.ports[port].ready = c->ready[port];
	}
	snapshot_put(w, TAG_CONSOLE, &saved, sizeof(saved));
	return 0;
}

static int console_restore(struct virtio_device *d, struct snapshot_reader *r)
{
	struct virtio_console *c = of_device(d);
	struct saved_console saved;

	if (snapshot_get(r, TAG_CONSOLE, &saved, sizeof(saved)) < 0)
		return -EINVAL;
	agent_port_skip(c->agent, saved.held_skip_bytes);
	for (unsigned port = 0; port < N_PORTS; port++) {
		c->tell[port] = saved.ports[port].tell & TELL_ALL;
		c->added[port] = saved.ports[port].added;
		c->guest_open[port] = saved.ports[port].guest_open;
		c->ready[port] = saved.ports[port].ready;
	}
	/* Whoever was attached is another guest's. */
	if (saved.agent_attached && c->ready[PORT_AGENT])
		c->tell[PORT_AGENT] |= TELL_CLOSED;
	return 0;
}

static const struct virtio_class console_class = {
	.name = "memd-console",
	.id = 3,
	.pci_class_code = 0x078000, /* communication controller, other */
	.n_queues = N_QUEUES,
	.queue_size = QUEUE_SIZE,
	.features = UINT64_C(1) << F_MULTIPORT,
	.config_bytes = sizeof(struct console_config),
	.config_read = console_config_read,
	.config_write = console_config_write,
	.started = console_started,
	.stopped = console_stopped,
	.serve = console_serve,
	.woken = console_woken,
	.watch = console_watch,
	.save = console_save,
	.restore = console_restore,
};

int virtio_console_new(struct machine *m, struct pci_bus *pci, unsigned slot,
	virtio_console_output output, void *context, int agent_fd, struct virtio_console **ret)
{
	_cleanup_(virtio_console_freep) struct virtio_console *c = NULL;
	_cleanup_close_ int fd = agent_fd;
	int r;

	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	c->output = output;
	c->context = context;
	r = virtio_device_init(&c->device, &console_class, m);
	if (r < 0)
		return r;
	r = agent_port_new(&c->device, QUEUE_AGENT_RX, QUEUE_AGENT_TX, agent_changed, c, &c->agent);
	if (r < 0)
		return r;
	agent_port_attach(c->agent, TAKE_FD(fd));
	agent_port_take(c->agent);
	r = virtio_pci_new(m, pci, slot, &c->device, &c->pci);
	if (r < 0)
		return r;
	r = virtio_device_run(&c->device);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

void virtio_console_free(struct virtio_console *c)
{
	if (!c)
		return;
	virtio_device_halt(&c->device);
	virtio_pci_free(c->pci);
	virtio_device_done(&c->device);
	agent_port_free(c->agent);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void virtio_console_set_input(struct virtio_console *c, bool (*available)(void *context),
	size_t (*read)(void *context, uint8_t *ret, size_t max))
{
	c->input_available = available;
	c->input_read = read;
}

void virtio_console_input_ready(struct virtio_console *c)
{
	virtio_device_wake(&c->device);
}

void virtio_console_attach_agent(struct virtio_console *c, int fd)
{
	agent_port_attach(c->agent, fd);
	virtio_device_wake(&c->device);
}

void virtio_console_stats_read(struct virtio_console *c, struct virtio_console_stats *ret)
{
	pthread_mutex_lock(&c->lock);
	*ret = c->stats;
	pthread_mutex_unlock(&c->lock);
	agent_port_stats_read(c->agent, &ret->agent);
	ret->needs_reset = atomic_load(&c->device.needs_reset_count);
}
