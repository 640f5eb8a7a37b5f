/* See screen.h. Sequences are those of ECMA-48 and xterm that every terminal emulator knows. */
#include "memd/memctl/screen.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"

#define ALTERNATE_SCREEN_ON  "\033[?1049h"
#define ALTERNATE_SCREEN_OFF "\033[?1049l"
#define CURSOR_HIDE	     "\033[?25l"
#define CURSOR_SHOW	     "\033[?25h"
#define CURSOR_HOME	     "\033[H"
#define ERASE_TO_LINE_END    "\033[K"
#define ERASE_BELOW	     "\033[J"

static void put(const char *text, size_t size)
{
	(void)fd_write_full(STDOUT_FILENO, text, size);
}
#define PUT(literal) put(literal, sizeof(literal) - 1)

void screen_enter(struct screen *s)
{
	s->has_keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &s->before) == 0;
	if (s->has_keys) {
		struct termios keys = s->before;

		keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		keys.c_cc[VMIN] = 1;
		keys.c_cc[VTIME] = 0;
		tcsetattr(STDIN_FILENO, TCSANOW, &keys);
	}
	PUT(ALTERNATE_SCREEN_ON CURSOR_HIDE);
	s->entered = true;
}

void screen_leave(struct screen *s)
{
	if (!s->entered)
		return;
	PUT(CURSOR_SHOW ALTERNATE_SCREEN_OFF);
	if (s->has_keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &s->before);
	s->entered = false;
}

void screen_size(unsigned *ret_columns, unsigned *ret_rows)
{
	struct winsize size = {};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0) {
		*ret_columns = 80;
		*ret_rows = 24;
		return;
	}
	*ret_columns = size.ws_col;
	*ret_rows = size.ws_row;
}

void screen_show(const char *frame)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return;
	fputs(CURSOR_HOME, out);
	/* erasing what is left of a line after writing it: erasing first would flicker */
	for (const char *c = frame; *c; c++)
		if (*c == '\n')
			fputs(ERASE_TO_LINE_END "\r\n", out);
		else
			fputc(*c, out);
	fputs(ERASE_TO_LINE_END ERASE_BELOW, out);
	fclose(out);
	put(text, size);
}
