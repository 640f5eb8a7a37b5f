/*
 * Preloaded into memd-vmm by one test: a dirty log in which nothing was ever written. A raw system
 * call, since it stands in for the function of libc.
 */
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (request == KVM_GET_DIRTY_LOG)
		return 0; /* the bitmap stays as the caller made it: empty */
	return (int)syscall(SYS_ioctl, fd, request, argument);
}
