/*
 * The agent in one guest: its channel, what its word is good for, and what is asked of it.
 *
 * DOC: what an agent's word does
 *
 * Figures are claims like the balloon's statistics, judged by the same rules (policy/claims.h), and
 * the newer of the two counts. A floor raises what the filters leave the guest, as far as its shares
 * entitle it to that, within MemoryMin= and MemoryMax=. Before the balloon grows the agent is asked,
 * and the balloon takes at most what it granted; a refusal holds for AGENT_REFUSED_US, and silence is
 * consent. Distress empties the balloon at once, without waiting for a tick; that the guest may have
 * more than its target for it has to be seen from outside, as ever (judge_in_distress). So what a
 * liar can get is to keep its balloon empty: then its memory is had by paging.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "balloon-agent/codec.h"
#include "memd/agent-session.h"

struct guest;

#define AGENT_REFUSED_US  UINT64_C(30000000) /* the balloon stays as it is after a refusal */
#define AGENT_ASKED_US	  UINT64_C(10000000) /* and after the guest asked for memory */
#define AGENT_WITHIN_US	  UINT64_C(2000000) /* to make room in */
#define AGENT_PATIENCE_US UINT64_C(3000000) /* with the answer */
#define AGENT_GRANT_US	  UINT64_C(5000000) /* a consent is good for */

struct guest_agent {
	struct guest *guest;
	struct agent_session *session; /* NULL: none now */
	uint64_t attach_again_us;

	enum {
		CONSENT_NONE,
		CONSENT_ASKED,
		CONSENT_GIVEN,
	} consent;
	uint64_t consent_us; /* since when it is so */
	uint64_t wanted_bytes; /* asked for */
	uint64_t balloon_bytes; /* when it was asked */
	uint64_t granted_bytes; /* on top of that */
	uint64_t hold_until_us; /* the balloon does not grow before; 0: it may */
	bool distressed; /* not yet told to balloon.c */

	/* what became of it, for people */
	char refusal[AGENT_TEXT_MAX + 1]; /* the last, "" for none */
	uint64_t refused_us;
	char wish[AGENT_TEXT_MAX + 1]; /* the reason of the last ask or distress */
	uint64_t wished_us;
	uint64_t given_us; /* when an ask was last heeded */
	uint64_t requests, grants, refusals, unanswered, asks, distresses;

	uint64_t *published; /* the bus file's, freed with the agent; NULL: none yet */
};

/* Opens a channel to the guest's agent unless there is one; again later when it failed. */
void guest_agent_keep(struct guest *g, uint64_t now_us);
/* With the guest's connection; the agent finds the next one. */
void guest_agent_disconnect(struct guest *g);
void guest_agent_free(struct guest *g);

/* "none": no channel; else session_state_name. */
const char *guest_agent_state(const struct guest *g);
/* The figures it reported last, NULL: none that are fresh. *ret_us: when. */
const struct agent_message *guest_agent_report(const struct guest *g, uint64_t *ret_us);
/*
 * What it says it needs at least, as far as that is between MemoryMin= and MemoryMax=; 0: it says
 * nothing, or is not believed.
 */
uint64_t guest_agent_floor_bytes(const struct guest *g);
/*
 * The most that the balloon may have now, when wanted_bytes are: asks the agent first when that is
 * more than before. UINT64_MAX: as much as is wanted.
 */
uint64_t guest_agent_consent(struct guest *g, uint64_t wanted_bytes, uint64_t now_us);
/* Whether it cried since the last call. */
bool guest_agent_take_distress(struct guest *g);
