/* Serial port and its bounded console, clock, keyboard controller. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "fake-machine.h"
#include "kvm-glue/i8042.h"
#include "kvm-glue/rtc.h"
#include "kvm-glue/serial.h"
#include "memd/base/fd.h"

enum {
	COM1 = 0x3f8,
	COM1_GSI = 4,
	IER = COM1 + 1,
	IIR = COM1 + 2,
	LCR = COM1 + 3,
	MCR = COM1 + 4,
	LSR = COM1 + 5,
	MSR = COM1 + 6,
	SCRATCH = COM1 + 7,

	CMOS = 0x70,
	CONSOLE_MAX = 16,
};

static struct fake_machine *f;
static struct console *console;
static struct serial *serial;
static struct rtc *rtc;
static struct i8042 *keyboard;
static char directory[] = "/tmp/memd-test-XXXXXX";
static char path[64];

static int64_t fixed_time(void)
{
	return INT64_C(4102444799); /* 2099-12-31 23:59:59, a Thursday */
}

static int setup(void **state)
{
	struct error e = {0};

	f = fake_machine_new();
	if (console_new(path, CONSOLE_MAX, &console, &e) < 0 ||
		serial_new(&f->machine, console, &serial) < 0 ||
		rtc_new(&f->machine, fixed_time, &rtc) < 0)
		return -1;
	return i8042_new(&f->machine, &keyboard);
}

static int teardown(void **state)
{
	i8042_free(keyboard);
	rtc_free(rtc);
	serial_free(serial);
	console_free(console);
	fake_machine_free(f);
	return unlink(path);
}

static void assert_console(const char *expected)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 4096, &text, &size), 0);
	assert_string_equal(text, expected);
}

static void print(const char *text)
{
	for (; *text; text++)
		fake_io_write(f, COM1, 1, (uint8_t)*text);
}

static void serial_output_reaches_the_console(void **state)
{
	print("hello");
	assert_console("hello");
	assert_int_equal(fake_io_read(f, LSR, 1), 0x60);
}

static void a_full_console_starts_anew_and_counts(void **state)
{
	print("0123456789abcdef");
	assert_console("0123456789abcdef");
	assert_int_equal(console_dropped_bytes(console), 0);
	print("g");
	assert_console("g");
	assert_int_equal(console_dropped_bytes(console), 16);
}

static void an_existing_console_file_is_appended_to(void **state)
{
	struct error e = {0};
	struct console *again;

	print("one");
	assert_int_equal(console_new(path, CONSOLE_MAX, &again, &e), 0);
	console_write(again, CONSOLE_SERIAL, (const uint8_t *)"two", 3);
	assert_console("onetwo");
	console_write(again, CONSOLE_SERIAL, (const uint8_t *)"0123456789", 10);
	assert_console("onetwo0123456789");
	console_write(again, CONSOLE_SERIAL, (const uint8_t *)"x", 1);
	assert_console("x");
	console_free(again);
}

static void a_console_that_cannot_be_opened_is_named(void **state)
{
	struct error e = {0};
	struct console *none = NULL;

	assert_int_equal(console_new("/nonexistent/console", CONSOLE_MAX, &none, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/console"));
	assert_null(none);
}

static void a_pipe_without_reader_drops_and_never_blocks(void **state)
{
	uint8_t block[4096] = {0};
	struct error e = {0};
	struct console *pipe_console;
	char fifo[80];
	int reader;

	(void)snprintf(fifo, sizeof(fifo), "%s/fifo", directory);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	reader = open(fifo, O_RDONLY | O_NONBLOCK);
	assert_true(reader >= 0);
	assert_int_equal(console_new(fifo, UINT64_C(1) << 30, &pipe_console, &e), 0);
	for (unsigned i = 0; i < 64; i++)
		console_write(pipe_console, CONSOLE_SERIAL, block, sizeof(block));
	assert_int_equal(console_dropped_bytes(pipe_console), 64 * 4096 - 65536);
	console_free(pipe_console);
	close(reader);
	unlink(fifo);
}

static void serial_looks_like_a_16550a(void **state)
{
	fake_io_write(f, SCRATCH, 1, 0xa5);
	assert_int_equal(fake_io_read(f, SCRATCH, 1), 0xa5);
	assert_int_equal(fake_io_read(f, IIR, 1), 0x01);
	fake_io_write(f, IIR, 1, 1);
	assert_int_equal(fake_io_read(f, IIR, 1), 0xc1);
	fake_io_write(f, MCR, 1, 0x1a); /* loopback with RTS and OUT2: CTS and DCD */
	assert_int_equal(fake_io_read(f, MSR, 1), 0x90);
	fake_io_write(f, MCR, 1, 0xe0);
	assert_int_equal(fake_io_read(f, MCR, 1), 0);
}

static void loopback_does_not_reach_the_console(void **state)
{
	fake_io_write(f, MCR, 1, 0x10);
	print("x");
	assert_console("");
}

static void the_divisor_is_not_data(void **state)
{
	fake_io_write(f, LCR, 1, 0x83);
	fake_io_write(f, COM1, 1, 0x0c);
	fake_io_write(f, IER, 1, 0x02);
	assert_int_equal(fake_io_read(f, COM1, 1), 0x0c);
	fake_io_write(f, LCR, 1, 0x03);
	assert_int_equal(fake_io_read(f, IER, 1), 0);
	assert_console("");
	assert_int_equal(fake_line(f, COM1_GSI), 0);
}

static void the_empty_transmitter_interrupts_once(void **state)
{
	fake_io_write(f, IER, 1, 0x02);
	assert_int_equal(fake_line(f, COM1_GSI), 1);
	assert_int_equal(fake_io_read(f, IIR, 1), 0x02);
	assert_int_equal(fake_line(f, COM1_GSI), 0);
	assert_int_equal(fake_io_read(f, IIR, 1), 0x01);
	print("x");
	assert_int_equal(fake_line(f, COM1_GSI), 1);
	fake_io_write(f, IER, 1, 0);
	assert_int_equal(fake_line(f, COM1_GSI), 0);
}

static unsigned cmos(unsigned reg)
{
	fake_io_write(f, CMOS, 1, reg);
	return (unsigned)fake_io_read(f, CMOS + 1, 1);
}

static void cmos_write(unsigned reg, unsigned value)
{
	fake_io_write(f, CMOS, 1, reg);
	fake_io_write(f, CMOS + 1, 1, value);
}

static void the_clock_tells_the_time_in_bcd(void **state)
{
	assert_int_equal(cmos(0), 0x59);
	assert_int_equal(cmos(2), 0x59);
	assert_int_equal(cmos(4), 0x23);
	assert_int_equal(cmos(6), 5);
	assert_int_equal(cmos(7), 0x31);
	assert_int_equal(cmos(8), 0x12);
	assert_int_equal(cmos(9), 0x99);
	assert_int_equal(cmos(0x32), 0x20);
	assert_int_equal(cmos(0x0d), 0x80);
	assert_int_equal(cmos(0x0a) & 0x80, 0); /* never in the middle of an update */
}

static void the_clock_obeys_its_format_bits(void **state)
{
	cmos_write(0x0b, 0x06); /* binary, 24 hours */
	assert_int_equal(cmos(4), 23);
	assert_int_equal(cmos(0x32), 20);
	cmos_write(0x0b, 0x00); /* BCD, 12 hours */
	assert_int_equal(cmos(4), 0x91);
}

static void the_clock_cannot_be_set_but_its_ram_can(void **state)
{
	cmos_write(0, 0);
	assert_int_equal(cmos(0), 0x59);
	cmos_write(0x7f, 0x42);
	assert_int_equal(cmos(0x7f), 0x42);
	assert_int_equal(cmos(0xff), 0x42); /* bit 7 of the index is the NMI mask */
}

static void the_keyboard_controller_resets(void **state)
{
	assert_int_equal(fake_io_read(f, 0x64, 1), 0);
	fake_io_write(f, 0x60, 1, 0xfe); /* data, not a command */
	fake_io_write(f, 0x64, 1, 0xff); /* pulses no line */
	fake_io_write(f, 0x64, 1, 0xae);
	assert_int_equal(f->stops, 0);
	fake_io_write(f, 0x64, 1, 0xfe);
	assert_int_equal(f->stops, 1);
}

static void registers_come_back_from_a_snapshot(void **state)
{
	struct snapshot_writer w;
	struct snapshot_reader r;

	fake_io_write(f, LCR, 1, 0x1b);
	fake_io_write(f, SCRATCH, 1, 0x77);
	fake_io_write(f, IER, 1, 0x02); /* the transmitter is empty: an interrupt */
	cmos_write(0x7f, 0x42);
	snapshot_writer_init(&w);
	serial_save(serial, &w);
	rtc_save(rtc, &w);
	assert_int_equal(snapshot_finish(&w), 0);

	fake_io_write(f, LCR, 1, 0);
	fake_io_write(f, SCRATCH, 1, 0);
	assert_int_equal(fake_io_read(f, IIR, 1) & 0x0f, 0x02); /* taken */
	fake_io_write(f, IER, 1, 0);
	cmos_write(0x7f, 0);
	assert_int_equal(fake_line(f, COM1_GSI), 0);

	assert_int_equal(snapshot_reader_init(&r, w.bytes, w.size, NULL), 0);
	assert_int_equal(serial_restore(serial, &r), 0);
	assert_int_equal(rtc_restore(rtc, &r), 0);
	assert_int_equal(fake_line(f, COM1_GSI), 1); /* raised anew */
	assert_int_equal(fake_io_read(f, LCR, 1), 0x1b);
	assert_int_equal(fake_io_read(f, SCRATCH, 1), 0x77);
	assert_int_equal(fake_io_read(f, IER, 1), 0x02);
	assert_int_equal(cmos(0x7f), 0x42);
	snapshot_writer_done(&w);
}

static int make_directory(void **state)
{
	if (!mkdtemp(directory))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/console", directory);
	return 0;
}

static int remove_directory(void **state)
{
	return rmdir(directory);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(serial_output_reaches_the_console),
		T(a_full_console_starts_anew_and_counts),
		T(an_existing_console_file_is_appended_to),
		T(a_console_that_cannot_be_opened_is_named),
		T(a_pipe_without_reader_drops_and_never_blocks),
		T(serial_looks_like_a_16550a),
		T(loopback_does_not_reach_the_console),
		T(the_divisor_is_not_data),
		T(the_empty_transmitter_interrupts_once),
		T(the_clock_tells_the_time_in_bcd),
		T(the_clock_obeys_its_format_bits),
		T(the_clock_cannot_be_set_but_its_ram_can),
		T(the_keyboard_controller_resets),
		T(registers_come_back_from_a_snapshot),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
