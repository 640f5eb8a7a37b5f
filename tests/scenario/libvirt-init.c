/*
 * /init of a stock Linux under QEMU: loads the virtio modules beside it, and does with its memory
 * what it is told on /dev/ttyS1, one line a command:
 *
 *     fill N    holds N MiB in all, every page with words that follow from its number
 *     use N     reads and rewrites the first N MiB of it again and again, 10 times a second
 *     check     verifies every word of all
 *
 * and answers on the console: "up", "filled N", "used N" (when it went through once), "checked N bad M".
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#define MIB	  (1UL << 20)
#define PAGE	  4096UL
#define RESERVE	  (1024 * MIB)
#define PERIOD_MS 100
#define WORDS	  (PAGE / sizeof(uint64_t))

/* In the order of what needs what. */
static const char *const modules[] = {"/virtio_ring.ko", "/virtio.ko", "/virtio_pci_legacy_dev.ko",
	"/virtio_pci_modern_dev.ko", "/virtio_pci.ko", "/virtio_balloon.ko"};

static uint64_t *memory;
static size_t filled_mib, used_mib;

static void say(const char *text)
{
	fputs(text, stdout);
	fflush(stdout);
}

static void load_modules(void)
{
	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++) {
		int fd = open(modules[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			printf("cannot load %s: %s\n", modules[i], strerror(errno));
		close(fd);
	}
}

/* The words of a page: no two alike, and nothing that compresses to little. */
static uint64_t word_of(uint64_t page, size_t i)
{
	uint64_t x = page * WORDS + i + 1;

	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9U;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebU;
	return x ^ x >> 31;
}

static void fill(size_t mib)
{
	for (uint64_t page = filled_mib * MIB / PAGE; page < mib * MIB / PAGE; page++)
		for (size_t i = 0; i < WORDS; i++)
			memory[page * WORDS + i] = word_of(page, i);
	if (mib < filled_mib)
		madvise(memory + mib * MIB / sizeof(*memory), (filled_mib - mib) * MIB,
			MADV_DONTNEED);
	filled_mib = mib;
	printf("filled %zu\n", mib);
	fflush(stdout);
}

/* Reads and writes what it reads: the page is touched, and dirty. */
static void use(void)
{
	for (uint64_t page = 0; page < used_mib * MIB / PAGE; page++) {
		volatile uint64_t *word = &memory[page * WORDS + page % WORDS];

		*word = *word;
	}
}

static void check(void)
{
	uint64_t bad = 0;

	for (uint64_t page = 0; page < filled_mib * MIB / PAGE; page++)
		for (size_t i = 0; i < WORDS; i++)
			bad += memory[page * WORDS + i] != word_of(page, i);
	printf("checked %zu bad %llu\n", filled_mib, (unsigned long long)bad);
	fflush(stdout);
}

static void obey(const char *line)
{
	unsigned long n;

	if (sscanf(line, "fill %lu", &n) == 1 && n * MIB <= RESERVE) {
		fill(n);
	} else if (sscanf(line, "use %lu", &n) == 1 && n <= filled_mib) {
		used_mib = n;
		use();
		printf("used %lu\n", n);
		fflush(stdout);
	} else if (strncmp(line, "check", 5) == 0) {
		check();
	} else {
		printf("what is '%s'?\n", line);
		fflush(stdout);
	}
}

static int open_commands(void)
{
	struct termios raw;
	int fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd >= 0 && tcgetattr(fd, &raw) == 0) {
		raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
		tcsetattr(fd, TCSANOW, &raw);
	}
	return fd;
}

int main(void)
{
	struct pollfd commands;
	char line[128];

	mount("none", "/dev", "devtmpfs", 0, NULL);
	memory = mmap(NULL, RESERVE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		say("no memory\n");
	load_modules();
	commands = (struct pollfd){.fd = open_commands(), .events = POLLIN};
	say("up\n");
	for (;;) {
		ssize_t n;

		if (poll(&commands, 1, used_mib ? PERIOD_MS : -1) == 0) {
			use();
			continue;
		}
		n = read(commands.fd, line, sizeof(line) - 1); /* the terminal gives lines */
		if (n <= 0)
			break;
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		obey(line);
	}
	say("no more commands\n");
	pause();
	return 0;
}
