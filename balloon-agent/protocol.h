/*
 * What memd and the agent in a guest say to each other over the port org.memd.agent.0, by bytes.
 * packaging/doc/agent-protocol.md is the description for others; the two are changed together.
 * Freestanding: the test guest without an operating system includes it too.
 *
 * DOC: framing
 *
 * The port is a stream that either side may join in the middle, after a restart of the other or
 * behind bytes of somebody else, so a message carries a mark, its size and a checksum, and a
 * receiver that meets anything else looks for the next mark. All numbers are little endian.
 *
 *      0  u32  AGENT_MAGIC
 *      4  u32  CRC-32 (IEEE 802.3) of everything from byte 8 to the end of the payload
 *      8  u16  type, enum agent_type
 *     10  u16  bytes of the payload, at most AGENT_PAYLOAD_MAX
 *     12  u32  number: of a request, repeated in its answer; see AGENT_HELLO
 *     16       payload: fields, each u8 tag, u8 size, value
 *
 * A field is a number of 8 bytes, but for AGENT_TEXT, which is UTF-8 without NUL. Fields may come in
 * any order, each at most once; what was not measured is left out. Whoever does not know a field or
 * a type passes it over: that is how the protocol grows within a version. A version changes when
 * one side would misunderstand the other.
 */
#pragma once

#include <stdint.h>

#define AGENT_PORT_NAME "org.memd.agent.0"

#define AGENT_MAGIC	   UINT32_C(0xe67a0b6d) /* no byte twice, no size: marks do not overlap */
#define AGENT_HEADER_BYTES 16
#define AGENT_PAYLOAD_MAX  1008
#define AGENT_FRAME_MAX	   (AGENT_HEADER_BYTES + AGENT_PAYLOAD_MAX)
#define AGENT_TEXT_MAX	   160 /* bytes, without a NUL */

/* The versions that this code speaks. */
#define AGENT_VERSION_OLDEST 1
#define AGENT_VERSION_NEWEST 1

enum agent_type {
	/*
	 * Both sides: VERSION_MIN, VERSION_MAX, TEXT (the program's version), of the host also
	 * INTERVAL_MS. Number 0 asks for the other's, 1 is the answer. They speak the newest
	 * version that both know; if there is none they say nothing else.
	 */
	AGENT_HELLO = 1,
	/*
	 * Host: make room for BYTES within DEADLINE_MS, and answer. A later request takes the place
	 * of an earlier one; 0 bytes: nothing is wanted any more, no answer.
	 */
	AGENT_SHRINK = 2,
	/* Guest, every INTERVAL_MS: figures. */
	AGENT_REPORT = 16,
	/* Guest: VERDICT, BYTES that the host may take, TEXT (a reason) with a refusal. */
	AGENT_ANSWER = 17,
	/* Guest: would like to have BYTES back before something has to be killed. TEXT. */
	AGENT_ASK = 18,
	/* Guest: is out of memory now, wants all of it back. TEXT. */
	AGENT_DISTRESS = 19,
	/* Guest: the agent ends in good order. */
	AGENT_BYE = 20,
};

enum agent_verdict {
	AGENT_DONE = 1, /* BYTES may be taken, as many as were asked for or fewer */
	AGENT_REFUSED = 2, /* nothing, for the reason in TEXT */
};

/* Tags. Numbers are bytes where the name does not say otherwise; counters run since the boot. */
enum agent_field {
	AGENT_TEXT = 1,
	AGENT_VERSION_MIN = 2,
	AGENT_VERSION_MAX = 3,
	AGENT_INTERVAL_MS = 4,
	AGENT_BYTES = 5,
	AGENT_DEADLINE_MS = 6,
	AGENT_VERDICT = 7, /* enum agent_verdict */

	/* Figures of a report. */
	AGENT_TOTAL = 10,
	AGENT_FREE = 11,
	AGENT_AVAILABLE = 12,
	AGENT_CACHE = 13, /* files, without shared memory */
	AGENT_DIRTY = 14, /* of these, to be written first */
	AGENT_RECLAIMABLE = 15, /* the kernel's own, that it could give up */
	AGENT_ACTIVE = 16, /* used lately, as the kernel's lists have it */
	AGENT_INACTIVE = 17,
	AGENT_UNEVICTABLE = 18,
	AGENT_SWAP_TOTAL = 19,
	AGENT_SWAP_FREE = 20,
	AGENT_HUGE = 21, /* transparent huge pages */
	AGENT_HUGETLB = 22, /* reserved huge pages */
	AGENT_FLOOR = 23, /* it needs at least this much memory */
	AGENT_WATERMARK_MIN = 24, /* of all zones together */
	AGENT_WATERMARK_LOW = 25,
	AGENT_WATERMARK_HIGH = 26,
	AGENT_FAULTS = 30, /* counters */
	AGENT_MAJOR_FAULTS = 31,
	AGENT_REFAULTS_ANON = 32, /* pages that came back soon after they were reclaimed */
	AGENT_REFAULTS_FILE = 33,
	AGENT_ACTIVATIONS = 34, /* of these, pages of the working set */
	AGENT_SWAP_IN_PAGES = 35,
	AGENT_SWAP_OUT_PAGES = 36,
	AGENT_OOM_KILLS = 37,
	AGENT_ALLOCATION_STALLS = 38,
	AGENT_PRESSURE_SOME_BP = 40, /* average over 10 s, basis points */
	AGENT_PRESSURE_FULL_BP = 41,
	AGENT_PRESSURE_SOME_US = 42, /* counters */
	AGENT_PRESSURE_FULL_US = 43,
	AGENT_OWN_BYTES = 44, /* the agent's resident memory */
	AGENT_OWN_CPU_US = 45, /* its CPU time since it started */
};
#define AGENT_FIELDS_MAX 64 /* tags from here on are passed over */
