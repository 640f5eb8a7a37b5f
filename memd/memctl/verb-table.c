/* The verbs of memctl, with their help. Text only. */
#include "memd/memctl/memctl.h"

#define TOP_OPTIONS (OPTION_LINES | OPTION_INTERVAL | OPTION_COUNT | OPTION_VERBOSE)

const struct verb verbs[] = {
	{
		.name = "start",
		.arguments = "NAME [Key=Value...]",
		.summary = "Start a guest",
		.help = "Without settings the guest is taken from memd's guests.d/NAME.guest. "
			"Settings are\n"
			"those of its [Guest] section, see memd.guest(5), and override the file; "
			"Memory= and\n"
			"Kernel= are required in one of the two.\n\n"
			"  memctl start web1\n"
			"  memctl start web2 Memory=2G VCpus=2 Kernel=/boot/vmlinux ShareGroup=web",
		.min_arguments = 1,
		.max_arguments = -1,
		.needs_memd = true,
		.run = verb_start,
	},
	{
		.name = "stop",
		.arguments = "NAME [--force]",
		.summary = "Stop a guest",
		.help = "Presses the guest's power button and waits; a guest that does not power "
			"off in time\n"
			"is ended. --force ends it at once, as if its plug were pulled.\n\n"
			"  memctl stop web1",
		.min_arguments = 1,
		.max_arguments = 1,
		.options = OPTION_FORCE,
		.needs_memd = true,
		.run = verb_stop,
	},
	{
		.name = "list",
		.arguments = "",
		.summary = "List the guests and what each costs",
		.help = "COST is what the guest takes of the host now: private pages, its part of "
			"shared ones,\n"
			"and overhead. TARGET is what the policy gives it ('*': fixed by "
			"set-target). AGENT says whether balloon-agent(8) speaks for the guest.\n\n"
			"  memctl list",
		.needs_memd = true,
		.run = verb_list,
	},
	{
		.name = "fit",
		.arguments = "TEMPLATE [Key=Value...]",
		.summary = "Say how many more guests of a kind would start, and why not more",
		.help = "TEMPLATE is a guest's file in guests.d, as for start; with settings "
			"alone any name will do.\n"
			"Nothing is started.\n\n"
			"  memctl fit web1\n"
			"  memctl fit any Memory=2G MemoryMin=512M Kernel=/boot/vmlinux",
		.min_arguments = 1,
		.max_arguments = -1,
		.needs_memd = true,
		.run = verb_fit,
	},
	{
		.name = "show",
		.arguments = "NAME",
		.summary = "Show one guest: where its memory is, and why",
		.help = "Where every page of the guest is, what each mechanism saves, its target "
			"with the\n"
			"policy's reason, what the guest says itself, and counters.\n\n"
			"  memctl show web1\n"
			"  memctl show web1 --json | jq .private_bytes",
		.min_arguments = 1,
		.max_arguments = 1,
		.needs_memd = true,
		.run = verb_show,
	},
	{
		.name = "set-target",
		.arguments = "NAME SIZE|auto",
		.summary = "Fix a guest's memory target, or give it back to the policy",
		.help = "SIZE is a size (512M, 1.5G) or a part of the guest's memory (50%). A size "
			"below the\n"
			"guest's MemoryMin or above its memory is refused. auto: the policy "
			"decides again.\n\n"
			"  memctl set-target web1 512M\n"
			"  memctl set-target web1 auto",
		.min_arguments = 2,
		.max_arguments = 2,
		.needs_memd = true,
		.run = verb_set_target,
	},
	{
		.name = "set-cpus",
		.arguments = "NAME shared|pinned|auto",
		.summary = "Say how a guest gets CPUs",
		.help = "shared: time on all CPUs that no guest has alone. pinned: as many CPUs alone as "
			"it has\n"
			"vCPUs, if they fit. auto: pinned while it is busy. `memctl list` shows which it "
			"has.\n\n"
			"  memctl set-cpus web1 auto",
		.min_arguments = 2,
		.max_arguments = 2,
		.needs_memd = true,
		.run = verb_set_cpus,
	},
	{
		.name = "pause",
		.arguments = "NAME",
		.summary = "Stop the guest's vCPUs",
		.help = "Its memory stays, and may be paged out.\n\n  memctl pause web1",
		.min_arguments = 1,
		.max_arguments = 1,
		.needs_memd = true,
		.run = verb_pause,
	},
	{
		.name = "resume",
		.arguments = "NAME",
		.summary = "Let a paused guest run on",
		.help = "  memctl resume web1",
		.min_arguments = 1,
		.max_arguments = 1,
		.needs_memd = true,
		.run = verb_resume,
	},
	{
		.name = "mmu",
		.arguments = "NAME",
		.summary = "Explain how the host virtualizes a guest's memory",
		.help = "EPT, NPT, shadow pages or PVM, what is mapped in pages of which size, and "
			"KVM's own counts\n"
			"of page faults, TLB flushes and exits, in words.\n\n"
			"  memctl mmu web1",
		.min_arguments = 1,
		.max_arguments = 1,
		.needs_memd = true,
		.run = verb_mmu,
	},
	{
		.name = "snapshot",
		.arguments = "NAME DIRECTORY",
		.summary = "Save a guest, to go on from there or to clone it",
		.help = "DIRECTORY, an absolute path, is made on memd's host. The guest stands "
			"still "
			"while its memory\n"
			"is written and goes on afterwards (or stays paused). The directory holds "
			"its memory: keep\n"
			"it as private as the guest. See `memctl help clone`.\n\n"
			"  memctl snapshot web1 /var/lib/memd/snapshots/web1",
		.min_arguments = 2,
		.max_arguments = 2,
		.needs_memd = true,
		.run = verb_snapshot,
	},
	{
		.name = "clone",
		.arguments = "DIRECTORY NAME...",
		.summary = "Start guests from a snapshot",
		.help = "Each goes on where the snapshot was taken. All share its memory copy on "
			"write, so a clone\n"
			"costs little until it writes. A clone is of its template's trust group. "
			"For "
			"other settings use\n"
			"`memctl start NAME Snapshot=DIRECTORY ...`; to go on with one guest, "
			"clone "
			"it once.\n\n"
			"  memctl clone /var/lib/memd/snapshots/web1 web2 web3 web4",
		.min_arguments = 2,
		.max_arguments = -1,
		.needs_memd = true,
		.run = verb_clone,
	},
	{
		.name = "hint",
		.arguments = "NAME",
		.summary = "Have the guest name its free memory, and take it back",
		.help = "The guest's balloon driver names all memory that it has free at this "
			"moment (free page\n"
			"hinting), and the host drops it, but for what the guest uses again "
			"meanwhile. Nothing\n"
			"stays in the balloon. memd does this by itself when the host is short; "
			"memctl show says\n"
			"what came of it.\n\n"
			"  memctl hint web1",
		.min_arguments = 1,
		.max_arguments = 1,
		.needs_memd = true,
		.run = verb_hint,
	},
	{
		.name = "agent",
		.arguments = "NAME",
		.summary = "Show what the agent in a guest says, and how far that is from the truth",
		.help = "What balloon-agent(8) in the guest reported last, how much more or less than "
			"what memd\n"
			"sampled from outside that is, which of it counts, and what came of asking it "
			"for room:\n"
			"its last refusal and its last cry, with the reasons. `memctl list` shows which "
			"guests\n"
			"have one.\n\n"
			"  memctl agent web1\n"
			"  memctl agent web1 --json | jq .figures.available_bytes",
		.min_arguments = 1,
		.max_arguments = 1,
		.needs_memd = true,
		.run = verb_agent,
	},
	{
		.name = "top",
		.arguments = "[--lines] [--interval TIME] [--count N] [-v]",
		.summary = "Show host and guests live",
		.help = "A screen with bars on a terminal, where keys sort, choose a guest, show, "
			"explain and pause\n"
			"it (q ends); else, or with --lines, one "
			"line an\n"
			"interval. -v adds a line for each guest. --json prints one object an "
			"interval.\n"
			"Colours follow NO_COLOR.\n\n"
			"  memctl top\n"
			"  memctl top --lines --interval 5s --count 12",
		.options = TOP_OPTIONS,
		.needs_memd = true,
		.run = verb_top,
	},
	{
		.name = "status",
		.arguments = "",
		.summary = "Show the host's figures",
		.help = "Budget, use by kind, and what each mechanism saves.\n\n"
			"  memctl status\n"
			"  memctl status --json | jq .used_bytes",
		.needs_memd = true,
		.run = verb_status,
	},
	{
		.name = "ledger",
		.arguments = "",
		.summary = "Show where every byte is, by guest, and that it adds up",
		.help = "One line a guest: its configured memory is the sum of private, shared, "
			"swapped and\n"
			"the holes. COST is private, its PART of the pool and OVERHEAD (of which "
			"TABLES are page\n"
			"tables). ZRAM is what its swapped pages take of RAM, by the swap's own "
			"ratio. Below the\n"
			"host's sums, and the bracket: memd's figures before and after the "
			"kernel's.\n\n"
			"  memctl ledger\n"
			"  memctl ledger --json | jq .host.freeable_bytes",
		.needs_memd = true,
		.run = verb_ledger,
	},
	{
		.name = "history",
		.arguments = "NAME [--interval TIME] [--count N] [--plot FILE]",
		.summary = "Show or plot what a guest had and used",
		.help = "The last N intervals (60) of TIME each (1min), oldest first: averages, of "
			"STALL the\n"
			"largest. memd keeps a day by the second and 30 days by the minute, also "
			"of guests that\n"
			"are gone. --plot draws them into FILE.svg or FILE.png (with gnuplot, from "
			"gnuplot-nox).\n\n"
			"  memctl history web1 --interval 10s --count 90\n"
			"  memctl history web1 --interval 1h --count 168 --plot week.svg",
		.min_arguments = 1,
		.max_arguments = 1,
		.options = OPTION_INTERVAL | OPTION_COUNT | OPTION_PLOT,
		.needs_memd = true,
		.run = verb_history,
	},
	{
		.name = "explain",
		.arguments = "NAME",
		.summary = "Say why a guest's target is what it is, and what would change it",
		.help = "In sentences, with the numbers of the last tick: what the policy proposed "
			"and why,\n"
			"what the safety filters made of it, how the host stands, what was done. "
			"Then the\n"
			"policy is asked again over the last ticks of the journal, with one thing "
			"changed at a\n"
			"time, in a process apart: nothing is done.\n\n"
			"  memctl explain web1",
		.min_arguments = 1,
		.max_arguments = 1,
		.needs_memd = true,
		.run = verb_explain,
	},
	{
		.name = "replay",
		.arguments = "[JOURNAL...|live] [--policy NAME] [--config FILE] [--plot FILE]",
		.summary = "Run a policy over recorded ticks, and touch nothing",
		.help = "The journal of the running memd (live, the default), or files, the older "
			"first. The\n"
			"policy is the recorded one or --policy; its settings are as recorded, or "
			"from --config\n"
			"(a memd.conf). Says which targets it would have set. --json has every "
			"tick, see\n"
			"memd-journal(5); --plot draws them (FILE.svg, FILE.png; needs "
			"gnuplot).\n\n"
			"  memctl replay\n"
			"  memctl replay --policy esx --plot esx.svg\n"
			"  memctl replay --policy mine --config try.conf "
			"/var/lib/memd/journal.old /var/lib/memd/journal",
		.max_arguments = -1,
		.options = OPTION_POLICY | OPTION_CONFIG | OPTION_PLOT,
		.run = verb_replay,
	},
	{
		.name = "policy",
		.arguments = "list | check NAME|FILE [KEY=VALUE...]",
		.summary = "List the policies, or try one before memd gets it",
		.help = "list marks with * the one that decides. check tries a built-in policy, a "
			"plugin\n"
			"(FILE.so) or a program on made-up figures, locked in as memd would; of a "
			"FILE.conf it\n"
			"checks all of it, and opens the policy that it names.\n\n"
			"  memctl policy list\n"
			"  memctl policy check ./mine.so Percent=50\n"
			"  memctl policy check /etc/memd/memd.conf",
		.min_arguments = 1,
		.max_arguments = -1,
		.run = verb_policy,
	},
	{
		.name = "reload",
		.arguments = "",
		.summary = "Have memd read its configuration again",
		.help = "When it is wrong memd says where, and keeps the one it has.\n\n  memctl "
			"reload",
		.needs_memd = true,
		.run = verb_reload,
	},
	{
		.name = "doctor",
		.arguments = "[ROOT]",
		.summary = "Check whether this host has what memd needs",
		.help = "KVM, kernel, userfaultfd, swap, cgroups, limits and rights: what was "
			"found, "
			"and what to\n"
			"do. Changes nothing. Exit code 1 when something does not work. ROOT is a "
			"directory to\n"
			"look below instead of /.\n\n"
			"  memctl doctor\n"
			"  memctl doctor --json | jq '.checks[] | select(.status != \"ok\")'",
		.max_arguments = 1,
		.run = verb_doctor,
	},
	{
		.name = "import",
		.arguments = "mom|ksmtuned|proxmox FILE",
		.summary = "Print the settings of another controller as settings of memd",
		.help = "mom: a mom.conf; ksmtuned: a ksmtuned.conf; proxmox: the file of a virtual "
			"machine\n"
			"(qemu-server/100.conf). What has no equal in memd is said in comments. Changes "
			"nothing.\n\n"
			"  memctl import mom /etc/vdsm/mom.conf >/etc/memd/memd.conf.d/mom.conf\n"
			"  memctl import proxmox /etc/pve/qemu-server/100.conf",
		.min_arguments = 2,
		.max_arguments = 2,
		.run = verb_import,
	},
	{
		.name = "setup-zram",
		.arguments = "[SIZE|PERCENT] [--remove]",
		.summary = "Set up swap in compressed memory",
		.help = "Adds a zram device of that size (of what it holds, uncompressed; half of "
			"the "
			"memory by\n"
			"default), prefers it to other swap, and lasts until the host boots. "
			"memd-zram.service\n"
			"does the same at each boot. --remove takes it away again. As root.\n\n"
			"  memctl setup-zram 16G\n"
			"  memctl setup-zram --remove",
		.max_arguments = 1,
		.options = OPTION_REMOVE,
		.run = verb_setup_zram,
	},
	{
		.name = "version",
		.arguments = "",
		.summary = "Show the versions of memctl and memd",
		.help = "  memctl version",
		.needs_memd = true,
		.run = verb_version,
	},
	{
		.name = "help",
		.arguments = "[VERB]",
		.summary = "Show this, or a verb's help",
		.help = "  memctl help set-target",
		.max_arguments = 1,
		.run = verb_help,
	},
};
const unsigned n_verbs = ARRAY_SIZE(verbs);
