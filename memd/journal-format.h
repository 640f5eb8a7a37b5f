/*
 * The decision journal as it lies on disk; memd-journal(5) is its description for others, and the
 * two are changed together. x86-64: little endian, natural alignment, no padding.
 *
 * DOC: growing and breaking
 *
 * A file is a header and frames, each aligned to 8 bytes. A frame says its size and a checksum of
 * its payload: a reader that meets anything else (the end of a file that was cut, a block that was
 * lost) looks for the next frame and goes on. Structs only grow at their end, and each is preceded
 * by the size that the writer knew: old journals are read for ever, and new ones by old readers.
 * Frames of a type that a reader does not know are passed over.
 */
#pragma once

#include <stdint.h>

#define JOURNAL_MAGIC		UINT64_C(0x006c6e726a646d65) /* "emdjrnl", 0 */
#define JOURNAL_VERSION		1
#define JOURNAL_FRAME_MAGIC	UINT32_C(0x4d41524a) /* "JRAM" */
#define JOURNAL_ALIGN		8
/* 4,000 guests at 1.5 KiB; nothing that is larger is a frame. */
#define JOURNAL_FRAME_BYTES_MAX (UINT32_C(8) << 20)

struct journal_file_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes; /* of this; the first frame follows, aligned */
	uint64_t created_us; /* since 1970 */
};

struct journal_frame_header {
	uint32_t magic;
	uint32_t type; /* enum journal_frame_type */
	uint32_t payload_bytes; /* after this header, without the padding that follows */
	uint32_t checksum; /* CRC-32 (IEEE 802.3) of the payload */
};

enum journal_frame_type {
	JOURNAL_TICK = 1,
	JOURNAL_POLICY = 2, /* at the begin of each file, and when the policy changes */
};

/*
 * A tick: journal_tick, its two texts, the host's record (policy/view-record.h), then for each guest
 * a journal_guest, its reason, and its record. Each part is aligned to 8.
 */
struct journal_tick {
	uint32_t tick_bytes; /* of this struct, as the writer knew it */
	uint32_t n_guests;
	uint64_t number; /* the property Ticks of the bus */
	uint64_t realtime_us; /* when it was decided */
	uint64_t wait_us; /* from asking the policy to its answer */
	uint64_t policy_cpu_us; /* that it says it took; 0: built in */
	uint32_t flags;
	uint32_t policy_bytes; /* the text after this: the name of the policy that decided, NUL */
	uint32_t mismatch_bp; /* of the ledger */
	uint32_t reserved;
};
#define JOURNAL_TICK_FELL_BACK (UINT32_C(1) << 0) /* the chosen policy did not decide */

struct journal_guest {
	uint32_t guest_bytes; /* of this struct, as the writer knew it */
	uint32_t reason_bytes; /* of the text after it, with the NUL */
	/* the decision */
	uint64_t proposed_bytes;
	uint64_t decided_bytes; /* after the filters */
	uint64_t fixed_bytes; /* by the operator; 0: not */
	uint32_t clamps; /* enum policy_clamp */
	uint32_t mismatch_bp; /* of the ledger */
	/* what came of it: asked for in this tick, and where things stand */
	uint64_t balloon_target_bytes;
	uint64_t page_out_bytes; /* asked for in this tick */
	uint64_t paged_out_bytes; /* went out between the last two samples */
	/* where its memory was when this was decided */
	uint64_t private_bytes;
	uint64_t shared_bytes;
	uint64_t shared_cost_bytes;
	uint64_t overhead_bytes;
	/* costs, since its start */
	uint64_t refault_bytes;
	uint64_t scan_cpu_us;
	uint64_t major_faults; /* claimed */
	char group[64]; /* whose policy is the guest's, with NUL; "": none */
	/*
	 * What having a page from it cost lately, by sharing, balloon and page-out: nanoseconds of
	 * work for a page freed, and of the guest's waiting for those that came back.
	 */
	uint64_t free_ns[3];
	uint64_t back_ns[3];
	uint8_t rank[4]; /* of the three: 0 is asked first */
	uint32_t reserved;
};

/*
 * A policy: journal_policy, then its name, n_settings of key and value, and n_group_settings of
 * group, key and value, each ended by NUL. A group's key Policy is the policy of the group.
 */
struct journal_policy {
	uint32_t policy_bytes; /* of this struct */
	uint32_t n_settings;
	uint64_t realtime_us;
	uint64_t text_bytes; /* of all texts after this */
	uint32_t n_group_settings;
	uint32_t reserved;
};
