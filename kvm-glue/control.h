/* The guest's state and memd's way to it: the main thread's loop over the control socket (memd/base/vmm-proto.h). */
#pragma once

#include "kvm-glue/vmm.h"

/*
 * Lets the guest run and serves listen_fd (-1: nobody) until the guest has ended or memd says so. Returns the exit status of
 * the process: 0 powered off or told to quit, 2 the guest failed. The connection and listen_fd are closed then.
 */
int control_run(struct vmm *vmm, int listen_fd);
