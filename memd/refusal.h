/*
 * Why memd does not do what it was asked to: a kind that becomes the name of a D-Bus error, and a
 * sentence.
 */
#pragma once

#include "memd/base/error.h"

enum refusal_kind {
	REFUSAL_FAILED = 0, /* something else; the errno says what */
	REFUSAL_NO_SUCH_GUEST,
	REFUSAL_GUEST_EXISTS,
	REFUSAL_BAD_SETTING,
	REFUSAL_BELOW_FLOOR,
	REFUSAL_ABOVE_CONFIGURED,
	REFUSAL_NO_KVM,
	REFUSAL_START_FAILED,
	REFUSAL_NOT_RUNNING,
	REFUSAL_BUSY,
	REFUSAL_NOT_SUPPORTED, /* by whoever runs the guest */
};

struct refusal {
	enum refusal_kind kind;
	struct error error;
};

/* Says why in *r, and returns code: `return refusal_set(r, REFUSAL_BUSY, -EBUSY, "...", ...);` */
#define refusal_set(r, why, code, ...)                                                             \
	((r)->kind = (why), error_set(&(r)->error, (code), __VA_ARGS__))
