/*
 * The pool's logic: lookup, insert, release. Every slot has a count of references, each member a
 * table of those it holds, so that nobody gives back what is not its own and a member that goes
 * gives back everything. Never trusts a member's hash.
 *
 * DOC: what a hostile member can do. It reads what its group shares, that is what sharing means. It
 * fills the pool up to its limit of slots, offers hashes that push out others' hints, or inserts
 * pages that collide with others' hashes on purpose (at most COLLISIONS_MAX a hash): others then
 * share less, and are wrong never, since they compare before they map.
 *
 * DOC: after a memd-pool was killed
 *
 * Its members map its files still, and guests run on them. memd starts another one and says which
 * processes may map them (pool_restore_begin). Each member sends the files and which slots it maps,
 * as often as it maps them; the slot is read, hashed and indexed again, and the references count as
 * if they had been granted here. Until all of those processes have said so or have ended, a slot of
 * a restored file that nobody claimed is *held*: it is neither used nor free, since somebody who is
 * stopped may map it; and a slot whose last reference goes becomes held, not free. Then
 * (pool_restore_end) what is held is freed. New pages go to new files meanwhile, so a stopped member
 * delays reuse and nothing else.
 *
 * Why a member can be believed that it holds a slot: it claims memory of its own group, within the
 * same limits as by LOOKUP, and what it does not claim it loses itself. A file is taken when it was
 * made by a memd-pool (pool_memfd_restore): a member whose sandbox holds cannot make a memfd, nor
 * open one for writing. A file that arrives later than pool_restore_end is not touched.
 */
#include "dedup/pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dedup/page-hash.h"
#include "dedup/pool-memfd.h"
#include "dedup/pool-frames.h"
#include "dedup/pool-hints.h"
#include "dedup/pool-index.h"
#include "dedup/pool-refs.h"
#include "memd/base/clock.h"
#include "memd/base/overflow.h"

#define FILES_MAX                                                                                  \
	(UINT32_C(1) << 15) /* slot numbers stay below 2^29: what a member can note for a page */
#define COLLISIONS_MAX 4
#define NOTIFY_MAX     65536 /* waiting for one member; what is more is found in its next pass */
#define MEMBER_SLOTS   (UINT64_C(1) << 24)
#define EXTENT_NONE    UINT32_MAX
#define PREFETCH_AHEAD 8 /* lookups: about a miss' worth of work */
/*
 * Hints for each page that members may offer: more than one, since those of pages that have changed
 * stay until they give way.
 */
#define HINTS_PERCENT  120

struct pool_member {
	uint16_t id;
	struct pool_frames frames; /* of the pages that it may offer */
	struct pool_refs refs;
	uint32_t extent; /* that it fills, over all files; EXTENT_NONE */
	uint32_t next; /* slot of the extent that is tried next */
	struct pool_notify *notify;
	size_t n_notify;
	size_t notify_size;
};

struct pool {
	struct pool_limits limits;
	struct pool_index index; /* hash -> slot */
	struct pool_hints hints;
	struct pool_memfd **files;
	size_t n_files;
	struct pool_member *members[POOL_MEMBERS_MAX + 1]; /* by id; [0] is nobody */
	struct pool_frames *frames; /* of all members that have any, ascending */
	bool restoring; /* between pool_restore_begin and _end */
	struct pool_stats stats; /* what is counted as it happens */
};

int pool_new(const struct pool_limits *limits, struct pool **ret)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->limits = *limits;
	if (!p->limits.max_pages || p->limits.max_pages > (uint64_t)FILES_MAX * POOL_FILE_PAGES)
		p->limits.max_pages = (uint64_t)FILES_MAX * POOL_FILE_PAGES;
	if (!p->limits.max_member_slots)
		p->limits.max_member_slots = MEMBER_SLOTS;
	pool_hints_init(&p->hints);
	*ret = p;
	return 0;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	for (size_t i = 0; i <= POOL_MEMBERS_MAX; i++)
		if (p->members[i])
			pool_member_free(p, p->members[i]);
	for (size_t i = 0; i < p->n_files; i++)
		pool_memfd_free(p->files[i]);
	free(p->files);
	pool_index_done(&p->index);
	pool_hints_done(&p->hints);
	free(p);
}

static struct pool_memfd *file_of(const struct pool *p, uint32_t slot)
{
	return p->files[slot / POOL_FILE_PAGES];
}

static struct pool_slot *slot_of(const struct pool *p, uint32_t slot)
{
	return &file_of(p, slot)->slots[slot % POOL_FILE_PAGES];
}

int pool_member_new(struct pool *p, uint32_t n_pages, struct pool_member **ret)
{
	for (uint16_t id = 1; id <= POOL_MEMBERS_MAX; id++) {
		struct pool_member *m;

		if (p->members[id])
			continue;
		m = calloc(1, sizeof(*m));
		if (!m)
			return -ENOMEM;
		m->id = id;
		m->frames = (struct pool_frames){.n = n_pages, .owner = m};
		m->extent = EXTENT_NONE;
		pool_frames_give(&p->frames, &m->frames);
		p->members[id] = m;
		p->stats.members++;
		pool_hints_limit(&p->hints, pool_frames_sum(p->frames) * HINTS_PERCENT / 100);
		*ret = m;
		return 0;
	}
	return -EMFILE;
}

uint32_t pool_member_id(const struct pool_member *m)
{
	return m->id;
}

static void free_slot(struct pool *p, uint32_t slot)
{
	pool_index_remove(&p->index, slot_of(p, slot)->hash, slot);
	p->stats.pages_used--;
	if (file_of(p, slot)->restored)
		p->stats.held_pages++;
	else
		pool_memfd_drop(file_of(p, slot), slot % POOL_FILE_PAGES);
}

static void put_references(struct pool *p, uint32_t slot, uint32_t n)
{
	struct pool_slot *s = slot_of(p, slot);

	s->refs -= n;
	p->stats.references -= n;
	if (s->refs == 0)
		free_slot(p, slot);
}

static void leave_extent(struct pool *p, struct pool_member *m)
{
	if (m->extent != EXTENT_NONE)
		p->files[m->extent / POOL_FILE_EXTENTS]
			->extent_taken[m->extent % POOL_FILE_EXTENTS] = false;
	m->extent = EXTENT_NONE;
}

/*
 * What it offered is nobody's any more. A member that comes back offers all of it again under other
 * frames: what would still be noted of the former ones would make each of its pages look as if two
 * had it, and move it into the pool for nothing, where it cannot be paged out.
 */
static void forget_offers(struct pool *p, struct pool_member *m)
{
	if (m->frames.first != POOL_FRAME_NONE)
		pool_hints_forget(&p->hints, m->frames.first, m->frames.n);
	pool_frames_take(&p->frames, &m->frames);
	m->frames.first = POOL_FRAME_NONE;
	pool_hints_limit(&p->hints, pool_frames_sum(p->frames) * HINTS_PERCENT / 100);
}

void pool_member_detach(struct pool *p, struct pool_member *m)
{
	forget_offers(p, m);
	leave_extent(p, m);
	free(m->notify);
	m->notify = NULL;
	m->n_notify = m->notify_size = 0;
}

static void put_all_references(struct pool *p, struct pool_member *m)
{
	uint32_t slot = 0, n;

	while ((n = pool_refs_take_next(&m->refs, &slot)))
		put_references(p, slot, n);
	pool_refs_done(&m->refs);
}

void pool_member_free(struct pool *p, struct pool_member *m)
{
	put_all_references(p, m);
	leave_extent(p, m);
	forget_offers(p, m);
	p->members[m->id] = NULL;
	p->stats.members--;
	free(m->notify);
	free(m);
}

/* One more reference of m to a slot that is used. -EDQUOT, -ENOMEM, -EOVERFLOW. */
static int grant(struct pool *p, struct pool_member *m, uint32_t slot)
{
	struct pool_slot *s = slot_of(p, slot);
	uint32_t *refs = pool_refs_make(&m->refs, slot);

	if (!refs)
		return -ENOMEM;
	if (s->refs == UINT32_MAX)
		return -EOVERFLOW;
	if (*refs == 0 && m->refs.n_slots >= p->limits.max_member_slots)
		return -EDQUOT;
	m->refs.n_slots += *refs == 0;
	(*refs)++;
	s->refs++;
	p->stats.references++;
	return 0;
}

/* The next slot with that hash. */
static bool find_hash(const struct pool *p, uint64_t hash, size_t *cursor, uint32_t *ret_slot)
{
	uint32_t slot;

	while ((slot = pool_index_next(&p->index, hash, cursor)) != POOL_INDEX_NONE)
		if (slot_of(p, slot)->hash == hash) {
			*ret_slot = slot;
			return true;
		}
	return false;
}

/* Whether some other page was offered with that hash before; notes the offer. */
static bool is_hinted(struct pool *p, const struct pool_member *m, const struct pool_lookup *query)
{
	if (m->frames.first == POOL_FRAME_NONE || query->page >= m->frames.n)
		return false;
	return pool_hints_offer(&p->hints, query->hash, m->frames.first + query->page) !=
	       POOL_FRAME_NONE;
}

static uint32_t look_up(struct pool *p, struct pool_member *m, const struct pool_lookup *query)
{
	size_t cursor = 0;
	uint32_t slot;

	if (find_hash(p, query->hash, &cursor, &slot))
		return grant(p, m, slot) == 0 ? slot : POOL_SLOT_NONE;
	return is_hinted(p, m, query) ? POOL_SLOT_HINTED : POOL_SLOT_NONE;
}

void pool_lookup(struct pool *p, struct pool_member *m, const struct pool_lookup *queries, size_t n,
	uint32_t *ret_slots)
{
	p->stats.lookups += n;
	for (size_t i = 0; i < n; i++) {
		if (i + PREFETCH_AHEAD < n) {
			pool_index_prefetch(&p->index, queries[i + PREFETCH_AHEAD].hash);
			pool_hints_prefetch(&p->hints, queries[i + PREFETCH_AHEAD].hash);
		}
		ret_slots[i] = look_up(p, m, &queries[i]);
	}
}

int pool_release(struct pool *p, struct pool_member *m, const uint32_t *slots, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t *refs = pool_refs_find(&m->refs, slots[i]);

		if (!refs || *refs == 0)
			return -EPROTO;
		m->refs.n_slots -= --*refs == 0;
		put_references(p, slots[i], 1);
	}
	return 0;
}

static int add_file(struct pool *p)
{
	struct pool_memfd **files;
	int r;

	/* Free slots are never so scattered that twice the pages that may be held would not do. */
	if (p->n_files >= u64_min(FILES_MAX, 2 * p->limits.max_pages / POOL_FILE_PAGES + 2))
		return -ENOSPC;
	files = reallocarray(p->files, p->n_files + 1, sizeof(*files));
	if (!files)
		return -ENOMEM;
	p->files = files;
	r = pool_memfd_new(&files[p->n_files]);
	if (r == 0)
		p->n_files++;
	return r;
}

/* Gives m an extent of its own to fill. False when there is none, and no file can be added. */
static bool enter_extent(struct pool *p, struct pool_member *m)
{
	leave_extent(p, m);
	for (size_t i = 0; i < p->n_files || add_file(p) == 0; i++) {
		uint32_t extent;

		if (!pool_memfd_find_extent(p->files[i], &extent))
			continue;
		p->files[i]->extent_taken[extent] = true;
		m->extent = (uint32_t)i * POOL_FILE_EXTENTS + extent;
		m->next = m->extent * POOL_EXTENT_SLOTS;
		return true;
	}
	return false;
}

/* The slot after the last one that m filled, if it can be. */
static bool find_slot(struct pool *p, struct pool_member *m, uint32_t *ret_slot)
{
	if (m->extent != EXTENT_NONE)
		for (; m->next / POOL_EXTENT_SLOTS == m->extent; m->next++)
			if (!pool_memfd_is_used(file_of(p, m->next), m->next % POOL_FILE_PAGES)) {
				*ret_slot = m->next++;
				return true;
			}
	if (enter_extent(p, m)) {
		*ret_slot = m->next++;
		return true;
	}
	for (size_t i = 0; i < p->n_files; i++)
		if (pool_memfd_find_free(p->files[i], ret_slot)) {
			*ret_slot += (uint32_t)i * POOL_FILE_PAGES;
			return true;
		}
	return false;
}

/*
 * Looks for a slot that holds exactly this page. 1 and *ret_slot, 0 for none, -ENOSPC for too many
 * collisions.
 */
static int find_equal(struct pool *p, uint64_t hash, const uint8_t *page, uint32_t *ret_slot)
{
	_Alignas(64) uint8_t present[PAGE_BYTES];
	unsigned n_different = 0;
	size_t cursor = 0;
	uint32_t slot;

	while (find_hash(p, hash, &cursor, &slot)) {
		if (pool_memfd_get(file_of(p, slot), slot % POOL_FILE_PAGES, present) == 0 &&
			page_equal(present, page)) {
			*ret_slot = slot;
			return 1;
		}
		p->stats.collisions++;
		n_different++;
	}
	return n_different < COLLISIONS_MAX ? 0 : -ENOSPC;
}

/*
 * Tells whoever offered this hash before. Full or without memory: it finds the page in its next
 * pass.
 */
static void notify_hint(struct pool *p, uint64_t hash)
{
	uint32_t frame = pool_hints_take(&p->hints, hash);
	const struct pool_frames *frames = pool_frames_find(p->frames, frame);
	struct pool_member *m = frames ? frames->owner : NULL;

	if (!m || m->n_notify == NOTIFY_MAX)
		return;
	if (m->n_notify == m->notify_size) {
		size_t size = m->notify_size ? 2 * m->notify_size : 256;
		struct pool_notify *notify = reallocarray(m->notify, size, sizeof(*notify));

		if (!notify)
			return;
		m->notify = notify;
		m->notify_size = size;
	}
	m->notify[m->n_notify++] =
		(struct pool_notify){.hash = hash, .page = frame - m->frames.first};
}

static int insert_new(struct pool *p, struct pool_member *m, uint64_t hash, const uint8_t *page,
	uint32_t *ret_slot)
{
	uint32_t slot;
	int r;

	if (p->stats.pages_used >= p->limits.max_pages ||
		m->refs.n_slots >= p->limits.max_member_slots || !find_slot(p, m, &slot))
		return -ENOSPC;
	r = pool_index_add(&p->index, hash, slot);
	if (r < 0)
		return r;
	r = pool_memfd_put(file_of(p, slot), slot % POOL_FILE_PAGES, page);
	if (r < 0) {
		pool_index_remove(&p->index, hash, slot);
		return r;
	}
	*slot_of(p, slot) = (struct pool_slot){.hash = hash};
	p->stats.pages_used++;
	p->stats.inserts++;
	r = grant(p, m, slot);
	if (r < 0) {
		free_slot(p, slot);
		return r;
	}
	notify_hint(p, hash);
	*ret_slot = slot;
	return 0;
}

static uint32_t insert_page(struct pool *p, struct pool_member *m, const uint8_t *page)
{
	uint64_t hash = page_hash(page);
	uint32_t slot;
	int r = find_equal(p, hash, page, &slot);

	if (r == 0)
		r = insert_new(p, m, hash, page, &slot);
	else if (r > 0)
		r = grant(p, m, slot);
	return r < 0 ? POOL_SLOT_NONE : slot;
}

void pool_insert(
	struct pool *p, struct pool_member *m, const uint8_t *pages, size_t n, uint32_t *ret_slots)
{
	for (size_t i = 0; i < n; i++)
		ret_slots[i] = insert_page(p, m, pages + i * PAGE_BYTES);
}

size_t pool_member_notify(const struct pool_member *m, const struct pool_notify **ret)
{
	*ret = m->notify;
	return m->n_notify;
}

void pool_member_drop_notify(struct pool_member *m, size_t n)
{
	m->n_notify -= n;
	memmove(m->notify, m->notify + n, m->n_notify * sizeof(*m->notify));
}

void pool_restore_begin(struct pool *p)
{
	p->restoring = true;
}

static bool is_known(const struct pool *p, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	for (size_t i = 0; i < p->n_files; i++)
		if (p->files[i]->device == st.st_dev && p->files[i]->inode == st.st_ino)
			return true;
	return false;
}

int pool_restore_file(struct pool *p, int fd)
{
	struct pool_memfd **files;
	int r;

	if (is_known(p, fd))
		return 0;
	if (!p->restoring)
		return -ESTALE;
	if (p->n_files >= FILES_MAX)
		return -ENOSPC;
	files = reallocarray(p->files, p->n_files + 1, sizeof(*files));
	if (!files)
		return -ENOMEM;
	p->files = files;
	r = pool_memfd_restore(fd, &files[p->n_files]);
	if (r < 0)
		return r;
	p->n_files++;
	p->stats.held_pages += POOL_FILE_PAGES;
	return 0;
}

/* A held slot is used again: by its bytes, whatever anybody says they are. */
static int reclaim_held(struct pool *p, uint32_t slot)
{
	_Alignas(64) uint8_t page[PAGE_BYTES];
	uint64_t hash;
	int r;

	r = pool_memfd_get(file_of(p, slot), slot % POOL_FILE_PAGES, page);
	if (r < 0)
		return r;
	hash = page_hash(page);
	r = pool_index_add(&p->index, hash, slot);
	if (r < 0)
		return r;
	*slot_of(p, slot) = (struct pool_slot){.hash = hash};
	p->stats.pages_used++;
	p->stats.held_pages--;
	return 0;
}

int pool_restore(struct pool *p, struct pool_member *m, const uint32_t *slots, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t file = slots[i] / POOL_FILE_PAGES;
		int r = 0;

		if (file >= p->n_files ||
			!pool_memfd_is_used(p->files[file], slots[i] % POOL_FILE_PAGES))
			return -EPROTO;
		if (slot_of(p, slots[i])->refs == 0)
			r = reclaim_held(p, slots[i]);
		if (r == 0)
			r = grant(p, m, slots[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

void pool_restore_end(struct pool *p)
{
	for (size_t i = 0; i < p->n_files; i++) {
		struct pool_memfd *f = p->files[i];

		for (uint32_t slot = 0; f->restored && slot < POOL_FILE_PAGES; slot++)
			if (pool_memfd_is_used(f, slot) && f->slots[slot].refs == 0)
				pool_memfd_drop(f, slot);
		f->restored = false;
	}
	p->restoring = false;
	p->stats.held_pages = 0;
}

size_t pool_files(const struct pool *p)
{
	return p->n_files;
}

int pool_file_fd(const struct pool *p, size_t index)
{
	return p->files[index]->read_fd;
}

bool pool_wants_trim(const struct pool *p)
{
	for (size_t i = 0; i < p->n_files; i++)
		if (p->files[i]->n_stale)
			return true;
	return false;
}

void pool_find_leaks(struct pool *p)
{
	for (size_t i = 0; i < p->n_files; i++)
		pool_memfd_find_leaks(p->files[i]);
}

void pool_trim(struct pool *p)
{
	for (size_t i = 0; i < p->n_files; i++)
		pool_memfd_trim(p->files[i]);
}

void pool_stats_read(const struct pool *p, struct pool_stats *ret)
{
	struct pool_stats s = p->stats;

	s.hints = p->hints.n;
	s.index_bytes = p->index.size * sizeof(*p->index.entries) + pool_hints_bytes(&p->hints);
	for (size_t i = 0; i <= POOL_MEMBERS_MAX; i++)
		if (p->members[i])
			s.index_bytes += pool_refs_bytes(&p->members[i]->refs);
	for (size_t i = 0; i < p->n_files; i++) {
		s.memfd_bytes += pool_memfd_blocks_bytes(p->files[i]);
		s.index_bytes += sizeof(*p->files[i]);
	}
	s.cpu_us = clock_process_cpu_us();
	*ret = s;
}
