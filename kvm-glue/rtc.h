/* The real-time clock (MC146818) with its CMOS RAM, ports 0x70 and 0x71: the host's time, UTC. No alarm, no interrupts. */
#pragma once

#include <stdint.h>

#include "kvm-glue/machine.h"
#include "kvm-glue/snapshot.h"

struct rtc;

/* The present time in seconds since 1970, UTC. Tests bring their own. */
typedef int64_t (*rtc_now)(void);

/* m outlives it. An errno of bus_add. */
int rtc_new(struct machine *m, rtc_now now, struct rtc **ret);
/* After vCPUs have stopped. NULL is allowed. */
void rtc_free(struct rtc *r);
DEFINE_CLEANUP(struct rtc *, rtc_free)
/* vCPUs stand still. restore: -EINVAL. */
void rtc_save(struct rtc *r, struct snapshot_writer *w);
int rtc_restore(struct rtc *r, struct snapshot_reader *from);
