/* One table says what key becomes what option (guest-devices.h). */
#include "memd/guest-devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/cleanup.h"

static const struct {
	const char *key;
	const char *option;
	size_t lines_offset; /* of the char * in struct guest_config; 0: the flag below */
	size_t flag_offset; /* of the bool */
} kinds[] = {
	{"Disk", "--disk", offsetof(struct guest_config, disks), 0},
	{"Net", "--net", offsetof(struct guest_config, nets), 0},
	{"Rng", "--rng", 0, offsetof(struct guest_config, rng)},
	{"Vsock", "--vsock", offsetof(struct guest_config, vsock), 0},
};

static const char *lines_of(const struct guest_config *config, size_t i)
{
	return *(char *const *)((const char *)config + kinds[i].lines_offset);
}

static bool flag_of(const struct guest_config *config, size_t i)
{
	return *(const bool *)((const char *)config + kinds[i].flag_offset);
}

/* All lists one after the other, a NUL behind each. */
static int copy_lists(struct guest_devices *d, const struct guest_config *config)
{
	size_t bytes = 1;
	char *end;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].lines_offset && lines_of(config, i))
			bytes += strlen(lines_of(config, i)) + 1;
	d->text = end = malloc(bytes);
	if (!d->text)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].lines_offset && lines_of(config, i))
			end = stpcpy(end, lines_of(config, i)) + 1;
	return 0;
}

static int add(struct guest_devices *d, size_t kind, char *value, struct error *e)
{
	if (d->n == GUEST_DEVICES_MAX)
		return error_set(e, -E2BIG, "a guest has at most %d devices", GUEST_DEVICES_MAX);
	d->list[d->n].key = kinds[kind].key;
	d->list[d->n].option = kinds[kind].option;
	d->list[d->n++].value = value;
	return 0;
}

int guest_devices_init(
	struct guest_devices *ret, const struct guest_config *config, struct error *e)
{
	struct guest_devices d = {0};
	char *next, *save = NULL;
	int r = copy_lists(&d, config);

	if (r < 0)
		return r;
	next = d.text;
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && r == 0; i++) {
		if (kinds[i].lines_offset && lines_of(config, i)) {
			char *list = next;

			next += strlen(next) + 1;
			for (char *word = strtok_r(list, "\n", &save); word && r == 0;
				word = strtok_r(NULL, "\n", &save))
				r = add(&d, i, word, e);
		} else if (!kinds[i].lines_offset && flag_of(config, i)) {
			r = add(&d, i, NULL, e);
		}
	}
	if (r < 0) {
		guest_devices_done(&d);
		return r;
	}
	*ret = d;
	return 0;
}

void guest_devices_done(struct guest_devices *d)
{
	free(d->text);
	*d = (struct guest_devices){0};
}

int guest_devices_text(const struct guest_config *config, char **ret, struct error *e)
{
	struct guest_devices d;
	char *text = NULL;
	size_t size;
	FILE *f;
	int r = guest_devices_init(&d, config, e);

	if (r < 0)
		return r;
	f = open_memstream(&text, &size);
	for (size_t i = 0; f && i < d.n; i++)
		fprintf(f, "%s=%s\n", d.list[i].key, d.list[i].value ? d.list[i].value : "yes");
	guest_devices_done(&d);
	if (!f || fclose(f) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret = text;
	return 0;
}
