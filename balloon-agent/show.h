/* balloon-agent --show. */
#pragma once

#include "balloon-agent/agent.h"

/* Prints the figures and what the guest could spare, one a line. Returns the exit code. */
int show_report(struct agent *a);
