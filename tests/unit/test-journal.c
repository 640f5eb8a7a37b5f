/*
 * The decision journal: what is written is read, by older and newer programs too; what is broken is
 * passed over; files stay within their bounds. What is explained and replayed from it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "memd/base/clock.h"
#include "memd/base/crc32.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "memd/explain.h"
#include "memd/journal-read.h"
#include "memd/journal.h"
#include "memd/policy-run.h"
#include "memd/replay.h"
#include "policy/view-record.h"

#define N_GUESTS 3

/* A tick of made-up figures; each differs from each other one. */
static struct journal_record make_record(uint64_t number)
{
	static const char *const names[N_GUESTS] = {"web1", "web2", "a.b-c_d"};
	struct journal_record r = {
		.tick = {.n_guests = N_GUESTS,
			.number = number,
			.realtime_us = 1700000000000000 + number * US_PER_S,
			.wait_us = 12,
			.policy_cpu_us = 7,
			.mismatch_bp = 3},
		.policy = "proportional",
		.host = {.now_us = number * US_PER_S,
			.tick_us = US_PER_S,
			.budget_bytes = 700 * MIB,
			.used_bytes = 650 * MIB,
			.overhead_bytes = 20 * MIB,
			.state = MEMD_HOST_SOFT,
			.n_guests = N_GUESTS},
		.guests = calloc(N_GUESTS, sizeof(*r.guests)),
	};

	assert_non_null(r.guests);
	for (uint64_t i = 0; i < N_GUESTS; i++)
		r.guests[i] = (struct journal_record_guest){
			.view = {.name = names[i],
				.id = i + 1,
				.flags = MEMD_GUEST_BALLOON_READY | MEMD_GUEST_CAN_PAGE,
				.shares = 1000,
				.configured_bytes = 512 * MIB,
				.min_bytes = 64 * MIB,
				.max_bytes = 512 * MIB,
				.target_bytes = 300 * MIB,
				.resident_bytes = (180 + 10 * i) * MIB,
				.swapped_bytes = (20 + i) * MIB,
				.refault_bytes = 5 * i * MIB,
				.critical_bytes = 77 + i},
			.figures = {.proposed_bytes = (200 + i) * MIB,
				.decided_bytes = (250 + i) * MIB,
				.clamps = POLICY_CLAMP_STEP,
				.balloon_target_bytes = 64 * MIB,
				.private_bytes = 170 * MIB,
				.scan_cpu_us = 99 + i,
				.group = "db",
				.free_ns = {1000, 3200, 9000},
				.back_ns = {0, 40000, 5100},
				.rank = {0, 2, 1}},
			.reason = "part: 1000 of 3000 shares",
		};
	return r;
}

static void encode(uint64_t number, uint8_t **ret, size_t *ret_n)
{
	struct journal_record r = make_record(number);

	assert_int_equal(journal_encode_tick(&r, ret, ret_n), 0);
	journal_record_done(&r);
}

static const uint8_t *payload_of(const uint8_t *frame, size_t *ret_n)
{
	struct journal_frame_header header;

	memcpy(&header, frame, sizeof(header));
	*ret_n = header.payload_bytes;
	return frame + sizeof(header);
}

static void what_is_written_is_read(void **state)
{
	_cleanup_free_ uint8_t *frame = NULL;
	struct journal_record r = make_record(5), read;
	const uint8_t *payload;
	size_t n;

	encode(5, &frame, &n);
	assert_int_equal(n % JOURNAL_ALIGN, 0);
	payload = payload_of(frame, &n);
	assert_int_equal(journal_decode_tick(payload, n, &read), 0);
	assert_int_equal(read.tick.number, 5);
	assert_int_equal(read.tick.wait_us, 12);
	assert_int_equal(read.tick.policy_cpu_us, 7);
	assert_string_equal(read.policy, "proportional");
	assert_int_equal(read.host.budget_bytes, 700 * MIB);
	assert_int_equal(read.host.state, MEMD_HOST_SOFT);
	assert_null(read.host.guests);
	for (size_t i = 0; i < N_GUESTS; i++) {
		const struct memd_guest_view *a = &r.guests[i].view, *b = &read.guests[i].view;

		assert_string_equal(b->name, a->name);
		assert_memory_equal(
			&b->id, &a->id, sizeof(*a) - offsetof(struct memd_guest_view, id));
		assert_int_equal(read.guests[i].figures.decided_bytes, (250 + i) * MIB);
		assert_int_equal(read.guests[i].figures.scan_cpu_us, 99 + i);
		assert_string_equal(read.guests[i].figures.group, "db");
		assert_int_equal(read.guests[i].figures.back_ns[2], 5100);
		assert_string_equal(read.guests[i].reason, "part: 1000 of 3000 shares");
	}
	assert_ptr_equal(journal_record_find(&read, "web2"), &read.guests[1]);
	assert_null(journal_record_find(&read, "web"));
	journal_record_done(&read);
	journal_record_done(&r);
}

static void policies_and_their_settings_are_read(void **state)
{
	struct policy_setting settings[] = {{"Tax", "75%"}, {"Empty", ""}};
	struct journal_group_setting groups[] = {
		{"db", "Policy", "pressure"}, {"db", "Probe", "2%"}, {"lab", "Policy", "static"}};
	struct journal_policy_record r = {7, "esx", settings, 2, groups, 3}, read;
	_cleanup_free_ uint8_t *frame = NULL;
	const uint8_t *payload;
	size_t n;

	assert_int_equal(journal_encode_policy(&r, &frame, &n), 0);
	payload = payload_of(frame, &n);
	assert_int_equal(journal_decode_policy(payload, n, &read), 0);
	assert_int_equal(read.realtime_us, 7);
	assert_string_equal(read.name, "esx");
	assert_int_equal(read.n_settings, 2);
	assert_string_equal(read.settings[0].value, "75%");
	assert_string_equal(read.settings[1].key, "Empty");
	assert_string_equal(read.settings[1].value, "");
	assert_int_equal(read.n_group_settings, 3);
	assert_string_equal(read.group_settings[1].group, "db");
	assert_string_equal(read.group_settings[1].key, "Probe");
	assert_string_equal(read.group_settings[1].value, "2%");
	assert_string_equal(read.group_settings[2].value, "static");
	journal_policy_record_done(&read);
	for (size_t cut = 0; cut < n; cut++)
		assert_true(journal_decode_policy(payload, cut, &read) < 0);
}

/* The payload with its first guest's figures shortened (or lengthened with 0xff) by 8 bytes. */
static uint8_t *resize_figures(const uint8_t *payload, size_t *n, bool longer)
{
	size_t at = ((sizeof(struct journal_tick) + sizeof("proportional") + 7) & ~(size_t)7) +
		    view_record_host_bytes();
	size_t end = at + sizeof(struct journal_guest);
	uint8_t *copy = malloc(*n + 8);
	uint32_t bytes = sizeof(struct journal_guest);

	assert_non_null(copy);
	assert_memory_equal(payload + at, &bytes, sizeof(bytes));
	assert_memory_equal(payload + end, "part", 4);
	bytes += longer ? 8 : (uint32_t)-8;
	memcpy(copy, payload, end - (longer ? 0 : 8));
	memcpy(copy + at, &bytes, sizeof(bytes));
	if (longer)
		memset(copy + end, 0xff, 8);
	memcpy(copy + end + (longer ? 8 : -8), payload + end, *n - end);
	*n += longer ? 8 : (size_t)-8;
	return copy;
}

static void records_of_older_and_newer_programs_are_read(void **state)
{
	_cleanup_free_ uint8_t *frame = NULL;
	const uint8_t *payload;
	size_t n, whole;

	encode(5, &frame, &whole);
	for (int longer = 0; longer < 2; longer++) {
		_cleanup_free_ uint8_t *other = NULL;
		struct journal_record read;

		payload = payload_of(frame, &n);
		other = resize_figures(payload, &n, longer);
		assert_int_equal(journal_decode_tick(other, n, &read), 0);
		assert_int_equal(read.guests[0].figures.decided_bytes, 250 * MIB);
		assert_int_equal(read.guests[0].figures.scan_cpu_us, 99);
		assert_int_equal(
			read.guests[0].figures.major_faults, 0); /* cut off, or as it was */
		assert_string_equal(read.guests[0].reason, "part: 1000 of 3000 shares");
		assert_string_equal(read.guests[2].view.name, "a.b-c_d");
		journal_record_done(&read);
	}
}

static void what_is_cut_or_lies_is_refused(void **state)
{
	_cleanup_free_ uint8_t *frame = NULL;
	struct journal_record read;
	const uint8_t *payload;
	size_t n, at;

	encode(5, &frame, &n);
	payload = payload_of(frame, &n);
	for (size_t cut = 0; cut < n; cut++) {
		_cleanup_free_ uint8_t *copy = malloc(cut + 1); /* so that a sanitizer sees */

		memcpy(copy, payload, cut);
		assert_int_equal(journal_decode_tick(copy, cut, &read), -EPROTO);
	}
	at = offsetof(struct journal_tick, n_guests);
	for (uint32_t count = N_GUESTS + 1; count; count <<= 1) { /* more than there are */
		_cleanup_free_ uint8_t *copy = malloc(n);

		memcpy(copy, payload, n);
		memcpy(copy + at, &count, sizeof(count));
		assert_int_equal(journal_decode_tick(copy, n, &read), -EPROTO);
	}
}

static void checksum_is_that_of_the_standard(void **state)
{
	assert_int_equal(crc32_of("123456789", 9), 0xcbf43926);
	assert_int_equal(crc32_of("", 0), 0);
}

/* A journal in a directory of its own. */
struct world {
	char directory[40];
	sd_event *event;
};

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	strcpy(w->directory, "/tmp/test-journal.XXXXXX");
	assert_non_null(mkdtemp(w->directory));
	assert_int_equal(sd_event_new(&w->event), 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = {"journal", "journal.old"};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/%s", w->directory, names[i]);
		unlink(path);
	}
	sd_event_unref(w->event);
	assert_int_equal(rmdir(w->directory), 0);
	free(w);
	return 0;
}

static int open_file(struct world *w, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", w->directory, name);
	return open(path, flags | O_CLOEXEC);
}

/* Writes ticks and waits until they are in the file. */
static void write_ticks(struct world *w, uint64_t max_bytes, uint64_t first, uint64_t n)
{
	struct policy_setting setting = {"Key", "value"};
	struct journal_policy_record policy = {
		.realtime_us = 1, .name = "proportional", .settings = &setting, .n_settings = 1};
	struct journal *j;
	struct error e = {0};

	assert_int_equal(journal_open(w->event, w->directory, max_bytes, &j, &e), 0);
	journal_write_policy(j, &policy);
	for (uint64_t i = first; i < first + n; i++) {
		_cleanup_free_ uint8_t *frame = NULL;
		size_t bytes;

		encode(i, &frame, &bytes);
		journal_write_tick(j, frame, bytes);
		/* what is pending is bounded: let the worker go on */
		assert_true(sd_event_run(w->event, 0) >= 0);
	}
	while (sd_event_run(w->event, 200 * US_PER_MS) > 0) /* until nothing ends any more */
		continue;
	assert_int_equal(journal_dropped(j), 0);
	journal_close(j);
}

struct seen {
	uint64_t n, first, last, damaged_bytes, policies;
};

static struct seen read_ticks(int fd)
{
	struct journal_reader *reader;
	struct journal_frame frame;
	struct seen seen = {0};
	struct error e = {0};
	int r;

	assert_true(fd >= 0);
	r = journal_reader_new(fd, "it", &reader, &e);
	if (r < 0)
		fail_msg("%s", e.text);
	while ((r = journal_reader_next(reader, &frame)) == 0) {
		struct journal_record record;

		if (frame.type == JOURNAL_POLICY)
			seen.policies++;
		if (frame.type != JOURNAL_TICK)
			continue;
		assert_int_equal(
			journal_decode_tick(frame.payload, frame.payload_bytes, &record), 0);
		assert_true(record.tick.number > seen.last);
		seen.last = record.tick.number;
		if (seen.n++ == 0)
			seen.first = seen.last;
		journal_record_done(&record);
	}
	assert_int_equal(r, JOURNAL_END);
	seen.damaged_bytes = journal_reader_damaged_bytes(reader);
	journal_reader_free(reader);
	return seen;
}

static void journal_is_continued_and_keeps_what_it_had(void **state)
{
	struct world *w = *state;
	struct seen seen;

	write_ticks(w, MIB, 1, 10);
	write_ticks(w, MIB, 11, 10);
	seen = read_ticks(open_file(w, "journal", O_RDONLY));
	assert_int_equal(seen.n, 20);
	assert_int_equal(seen.first, 1);
	assert_int_equal(seen.last, 20);
	assert_int_equal(seen.policies, 2);
	assert_int_equal(seen.damaged_bytes, 0);
}

static uint64_t file_bytes(struct world *w, const char *name)
{
	_cleanup_close_ int fd = open_file(w, name, O_RDONLY);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

static void files_stay_within_their_bound_and_keep_the_newest(void **state)
{
	struct world *w = *state;
	struct seen old, now;

	write_ticks(w, 64 * KIB, 1, 300);
	assert_in_range(file_bytes(w, "journal") + file_bytes(w, "journal.old"), 1, 64 * KIB);
	old = read_ticks(open_file(w, "journal.old", O_RDONLY));
	now = read_ticks(open_file(w, "journal", O_RDONLY));
	assert_int_equal(now.last, 300);
	assert_int_equal(now.first, old.last + 1);
	assert_int_equal(old.n, old.last - old.first + 1);
	assert_true(old.n > 10);
}

static void what_is_broken_is_passed_over(void **state)
{
	struct world *w = *state;
	_cleanup_close_ int fd = -1;
	_cleanup_free_ uint8_t *frame = NULL;
	struct seen seen;
	size_t n;

	write_ticks(w, MIB, 1, 10);
	fd = open_file(w, "journal", O_RDWR);
	encode(1, &frame, &n);
	/* one byte within the fifth tick */
	assert_int_equal(
		fd_pwrite_full(fd, "!", 1, (off_t)(file_bytes(w, "journal") - 5 * n - n / 2)), 0);
	/* the last one was being written when the host lost power */
	assert_int_equal(ftruncate(fd, (off_t)(file_bytes(w, "journal") - 5)), 0);
	seen = read_ticks(dup(fd));
	assert_int_equal(seen.n, 8);
	assert_int_equal(seen.last, 9);
	write_ticks(w, MIB, 11, 3);
	seen = read_ticks(dup(fd));
	assert_int_equal(seen.n, 11);
	assert_int_equal(seen.last, 13);
	assert_in_range(seen.damaged_bytes, n, 2 * n + 64);
}

static void file_that_is_no_journal_is_kept_aside(void **state)
{
	struct world *w = *state;
	_cleanup_close_ int fd = open_file(w, "journal", O_RDWR);
	struct journal_reader *reader;
	struct error e = {0};
	char path[64], text[8];

	snprintf(path, sizeof(path), "%s/journal", w->directory);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(fd_write_full(fd, "something else, and long enough", 31), 0);
	assert_int_equal(journal_reader_new(dup(fd), path, &reader, &e), -EPROTO);
	assert_non_null(strstr(e.text, "is no decision journal"));
	write_ticks(w, MIB, 1, 2);
	cleanup_closep(&fd);
	fd = open_file(w, "journal.old", O_RDONLY);
	assert_int_equal(fd_pread_full(fd, text, 8, 0), 0);
	assert_memory_equal(text, "somethin", 8);
}

static void without_a_directory_there_is_a_reason(void **state)
{
	struct world *w = *state;
	struct journal *j;
	struct error e = {0};

	assert_true(journal_open(w->event, "/proc/none", MIB, &j, &e) < 0);
	assert_non_null(strstr(e.text, "/proc/none"));
	journal_write_tick(NULL, (const uint8_t *)"", 0); /* is allowed */
	assert_string_equal(journal_path(NULL), "");
}

/* Explaining. */

static char *explained(const struct journal_record *r, const char *name)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	explain_guest(out, r, journal_record_find(r, name), "proportional",
		r->tick.realtime_us + 1500000);
	fclose(out);
	return text;
}

static void assert_says(const char *text, const char *sentence)
{
	if (!strstr(text, sentence))
		fail_msg("does not say '%s' but:\n%s", sentence, text);
}

static void explains_with_the_numbers_of_the_record(void **state)
{
	struct journal_record r = make_record(9);
	_cleanup_free_ char *text = explained(&r, "web2");

	assert_says(text,
		"web2 costs the host 190 MiB; its target is 251 MiB, down from 300 MiB in "
		"the tick before (tick 9, 1.5 s ago, policy proportional).\n");
	assert_says(text, "The policy proposed 201 MiB: part: 1000 of 3000 shares.\n");
	assert_says(text, "falls by at most 5 % of the guest's memory a second, here 25.6 MiB");
	assert_says(text,
		"The host is soft: 650 MiB of the budget of 700 MiB are used, 7.1 % are "
		"free; 20 MiB of it belong to no guest, so 680 MiB are for the 3 guests.\n");
	assert_says(text,
		"It may take 61 MiB more; its balloon holds 0 B of 64 MiB asked for; 0 B are "
		"being paged out; since the tick before 0 B went out and 5 MiB came back.\n");
	assert_says(text,
		"Memory is had from it by what cost least lately, for a page freed: sharing 1.0 us, "
		"then page-out 14.1 us (5.1 of it waiting for what came back), then balloon 43.2 us "
		"(40.0 of it waiting for what came back).\n");
	journal_record_done(&r);
}

static void says_each_filter(void **state)
{
	static const struct {
		uint32_t clamp;
		const char *says;
	} filters[] = {
		{POLICY_CLAMP_IGNORED, "The policy failed"},
		{POLICY_CLAMP_FIXED,
			"The operator fixed the target at 111 MiB; memctl set-target web1 auto"},
		{POLICY_CLAMP_FLOOR, "Its floor, MemoryMin=, is 64 MiB"},
		{POLICY_CLAMP_CEILING, "no more than 512 MiB"},
		{POLICY_CLAMP_STEP, "it will fall further"},
		{POLICY_CLAMP_DEAD_BAND, "The change that was proposed, 50 MiB, is too small"},
		{POLICY_CLAMP_RATE, "at most 10 % of the budget a second"},
		{POLICY_CLAMP_SETTLE, "was raised less than 10 s ago"},
		{POLICY_CLAMP_DISTRESS,
			"It ran out of memory with a balloon, and may have its most, 512 MiB"},
		{POLICY_CLAMP_ROOM, "the targets of all guests add up to 753 MiB of 680 MiB"},
	};
	struct journal_record r = make_record(9);

	r.guests[0].figures.fixed_bytes = 111 * MIB;
	for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
		_cleanup_free_ char *text = NULL;

		r.guests[0].figures.clamps = filters[i].clamp;
		text = explained(&r, "web1");
		for (size_t j = 0; j < ARRAY_SIZE(filters); j++)
			if (!strstr(text, filters[j].says) != (i != j))
				fail_msg("filter %zu, sentence %zu:\n%s", i, j, text);
	}
	journal_record_done(&r);
}

/* Replaying. */

/* A journal in memory whose ticks were decided by the real policy, one after the other. */
struct recording {
	int fd;
	off_t bytes;
	struct journal_record record; /* under way */
	uint64_t targets[N_GUESTS];
};

static void append(struct recording *c, uint8_t *frame, size_t n)
{
	assert_int_equal(fd_pwrite_full(c->fd, frame, n, c->bytes), 0);
	c->bytes += (off_t)n;
	free(frame);
}

static void write_policy(struct recording *c, const struct journal_policy_record *policy)
{
	uint8_t *frame;
	size_t n;

	assert_int_equal(journal_encode_policy(policy, &frame, &n), 0);
	append(c, frame, n);
}

static void on_recorded(void *context, const struct policy_outcome *outcome)
{
	struct recording *c = context;
	uint8_t *frame;
	size_t n;

	for (size_t i = 0; i < outcome->n; i++) {
		struct journal_record_guest *g = &c->record.guests[i];

		g->view.target_bytes = c->targets[i];
		g->figures.proposed_bytes = outcome->decisions[i].proposed_bytes;
		g->figures.decided_bytes = c->targets[i] = outcome->decisions[i].target_bytes;
		g->figures.clamps = outcome->decisions[i].clamps;
		g->reason = outcome->decisions[i].reason;
	}
	assert_int_equal(journal_encode_tick(&c->record, &frame, &n), 0);
	append(c, frame, n);
}

static void record_ticks(struct world *w, struct recording *c, uint64_t n)
{
	static const struct policy_run_ops ops = {.decided = on_recorded};
	struct host_config config;
	struct policy_run_options options = {
		.event = w->event, .config = &config, .ops = &ops, .context = c};
	struct journal_file_header header = {JOURNAL_MAGIC, JOURNAL_VERSION, sizeof(header), 1};
	struct journal_group_setting groups[] = {
		{"db", "Policy", "pressure"}, {"db", "Probe", "5%"}};
	struct journal_policy_record policy = {
		.name = "proportional", .group_settings = groups, .n_group_settings = 2};
	struct policy_run *run;
	struct error e = {0};

	c->fd = memfd_create("journal", MFD_CLOEXEC);
	assert_int_equal(fd_pwrite_full(c->fd, &header, sizeof(header), 0), 0);
	c->bytes = sizeof(header);
	write_policy(c, &policy);
	assert_int_equal(host_config_init(&config), 0);
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		assert_int_equal(config_section_add(&config.groups, &config.n_groups,
					 groups[i].group, groups[i].key, groups[i].value),
			0);
	options.policy = "proportional";
	assert_int_equal(policy_run_new(&options, &run, &e), 0);
	for (uint64_t t = 1; t <= n; t++) {
		struct policy_guest in[N_GUESTS];

		c->record = make_record(t);
		for (size_t i = 0; i < N_GUESTS; i++) {
			c->record.guests[i].view.resident_bytes += t % 7 * i * 9 * MIB;
			/* the first two are of the group, the last of one without a policy */
			if (i == N_GUESTS - 1)
				strcpy(c->record.guests[i].figures.group, "web");
			in[i] = (struct policy_guest){.view = c->record.guests[i].view,
				.group = c->record.guests[i].figures.group};
			in[i].view.target_bytes = c->targets[i];
		}
		assert_int_equal(
			policy_run_evaluate(run, &c->record.host, in, N_GUESTS, US_PER_S), 0);
		journal_record_done(&c->record);
	}
	policy_run_free(run);
	host_config_done(&config);
}

static char *replayed(const struct recording *c, const char *policy, const char *guest)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct replay_options options = {
		.policy = policy, .program = "/none", .fds = &c->fd, .n = 1, .out = out};
	struct error e = {0};
	int r = guest ? replay_what_if(&options, guest, &e)
		      : replay_run(&options, REPLAY_TICKS, &e);

	fclose(out);
	if (r == 0)
		return text;
	free(text);
	assert_non_null(text = strdup(e.text));
	return text;
}

static void replay_of_what_was_recorded_decides_the_same(void **state)
{
	struct recording c = {0};
	_cleanup_free_ char *text = NULL;
	size_t lines = 0;

	record_ticks(*state, &c, 60);
	text = replayed(&c, NULL, NULL);
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 61);
	assert_says(text, "\"type\":\"summary\",\"policy\":\"proportional\",\"ticks\":60,");
	assert_says(text, "\"decisions\":180,\"differ\":0,\"damaged_bytes\":0");
	assert_says(text, "\"reason\":\"group db has ");
	assert_says(text, "for 2 guests, by pressure: ");
	free(TAKE_PTR(text));
	text = replayed(&c, "esx", NULL); /* another policy of the host, the same groups */
	assert_says(text, "\"summary\",\"policy\":\"esx\",\"ticks\":60,");
	assert_says(text, "for 2 guests, by pressure: ");
	close(c.fd);
}

static void replay_says_when_it_cannot(void **state)
{
	struct recording c = {0};
	_cleanup_free_ char *unknown = NULL, *empty = NULL;

	record_ticks(*state, &c, 2);
	unknown = replayed(&c, "nonsense", NULL);
	assert_says(unknown, "there is no such policy");
	assert_int_equal(ftruncate(c.fd, sizeof(struct journal_file_header)), 0);
	empty = replayed(&c, NULL, NULL);
	assert_says(empty, "there is no tick in the journal");
	close(c.fd);
}

static void what_if_changes_one_thing_at_a_time(void **state)
{
	struct recording c = {0};
	_cleanup_free_ char *text = NULL;
	unsigned long long now, then;
	const char *shares;

	record_ticks(*state, &c, 150); /* more than are remembered */
	text = replayed(&c, NULL, "a.b-c_d"); /* which gets less than it has use for */
	shares = strstr(text, "with twice its shares");
	assert_non_null(shares);
	assert_int_equal(
		sscanf(shares, "with twice its shares\",\"now_bytes\":%llu,\"then_bytes\":%llu",
			&now, &then),
		2);
	assert_true(then > now);
	assert_says(text, "if it used a quarter less");
	free(TAKE_PTR(text));
	text = replayed(&c, NULL, "nobody");
	assert_says(text, "guest nobody is not in the last tick");
	close(c.fd);
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksum_is_that_of_the_standard),
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(policies_and_their_settings_are_read),
		cmocka_unit_test(records_of_older_and_newer_programs_are_read),
		cmocka_unit_test(what_is_cut_or_lies_is_refused),
		IN_WORLD(journal_is_continued_and_keeps_what_it_had),
		IN_WORLD(files_stay_within_their_bound_and_keep_the_newest),
		IN_WORLD(what_is_broken_is_passed_over),
		IN_WORLD(file_that_is_no_journal_is_kept_aside),
		IN_WORLD(without_a_directory_there_is_a_reason),
		cmocka_unit_test(explains_with_the_numbers_of_the_record),
		cmocka_unit_test(says_each_filter),
		IN_WORLD(replay_of_what_was_recorded_decides_the_same),
		IN_WORLD(replay_says_when_it_cannot),
		IN_WORLD(what_if_changes_one_thing_at_a_time),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
