/*
 * Preloaded into memd-vmm by one test: takes the freeze out of the sharing primitive. Before a
 * frozen page is mapped over or dropped it is thawed, and writers have a moment; then all goes on
 * as if it had been frozen still. Raw system calls, since it stands in for the functions of libc.
 */
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOMENT_NS 300000

static int uffd = -1; /* set by the scanner's thread, which is also the one that reads it */

static void thaw(void *address, size_t bytes)
{
	const struct timespec moment = {.tv_nsec = MOMENT_NS};
	struct uffdio_writeprotect wp = {.range = {(uintptr_t)address, bytes}};

	if (uffd < 0)
		return;
	syscall(SYS_ioctl, uffd, UFFDIO_WRITEPROTECT, &wp);
	nanosleep(&moment, NULL);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (request == UFFDIO_WRITEPROTECT)
		uffd = fd;
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

int madvise(void *address, size_t bytes, int advice)
{
	if (advice == MADV_DONTNEED)
		thaw(address, bytes);
	return (int)syscall(SYS_madvise, address, bytes, advice);
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	if (flags & MAP_FIXED)
		thaw(address, bytes);
	return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
}
