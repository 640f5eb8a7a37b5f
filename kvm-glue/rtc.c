/* The MC146818 (Motorola data sheet): its time is the host's and cannot be set; the rest of its RAM is plain storage. */
#include "kvm-glue/rtc.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	PORT_INDEX = 0x70,
	N_PORTS = 2,
	N_BYTES = 128,

	REG_SECONDS = 0x00,
	REG_MINUTES = 0x02,
	REG_HOURS = 0x04,
	REG_WEEKDAY = 0x06,
	REG_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_CENTURY = 0x32, /* where the FADT says it is */

	A_DIVIDER_32KHZ = 0x20, /* and bit 7, update in progress, never set */
	A_WRITABLE = 0x7f,
	B_BINARY = 0x04,
	B_24_HOURS = 0x02,
	D_VALID = 0x80,
	HOUR_PM = 0x80,
};

#define TAG_RTC SNAPSHOT_TAG('r', 't', 'c', '1')

struct saved_rtc {
	uint8_t bytes[N_BYTES];
	uint8_t index;
	uint8_t reserved[7];
};

struct rtc {
	struct machine *machine;
	struct bus_range *ports;
	rtc_now now;
	pthread_mutex_t lock; /* what follows */
	uint8_t index;
	uint8_t bytes[N_BYTES];
};

static uint8_t encode(const struct rtc *r, int value)
{
	if (r->bytes[REG_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 << 4 | value % 10);
}

static uint8_t encode_hour(const struct rtc *r, int hour)
{
	uint8_t pm = hour >= 12 ? HOUR_PM : 0;

	if (r->bytes[REG_B] & B_24_HOURS)
		return encode(r, hour);
	return encode(r, hour % 12 == 0 ? 12 : hour % 12) | pm;
}

static uint8_t register_read(struct rtc *r)
{
	time_t now = (time_t)r->now();
	struct tm tm = {0};

	gmtime_r(&now, &tm);
	switch (r->index) {
	case REG_SECONDS:
		return encode(r, tm.tm_sec);
	case REG_MINUTES:
		return encode(r, tm.tm_min);
	case REG_HOURS:
		return encode_hour(r, tm.tm_hour);
	case REG_WEEKDAY:
		return encode(r, tm.tm_wday + 1);
	case REG_DAY:
		return encode(r, tm.tm_mday);
	case REG_MONTH:
		return encode(r, tm.tm_mon + 1);
	case REG_YEAR:
		return encode(r, tm.tm_year % 100);
	case REG_CENTURY:
		return encode(r, tm.tm_year / 100 + 19);
	case REG_C:
		return 0; /* no interrupt is ever pending */
	case REG_D:
		return D_VALID;
	default:
		return r->bytes[r->index];
	}
}

static void register_write(struct rtc *r, uint8_t value)
{
	if (r->index == REG_A)
		value &= A_WRITABLE;
	r->bytes[r->index] = value;
}

static void ports_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	struct rtc *r = device;

	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < size; i++)
		data[i] = offset + i == 1 ? register_read(r) : 0xff; /* the index is write-only */
	pthread_mutex_unlock(&r->lock);
}

static void ports_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct rtc *r = device;

	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < size; i++) {
		if (offset + i == 0)
			r->index = data[i] &
				   (N_BYTES - 1); /* bit 7 masks NMI, of which there are none */
		else
			register_write(r, data[i]);
	}
	pthread_mutex_unlock(&r->lock);
}

static const struct bus_ops ports_ops = {
	.read = ports_read,
	.write = ports_write,
};

int rtc_new(struct machine *m, rtc_now now, struct rtc **ret)
{
	_cleanup_(rtc_freep) struct rtc *r = calloc(1, sizeof(*r));
	int result;

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	r->machine = m;
	r->now = now;
	r->bytes[REG_A] = A_DIVIDER_32KHZ;
	r->bytes[REG_B] = B_24_HOURS;
	result = bus_add(m->bus, BUS_PIO, PORT_INDEX, N_PORTS, &ports_ops, r, "rtc", &r->ports);
	if (result < 0)
		return result;
	*ret = TAKE_PTR(r);
	return 0;
}

void rtc_free(struct rtc *r)
{
	if (!r)
		return;
	if (r->ports)
		bus_move(r->machine->bus, r->ports, PORT_INDEX, false);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void rtc_save(struct rtc *r, struct snapshot_writer *w)
{
	struct saved_rtc saved = {0};

	pthread_mutex_lock(&r->lock);
	saved.index = r->index;
	memcpy(saved.bytes, r->bytes, sizeof(saved.bytes));
	pthread_mutex_unlock(&r->lock);
	snapshot_put(w, TAG_RTC, &saved, sizeof(saved));
}

int rtc_restore(struct rtc *r, struct snapshot_reader *from)
{
	struct saved_rtc saved;

	if (snapshot_get(from, TAG_RTC, &saved, sizeof(saved)) < 0)
		return -EINVAL;
	pthread_mutex_lock(&r->lock);
	r->index = saved.index & (N_BYTES - 1);
	memcpy(r->bytes, saved.bytes, sizeof(r->bytes));
	pthread_mutex_unlock(&r->lock);
	return 0;
}
