/* The layout by the header of today. */
#include <memd/policy.h>

#include "layout.h"

const struct layout layout_now[] = {
#include "layout.inc"
	{NULL, 0, 0},
};
