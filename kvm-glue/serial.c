/*
 * The 16550A (National PC16550D data sheet). The transmitter is always empty, since the console takes everything at once; the
 * receiver holds what the console has, a byte at a time.
 */
#include "kvm-glue/serial.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum {
	COM1_PORT = 0x3f8,
	COM1_PORTS = 8,
	COM1_GSI = 4,

	REG_DATA = 0, /* divisor latch low with DLAB */
	REG_IER = 1, /* divisor latch high with DLAB */
	REG_IIR_FCR = 2,
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCRATCH = 7,

	IER_RDA = 0x01, /* received data available */
	IER_THRE = 0x02,
	IER_MASK = 0x0f,
	IIR_NONE = 0x01,
	IIR_THRE = 0x02,
	IIR_RDA = 0x04,
	IIR_FIFOS = 0xc0,
	FCR_ENABLE = 0x01,
	LCR_DLAB = 0x80,
	MCR_LOOPBACK = 0x10,
	MCR_MASK = 0x1f,
	LSR_DATA = 0x01,
	LSR_EMPTY = 0x60, /* holding register and shift register */
	MSR_LINE = 0xb0, /* carrier, data set ready, clear to send */
};

#define TAG_SERIAL SNAPSHOT_TAG('u', 'a', 'r', 't')

/* All bytes: this is also what a snapshot keeps. */
struct serial_registers {
	uint8_t ier;
	uint8_t lcr;
	uint8_t mcr;
	uint8_t scratch;
	uint8_t divisor[2];
	uint8_t fifos;
	uint8_t thre_pending; /* the transmitter became empty and nobody has read so */
};

struct serial {
	struct machine *machine;
	struct console *console;
	struct bus_range *ports;
	pthread_mutex_t lock; /* what follows */
	struct serial_registers reg;
	bool irq_level;
};

/* The receiver's FIFO is the console's input. */
static bool has_data(const struct serial *s)
{
	return console_has_input(s->console, CONSOLE_SERIAL);
}

/* Lock held. */
static void update_irq(struct serial *s)
{
	bool level = (s->reg.thre_pending && (s->reg.ier & IER_THRE)) ||
		     ((s->reg.ier & IER_RDA) && has_data(s));

	if (level == s->irq_level)
		return;
	s->irq_level = level;
	s->machine->ops->irq_line(s->machine, COM1_GSI, level);
}

/* What the modem's lines say; in loopback the outputs come back (data sheet, 8.6.7). */
static uint8_t modem_status(const struct serial *s)
{
	if (!(s->reg.mcr & MCR_LOOPBACK))
		return MSR_LINE;
	return (uint8_t)((s->reg.mcr & 0x0c) << 4 | (s->reg.mcr & 0x02) << 3 |
			 (s->reg.mcr & 0x01) << 5);
}

static uint8_t identify_interrupt(struct serial *s)
{
	uint8_t iir = IIR_NONE;

	if ((s->reg.ier & IER_RDA) && has_data(s)) {
		iir = IIR_RDA;
	} else if (s->reg.thre_pending && (s->reg.ier & IER_THRE)) {
		iir = IIR_THRE;
		s->reg.thre_pending = false;
	}
	return (uint8_t)(iir | (s->reg.fifos ? IIR_FIFOS : 0));
}

static uint8_t receive(struct serial *s)
{
	uint8_t byte = 0;

	console_read(s->console, CONSOLE_SERIAL, &byte, 1);
	return byte;
}

static uint8_t register_read(struct serial *s, uint64_t reg)
{
	switch (reg) {
	case REG_DATA:
		return s->reg.lcr & LCR_DLAB ? s->reg.divisor[0] : receive(s);
	case REG_IER:
		return s->reg.lcr & LCR_DLAB ? s->reg.divisor[1] : s->reg.ier;
	case REG_IIR_FCR:
		return identify_interrupt(s);
	case REG_LCR:
		return s->reg.lcr;
	case REG_MCR:
		return s->reg.mcr;
	case REG_LSR:
		return LSR_EMPTY | (has_data(s) ? LSR_DATA : 0);
	case REG_MSR:
		return modem_status(s);
	default:
		return s->reg.scratch;
	}
}

static void transmit(struct serial *s, uint8_t byte)
{
	/* in loopback it would be received; nobody needs that to find the chip */
	if (!(s->reg.mcr & MCR_LOOPBACK))
		console_write(s->console, CONSOLE_SERIAL, &byte, 1);
	s->reg.thre_pending = true;
}

static void register_write(struct serial *s, uint64_t reg, uint8_t value)
{
	switch (reg) {
	case REG_DATA:
		if (s->reg.lcr & LCR_DLAB)
			s->reg.divisor[0] = value;
		else
			transmit(s, value);
		break;
	case REG_IER:
		if (s->reg.lcr & LCR_DLAB) {
			s->reg.divisor[1] = value;
			break;
		}
		if ((value & IER_THRE) && !(s->reg.ier & IER_THRE))
			s->reg.thre_pending = true; /* it is empty when asked */
		s->reg.ier = value & IER_MASK;
		break;
	case REG_IIR_FCR:
		s->reg.fifos = value & FCR_ENABLE ? 1 : 0;
		break;
	case REG_LCR:
		s->reg.lcr = value;
		break;
	case REG_MCR:
		s->reg.mcr = value & MCR_MASK;
		break;
	case REG_SCRATCH:
		s->reg.scratch = value;
		break;
	default:
		break;
	}
}

/* Wider accesses reach consecutive registers, as on the ISA bus. */
static void ports_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	struct serial *s = device;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < size; i++)
		data[i] = register_read(s, offset + i);
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
}

static void ports_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct serial *s = device;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < size; i++)
		register_write(s, offset + i, data[i]);
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
}

static const struct bus_ops ports_ops = {
	.read = ports_read,
	.write = ports_write,
};

static void input_ready(void *context)
{
	struct serial *s = context;

	pthread_mutex_lock(&s->lock);
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
}

int serial_new(struct machine *m, struct console *console, struct serial **ret)
{
	_cleanup_(serial_freep) struct serial *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	s->machine = m;
	s->console = console;
	r = bus_add(m->bus, BUS_PIO, COM1_PORT, COM1_PORTS, &ports_ops, s, "serial", &s->ports);
	if (r < 0)
		return r;
	console_listen(console, CONSOLE_SERIAL, input_ready, s);
	*ret = TAKE_PTR(s);
	return 0;
}

void serial_free(struct serial *s)
{
	if (!s)
		return;
	if (s->ports)
		bus_move(s->machine->bus, s->ports, COM1_PORT, false);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void serial_save(struct serial *s, struct snapshot_writer *w)
{
	pthread_mutex_lock(&s->lock);
	snapshot_put(w, TAG_SERIAL, &s->reg, sizeof(s->reg));
	pthread_mutex_unlock(&s->lock);
}

int serial_restore(struct serial *s, struct snapshot_reader *r)
{
	int result;

	pthread_mutex_lock(&s->lock);
	result = snapshot_get(r, TAG_SERIAL, &s->reg, sizeof(s->reg));
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
	return result;
}
