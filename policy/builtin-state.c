/* The state of a built-in policy; see builtin-state.h. */
#include "policy/builtin-state.h"

#include <errno.h>
#include <stdlib.h>

int builtin_state_open(struct settings *draft, size_t record_bytes, void **ret_state)
{
	struct builtin_state *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->guests.record_bytes = record_bytes;
	settings_take(draft, &s->settings);
	*ret_state = s;
	return 0;
}

void builtin_state_close(void *state)
{
	struct builtin_state *s = state;

	vessels_done(&s->vessels);
	by_guest_done(&s->guests);
	settings_done(&s->settings);
	free(s);
}

static uint64_t id_of(const void *guests, size_t i)
{
	const struct memd_guest_view *const *views = guests;

	return views[i]->id;
}

void *builtin_state_records(struct builtin_state *s, const struct memd_host_view *view)
{
	if (view->n_guests == 0)
		return NULL;
	return by_guest_match(&s->guests, view->n_guests, id_of, view->guests);
}
