/* See port.h. */
#include "tests/guest/memd-guest/port.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/virtio.h"

#include "balloon-agent/protocol.h"

#define F_MULTIPORT (UINT64_C(1) << 1)

#define AGENT_PORT 1 /* its number, the console is 0 */

enum {
	QUEUE_CONTROL_RX = 2,
	QUEUE_CONTROL_TX = 3,
	QUEUE_AGENT_RX = 4,
	QUEUE_AGENT_TX = 5,

	/* 5.3.6.2 */
	EVENT_DEVICE_READY = 0,
	EVENT_DEVICE_ADD = 1,
	EVENT_PORT_READY = 3,
	EVENT_PORT_OPEN = 6,
	EVENT_PORT_NAME = 7,
};

struct control {
	uint32_t id;
	uint16_t event;
	uint16_t value;
	char name[64];
};
#define CONTROL_BYTES 8

static struct virtio_device *device;
static struct virtqueue control_rx, control_tx, agent_rx, agent_tx;
static struct control heard, said;
static struct {
	uint16_t event;
	uint16_t value;
} to_say[8]; /* in turn */
static unsigned n_to_say;
static bool host_open, named;
static uint8_t in[1024], out[4096];
static uint32_t n_in, taken_in; /* of in: there, and given out */

static void say(uint16_t event, uint16_t value)
{
	if (n_to_say < N_ELEMENTS(to_say)) {
		to_say[n_to_say].event = event;
		to_say[n_to_say++].value = value;
	}
}

static void offer(struct virtqueue *q, void *buffer, uint32_t bytes)
{
	struct virtio_segment segment = {buffer, bytes};

	virtio_submit(q, &segment, 1, VIRTQ_DESC_WRITE);
}

void port_init(void)
{
	device = virtio_find(VIRTIO_ID_CONSOLE);
	if (!device)
		return;
	if (!virtio_start(device, F_MULTIPORT) || !(device->features & F_MULTIPORT) ||
		!virtio_queue_init(device, &control_rx, QUEUE_CONTROL_RX) ||
		!virtio_queue_init(device, &control_tx, QUEUE_CONTROL_TX) ||
		!virtio_queue_init(device, &agent_rx, QUEUE_AGENT_RX) ||
		!virtio_queue_init(device, &agent_tx, QUEUE_AGENT_TX))
		line_print_and_stop("the console has no agent's port");
	virtio_driver_ok(device);
	offer(&control_rx, &heard, sizeof(heard));
	offer(&agent_rx, in, sizeof(in));
	say(EVENT_DEVICE_READY, 1);
}

static bool is_our_name(void)
{
	static const char name[] = AGENT_PORT_NAME;

	for (unsigned i = 0; i < sizeof(name) - 1; i++)
		if (heard.name[i] != name[i])
			return false;
	return true;
}

static void on_control(void)
{
	if (heard.id != AGENT_PORT)
		return;
	if (heard.event == EVENT_DEVICE_ADD) {
		say(EVENT_PORT_READY, 1);
	} else if (heard.event == EVENT_PORT_NAME && is_our_name()) {
		named = true;
		say(EVENT_PORT_OPEN, 1);
	} else if (heard.event == EVENT_PORT_OPEN) {
		host_open = heard.value;
	}
}

void port_service(void)
{
	struct virtio_segment segment = {&said, CONTROL_BYTES};

	if (!device)
		return;
	if (virtio_done(&control_rx)) {
		on_control();
		offer(&control_rx, &heard, sizeof(heard));
	}
	if (agent_tx.busy)
		(void)virtio_done(&agent_tx);
	if ((control_tx.busy && !virtio_done(&control_tx)) || n_to_say == 0)
		return;
	said.id = AGENT_PORT;
	said.event = to_say[0].event;
	said.value = to_say[0].value;
	n_to_say--;
	for (unsigned i = 0; i < n_to_say; i++)
		to_say[i] = to_say[i + 1];
	virtio_submit(&control_tx, &segment, 1, 0);
}

bool port_is_open(void)
{
	return host_open && named;
}

bool port_send(const void *bytes, size_t n)
{
	struct virtio_segment segment = {out, (uint32_t)MIN(n, sizeof(out))};

	if (!device || (agent_tx.busy && !virtio_done(&agent_tx)))
		return false;
	__builtin_memcpy(out, bytes, segment.bytes);
	virtio_submit(&agent_tx, &segment, 1, 0);
	return true;
}

size_t port_receive(uint8_t *bytes, size_t max)
{
	size_t n;

	if (!device)
		return 0;
	if (agent_rx.busy && virtio_done(&agent_rx)) {
		n_in = MIN(agent_rx.used.ring[(agent_rx.used_seen - 1) % agent_rx.size].bytes,
			(uint32_t)sizeof(in));
		taken_in = 0;
	}
	n = MIN(max, n_in - taken_in);
	__builtin_memcpy(bytes, in + taken_in, n);
	taken_in += (uint32_t)n;
	if (!agent_rx.busy && taken_in == n_in)
		offer(&agent_rx, in, sizeof(in));
	return n;
}

void port_close(void)
{
	say(EVENT_PORT_OPEN, 0);
}
