/*
 * A stock Linux guest in QEMU without KVM (TCG), for tests: Debian's kernel with its own virtio
 * modules, an initramfs with agent-init and balloon-agent. Its agent's port, a port for commands to
 * init, and QEMU's monitor (QMP) are sockets here. Ends the test's process when it cannot be had.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct qemu_run {
	char directory[64];
	pid_t pid;
	int agent_fd; /* the agent's channel, the caller's to take */
	int work_fd;
	int monitor_fd;
};

/* Boots it, and waits until its init is ready. */
void qemu_run_start(struct qemu_run *q, unsigned memory_mib);
/* Kills it and takes everything away. A zeroed one is allowed. */
void qemu_run_end(struct qemu_run *q);

/* Sends init a command; its answer comes later, see agent-init.c. */
void qemu_run_command(struct qemu_run *q, const char *line);
/* Whether "ok" has come; ends the test at any other answer. Does not wait. */
bool qemu_run_answered(struct qemu_run *q);

/* Asks the balloon driver to leave the guest so much. */
void qemu_run_set_balloon(struct qemu_run *q, uint64_t guest_bytes);
/* What it has left it. */
uint64_t qemu_run_balloon(struct qemu_run *q);
/* The guest's console, on the test's stdout as comments. */
void qemu_run_show_console(const struct qemu_run *q);
