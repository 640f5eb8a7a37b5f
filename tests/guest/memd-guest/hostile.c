#include "tests/guest/memd-guest/hostile.h"
#include "tests/guest/memd-guest/line.h"
void hostile_run(void)
{
	line_print_and_stop("not yet");
}
