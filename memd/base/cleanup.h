/*
 * Scope-bound ownership, after systemd's idiom: everything owned is declared with _cleanup_(),
 * handed over with TAKE_PTR/TAKE_FD. A destructor accepts NULL and the half-built object.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *take_pp_ = &(p);                                                    \
		__typeof__(p) take_v_ = *take_pp_;                                                 \
		*take_pp_ = NULL;                                                                  \
		take_v_;                                                                           \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *take_fd_ = &(fd);                                                             \
		int take_v_ = *take_fd_;                                                           \
		*take_fd_ = -1;                                                                    \
		take_v_;                                                                           \
	})

/* Makes room for n elements in a heap array; false without memory, then it is as it was. */
#define GROW_ARRAY(array, n)                                                                       \
	({                                                                                         \
		void *larger_ = reallocarray((array), (n), sizeof(*(array)));                      \
		if (larger_)                                                                       \
			(array) = larger_;                                                         \
		larger_ != NULL;                                                                   \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}

/* Closes *fd when it is one, keeps errno. */
static inline void cleanup_closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline void cleanup_fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define _cleanup_free_     _cleanup_(cleanup_freep)
#define _cleanup_close_    _cleanup_(cleanup_closep)
#define _cleanup_fclose_   _cleanup_(cleanup_fclosep)
#define _cleanup_closedir_ _cleanup_(cleanup_closedirp)

/* Defines NAMEp for _cleanup_(NAMEp) from a destructor NAME that takes a pointer. */
#define DEFINE_CLEANUP(type, name)                                                                 \
	static inline void name##p(type *p)                                                        \
	{                                                                                          \
		if (*p)                                                                            \
			name(*p);                                                                  \
	}
