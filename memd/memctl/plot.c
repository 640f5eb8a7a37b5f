/* See plot.h. Names are quoted for gnuplot, so that none becomes a command. */
#include "memd/memctl/plot.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "memd/memctl/helper.h"

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n > m && strcmp(text + n - m, end) == 0;
}

/* 'text', with each ' doubled; noenhanced keeps the rest as it is. */
static void put_quoted(FILE *out, const char *text)
{
	fputc('\'', out);
	for (; *text; text++) {
		if (*text == '\'')
			fputc('\'', out);
		fputc(*text, out);
	}
	fputc('\'', out);
}

int plot_begin(struct plot *p, const char *path, const char *title, struct error *e)
{
	*p = (struct plot){.path = path};
	if (ends_with(path, ".svg"))
		p->terminal = "svg size 1000,500 dynamic background rgb 'white' noenhanced";
	else if (ends_with(path, ".png"))
		p->terminal = "png size 1000,500 noenhanced";
	else
		return error_set(e, -EINVAL, "%s: pictures are FILE.svg or FILE.png", path);
	p->data_stream = open_memstream(&p->data, &p->data_bytes);
	p->command_stream = open_memstream(&p->command, &p->command_bytes);
	if (!p->data_stream || !p->command_stream)
		return -ENOMEM;
	fprintf(p->command_stream, "set terminal %s\nset output ", p->terminal);
	put_quoted(p->command_stream, path);
	fputs("\nset title ", p->command_stream);
	put_quoted(p->command_stream, title);
	fputs("\nset xdata time\nset timefmt '%s'\nset format x '%H:%M:%S'\n"
	      "set ylabel 'MiB'\nset yrange [0:*]\nset key outside\nset grid\nplot ",
		p->command_stream);
	return 0;
}

void plot_curve(struct plot *p, const char *name, unsigned colour, enum plot_line line)
{
	if (p->n_curves++ > 0)
		fputs("EOD\n", p->data_stream);
	fprintf(p->data_stream, "$curve%u << EOD\n", p->n_curves);
	fprintf(p->command_stream, "%s$curve%u using 1:2 with lines lw 2 lc %u dt %d title ",
		p->n_curves > 1 ? ", " : "", p->n_curves, colour + 1, line == PLOT_DASHED ? 2 : 1);
	put_quoted(p->command_stream, name);
}

void plot_point(struct plot *p, double seconds, uint64_t bytes)
{
	fprintf(p->data_stream, "%.3f %.3f\n", seconds, (double)bytes / (double)MIB);
}

static int draw(int script, struct error *e)
{
	char *argv[] = {(char[]){"gnuplot"}, (char[]){"-"}, NULL};
	struct helper gnuplot;
	int r = helper_start(&gnuplot, argv, script, NULL, 0, HELPER_OUTPUT_OURS);

	if (r == 0)
		r = helper_end(&gnuplot);
	if (r == 127)
		return error_set(e, -ENOENT,
			"pictures are drawn by gnuplot, which is not here: apt-get install "
			"gnuplot-nox");
	if (r != 0)
		return error_set(e, r < 0 ? r : -EIO, "gnuplot could not draw the picture");
	return 0;
}

int plot_end(struct plot *p, struct error *e)
{
	_cleanup_close_ int script = memfd_create("plot", MFD_CLOEXEC);
	int r;

	if (p->n_curves == 0)
		return error_set(e, -ENODATA, "there is nothing to draw");
	fputs("EOD\n", p->data_stream);
	fputc('\n', p->command_stream);
	if (script < 0 || fflush(p->data_stream) != 0 || fflush(p->command_stream) != 0)
		return -ENOMEM;
	r = fd_write_full(script, p->data, p->data_bytes);
	if (r == 0)
		r = fd_write_full(script, p->command, p->command_bytes);
	if (r < 0)
		return r;
	if (lseek(script, 0, SEEK_SET) < 0)
		return -errno;
	return draw(script, e);
}

void plot_done(struct plot *p)
{
	cleanup_fclosep(&p->data_stream);
	cleanup_fclosep(&p->command_stream);
	free(p->data);
	free(p->command);
	*p = (struct plot){0};
}
