/* See line.h. */
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/cpu.h"

static void line_character(struct line *l, char c)
{
	if (l->size < sizeof(l->text) - 1)
		l->text[l->size++] = c;
}

void line_text(struct line *l, const char *text)
{
	while (*text)
		line_character(l, *text++);
}

static void line_number(struct line *l, uint64_t value, unsigned base)
{
	char digits[20];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		line_character(l, digits[--n]);
}

static void line_name(struct line *l, const char *name)
{
	line_character(l, ' ');
	line_text(l, name);
	line_character(l, '=');
}

void line_value(struct line *l, const char *name, uint64_t value)
{
	line_name(l, name);
	line_number(l, value, 10);
}

void line_hex(struct line *l, const char *name, uint64_t value)
{
	line_name(l, name);
	line_text(l, "0x");
	line_number(l, value, 16);
}

void line_end(struct line *l)
{
	l->text[l->size++] = '\n';
}

void line_print(struct line *l)
{
	static bool busy;

	line_end(l);
	while (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE))
		cpu_relax();
	user_syscall(SYS_PRINT, (uintptr_t)l->text, l->size, 0);
	__atomic_clear(&busy, __ATOMIC_RELEASE);
}

void line_print_and_stop(const char *why)
{
	struct line line = {0};

	line_text(&line, "memd-guest: error: ");
	line_text(&line, why);
	line_print(&line);
	for (;;)
		user_syscall(SYS_POWER_OFF, 0, 0, 0);
}
