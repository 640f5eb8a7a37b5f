/* The policies that come with memd. Each uses the public interface only, as a plugin would. */
#pragma once

#include "memd/policy.h"

extern const struct memd_policy policy_proportional;
