/*
 * x86-64 in a few inline functions. Those that need ring 0 say so; everything else works in both
 * rings.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_PAGE  UINT64_C(4096)
#define GUEST_CHUNK (UINT64_C(2) << 20)
#define GUEST_MIB   (UINT64_C(1) << 20)
#define NS_PER_S    UINT64_C(1000000000)

#define ALIGN_UP(x, a)	 (((x) + (a)-1) & ~((uint64_t)(a)-1))
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a)-1))
#define MIN(a, b)	 ((a) < (b) ? (a) : (b))
#define N_ELEMENTS(a)	 (sizeof(a) / sizeof((a)[0]))

/* Ring 0. */
static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/* Ring 0: bytes to one port, in one instruction. */
static inline void out8_string(uint16_t port, const void *bytes, size_t n)
{
	__asm__ volatile("rep outsb" : "+S"(bytes), "+c"(n) : "d"(port) : "memory");
}

/* Ring 0. */
static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/*
 * Device registers and rings: one access of exactly that size, ordered as written (x86 does, the
 * compiler must).
 */
#define MMIO_READ(T, address)	      (*(const volatile T *)(uintptr_t)(address))
#define MMIO_WRITE(T, address, value) ((void)(*(volatile T *)(uintptr_t)(address) = (value)))

/* Between filling a ring and publishing its index, and between reading an index and the ring. */
static inline void compiler_barrier(void)
{
	__asm__ volatile("" : : : "memory");
}

/* Also orders an earlier store before a later load (index published, then flags read). */
static inline void full_barrier(void)
{
	__asm__ volatile("lock addl $0, -4(%%rsp)" : : : "memory", "cc");
}

static inline uint64_t load_relaxed(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* One writer: no locked instruction needed. */
static inline void counter_add(uint64_t *p, uint64_t n)
{
	__atomic_store_n(p, *p + n, __ATOMIC_RELAXED);
}
