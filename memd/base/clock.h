/* Time for the top layers; deciding code is given its time as a parameter and never calls this. */
#pragma once

#include <stdint.h>

#define US_PER_MS UINT64_C(1000)
#define US_PER_S  UINT64_C(1000000)

uint64_t clock_monotonic_us(void);
uint64_t clock_realtime_us(void);
/* CPU time of the calling thread / of this process. */
uint64_t clock_thread_cpu_us(void);
uint64_t clock_process_cpu_us(void);
/* Sleeps, over signals, the whole time. */
void clock_sleep_us(uint64_t us);
