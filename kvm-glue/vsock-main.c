/*
 * memd-vsock CID PATH: the connections of a guest's vsock (vsock-relay.h). memd-vmm starts it with
 * its descriptors before it shuts itself in. It has no privileges, and ends when the guest does.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "kvm-glue/helper.h"
#include "kvm-glue/sandbox.h"
#include "kvm-glue/vsock-relay.h"
#include "memd/base/log.h"
#include "memd/base/units.h"

int main(int argc, char *argv[])
{
	const int keep[] = {HELPER_FD, HELPER_SECOND_FD};
	struct error e = {0};
	uint64_t cid;

	log_open(VSOCK_PROGRAM);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc != 3 || units_parse_u64(argv[1], UINT32_MAX, &cid, &e) < 0 ||
		sandbox_close_stray(keep, ARRAY_SIZE(keep), &e) < 0 ||
		sandbox_drop_privileges(&e) < 0) {
		log_error("%s", e.text[0] ? e.text : "memd-vmm starts this program");
		return EXIT_FAILURE;
	}
	if (send(HELPER_FD, "", HELPER_READY, MSG_NOSIGNAL) < 0)
		return EXIT_FAILURE;
	return vsock_relay_run(HELPER_FD, HELPER_SECOND_FD, cid, argv[2]) < 0;
}
