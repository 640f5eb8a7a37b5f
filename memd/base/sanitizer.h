/*
 * Whether a sanitizer is built in. Their runtimes make system calls of their own at any time, look at
 * /proc, keep several bytes for each of the program's and do nothing in mlock(): what cannot be with
 * that asks here.
 */
#pragma once

#ifdef __has_feature /* clang; gcc defines macros instead */
#define SANITIZER_FEATURE(name) __has_feature(name)
#else
#define SANITIZER_FEATURE(name) 0
#endif

#if defined(__SANITIZE_THREAD__) || SANITIZER_FEATURE(thread_sanitizer)
#define HAS_THREAD_SANITIZER 1
#else
#define HAS_THREAD_SANITIZER 0
#endif

#if defined(__SANITIZE_ADDRESS__) || SANITIZER_FEATURE(address_sanitizer) || HAS_THREAD_SANITIZER
#define HAS_SANITIZER 1
#else
#define HAS_SANITIZER 0
#endif
