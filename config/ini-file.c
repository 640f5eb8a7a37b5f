/* Drives libinih over a file in memory. Never interprets a key; never reads past the given text. */
#include "config/ini-file.h"

#include <ctype.h>
#include <fcntl.h>
#include <ini.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "memd/base/fd.h"

/*
 * inih cuts a value at " ;". It has no portable switch for that, so the reader hands it this byte
 * in the place of `;` and the handler puts `;` back. The byte cannot come from the file: control
 * characters are refused.
 */
#define HIDDEN_SEMICOLON '\1'

struct parse {
	const char *name;
	const char *next; /* of the text, not yet read */
	const char *end;
	unsigned line_number; /* of the line that inih has */
	char line[INI_MAX_LINE]; /* that line without blanks at its ends */
	struct ini_file file;
	size_t n_allocated;
	int result;
	struct error *e;
};

static void strip(char *text)
{
	size_t n = strlen(text), skip = 0;

	while (n > 0 && isspace((unsigned char)text[n - 1]))
		text[--n] = '\0';
	while (isspace((unsigned char)text[skip]))
		skip++;
	memmove(text, text + skip, n - skip + 1);
}

static int fail_line(struct parse *p, int code, const char *what)
{
	p->result = error_set(p->e, code, "%s:%u: %s", p->name, p->line_number, what);
	return p->result;
}

/* inih's fgets: the next line with its newline, or NULL at the end and after an error. */
static char *read_line(char *buffer, int size, void *user)
{
	struct parse *p = user;
	const char *newline;
	size_t n;
	bool comment;

	if (p->result < 0 || p->next == p->end)
		return NULL;
	p->line_number++;
	newline = memchr(p->next, '\n', (size_t)(p->end - p->next));
	n = (size_t)((newline ? newline + 1 : p->end) - p->next);
	if (n >= (size_t)size || n >= sizeof(p->line)) {
		fail_line(p, -EINVAL,
			"the line is too long; go on with its value in the next line, indented");
		return NULL;
	}
	memcpy(buffer, p->next, n);
	buffer[n] = '\0';
	p->next += n;

	comment = buffer[strspn(buffer, " \t")] == ';';
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)buffer[i];

		if (c == ';' && !comment)
			buffer[i] = HIDDEN_SEMICOLON;
		else if ((c < 0x20 && !strchr("\t\r\n", c)) || c == 0 || c == 0x7f) {
			fail_line(p, -EINVAL, "there is a control character in the line");
			return NULL;
		}
	}
	memcpy(p->line, buffer, n + 1);
	strip(p->line);
	return buffer;
}

/* A copy with the semicolons back, NULL when there is no memory. */
static char *copy_text(const char *text)
{
	char *copy = strdup(text);

	for (char *c = copy; c && *c; c++)
		if (*c == HIDDEN_SEMICOLON)
			*c = ';';
	return copy;
}

static int append_to_value(struct parse *p, const char *more)
{
	struct ini_entry *entry = &p->file.entries[p->file.n_entries - 1];
	_cleanup_free_ char *text = copy_text(more);
	size_t size = strlen(entry->value);
	char *value;

	if (!text)
		return -ENOMEM;
	value = realloc(entry->value, size + 1 + strlen(text) + 1);
	if (!value)
		return -ENOMEM;
	entry->value = value;
	value[size] = ' ';
	strcpy(value + size + 1, text);
	if (entry->continued_line == 0)
		entry->continued_line = p->line_number;
	return 0;
}

static int append_entry(struct parse *p, const char *section, const char *key, const char *value)
{
	struct ini_entry *entry;

	if (p->file.n_entries == p->n_allocated) {
		size_t n = p->n_allocated ? 2 * p->n_allocated : 16;
		struct ini_entry *larger = realloc(p->file.entries, n * sizeof(*larger));

		if (!larger)
			return -ENOMEM;
		p->file.entries = larger;
		p->n_allocated = n;
	}
	/* Counted before it is whole: ini_file_done frees the half-built, too. */
	entry = &p->file.entries[p->file.n_entries++];
	*entry = (struct ini_entry){
		.section = copy_text(section),
		.key = copy_text(key),
		.value = copy_text(value),
		.line = p->line_number,
	};
	return entry->section && entry->key && entry->value ? 0 : -ENOMEM;
}

/* inih's handler: 1 goes on, 0 is an error. */
static int take_pair(void *user, const char *section, const char *key, const char *value)
{
	struct parse *p = user;
	int r;

	if (p->result < 0)
		return 0;
	/*
	 * For an indented line inih gives the key before and the whole line as the value; the value
	 * of a line that has a key of its own is never the whole line.
	 */
	if (p->file.n_entries > 0 && strcmp(value, p->line) == 0)
		r = append_to_value(p, value);
	else
		r = append_entry(p, section, key, value);
	if (r < 0)
		p->result = r;
	return r == 0;
}

/* "a b" without its quotes, where they are around the whole value and nowhere in it. */
static void unquote(char *value)
{
	size_t n = strlen(value);

	if (n < 2 || value[0] != '"' || strchr(value + 1, '"') != value + n - 1)
		return;
	memmove(value, value + 1, n - 2);
	value[n - 2] = '\0';
}

void ini_file_done(struct ini_file *f)
{
	for (size_t i = 0; i < f->n_entries; i++) {
		free(f->entries[i].section);
		free(f->entries[i].key);
		free(f->entries[i].value);
	}
	free(f->entries);
	*f = (struct ini_file){0};
}

int ini_file_parse(
	const char *name, const char *text, size_t size, struct ini_file *ret, struct error *e)
{
	struct parse p = {.name = name, .next = text, .end = text + size, .e = e};
	int bad_line;

	bad_line = ini_parse_stream(read_line, &p, take_pair, &p);
	if (p.result == 0 && bad_line > 0) {
		p.line_number = (unsigned)bad_line;
		fail_line(&p, -EINVAL, "the line is neither [Section], Key=value nor a comment");
	} else if (p.result == 0 && bad_line < 0) {
		p.result = -ENOMEM;
	}
	if (p.result < 0) {
		ini_file_done(&p.file);
		return p.result;
	}
	for (size_t i = 0; i < p.file.n_entries; i++)
		unquote(p.file.entries[i].value);
	*ret = p.file;
	return 0;
}

int ini_file_load(const char *path, struct ini_file *ret, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	r = fd_read_file_at(AT_FDCWD, path, INI_FILE_BYTES_MAX, &text, &size);
	if (r < 0)
		return error_set(e, r, "cannot read %s: %s", path, strerror(-r));
	return ini_file_parse(path, text, size, ret, e);
}
