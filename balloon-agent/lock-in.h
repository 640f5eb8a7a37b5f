/*
 * What the agent gives up once it has opened everything: after that it cannot open, connect, start
 * or map anything, whoever it listens to.
 */
#pragma once

/* Locks the program's memory, so that it runs when the guest is out of it. Any errno of mlockall. */
int lock_in_memory(void);
/*
 * From now on only the system calls of the agent's loop work; others fail with EPERM. 0 also in
 * builds with a sanitizer and on CPUs that the list was not made for; any errno of prctl.
 */
int lock_in_calls(void);
