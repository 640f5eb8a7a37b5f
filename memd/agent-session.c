/* See agent-session.h. */
#include "memd/agent-session.h"

#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/text.h"

/* Below this there is no use in reading. */
#define READ_MIN_BYTES 512
#define READ_MAX_BYTES 4096
#define THROTTLE_US    (100 * US_PER_MS)
/* A message whose end does not come. */
#define INCOMPLETE_US  (2 * US_PER_S)
#define HELLO_AGAIN_US (5 * US_PER_S)
_Static_assert(HELLO_AGAIN_US > SESSION_SILENT_US, "whoever is greeted again is silent by then");
/* Not for ever: they pile up in front of a port that nobody has opened. */
#define HELLOS_UNHEARD 3
#define ACCURACY_US    (50 * US_PER_MS)
/* No memory is larger: sums of such numbers do not overflow. */
#define BYTES_MAX      (UINT64_C(1) << 56)

struct agent_session {
	sd_event_source *io, *timer;
	int fd;
	const struct agent_session_ops *ops;
	void *context;

	struct agent_stream in;
	uint64_t in_us; /* when the last of it came */
	uint64_t room_bytes, room_us; /* that may be read, and when that was reckoned */
	bool throttled;
	uint8_t out[4 * AGENT_FRAME_MAX];
	size_t n_out;

	enum session_state state; /* SESSION_SILENT is found out when asked for */
	uint64_t heard_us; /* a message */
	unsigned hellos; /* unheard */
	uint64_t hello_us;
	unsigned version;
	char program[AGENT_TEXT_MAX + 1];
	uint32_t shrink_number;
	struct agent_message report, report_before;
	uint64_t report_us, report_before_us;
	struct agent_counters counters;
};

const char *session_state_name(enum session_state state)
{
	static const char *const names[] = {
		[SESSION_ABSENT] = "absent",
		[SESSION_PRESENT] = "present",
		[SESSION_SILENT] = "silent",
		[SESSION_INCOMPATIBLE] = "incompatible",
		[SESSION_LEFT] = "left",
	};

	return names[state];
}

static void watch(struct agent_session *s)
{
	uint32_t events = (s->throttled ? 0u : EPOLLIN) | (s->n_out ? (uint32_t)EPOLLOUT : 0u);

	(void)sd_event_source_set_io_events(s->io, events);
}

static void flush(struct agent_session *s)
{
	ssize_t n = s->n_out ? send(s->fd, s->out, s->n_out, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (n > 0) {
		memmove(s->out, s->out + n, s->n_out - (size_t)n);
		s->n_out -= (size_t)n;
	}
	watch(s); /* a stream that is over is noticed when it is read */
}

/* False: it does not take what it was sent before. */
static bool say(struct agent_session *s, const struct agent_message *m)
{
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n = agent_encode(m, frame);

	if (n > sizeof(s->out) - s->n_out)
		return false;
	memcpy(s->out + s->n_out, frame, n);
	s->n_out += n;
	flush(s);
	return true;
}

static void say_hello(struct agent_session *s, uint32_t number)
{
	struct agent_message m;

	agent_message_init(&m, AGENT_HELLO, number);
	agent_set(&m, AGENT_VERSION_MIN, AGENT_VERSION_OLDEST);
	agent_set(&m, AGENT_VERSION_MAX, AGENT_VERSION_NEWEST);
	agent_set(&m, AGENT_INTERVAL_MS, SESSION_INTERVAL_US / US_PER_MS);
	agent_set_text(&m, "memd " MEMD_VERSION);
	(void)say(s, &m);
}

enum session_state agent_session_state(const struct agent_session *s)
{
	if (s->state == SESSION_PRESENT && clock_monotonic_us() - s->heard_us >= SESSION_SILENT_US)
		return SESSION_SILENT;
	return s->state;
}

const char *agent_session_program(const struct agent_session *s)
{
	return s->program;
}

unsigned agent_session_version(const struct agent_session *s)
{
	return s->version;
}

const struct agent_counters *agent_session_counters(const struct agent_session *s)
{
	return &s->counters;
}

const struct agent_message *agent_session_report(const struct agent_session *s, uint64_t *ret_us)
{
	*ret_us = s->report_us;
	return &s->report;
}

const struct agent_message *agent_session_report_before(
	const struct agent_session *s, uint64_t *ret_us)
{
	*ret_us = s->report_before_us;
	return &s->report_before;
}

uint32_t agent_session_shrink(struct agent_session *s, uint64_t bytes, uint64_t within_us)
{
	struct agent_message m;

	if (agent_session_state(s) != SESSION_PRESENT)
		return 0;
	if (++s->shrink_number == 0)
		s->shrink_number = 1;
	agent_message_init(&m, AGENT_SHRINK, s->shrink_number);
	agent_set(&m, AGENT_BYTES, bytes);
	agent_set(&m, AGENT_DEADLINE_MS, within_us / US_PER_MS);
	return say(s, &m) ? s->shrink_number : 0;
}

static bool is_within(const struct agent_message *m, enum agent_field part, enum agent_field whole)
{
	return !agent_has(m, part) || agent_get(m, part, 0) <= agent_get(m, whole, UINT64_MAX);
}

/* Figures that may be: no more of a thing than there is of it, and no number beyond any memory. */
static bool report_makes_sense(const struct agent_message *m)
{
	static const enum agent_field sizes[] = {AGENT_TOTAL, AGENT_FREE, AGENT_AVAILABLE,
		AGENT_CACHE, AGENT_DIRTY, AGENT_RECLAIMABLE, AGENT_ACTIVE, AGENT_INACTIVE,
		AGENT_UNEVICTABLE, AGENT_SWAP_TOTAL, AGENT_SWAP_FREE, AGENT_HUGE, AGENT_HUGETLB,
		AGENT_FLOOR, AGENT_WATERMARK_MIN, AGENT_WATERMARK_LOW, AGENT_WATERMARK_HIGH,
		AGENT_OWN_BYTES};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		if (agent_get(m, sizes[i], 0) > BYTES_MAX)
			return false;
	return agent_has(m, AGENT_TOTAL) && is_within(m, AGENT_FREE, AGENT_TOTAL) &&
	       is_within(m, AGENT_AVAILABLE, AGENT_TOTAL) &&
	       is_within(m, AGENT_SWAP_FREE, AGENT_SWAP_TOTAL) &&
	       agent_get(m, AGENT_PRESSURE_SOME_BP, 0) <= 10000 &&
	       agent_get(m, AGENT_PRESSURE_FULL_BP, 0) <= 10000;
}

static void on_hello(struct agent_session *s, const struct agent_message *m)
{
	s->version = agent_version_common(
		agent_get(m, AGENT_VERSION_MIN, 0), agent_get(m, AGENT_VERSION_MAX, 0));
	s->state = s->version ? SESSION_PRESENT : SESSION_INCOMPATIBLE;
	memcpy(s->program, m->text, sizeof(s->program));
	s->report = s->report_before = (struct agent_message){0};
	if (m->number == 0)
		say_hello(s, 1);
}

static void on_report(struct agent_session *s, const struct agent_message *m)
{
	if (!report_makes_sense(m)) {
		s->counters.nonsense++;
		return;
	}
	s->report_before = s->report;
	s->report_before_us = s->report_us;
	s->report = *m;
	s->report_us = s->heard_us;
	s->counters.reports++;
	if (s->ops->report)
		s->ops->report(s->context);
}

static void on_answer(struct agent_session *s, const struct agent_message *m)
{
	uint64_t verdict = agent_get(m, AGENT_VERDICT, 0), bytes = agent_get(m, AGENT_BYTES, 0);

	if (m->number != s->shrink_number || !m->number)
		s->counters.ignored++; /* to what was taken back */
	else if ((verdict != AGENT_DONE && verdict != AGENT_REFUSED) || bytes > BYTES_MAX)
		s->counters.nonsense++;
	else
		s->ops->answer(s->context, m->number, verdict == AGENT_DONE ? bytes : 0, m->text);
}

static void on_ask(struct agent_session *s, const struct agent_message *m)
{
	uint64_t bytes = agent_get(m, AGENT_BYTES, 0);

	if (bytes == 0 || bytes > BYTES_MAX)
		s->counters.nonsense++;
	else
		s->ops->ask(s->context, bytes, m->text);
}

static void on_message(struct agent_session *s, struct agent_message *m)
{
	s->heard_us = clock_monotonic_us();
	s->hellos = 0;
	text_clean(m->text);
	if (m->type == AGENT_HELLO)
		on_hello(s, m);
	else if (s->state != SESSION_PRESENT)
		s->counters.ignored++;
	else if (m->type == AGENT_REPORT)
		on_report(s, m);
	else if (m->type == AGENT_ANSWER)
		on_answer(s, m);
	else if (m->type == AGENT_ASK)
		on_ask(s, m);
	else if (m->type == AGENT_DISTRESS)
		s->ops->distress(s->context, m->text);
	else if (m->type == AGENT_BYE)
		s->state = SESSION_LEFT;
	else
		s->counters.ignored++;
}

static void take_messages(struct agent_session *s)
{
	struct agent_message m;

	while (agent_stream_next(&s->in, &m))
		on_message(s, &m);
	s->counters.garbage_bytes = s->in.skipped_bytes;
}

static void refill(struct agent_session *s, uint64_t now_us)
{
	uint64_t bytes =
		u64_min(now_us - s->room_us, 10 * US_PER_S) * SESSION_RATE_BYTES / US_PER_S;

	if (bytes == 0)
		return;
	s->room_bytes = u64_min(s->room_bytes + bytes, SESSION_BURST_BYTES);
	s->room_us = now_us;
}

/* When something has to be done that no byte will remind of. */
static void arm(struct agent_session *s, uint64_t now_us)
{
	uint64_t at_us = u64_max(s->hello_us, s->heard_us) + HELLO_AGAIN_US;

	if (s->state == SESSION_ABSENT || s->hellos >= HELLOS_UNHEARD)
		at_us = UINT64_MAX;
	if (agent_stream_waits(&s->in))
		at_us = u64_min(at_us, s->in_us + INCOMPLETE_US);
	if (s->throttled)
		at_us = u64_min(at_us, now_us + THROTTLE_US);
	if (at_us == UINT64_MAX) {
		(void)sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
		return;
	}
	(void)sd_event_source_set_time(s->timer, at_us);
	(void)sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

/* False: the stream is over. */
static bool receive(struct agent_session *s, uint64_t now_us)
{
	uint8_t bytes[READ_MAX_BYTES];
	ssize_t n;

	refill(s, now_us);
	s->throttled = s->room_bytes < READ_MIN_BYTES;
	if (s->throttled) {
		s->counters.throttled++;
		watch(s);
		return true;
	}
	n = recv(s->fd, bytes, u64_min(sizeof(bytes), s->room_bytes), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	s->room_bytes -= (uint64_t)n;
	s->in_us = now_us;
	for (ssize_t at = 0; at < n;) {
		at += (ssize_t)agent_stream_put(&s->in, bytes + at, (size_t)(n - at));
		take_messages(s);
	}
	return true;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct agent_session *s = userdata;
	uint64_t now_us = clock_monotonic_us();

	if (revents & EPOLLOUT)
		flush(s);
	if ((revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !receive(s, now_us)) {
		(void)sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
		(void)sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
		s->ops->ended(s->context);
		return 0;
	}
	arm(s, now_us);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent_session *s = userdata;
	uint64_t now_us = clock_monotonic_us();

	s->throttled = false;
	watch(s);
	if (agent_stream_waits(&s->in) && now_us - s->in_us >= INCOMPLETE_US) {
		agent_stream_give_up(&s->in);
		take_messages(s);
	}
	if (s->state != SESSION_ABSENT && s->hellos < HELLOS_UNHEARD &&
		agent_session_state(s) != SESSION_PRESENT &&
		now_us - u64_max(s->hello_us, s->heard_us) >= HELLO_AGAIN_US) {
		s->hellos++;
		s->hello_us = now_us;
		say_hello(s, 0);
	}
	arm(s, now_us);
	return 0;
}

int agent_session_new(sd_event *event, int fd, const struct agent_session_ops *ops, void *context,
	struct agent_session **ret)
{
	_cleanup_(agent_session_freep) struct agent_session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->fd = -1;
	s->ops = ops;
	s->context = context;
	s->room_bytes = SESSION_BURST_BYTES;
	s->room_us = clock_monotonic_us();
	r = sd_event_add_io(event, &s->io, fd, EPOLLIN, on_io, s);
	if (r >= 0)
		r = sd_event_add_time(
			event, &s->timer, CLOCK_MONOTONIC, 0, ACCURACY_US, on_timer, s);
	if (r >= 0)
		r = sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
	if (r < 0)
		return r;
	s->fd = fd;
	s->hello_us = s->room_us;
	say_hello(s, 0);
	*ret = TAKE_PTR(s);
	return 0;
}

void agent_session_free(struct agent_session *s)
{
	if (!s)
		return;
	sd_event_source_disable_unref(s->io);
	sd_event_source_disable_unref(s->timer);
	cleanup_closep(&s->fd);
	free(s);
}
