/* memctl: see memctl.c. */
#include "memd/memctl/memctl.h"

int main(int argc, char **argv)
{
	return memctl_main(argc, argv);
}
