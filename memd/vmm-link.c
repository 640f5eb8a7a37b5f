/* Reads what a memd-vmm says; decides nothing about the guest. */
#include "memd/vmm-link.h"

#include <string.h>

#include "memd/base/overflow.h"
#include "memd/base/units.h"

/* User addresses end here on x86-64 with five-level page tables. */
#define ADDRESS_END (UINT64_C(1) << 56)

struct vmm_link {
	struct ipc_link *link;
	const struct vmm_link_ops *ops;
	void *context;
	bool greeted;
};

static bool terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

int vmm_hello_check(const struct vmm_hello *hello)
{
	uint64_t total = 0;

	if (hello->proto_version != VMM_PROTO_VERSION || hello->state > VMM_STATE_FAILED)
		return -EPROTO;
	if (!terminated(hello->name, sizeof(hello->name)) ||
		!terminated(hello->program_version, sizeof(hello->program_version)))
		return -EPROTO;
	if (hello->n_ranges < 1 || hello->n_ranges > VMM_RANGES_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < hello->n_ranges; i++) {
		const struct vmm_range *range = &hello->ranges[i];

		if (!u64_range_within(range->hva, range->bytes, PAGE_BYTES, ADDRESS_END) ||
			range->hva % PAGE_BYTES != 0 || range->bytes % CHUNK_BYTES != 0)
			return -EPROTO;
		if (u64_add_overflows(total, range->bytes, &total))
			return -EPROTO;
	}
	return total == hello->ram_bytes ? 0 : -EPROTO;
}

static void on_message(void *context, const struct ipc_message *m)
{
	struct vmm_link *l = context;
	const struct vmm_hello *hello = IPC_PAYLOAD(m, struct vmm_hello);
	uint32_t version;
	const struct vmm_event *event = IPC_PAYLOAD(m, struct vmm_event);

	if (!l->greeted && m->header.type == VMM_HELLO &&
		ipc_payload_copy(m, sizeof(version), &version, sizeof(version)) &&
		version != VMM_PROTO_VERSION) {
		l->ops->closed(l->context, -EPROTONOSUPPORT);
	} else if (!l->greeted && m->header.type == VMM_HELLO && hello &&
		   vmm_hello_check(hello) == 0) {
		l->greeted = true;
		l->ops->hello(l->context, hello);
	} else if (l->greeted && m->header.type == VMM_EVENT && event &&
		   event->state <= VMM_STATE_FAILED &&
		   terminated(event->reason, sizeof(event->reason))) {
		l->ops->event(l->context, event);
	} else {
		l->ops->closed(l->context, -EPROTO);
	}
}

static void on_closed(void *context, int error)
{
	struct vmm_link *l = context;

	l->ops->closed(l->context, error);
}

int vmm_link_connect(sd_event *event, const char *path, const struct vmm_link_ops *ops,
	void *context, struct vmm_link **ret)
{
	static const struct ipc_link_ops link_ops = {
		.message = on_message,
		.closed = on_closed,
	};
	_cleanup_(vmm_link_freep) struct vmm_link *l = calloc(1, sizeof(*l));
	_cleanup_close_ int fd = -1;
	int r;

	if (!l)
		return -ENOMEM;
	l->ops = ops;
	l->context = context;
	fd = ipc_connect(path);
	if (fd < 0)
		return fd;
	r = ipc_link_new(event, fd, &link_ops, l, &l->link);
	if (r < 0)
		return r;
	TAKE_FD(fd);
	*ret = TAKE_PTR(l);
	return 0;
}

void vmm_link_free(struct vmm_link *l)
{
	if (!l)
		return;
	ipc_link_free(l->link);
	free(l);
}

int vmm_link_get_stats(struct vmm_link *l, uint64_t timeout_us, ipc_reply_fn reply, void *context)
{
	return ipc_link_request(
		l->link, VMM_GET_STATS, NULL, 0, NULL, 0, timeout_us, reply, context);
}

int vmm_link_command(struct vmm_link *l, enum vmm_message_type type, const void *payload,
	size_t size, const int *fds, size_t n_fds, uint64_t timeout_us, ipc_reply_fn reply,
	void *context)
{
	return ipc_link_request(l->link, (uint16_t)type, payload, size, fds, n_fds, timeout_us,
		reply, context);
}

int vmm_link_parse_stats(
	int error, const struct ipc_message *reply, uint64_t ram_bytes, struct vmm_stats *ret)
{
	struct vmm_stats stats, *s = &stats;
	uint64_t sum;

	if (error < 0)
		return error;
	if (reply->header.type != VMM_STATS ||
		!ipc_payload_copy(reply, VMM_STATS_MIN_BYTES, &stats, sizeof(stats)))
		return -EPROTO;
	if (s->ram_pages != ram_bytes / PAGE_BYTES || s->state > VMM_STATE_FAILED ||
		s->memory_mode > VMM_MEMORY_PVM)
		return -EPROTO;
	sum = s->private_pages;
	if (u64_add_overflows(sum, s->shared_pages, &sum) ||
		u64_add_overflows(sum, s->template_pages, &sum) ||
		u64_add_overflows(sum, s->swapped_pages, &sum) ||
		u64_add_overflows(sum, s->hole_untouched_pages, &sum) ||
		u64_add_overflows(sum, s->hole_zero_pages, &sum) ||
		u64_add_overflows(sum, s->hole_balloon_pages, &sum) ||
		u64_add_overflows(sum, s->hole_reported_pages, &sum) ||
		u64_add_overflows(sum, s->hole_hinted_pages, &sum) || sum != s->ram_pages)
		return -EPROTO;
	if (s->freed_zero_pages > s->hole_zero_pages ||
		s->freed_balloon_pages > s->hole_balloon_pages ||
		s->freed_reported_pages > s->hole_reported_pages ||
		s->freed_hinted_pages > s->hole_hinted_pages)
		return -EPROTO;
	*ret = stats;
	return 0;
}

int vmm_link_parse_done(int error, const struct ipc_message *reply, struct error *e)
{
	const struct vmm_done *done;

	if (error == -ETIMEDOUT)
		return error_set(e, error, "memd-vmm does not answer");
	if (error < 0)
		return error_set(e, error, "the connection to memd-vmm is gone");
	done = IPC_PAYLOAD(reply, struct vmm_done);
	if (reply->header.type != VMM_DONE || !done || done->result > 0 ||
		!terminated(done->reason, sizeof(done->reason)))
		return error_set(e, -EPROTO, "memd-vmm sent nonsense");
	if (done->result < 0)
		return error_set(e, done->result, "%s",
			done->reason[0] ? done->reason : strerror(-done->result));
	return 0;
}
