/* See slirp.h. */
#include "kvm-glue/slirp.h"

#include <string.h>

#include "memd/base/units.h"

bool slirp_parse_forward(const char *text, struct slirp_forward *ret)
{
	const char *colon = strchr(text, ':');
	uint64_t host, guest;
	char first[6];

	if (!colon || (size_t)(colon - text) >= sizeof(first))
		return false;
	memcpy(first, text, (size_t)(colon - text));
	first[colon - text] = '\0';
	if (units_parse_u64(first, UINT16_MAX, &host, NULL) < 0 ||
		units_parse_u64(colon + 1, UINT16_MAX, &guest, NULL) < 0 || host == 0 || guest == 0)
		return false;
	*ret = (struct slirp_forward){(uint16_t)host, (uint16_t)guest};
	return true;
}
