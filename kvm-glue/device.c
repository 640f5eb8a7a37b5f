/* The list of devices that options ask for (device.h), and the reader of what options say. */
#include "kvm-glue/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/units.h"

struct devices {
	size_t n; /* opened so far */
	struct {
		const struct device_kind *kind;
		void *device;
	} list[DEVICES_MAX];
};

int devices_open(
	const struct device_request *requests, size_t n, struct devices **ret, struct error *e)
{
	_cleanup_(devices_freep) struct devices *d = calloc(1, sizeof(*d));

	if (!d)
		return error_set(e, -ENOMEM, "out of memory");
	if (n > DEVICES_MAX)
		return error_set(
			e, -E2BIG, "%zu devices are more than the %d that fit", n, DEVICES_MAX);
	for (size_t i = 0; i < n; i++) {
		int r = requests[i].kind->open(requests[i].spec, &d->list[i].device, e);

		if (r < 0) {
			error_prefix(e, "--%s %.128s", requests[i].kind->option,
				requests[i].spec ? requests[i].spec : "");
			return r;
		}
		d->list[i].kind = requests[i].kind;
		d->n++;
	}
	*ret = TAKE_PTR(d);
	return 0;
}

int devices_plug(struct devices *d, struct machine *m, struct pci_bus *pci, unsigned first_slot,
	struct error *e)
{
	for (size_t i = 0; i < d->n; i++) {
		int r = d->list[i].kind->plug(d->list[i].device, m, pci, first_slot + (unsigned)i);

		if (r < 0)
			return error_set(
				e, r, "making the %s: %s", d->list[i].kind->option, strerror(-r));
	}
	return 0;
}

void devices_free(struct devices *d)
{
	if (!d)
		return;
	while (d->n-- > 0)
		d->list[d->n].kind->free(d->list[d->n].device);
	free(d);
}

uint64_t devices_needs_reset(const struct devices *d)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < d->n; i++)
		sum += d->list[i].kind->needs_reset(d->list[i].device);
	return sum;
}

int devices_each_call(const struct devices *d, int (*allow)(void *context, int call), void *context)
{
	int r = 0;

	for (size_t i = 0; i < d->n && r == 0; i++)
		for (const int *call = d->list[i].kind->calls; *call >= 0 && r == 0; call++)
			r = allow(context, *call);
	return r;
}

/* Copies the word that begins at text, up to a comma or the end. */
static int copy_word(const char *text, char *ret, size_t size, struct error *e)
{
	size_t n = strcspn(text, ",");

	if (n == 0)
		return error_set(e, -EINVAL, "there is nothing before or between commas");
	if (n >= size)
		return error_set(
			e, -ENAMETOOLONG, "%.32s... is longer than %zu characters", text, size - 1);
	memcpy(ret, text, n);
	ret[n] = '\0';
	return 0;
}

int device_spec_first(const char *spec, char *ret, size_t size, struct error *e)
{
	return copy_word(spec, ret, size, e);
}

int device_spec_next(const char **cursor, struct device_spec_word *ret, struct error *e)
{
	const char *comma = strchr(*cursor, ',');
	char *equals;
	int r;

	if (!comma)
		return 0;
	r = copy_word(comma + 1, ret->text, sizeof(ret->text), e);
	if (r < 0)
		return r;
	*cursor = comma + 1;
	equals = strchr(ret->text, '=');
	ret->value = equals ? equals + 1 : NULL;
	if (equals)
		*equals = '\0';
	return 1;
}

int device_spec_number(const struct device_spec_word *w, uint64_t min, uint64_t max, uint64_t *ret,
	struct error *e)
{
	uint64_t n;
	int r;

	if (!w->value)
		return error_set(e, -EINVAL, "%s lacks its number, as in %s=%llu", w->text, w->text,
			(unsigned long long)min);
	r = units_parse_u64(w->value, max, &n, e);
	if (r == 0 && n < min)
		r = error_set(
			e, -ERANGE, "%s is less than %llu", w->value, (unsigned long long)min);
	if (r < 0) {
		error_prefix(e, "%s", w->text);
		return r;
	}
	*ret = n;
	return 0;
}

int device_spec_unknown(const struct device_spec_word *w, const char *known, struct error *e)
{
	return error_set(e, -EINVAL, "%s is none of %s", w->text, known);
}
