/*
 * A policy in a process of its own (memd-policy), seen as one of our own: a struct memd_policy whose
 * evaluate() sends the figures and returns -EINPROGRESS, and hands over the proposals when it is
 * called again after `answered`.
 *
 * DOC: what the other process can do
 *
 * Answer, or not. memd never waits for it, reads of its answers a number and a text for each guest,
 * and of its log lines as many as the limit allows. It ends with its socket: whoever holds the
 * object may end it at any time, with everything that it started.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/policy.h"
#include "policy/policy-host.h"

struct policy_child;

struct policy_child_ops {
	/* Once: 0 when it is ready to evaluate, else negative errno and why. May free the child. */
	void (*opened)(void *context, int result, const char *why);
	/* After -EINPROGRESS: evaluate again hands over. May free the child. */
	void (*answered)(void *context);
	/* It is dead, or has broken the protocol, which is its death. Once; may free the child. */
	void (*ended)(void *context, const char *why);
};

struct policy_child_options {
	sd_event *event;
	const char *program; /* memd-policy */
	const char *name; /* of the policy */
	const char *directory; /* of plugins */
	const char *command; /* not NULL: a program for the policy `exec` */
	const struct policy_setting *settings;
	size_t n_settings;
	const struct policy_child_ops *ops;
	void *context;
};

/* Loading, configuring and opening may take so long, in a process that nobody waits for. */
#define POLICY_OPEN_TIMEOUT_US UINT64_C(10000000)

/*
 * Starts it; `opened` follows from the loop. Nothing of options but event, ops and context is kept.
 * Negative errno with *e: nothing was started.
 */
int policy_child_new(
	const struct policy_child_options *options, struct policy_child **ret, struct error *e);
/* Ends the process. NULL is allowed. Allowed inside a callback. */
void policy_child_free(struct policy_child *c);
DEFINE_CLEANUP(struct policy_child *, policy_child_free)

/*
 * For policy_host_new, with policy_child_calls; lives as long as the child. evaluate() returns what
 * the policy returned; -EINPROGRESS; -EBUSY while it still works on an earlier question; -EPIPE
 * when it is dead; -EBADMSG when what it proposed is no proposal (policy_child_fault says what).
 */
const struct memd_policy *policy_child_policy(const struct policy_child *c);
const struct memd_host_calls *policy_child_calls(const struct policy_child *c);
const char *policy_child_fault(const struct policy_child *c);
/* What the policy calls itself, after it has opened. */
const char *policy_child_description(const struct policy_child *c);
/* Throws away an answer that came too late; nothing when there is none. */
void policy_child_discard(struct policy_child *c);
/* It works on a question. */
bool policy_child_busy(const struct policy_child *c);
/* The CPU time that it says the last answer took. */
uint64_t policy_child_cpu_us(const struct policy_child *c);
/* 0 when it is gone. */
pid_t policy_child_pid(const struct policy_child *c);
