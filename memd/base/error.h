/*
 * Errors that a person will read. Libraries return negative errno and, where the caller passes a
 * struct error, one sentence that names the file, line or value at fault and the way out. They
 * never log; the top layer does, once.
 */
#pragma once

struct error {
	char text[512]; /* "" when nothing was said; one line of UTF-8 (text.h) */
};

/*
 * Says why (printf style) in *e, unless e is NULL or already says something (the first reason is
 * the root), and returns code, which is a negative errno: `return error_set(e, -EINVAL, "...",
 * ...);`
 */
int error_set(struct error *e, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Puts "CONTEXT: " before what *e says; no-op for NULL and when nothing was said. Used to add the
 * file or guest on the way up.
 */
void error_prefix(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
