/* Failed calls: what they mean to a person, and what to do next. */
#include <string.h>
#include <sys/param.h>

#include "memd/memctl/client.h"

#define NAME_BYTES_MAX 64

static size_t edit_distance(const char *a, const char *b)
{
	size_t row[NAME_BYTES_MAX + 1];
	size_t n = strlen(b);

	if (n > NAME_BYTES_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t replaced = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[n];
}

const char *client_nearest(const char *name, const char *const *names, size_t n)
{
	const char *nearest = NULL;
	/* a third of the name may be wrong, and two letters always: beyond that it is a guess */
	size_t best = MAX((size_t)2, strlen(name) / 3) + 1;

	for (size_t i = 0; i < n; i++) {
		size_t distance = edit_distance(name, names[i]);

		if (distance < best) {
			best = distance;
			nearest = names[i];
		}
	}
	return nearest;
}

/* Names of all guests, comma separated, and the one nearest to `name`: " Guests: a, b. Did you mean 'b'?" */
static char *describe_guests(struct memctl *m, const char *name)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *guests = NULL;
	_cleanup_free_ const char **names = NULL;
	const char *nearest;
	char *text = NULL;
	size_t n, size;
	FILE *out;

	if (client_guests(m, &e, &guests) < 0)
		return NULL;
	n = json_object_array_length(guests);
	names = calloc(n + 1, sizeof(*names));
	out = names ? open_memstream(&text, &size) : NULL;
	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		names[i] = figure_text(json_object_array_get_idx(guests, i), "name");
		fprintf(out, "%s%s", i == 0 ? " Guests: " : ", ", names[i]);
	}
	fputs(n == 0 ? " No guest is running; start one: memctl start NAME." : ".", out);
	nearest = client_nearest(name, names, n);
	if (nearest)
		fprintf(out, " Did you mean '%s'?", nearest);
	fclose(out); /* completes text */
	return text;
}

static bool memd_is_absent(int r, const sd_bus_error *e)
{
	static const char *const names[] = {
		SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
		SD_BUS_ERROR_DISCONNECTED, SD_BUS_ERROR_NO_REPLY, /* it went while we waited */
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (sd_bus_error_has_name(e, names[i]))
			return true;
	return r == -ENOTCONN || r == -ECONNRESET;
}

enum memctl_exit client_report(struct memctl *m, const char *guest, int r, const sd_bus_error *e)
{
	_cleanup_free_ char *guests = NULL;
	const char *message = e->message ? e->message : strerror(-r);

	if (r == -ETIMEDOUT || sd_bus_error_has_name(e, SD_BUS_ERROR_TIMEOUT))
		return memctl_fail(m, MEMCTL_UNREACHABLE, e->name,
			"memd did not answer within %d s; see its log: journalctl -u memd",
			(int)(CLIENT_TIMEOUT_US / 1000000));
	if (memd_is_absent(r, e))
		return memctl_fail(m, MEMCTL_UNREACHABLE, e->name,
			"memd is not running on bus '%s'. Start it: systemctl start memd, or name "
			"its "
			"bus with --bus (or MEMD_BUS)",
			m->bus_name);
	if (sd_bus_error_has_name(e, SD_BUS_ERROR_ACCESS_DENIED))
		return memctl_fail(m, MEMCTL_REFUSED, e->name,
			"not permitted (%s): run memctl as root, or join the group memd", message);
	if (guest && sd_bus_error_has_name(e, MEMD_ERROR("NoSuchGuest")))
		guests = describe_guests(m, guest);
	return memctl_fail(m, MEMCTL_REFUSED, e->name, "%s%s", message, guests ? guests : "");
}
