/* The console's back ends, and input on its way to the serial port and to the virtio console. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "wait-until.h"
#include "kvm-glue/console.h"
#include "kvm-glue/serial.h"
#include "kvm-glue/virtio-console.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"

enum {
	COM1 = 0x3f8,
	COM1_GSI = 4,
};

static char directory[32];
static char path[64];
static struct console *console;
static _Atomic unsigned n_ready[CONSOLE_PORTS];

static void ready(void *context)
{
	atomic_fetch_add((_Atomic unsigned *)context, 1);
}

static int setup(void **state)
{
	snprintf(directory, sizeof(directory), "/tmp/memd-console.XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/console", directory);
	console = NULL;
	for (unsigned i = 0; i < CONSOLE_PORTS; i++)
		n_ready[i] = 0;
	return 0;
}

static int teardown(void **state)
{
	console_free(console);
	unlink(path);
	return rmdir(directory);
}

static void open_console(const char *kind)
{
	struct error e = {0};
	char spec[80];

	snprintf(spec, sizeof(spec), "%s%s", kind, path);
	if (console_new(spec, 65536, &console, &e) < 0)
		fail_msg("%s", e.text);
}

static void run(void)
{
	for (unsigned i = 0; i < CONSOLE_PORTS; i++)
		console_listen(console, i, ready, (void *)&n_ready[i]);
	assert_int_equal(console_run(console), 0);
}

static int connect_client(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void say(enum console_port port, const char *text)
{
	console_write(console, port, (const uint8_t *)text, strlen(text));
}

static void assert_says(int fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(fd_read_full(fd, got, strlen(text)), 0);
	assert_string_equal(got, text);
}

static void assert_input(enum console_port port, const char *text)
{
	char got[64] = "";

	WAIT_UNTIL(console_has_input(console, port));
	assert_int_equal(
		console_read(console, port, (uint8_t *)got, sizeof(got) - 1), strlen(text));
	assert_string_equal(got, text);
}

static void terminal_takes_output_and_gives_input(void **state)
{
	_cleanup_close_ int fd = -1;

	open_console("pty:");
	run();
	fd = open(path, O_RDWR | O_NOCTTY);
	assert_true(fd >= 0);
	say(CONSOLE_SERIAL, "login: ");
	assert_says(fd, "login: ");
	assert_int_equal(fd_write_full(fd, "root\r\x03", 6), 0); /* raw: nothing is a signal */
	assert_input(CONSOLE_SERIAL, "root\r\x03");
	assert_true(n_ready[CONSOLE_SERIAL] > 0);
	assert_int_equal(n_ready[CONSOLE_VIRTIO], 0);
}

static void terminal_without_a_reader_never_blocks(void **state)
{
	static const char block[4096];

	open_console("pty:");
	for (unsigned i = 0; i < 64; i++)
		console_write(console, CONSOLE_SERIAL, (const uint8_t *)block, sizeof(block));
	assert_true(console_dropped_bytes(console) > 0);
}

static void link_of_a_former_terminal_is_replaced_and_files_are_not(void **state)
{
	struct error e = {0};
	struct console *none;
	char spec[80];

	assert_int_equal(symlink("/dev/pts/none", path), 0);
	open_console("pty:");
	console_free(console);
	console = NULL;
	unlink(path);
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	snprintf(spec, sizeof(spec), "pty:%s", path);
	assert_int_equal(console_new(spec, 1, &none, &e), -EEXIST);
	snprintf(spec, sizeof(spec), "unix:%s", path);
	assert_int_equal(console_new(spec, 1, &none, &e), -EADDRINUSE);
}

static void socket_serves_one_client_and_the_newest(void **state)
{
	_cleanup_close_ int first = -1, second = -1;
	char end;

	open_console("unix:");
	run();
	say(CONSOLE_VIRTIO, "nobody hears this");
	assert_int_equal(console_dropped_bytes(console), 17);
	first = connect_client();
	assert_int_equal(fd_write_full(first, "one", 3), 0);
	assert_input(CONSOLE_VIRTIO, "one");
	say(CONSOLE_VIRTIO, "hello");
	assert_says(first, "hello");
	second = connect_client();
	assert_int_equal(read(first, &end, 1), 0);
	assert_int_equal(fd_write_full(second, "two", 3), 0);
	assert_input(CONSOLE_VIRTIO, "two");
	say(CONSOLE_VIRTIO, "again");
	assert_says(second, "again");
}

static void client_that_hangs_up_is_let_go(void **state)
{
	_cleanup_close_ int next = -1;
	int fd;

	open_console("unix:");
	run();
	fd = connect_client();
	assert_int_equal(fd_write_full(fd, "x", 1), 0);
	assert_input(CONSOLE_SERIAL, "x");
	close(fd);
	WAIT_UNTIL((say(CONSOLE_SERIAL, "."), console_dropped_bytes(console) > 0));
	next = connect_client();
	assert_int_equal(fd_write_full(next, "y", 1), 0);
	assert_input(CONSOLE_SERIAL, "y");
}

static void input_goes_to_the_port_that_printed_last(void **state)
{
	_cleanup_close_ int fd = -1;
	unsigned told;

	open_console("unix:");
	run();
	fd = connect_client();
	assert_int_equal(fd_write_full(fd, "abc", 3), 0);
	WAIT_UNTIL(
		console_has_input(console, CONSOLE_SERIAL)); /* nobody printed: the serial port */
	assert_false(console_has_input(console, CONSOLE_VIRTIO));
	told = n_ready[CONSOLE_VIRTIO];
	say(CONSOLE_VIRTIO, "$ ");
	WAIT_UNTIL(n_ready[CONSOLE_VIRTIO] > told);
	assert_false(console_has_input(console, CONSOLE_SERIAL));
	assert_input(CONSOLE_VIRTIO, "abc");
}

/* More than is kept waits in the socket. */
static void no_input_is_lost(void **state)
{
	static uint8_t sent[100000], got[sizeof(sent)];
	_cleanup_close_ int fd = -1;
	size_t n_sent = 0, n_got = 0;

	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 7 + i / 256);
	open_console("unix:");
	run();
	fd = connect_client();
	while (n_got < sizeof(got)) {
		ssize_t n = n_sent < sizeof(sent)
				    ? send(fd, sent + n_sent, sizeof(sent) - n_sent, MSG_DONTWAIT)
				    : 0;

		n_sent += n > 0 ? (size_t)n : 0;
		WAIT_UNTIL(console_has_input(console, CONSOLE_SERIAL));
		n_got += console_read(console, CONSOLE_SERIAL, got + n_got, 1 + n_got % 5000);
	}
	assert_memory_equal(got, sent, sizeof(sent));
}

/* As a kernel that prints its log in small pieces: more than a socket takes at once. */
static void burst_of_output_arrives_whole(void **state)
{
	enum { PIECES = 8000 };
	_cleanup_close_ int fd = -1;
	char piece[17], got[17] = "";

	open_console("unix:");
	run();
	fd = connect_client();
	assert_int_equal(fd_write_full(fd, "x", 1), 0);
	assert_input(CONSOLE_SERIAL, "x"); /* it has been accepted */
	for (unsigned i = 0; i < PIECES; i++) {
		snprintf(piece, sizeof(piece), "line %09u\n ", i);
		say(CONSOLE_SERIAL, piece);
	}
	for (unsigned i = 0; i < PIECES; i++) {
		snprintf(piece, sizeof(piece), "line %09u\n ", i);
		assert_int_equal(fd_read_full(fd, got, strlen(piece)), 0);
		assert_string_equal(got, piece);
	}
	assert_int_equal(console_dropped_bytes(console), 0);
}

static void file_has_no_input(void **state)
{
	open_console("");
	run();
	say(CONSOLE_SERIAL, "text");
	assert_false(console_has_input(console, CONSOLE_SERIAL));
	assert_int_equal(n_ready[CONSOLE_SERIAL], 0);
}

static void serial_port_receives_by_interrupt(void **state)
{
	struct fake_machine *f = fake_machine_new();
	_cleanup_close_ int fd = -1;
	struct serial *serial;

	open_console("unix:");
	assert_int_equal(serial_new(&f->machine, console, &serial), 0);
	assert_int_equal(console_run(console), 0);
	fake_io_write(f, COM1 + 1, 1, 0x01); /* received data */
	assert_int_equal(fake_io_read(f, COM1 + 5, 1) & 1, 0);
	assert_int_equal(fake_line(f, COM1_GSI), 0);
	fd = connect_client();
	assert_int_equal(fd_write_full(fd, "ok", 2), 0);
	WAIT_UNTIL(fake_line(f, COM1_GSI) == 1);
	assert_int_equal(fake_io_read(f, COM1 + 2, 1) & 0x0f, 0x04);
	assert_int_equal(fake_io_read(f, COM1 + 5, 1) & 1, 1);
	assert_int_equal(fake_io_read(f, COM1, 1), 'o');
	assert_int_equal(fake_line(f, COM1_GSI), 1);
	assert_int_equal(fake_io_read(f, COM1, 1), 'k');
	assert_int_equal(fake_line(f, COM1_GSI), 0);
	assert_int_equal(fake_io_read(f, COM1 + 5, 1) & 1, 0);
	assert_int_equal(fake_io_read(f, COM1, 1), 0);
	console_halt(console);
	serial_free(serial);
	fake_machine_free(f);
}

static void print_virtio(void *context, const uint8_t *data, size_t bytes)
{
	console_write(context, CONSOLE_VIRTIO, data, bytes);
}

static bool virtio_available(void *context)
{
	return console_has_input(context, CONSOLE_VIRTIO);
}

static size_t virtio_read(void *context, uint8_t *ret, size_t max)
{
	return console_read(context, CONSOLE_VIRTIO, ret, max);
}

static void virtio_ready(void *context)
{
	virtio_console_input_ready(context);
}

static void virtio_control(struct fake_driver *d, uint32_t port, uint16_t event, uint16_t value)
{
	const struct fake_buffer b = {FAKE_BUFFERS_GPA, 8, false};
	const struct {
		uint32_t port;
		uint16_t event, value;
	} message = {port, event, value};

	memcpy(fake_ram(d->f, b.gpa, 8), &message, 8);
	fake_request(d, 3, &b, 1);
}

static void virtio_console_receives_when_it_has_a_buffer(void **state)
{
	const struct fake_buffer in = {FAKE_BUFFERS_GPA + 4096, 2, true};
	struct fake_machine *f = fake_machine_new();
	_cleanup_close_ int fd = -1;
	struct virtio_console *virtio;
	struct fake_driver driver;
	struct pci_bus *bus;
	uint32_t bytes = 0;

	open_console("unix:");
	assert_int_equal(pci_bus_new(&f->machine, &bus), 0);
	assert_int_equal(
		virtio_console_new(&f->machine, bus, 2, print_virtio, console, -1, &virtio), 0);
	virtio_console_set_input(virtio, virtio_available, virtio_read);
	console_listen(console, CONSOLE_VIRTIO, virtio_ready, virtio);
	assert_int_equal(console_run(console), 0);
	fake_driver_init(&driver, f, 2);
	fake_driver_start(&driver, UINT64_MAX, 6);
	virtio_control(&driver, 0, 0, 1); /* DEVICE_READY */
	say(CONSOLE_VIRTIO, "x"); /* nobody hears it */
	fd = connect_client();
	assert_int_equal(fd_write_full(fd, "abc", 3), 0);
	WAIT_UNTIL(console_has_input(console, CONSOLE_VIRTIO));
	fake_add(&driver, 0, &in, 1);
	fake_kick(&driver, 0);
	virtio_control(&driver, 0, 6, 1); /* PORT_OPEN: only now it may come */
	assert_true(fake_wait_used(&driver, 0, NULL, &bytes));
	assert_int_equal(bytes, 2);
	assert_memory_equal(fake_ram(f, in.gpa, 2), "ab", 2);
	assert_int_equal(fake_request(&driver, 0, &in, 1), 1);
	assert_memory_equal(fake_ram(f, in.gpa, 1), "c", 1);
	console_halt(console);
	virtio_console_free(virtio);
	pci_bus_free(bus);
	fake_machine_free(f);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(terminal_takes_output_and_gives_input),
		T(terminal_without_a_reader_never_blocks),
		T(link_of_a_former_terminal_is_replaced_and_files_are_not),
		T(socket_serves_one_client_and_the_newest),
		T(client_that_hangs_up_is_let_go),
		T(input_goes_to_the_port_that_printed_last),
		T(no_input_is_lost),
		T(burst_of_output_arrives_whole),
		T(file_has_no_input),
		T(serial_port_receives_by_interrupt),
		T(virtio_console_receives_when_it_has_a_buffer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
