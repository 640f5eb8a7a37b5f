/* The layout by the header of the first day: this file is compiled with it alone (tests/abi/CMakeLists.txt). */
#include <memd/policy.h>

#include "layout.h"

const struct layout layout_v1[] = {
#include "layout.inc"
	{NULL, 0, 0},
};
