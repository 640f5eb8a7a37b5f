/* See plot.h. */
#include "memd/memctl/plot.h"

#include <string.h>
#include <sys/mman.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "memd/memctl/helper.h"

const char *plot_terminal(const char *path)
{
	const char *suffix = strrchr(path, '.');

	if (!suffix || strpbrk(path, "\n\r"))
		return NULL;
	if (strcmp(suffix, ".svg") == 0)
		return "svg";
	return strcmp(suffix, ".png") == 0 ? "pngcairo" : NULL;
}

/* In single quotes only they are special, and are doubled. */
void plot_put_text(FILE *script, const char *text)
{
	fputc('\'', script);
	for (; *text; text++) {
		if (*text == '\'')
			fputc('\'', script);
		fputc(*text, script);
	}
	fputc('\'', script);
}

int plot_draw(const char *script, size_t n, struct error *e)
{
	_cleanup_close_ int fd = memfd_create("plot", MFD_CLOEXEC);
	char *argv[] = {(char[]){"gnuplot"}, (char[]){"-"}, NULL};
	struct helper gnuplot;
	int r;

	if (fd < 0)
		return -errno;
	r = fd_pwrite_full(fd, script, n, 0);
	if (r == 0)
		r = helper_start(&gnuplot, argv, fd, NULL, 0, HELPER_OUTPUT_OURS);
	if (r == 0)
		r = helper_end(&gnuplot);
	if (r == 127)
		return error_set(e, -ENOENT,
			"pictures are drawn by gnuplot, which is not here: apt-get install "
			"gnuplot-nox");
	if (r != 0)
		return error_set(
			e, r < 0 ? r : -EIO, "gnuplot did not draw it; what it said is above");
	return 0;
}

int plot_begin(struct plot *p, const char *path, const char *title, struct error *e)
{
	*p = (struct plot){.path = path};
	if (!plot_terminal(path))
		return error_set(e, -EINVAL, "pictures are FILE.svg or FILE.png");
	p->data_stream = open_memstream(&p->data, &p->data_bytes);
	p->command_stream = open_memstream(&p->command, &p->command_bytes);
	if (!p->data_stream || !p->command_stream)
		return -ENOMEM;
	fprintf(p->command_stream,
		"set terminal %s size 1200,600 background rgb 'white'\nset output ",
		plot_terminal(path));
	plot_put_text(p->command_stream, path);
	fputs("\nset title ", p->command_stream);
	plot_put_text(p->command_stream, title);
	fputs(" noenhanced\nset xdata time\nset timefmt '%s'\nset format x '%H:%M:%S'\n"
	      "set ylabel 'MiB'\nset yrange [0:*]\nset key outside noenhanced\nset grid\nplot ",
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
	plot_put_text(p->command_stream, name);
}

void plot_point(struct plot *p, double seconds, uint64_t bytes)
{
	fprintf(p->data_stream, "%.3f %.3f\n", seconds, (double)bytes / (double)MIB);
}

int plot_end(struct plot *p, struct error *e)
{
	if (p->n_curves == 0)
		return error_set(e, -ENODATA, "there is nothing to draw");
	fputs("EOD\n", p->data_stream);
	fflush(p->command_stream);
	fprintf(p->data_stream, "%s\n", p->command);
	if (fflush(p->data_stream) != 0)
		return -ENOMEM;
	return plot_draw(p->data, p->data_bytes, e);
}

void plot_done(struct plot *p)
{
	cleanup_fclosep(&p->data_stream);
	cleanup_fclosep(&p->command_stream);
	free(p->data);
	free(p->command);
	*p = (struct plot){0};
}
