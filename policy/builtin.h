/* The policies that come with memd. Each uses the public interface only, as a plugin would. */
#pragma once

#include "memd/policy.h"

extern const struct memd_policy policy_esx;
extern const struct memd_policy policy_proportional;
extern const struct memd_policy policy_pressure;
extern const struct memd_policy policy_balanced;
extern const struct memd_policy policy_static;
