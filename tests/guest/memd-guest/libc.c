/* The functions that a freestanding compiler may still call. */
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);

void *memcpy(void *to, const void *from, size_t n)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return start;
}

void *memset(void *to, int byte, size_t n)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
	return start;
}

void *memmove(void *to, const void *from, size_t n)
{
	void *start = to;
	const char *last = (const char *)from + n - 1;
	char *last_to = (char *)to + n - 1;

	if ((const char *)to <= (const char *)from || n == 0)
		return memcpy(to, from, n);
	__asm__ volatile("std; rep movsb; cld" : "+D"(last_to), "+S"(last), "+c"(n) : : "memory");
	return start;
}
