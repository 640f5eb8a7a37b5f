/*
 * The Linux guest's init. It makes no system call, since none works on KVM back ends that emulate ring 0 and run ring 3
 * natively; page faults and interrupts do work. So it speaks through memory, and the guest's own kernel reports it:
 *
 *   (nothing)         spins
 *   memory=MIB        fills that much memory, then for ever: about once a second checks every word and rewrites it. After
 *                     each pass it reads one page that it has never touched: one minor fault, which the balloon's
 *                     statistics count. A wrong word is an invalid opcode, so a panic with exit code 4.
 *
 * A panic prints to the console and resets the machine. Must never use libc or make a system call.
 */
#include <stdint.h>

#include "tests/linux/init-content.h"

#define PAGE_BYTES    4096
#define MEMORY_MAX    (16u << 20)
#define WORDS_MAX     (MEMORY_MAX / sizeof(uint64_t))
#define COUNTER_PAGES 4096

static uint64_t memory[WORDS_MAX] __attribute__((aligned(PAGE_BYTES)));
static volatile uint8_t counter[COUNTER_PAGES][PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

static uint64_t cycles(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* About a second of a 2 GHz processor. */
static void wait_a_while(void)
{
	uint64_t start = cycles();

	while (cycles() - start < UINT64_C(1) << 31)
		__asm__ volatile("pause");
}

static void check_and_rewrite(uint64_t n_words, uint64_t generation)
{
	for (uint64_t i = 0; i < n_words; i++) {
		if (memory[i] != content_word(i, generation))
			__asm__ volatile("ud2");
		memory[i] = content_word(i, generation + 1);
	}
}

static void work(uint64_t n_words)
{
	for (uint64_t i = 0; i < n_words; i++)
		memory[i] = content_word(i, 0);
	for (uint64_t pass = 0;; pass++) {
		wait_a_while();
		check_and_rewrite(n_words, pass);
		(void)counter[pass % COUNTER_PAGES][0];
	}
}

/* The number behind key in an argument like "key=12"; 0 when it is another argument. */
static uint64_t number_of(const char *argument, const char *key)
{
	uint64_t n = 0;

	while (*key)
		if (*argument++ != *key++)
			return 0;
	while (*argument >= '0' && *argument <= '9')
		n = n * 10 + (uint64_t)(*argument++ - '0');
	return n;
}

/* stack: as the kernel leaves it: argc, argv, ... */
__attribute__((noreturn, used)) static void start(char **stack)
{
	uint64_t mib = 0;

	for (char **argument = stack + 1; *argument; argument++)
		mib += number_of(*argument, "memory=");
	if (mib > 0 && mib <= MEMORY_MAX >> 20)
		work((mib << 20) / sizeof(uint64_t));
	for (;;)
		__asm__ volatile("pause");
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call start\n");
