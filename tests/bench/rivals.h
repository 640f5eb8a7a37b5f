/* The rules of other controllers, written as policies from their published descriptions. */
#pragma once

#include "memd/policy.h"

/* MOM's auto-balloon rules (oVirt Memory Overcommitment Manager, its default policy). */
extern const struct memd_policy policy_mom_like;
/* Proxmox VE's auto-ballooning (administration guide, "Memory"). */
extern const struct memd_policy policy_proxmox_like;
