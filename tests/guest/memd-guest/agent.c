/* See agent.h. The bytes are the codec's of balloon-agent, compiled for this guest. */
#include "tests/guest/memd-guest/agent.h"

#include "balloon-agent/codec.h"
#include "tests/guest/memd-guest/balloon.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/port.h"
#include "tests/guest/memd-guest/virtio.h"

#define REPORT_NS  NS_PER_S
/* Kept free when it gives. */
#define KEEP_BYTES (UINT64_C(8) * GUEST_MIB)
#define ASK_BYTES  (UINT64_C(4) * GUEST_MIB)

static enum { NONE, POLITE, REFUSES, FLOOD, GARBAGE } manner;
static struct agent_stream stream;
static struct agent_message message, heard;
static uint8_t frame[AGENT_FRAME_MAX];
static size_t n_frame; /* still to be sent */
static bool greeted, hello_due, answer_due, cried, asked, killed;
static uint32_t hello_number, shrink_number;
static uint64_t shrink_bytes, floor_bytes, version, distress_pages, ask_pages, reports_max;
static uint64_t next_report_ns, n_reports, n_shrinks, n_given, seed = 88172645463325252u;

void agent_init(void)
{
	manner = cmdline_is("agent", "polite")	  ? POLITE
		 : cmdline_is("agent", "refuses") ? REFUSES
		 : cmdline_is("agent", "flood")	  ? FLOOD
		 : cmdline_is("agent", "garbage") ? GARBAGE
						  : NONE;
	if (manner == NONE)
		return;
	floor_bytes = cmdline_number("agent_floor_mib", 0) * GUEST_MIB;
	version = cmdline_number("agent_version", AGENT_VERSION_NEWEST);
	distress_pages = cmdline_number("agent_distress_mib", 0) * GUEST_MIB / GUEST_PAGE;
	ask_pages = cmdline_number("agent_ask_mib", 0) * GUEST_MIB / GUEST_PAGE;
	reports_max = cmdline_number("agent_reports", 0);
	hello_due = true;
	port_init();
}

static void make_hello(void)
{
	agent_message_init(&message, AGENT_HELLO, hello_number);
	agent_set(&message, AGENT_VERSION_MIN, version);
	agent_set(&message, AGENT_VERSION_MAX, version);
	agent_set_text(&message, "memd-guest");
}

static uint64_t free_bytes(void)
{
	return free_pages_count() * GUEST_PAGE;
}

static void make_report(void)
{
	agent_message_init(&message, AGENT_REPORT, 0);
	agent_set(&message, AGENT_TOTAL, memory_ram_bytes() - balloon_pages() * GUEST_PAGE);
	agent_set(&message, AGENT_FREE, free_bytes());
	agent_set(&message, AGENT_AVAILABLE, free_bytes());
	agent_set(&message, AGENT_FLOOR, floor_bytes);
	/* what nobody knows yet */
	agent_set(&message, (enum agent_field)(AGENT_FIELDS_MAX - 1), 1);
	n_reports++;
}

static void make_answer(void)
{
	uint64_t spare = free_bytes() > KEEP_BYTES ? free_bytes() - KEEP_BYTES : 0;
	uint64_t give = manner == REFUSES ? 0 : MIN(shrink_bytes, spare);

	agent_message_init(&message, AGENT_ANSWER, shrink_number);
	agent_set(&message, AGENT_VERDICT, give ? AGENT_DONE : AGENT_REFUSED);
	agent_set(&message, AGENT_BYTES, give);
	if (!give)
		agent_set_text(
			&message, manner == REFUSES ? "it is a test\033[31m" : "nothing is free");
	n_given += give;
}

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* By turns: bytes, a mark without a message, a message that contradicts itself, a broken one. */
static void make_garbage(void)
{
	uint64_t kind = next_random() % 4;

	make_report();
	if (kind == 0)
		agent_set(&message, AGENT_AVAILABLE, UINT64_MAX);
	else if (kind == 1)
		message.type = (uint32_t)(next_random() % 65536);
	n_frame = agent_encode(&message, frame);
	if (kind == 2)
		frame[next_random() % n_frame] ^= (uint8_t)(next_random() | 1);
	for (unsigned i = 4; kind == 3 && i < n_frame; i++)
		frame[i] = (uint8_t)next_random();
}

static void take(uint64_t now_ns)
{
	if (heard.type == AGENT_HELLO) {
		greeted = agent_version_common(agent_get(&heard, AGENT_VERSION_MIN, 0),
				  agent_get(&heard, AGENT_VERSION_MAX, 0)) != 0;
		next_report_ns = now_ns;
		if (heard.number == 0) {
			hello_due = true;
			hello_number = 1;
		}
	} else if (heard.type == AGENT_SHRINK) {
		shrink_number = heard.number;
		shrink_bytes = agent_get(&heard, AGENT_BYTES, 0);
		answer_due = shrink_bytes > 0;
		n_shrinks += answer_due;
	}
}

/* What is most urgent of what there is to say, into message; false: nothing. */
static bool choose(uint64_t now_ns)
{
	if (hello_due) {
		make_hello();
		hello_due = false;
	} else if (!greeted) {
		return false;
	} else if (distress_pages && !cried && balloon_pages() >= distress_pages) {
		agent_message_init(&message, AGENT_DISTRESS, 0);
		agent_set_text(&message, "nothing is left");
		cried = true;
	} else if (ask_pages && !asked && balloon_pages() >= ask_pages) {
		agent_message_init(&message, AGENT_ASK, 0);
		agent_set(&message, AGENT_BYTES, ASK_BYTES);
		agent_set_text(&message, "it gets tight");
		asked = true;
	} else if (answer_due) {
		make_answer();
		answer_due = false;
	} else if (manner == FLOOD || now_ns >= next_report_ns) {
		next_report_ns = now_ns + REPORT_NS;
		make_report();
	} else {
		return false;
	}
	return true;
}

static void send_next(uint64_t now_ns)
{
	if (n_frame == 0) {
		if (choose(now_ns))
			n_frame = agent_encode(&message, frame);
		else if (manner == GARBAGE && greeted)
			make_garbage();
	}
	if (n_frame > 0 && port_send(frame, n_frame))
		n_frame = 0;
}

bool agent_service(uint64_t now_ns)
{
	uint8_t bytes[256];
	size_t n;

	if (manner == NONE)
		return false;
	port_service();
	if (killed || !port_is_open())
		return false;
	while ((n = port_receive(bytes, sizeof(bytes))) > 0) {
		for (size_t at = 0; at < n;) {
			at += agent_stream_put(&stream, bytes + at, n - at);
			while (agent_stream_next(&stream, &heard))
				take(now_ns);
		}
	}
	send_next(now_ns);
	if (reports_max && n_reports >= reports_max && n_frame == 0) {
		killed = true;
		port_close();
	}
	return manner == FLOOD || manner == GARBAGE;
}

void agent_counters(struct line *l)
{
	if (manner == NONE)
		return;
	line_value(l, "agent_reports", n_reports);
	line_value(l, "agent_shrinks", n_shrinks);
	line_value(l, "agent_given_mib", n_given / GUEST_MIB);
}
