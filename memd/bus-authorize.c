/*
 * Who may change something. Looking is free to every user of the host.
 *
 * DOC: in which order
 *
 * The bus says who sent a call, not the sender. root, and the user that memd runs as, may. So may
 * members of the group memd, by the groups that the bus took from the socket when the sender
 * connected. Anybody else is polkit's business, which may know him as an administrator or ask for a
 * password: the call waits meanwhile, and nothing else does. Where there is no polkit the answer is
 * no.
 *
 * It is done in a filter before any method is called, by the names below. A method that is not there
 * and not marked SD_BUS_VTABLE_UNPRIVILEGED is for root alone, which sd-bus sees to.
 */
#include <grp.h>
#include <string.h>
#include <unistd.h>

#include "memd/base/log.h"
#include "memd/bus-internal.h"

#define POLKIT_NAME	   "org.freedesktop.PolicyKit1"
#define POLKIT_PATH	   "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERACTIVE 1U /* CheckAuthorizationFlags: AllowUserInteraction */
#define POLKIT_TIMEOUT_US  UINT64_C(120000000) /* somebody may have to find his password */
#define PENDING_MAX	   64
#define GROUP		   "memd"

/* Each action is described in packaging/polkit/org.memd1.policy. */
static const struct {
	const char *member;
	const char *action;
} changes[] = {
	{"StartGuest", "org.memd1.start-guest"},
	{"StopGuest", "org.memd1.stop-guest"},
	{"Stop", "org.memd1.stop-guest"},
	{"PowerButton", "org.memd1.stop-guest"},
	{"Pause", "org.memd1.pause-guest"},
	{"Resume", "org.memd1.pause-guest"},
	{"SetTarget", "org.memd1.set-target"},
	{"ClearTarget", "org.memd1.set-target"},
	{"Reload", "org.memd1.reload"},
	{"OpenJournal", "org.memd1.read-journal"},
};

/* A call that waits for polkit, or was let through by it and comes by once more. */
struct bus_pending {
	struct bus_pending *next;
	struct bus *bus;
	sd_bus_message *call;
	sd_bus_slot *slot;
	bool granted;
};

static void pending_free(struct bus_pending *p)
{
	sd_bus_slot_unref(p->slot);
	sd_bus_message_unref(p->call);
	free(p);
}

static void pending_remove(struct bus *b, struct bus_pending *p)
{
	struct bus_pending **link = &b->pending;

	while (*link != p)
		link = &(*link)->next;
	*link = p->next;
	b->n_pending--;
	pending_free(p);
}

void bus_authorize_done(struct bus *b)
{
	while (b->pending)
		pending_remove(b, b->pending);
}

static const char *action_of(sd_bus_message *message)
{
	const char *interface = sd_bus_message_get_interface(message);
	const char *member = sd_bus_message_get_member(message);

	if (!member || (interface && strcmp(interface, BUS_MANAGER) != 0 &&
			       strcmp(interface, BUS_GUEST) != 0))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++)
		if (strcmp(changes[i].member, member) == 0)
			return changes[i].action;
	return NULL;
}

static int read_groups(sd_bus_message *reply, gid_t wanted, bool *ret_member)
{
	const uint32_t *groups;
	size_t bytes;
	int r = sd_bus_message_enter_container(reply, 'v', "au");

	if (r >= 0)
		r = sd_bus_message_read_array(reply, 'u', (const void **)&groups, &bytes);
	for (size_t i = 0; r >= 0 && i < bytes / sizeof(*groups); i++)
		*ret_member |= groups[i] == wanted;
	return r < 0 ? r : sd_bus_message_exit_container(reply);
}

/* a{sv} of GetConnectionCredentials (the D-Bus specification has the keys). */
static int read_credentials(sd_bus_message *reply, bool *ret_trusted)
{
	const struct group *group = getgrnam(GROUP);
	const char *key;
	int r = sd_bus_message_enter_container(reply, 'a', "{sv}");

	while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
		uint32_t uid;

		r = sd_bus_message_read(reply, "s", &key);
		if (r >= 0 && strcmp(key, "UnixUserID") == 0) {
			r = sd_bus_message_read(reply, "v", "u", &uid);
			*ret_trusted |= r >= 0 && (uid == 0 || uid == getuid());
		} else if (r >= 0 && group && strcmp(key, "UnixGroupIDs") == 0) {
			r = read_groups(reply, group->gr_gid, ret_trusted);
		} else if (r >= 0) {
			r = sd_bus_message_skip(reply, "v");
		}
		if (r >= 0)
			r = sd_bus_message_exit_container(reply);
	}
	return r;
}

static bool is_trusted(sd_bus *connection, const char *sender)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	bool trusted = false;

	if (sd_bus_call_method(connection, "org.freedesktop.DBus", "/org/freedesktop/DBus",
		    "org.freedesktop.DBus", "GetConnectionCredentials", NULL, &reply, "s",
		    sender) < 0 ||
		read_credentials(reply, &trusted) < 0)
		return false;
	return trusted;
}

static void refuse(sd_bus_message *call, const char *why)
{
	sd_bus_reply_method_errorf(call, SD_BUS_ERROR_ACCESS_DENIED,
		"%s is for root, members of the group " GROUP ", and whom polkit allows it: %s",
		sd_bus_message_get_member(call), why);
}

static int on_polkit(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct bus_pending *p = userdata;
	int authorized = 0, challenge = 0, r;

	if (sd_bus_message_is_method_error(reply, NULL)) {
		refuse(p->call, "it is not there");
	} else {
		r = sd_bus_message_enter_container(reply, 'r', "bba{ss}");
		if (r >= 0)
			r = sd_bus_message_read(reply, "bb", &authorized, &challenge);
		p->granted = r >= 0 && authorized;
		if (!p->granted)
			refuse(p->call,
				challenge ? "it wants a password; try pkexec" : "it says no");
	}
	/* The filter sees the call again, and knows it. */
	if (p->granted && sd_bus_enqueue_for_read(p->bus->connection, p->call) >= 0)
		return 0;
	pending_remove(p->bus, p);
	return 0;
}

static int ask_polkit(struct bus *b, sd_bus_message *call, const char *action)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *question = NULL;
	struct bus_pending *p;
	uint32_t flags = sd_bus_message_get_allow_interactive_authorization(call) > 0
				 ? POLKIT_INTERACTIVE
				 : 0;
	int r;

	if (b->n_pending == PENDING_MAX)
		return -EBUSY;
	r = sd_bus_message_new_method_call(b->connection, &question, POLKIT_NAME, POLKIT_PATH,
		"org.freedesktop.PolicyKit1.Authority", "CheckAuthorization");
	if (r >= 0)
		r = sd_bus_message_append(question, "(sa{sv})sa{ss}us", "system-bus-name", 1,
			"name", "s", sd_bus_message_get_sender(call), action, 0, flags, "");
	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->bus = b;
	r = sd_bus_call_async(b->connection, &p->slot, question, on_polkit, p, POLKIT_TIMEOUT_US);
	if (r < 0) {
		free(p);
		return r;
	}
	p->call = sd_bus_message_ref(call);
	p->next = b->pending;
	b->pending = p;
	b->n_pending++;
	return 0;
}

static struct bus_pending *find_granted(const struct bus *b, const sd_bus_message *call)
{
	for (struct bus_pending *p = b->pending; p; p = p->next)
		if (p->call == call && p->granted)
			return p;
	return NULL;
}

/* 0: go on with it; 1: it is answered, or will be. */
static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;
	struct bus_pending *granted;
	const char *action, *sender;

	if (sd_bus_message_is_method_call(message, NULL, NULL) <= 0)
		return 0;
	action = action_of(message);
	sender = sd_bus_message_get_sender(message);
	if (!action)
		return 0;
	granted = find_granted(b, message);
	if (granted) {
		pending_remove(b, granted);
		return 0;
	}
	if (sender && is_trusted(b->connection, sender))
		return 0;
	if (!sender || ask_polkit(b, message, action) < 0)
		refuse(message, "memd cannot ask it");
	return 1;
}

int bus_authorize_init(struct bus *b)
{
	return sd_bus_add_filter(b->connection, NULL, on_message, b);
}
