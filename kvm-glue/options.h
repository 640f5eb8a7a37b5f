/* The arguments of memd-vmm. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kvm-glue/boot.h"
#include "kvm-glue/device.h"
#include "memd/base/error.h"

#define OPTIONS_MEMORY_MIN_BYTES (4 * MIB)
#define OPTIONS_MEMORY_MAX_BYTES (UINT64_C(4) << 40)
#define OPTIONS_VCPUS_MAX	 240 /* 8-bit APIC ids, without broadcast */

struct options {
	const char *name; /* these point into argv */
	const char *kernel_path;
	const char *initrd_path; /* NULL: none */
	const char
		*snapshot_path; /* directory of the snapshot to go on from; NULL: boots a kernel */
	const char *cmdline;
	const char *cpu_features; /* x86-features.h; "" for none */
	const char *console_path;
	const char *socket_path; /* NULL: none */
	enum boot_protocol boot;
	uint64_t memory_bytes; /* multiple of 2 MiB; 0, only with a snapshot: as it says */
	uint64_t console_max_bytes;
	bool memory_locked;
	unsigned n_vcpus; /* 0, only with a snapshot: as it says */
	struct device_request devices[DEVICES_MAX]; /* in the order of the options */
	size_t n_devices;
	int listen_fd; /* -1: none */
	int error_fd; /* -1: none */
	int template_fd; /* the snapshot's RAM as a template; -1: loaded from its directory */
};

/*
 * 0, OPTIONS_HELP when --help or --version was answered on standard output, or -EINVAL, -ERANGE with a sentence. *ret->error_fd
 * is set as soon as it is known, also on failure.
 */
#define OPTIONS_HELP 1
int options_parse(int argc, char *argv[], struct options *ret, struct error *e);
