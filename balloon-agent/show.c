/* See show.h. */
#include "balloon-agent/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balloon-agent/names.h"
#include "memd/base/log.h"

int show_report(struct agent *a)
{
	struct agent_message m;
	int r = agent_report(a, &m);

	if (r < 0) {
		log_error("cannot read the figures: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	for (const struct agent_name *n = agent_names; n->key; n++)
		if (agent_has(&m, n->field))
			printf("%s=%" PRIu64 "\n", n->key, agent_get(&m, n->field, 0));
	printf("spare_bytes=%" PRIu64 "\n", condition_spare_bytes(&m));
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
