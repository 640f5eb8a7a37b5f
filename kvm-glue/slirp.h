/* Between memd-vmm and memd-slirp, the program of a user-mode network (slirp-main.c). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SLIRP_PROGRAM "memd-slirp"

/* HELPER_FD (helper.h) carries one Ethernet frame a message, both ways. */

/* An argument of the program, "8022:22": a port of the host's 127.0.0.1 leads to one of the guest. */
struct slirp_forward {
	uint16_t host_port;
	uint16_t guest_port;
};

/* False when it is none; *ret is untouched then. */
bool slirp_parse_forward(const char *text, struct slirp_forward *ret);
