/* What VMM_GET_STATS answers. */
#pragma once

#include "kvm-glue/vmm.h"
#include "memd/base/vmm-proto.h"

/*
 * Fills in all figures but time and state, which are the caller's; *s is zeroed by the caller. An
 * errno of guest_ram_census, after which *s is of no use. By the control thread.
 */
int vmm_stats_read(struct vmm *vmm, struct vmm_stats *s);
