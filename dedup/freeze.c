/*
 * The sharing primitive. Never reads guest pages and never decides anything: equal or zero is what
 * the caller saw while the page was frozen.
 *
 * DOC: why nothing is lost
 *
 * A page P of guest RAM is to be replaced by a page Q that nobody ever writes and that equals P.
 * That is invisible to the guest if P does not change between the moment it is found equal and the
 * moment it is replaced. It is write-protected for that time with UFFDIO_WRITEPROTECT (synchronous
 * mode): the page table entry loses its write bit and bit 57 of the pagemap is set, and all TLBs
 * and KVM's shadow or nested entries are flushed before the ioctl returns. Nobody answers the
 * userfaultfd (freeze_waiting only looks who waits): a writer that faults waits in the kernel until
 * UFFDIO_WAKE, then looks again at whatever is there now. Readers are not held up.
 *
 * 1. Guest writes, vCPUs. They fault and wait. When woken, the fault is taken anew: in a new
 *    mapping of Q it is an ordinary copy on write, in a hole a fresh zero page, in a thawed page a
 *    write. Writes that KVM does itself (emulated stores, page table bits, clock, steal time) go
 *    through the same page tables (get_user_pages, copy_to_user) and wait like it; hence no
 *    UFFD_USER_MODE_ONLY. Every replacement goes through the kernel's MMU notifiers, so KVM keeps
 *    no old entry.
 * 2. Device threads of our own write with plain stores or read(2): as 1. Direct I/O is different:
 *    pages are pinned, then written by the device without looking at page tables. Such pages are
 *    marked busy under the chunk's lock before they are handed to the kernel, until it is complete;
 *    busy pages are not frozen, mapped over or discarded. Pinning for a write breaks the copy on
 *    write first, so a pool page is never what a device writes to.
 * 3. Only pages that have bit 57 after the freeze count as frozen. A hole does not get it (before
 *    6.4 there is nothing to set it in, and we do not ask for markers), so it can be filled at any
 *    time.
 * 4. Page-out by another process (memd) may take a frozen page at any time. Bit 57 stays in the
 *    swap entry, and a read, the comparison, brings back the same content with it. Replacing or
 *    dropping discards the swap entry too. A page that is swapped when the pagemap is read is not
 *    compared only since reading it would cost more than it frees; it can be given. Sampling is
 *    page-out.
 * 5. Discards (balloon, reporting) and a second scanner take the same lock: they wait for
 *    freeze_end, which waits for nobody. A thread that holds the lock touches no guest page but
 *    frozen ones for reading, which never waits for a thaw. Hence no cycle: a writer waits for the
 *    lock's holder, and the holder waits for the disk at most (4).
 * 6. Our own exchange of mappings is atomic to faults: mmap(MAP_FIXED) replaces under mmap_lock. No
 *    fault sees a gap.
 * 7. A woken waiter may have been asleep across a remap. The kernel does not wake it when a mapping
 *    goes away, therefore the wake is always explicit and covers everything that was protected,
 *    decided or not.
 * 8. Bits that must not stay behind: anonymous pages lose the protection with the page (drop, map).
 *    MADV_DONTNEED in a file mapping leaves a marker in the page table that would stop the next
 *    writer for ever: restore leaves the page in the set to be thawed. munmap drops markers, so
 *    mapping over needs no thaw.
 * 9. Teardown: scanner and devices are stopped before guest_ram_free; a process that is killed
 *    takes the userfaultfd with it, which wakes all waiters, since nobody else holds it.
 * 10. Q stays what it is. The template is sealed against every write. Of the pool, a reference to its slot is granted before it is mapped, and is given back
 *    only after the mapping is gone, or when this process has ended (JOIN of pool-proto.h). The
 *    pool writes and punches slots that nobody holds, and nobody else can write its files.
 *
 * What it costs: two flushes a run (freeze, replace), so pages that are close together are frozen
 * as one span; each writer of a frozen page stands still until freeze_end, so the caller freezes
 * late. UFFDIO_WRITEPROTECT is called once a mapping, since kernels before 6.3 refuse a range over
 * several.
 */
#include "dedup/freeze.h"

#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "dedup/guest-ram-private.h"
#include "memd/base/pagemap.h"

/*
 * Asked pages at most this far apart are frozen by one call: a call costs a flush, a page in
 * between 20 to 50 ns and whoever writes it meanwhile.
 */
#define SPAN_GAP_PAGES 4

static bool bit_get(const uint64_t *bits, unsigned i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void bit_set(uint64_t *bits, unsigned i)
{
	bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static void bit_clear(uint64_t *bits, unsigned i)
{
	bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* The first set bit from i on, or CHUNK_PAGES. */
static unsigned bit_next(const uint64_t *bits, unsigned i)
{
	while (i < CHUNK_PAGES) {
		uint64_t rest = bits[i / 64] >> (i % 64);

		if (rest)
			return i + (unsigned)__builtin_ctzll(rest);
		i = (i / 64 + 1) * 64;
	}
	return CHUNK_PAGES;
}

static uint32_t meta_of(const struct freeze *f, unsigned i)
{
	return guest_ram_meta(f->ram, f->first_page + i);
}

static uint8_t *host_of(const struct freeze *f, unsigned i)
{
	return guest_ram_page_ptr(f->ram, f->first_page + i);
}

/* Whether page i + 1 lies in the same mapping as page i, by what we know. */
static bool same_mapping(const struct freeze *f, unsigned i)
{
	return !meta_is_boundary(meta_of(f, i), meta_of(f, i + 1));
}

static int write_protect(const struct freeze *f, unsigned i, unsigned n, uint64_t mode)
{
	struct uffdio_writeprotect wp = {
		.range = {.start = (uintptr_t)host_of(f, i), .len = n * PAGE_BYTES},
		.mode = mode,
	};

	return ioctl(f->ram->uffd, UFFDIO_WRITEPROTECT, &wp) < 0 ? -errno : 0;
}

/*
 * Protects or thaws [i, i + n), one mapping as far as we know. Where the kernel kept two anonymous
 * ones apart that we take for one, it may refuse the whole: then page by page. A page that cannot
 * even then was never registered (out of memory): it is not frozen, and bit 57 says so.
 */
static void protect_span(const struct freeze *f, unsigned i, unsigned n, uint64_t mode)
{
	if (write_protect(f, i, n, mode) == 0 || n == 1)
		return;
	for (unsigned j = i; j < i + n; j++)
		write_protect(f, j, 1, mode);
}

/*
 * A file mapping is registered when one of its broken pages is frozen for the first time: all of it
 * in this chunk.
 */
static int register_file_mapping(const struct freeze *f, unsigned i)
{
	unsigned first = i, end = i + 1;
	int r;

	while (first > 0 && same_mapping(f, first - 1))
		first--;
	while (end < CHUNK_PAGES && same_mapping(f, end - 1))
		end++;
	r = guest_ram_register(f->ram, host_of(f, first), (end - first) * PAGE_BYTES);
	if (r == 0)
		guest_ram_set_registered(f->ram, f->first_page + first, end - first);
	return r;
}

int freeze_begin(struct freeze *f, struct guest_ram *ram, uint64_t page)
{
	if (ram->uffd < 0)
		return -EOPNOTSUPP;
	f->ram = ram;
	f->first_page = page - page % CHUNK_PAGES;
	memset(f->frozen, 0, sizeof(f->frozen));
	memset(f->swapped, 0, sizeof(f->swapped));
	memset(f->protected, 0, sizeof(f->protected));
	f->wake_first = f->wake_end = 0;
	pthread_mutex_lock(&ram->chunks[page / CHUNK_PAGES].lock);
	return 0;
}

/* Protects the span that begins with asked page i; returns its end. */
static unsigned freeze_span(struct freeze *f, const uint64_t *asked, unsigned i)
{
	unsigned end = i + 1;

	/*
	 * In a file mapping most pages are the file's own: only what was asked for is protected
	 * there.
	 */
	if (meta_is_file(meta_of(f, i))) {
		if (!(meta_of(f, i) & META_REGISTERED) && register_file_mapping(f, i) < 0)
			return end;
	} else {
		for (unsigned j = i; j + 1 < CHUNK_PAGES && j - (end - 1) < SPAN_GAP_PAGES; j++) {
			if (!same_mapping(f, j) || f->ram->busy[f->first_page + j + 1])
				break;
			if (bit_get(asked, j + 1))
				end = j + 2;
		}
	}
	protect_span(f, i, end - i, UFFDIO_WRITEPROTECT_MODE_WP);
	for (unsigned j = i; j < end; j++)
		bit_set(f->protected, j);
	return end;
}

void freeze_pages(struct freeze *f, const uint64_t wanted[FREEZE_WORDS])
{
	uint64_t asked[FREEZE_WORDS];
	unsigned first, end = 0;

	memcpy(asked, wanted, sizeof(asked));
	if (f->ram->chunks[f->first_page / CHUNK_PAGES].n_busy)
		for (unsigned i = 0; i < CHUNK_PAGES; i++)
			if (f->ram->busy[f->first_page + i])
				bit_clear(asked, i);
	first = bit_next(asked, 0);
	if (first == CHUNK_PAGES)
		return;
	for (unsigned i = first; i < CHUNK_PAGES; i = bit_next(asked, end))
		end = freeze_span(f, asked, i);
	f->wake_first = first;
	f->wake_end = end;

	if (pagemap_read(f->ram->pagemap_fd, (uintptr_t)host_of(f, first), end - first,
		    f->entries + first) < 0)
		return;
	for (unsigned i = first; i < end; i++) {
		uint64_t must = PAGEMAP_UFFD_WP | PAGEMAP_PRESENT | PAGEMAP_EXCLUSIVE;
		uint64_t mask = must | PAGEMAP_SWAPPED | PAGEMAP_FILE;

		if (bit_get(asked, i) && (f->entries[i] & mask) == must)
			bit_set(f->frozen, i);
		else if (bit_get(asked, i) && (f->entries[i] & PAGEMAP_UFFD_WP) &&
			 (f->entries[i] & PAGEMAP_SWAPPED))
			bit_set(f->swapped, i);
	}
}

/* Whether each of the pages is in one of the sets; the second may be NULL. */
static bool all_in(const uint64_t *set, const uint64_t *other, unsigned i, unsigned n)
{
	if (n == 0 || i >= CHUNK_PAGES || n > CHUNK_PAGES - i)
		return false;
	for (unsigned j = i; j < i + n; j++)
		if (!bit_get(set, j) && !(other && bit_get(other, j)))
			return false;
	return true;
}

int freeze_map(struct freeze *f, unsigned i, unsigned n, int fd, uint64_t offset, uint32_t slot)
{
	int r;

	if (!all_in(f->frozen, NULL, i, n))
		return -EINVAL;
	/*
	 * Not MADV_DONTFORK as anonymous RAM: the VMM never forks, and a call a mapping is a third
	 * of its cost.
	 */
	r = guest_ram_map_over(host_of(f, i), n * PAGE_BYTES, 0, fd, offset);
	if (r < 0)
		return r;
	guest_ram_set_meta(f->ram, f->first_page + i, n, META_POOL | slot);
	for (unsigned j = i; j < i + n; j++) {
		bit_clear(f->frozen, j);
		bit_clear(f->protected, j);
	}
	return 0;
}

/* Pages of one mapping as far as we know. */
static int drop_stretch(struct freeze *f, unsigned i, unsigned n, enum hole_reason why)
{
	int r = 0;

	if (meta_is_file(meta_of(f, i)))
		r = guest_ram_map_anonymous(f->ram, f->first_page + i, n);
	else if (madvise(host_of(f, i), n * PAGE_BYTES, MADV_DONTNEED) < 0)
		r = -errno;
	if (r < 0)
		return r;
	guest_ram_set_meta(f->ram, f->first_page + i, n, (uint32_t)why | META_FREED);
	for (unsigned j = i; j < i + n; j++) {
		bit_clear(f->frozen, j);
		bit_clear(f->swapped, j);
		bit_clear(f->protected, j);
	}
	return 0;
}

static int drop(struct freeze *f, unsigned i, unsigned n, enum hole_reason why)
{
	for (unsigned done = 0, some; done < n; done += some) {
		bool file = meta_is_file(meta_of(f, i + done));
		int r;

		for (some = 1; done + some < n; some++)
			if (meta_is_file(meta_of(f, i + done + some)) != file)
				break;
		r = drop_stretch(f, i + done, some, why);
		if (r < 0)
			return r;
	}
	return 0;
}

int freeze_drop(struct freeze *f, unsigned i, unsigned n)
{
	return all_in(f->frozen, NULL, i, n) ? drop(f, i, n, HOLE_ZERO) : -EINVAL;
}

int freeze_give(struct freeze *f, unsigned i, unsigned n, enum hole_reason why)
{
	return all_in(f->frozen, f->swapped, i, n) ? drop(f, i, n, why) : -EINVAL;
}

int freeze_restore(struct freeze *f, unsigned i, unsigned n)
{
	if (!all_in(f->frozen, NULL, i, n))
		return -EINVAL;
	for (unsigned j = i; j < i + n; j++)
		if (!meta_is_file(meta_of(f, j)))
			return -EINVAL;
	if (madvise(host_of(f, i), n * PAGE_BYTES, MADV_DONTNEED) < 0)
		return -errno;
	for (unsigned j = i; j < i + n; j++)
		bit_clear(f->frozen, j); /* stays in protected: a marker is left behind */
	return 0;
}

static void thaw_all(const struct freeze *f)
{
	for (unsigned i = bit_next(f->protected, 0), end; i < CHUNK_PAGES;
		i = bit_next(f->protected, end)) {
		end = i + 1;
		while (end < CHUNK_PAGES && bit_get(f->protected, end) && same_mapping(f, end - 1))
			end++;
		protect_span(f, i, end - i, UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
	}
}

void freeze_end(struct freeze *f)
{
	thaw_all(f);
	if (f->wake_end) {
		struct uffdio_range range = {
			.start = (uintptr_t)host_of(f, f->wake_first),
			.len = (f->wake_end - f->wake_first) * PAGE_BYTES,
		};

		ioctl(f->ram->uffd, UFFDIO_WAKE, &range);
	}
	pthread_mutex_unlock(&f->ram->chunks[f->first_page / CHUNK_PAGES].lock);
}

bool freeze_is_file(const struct guest_ram *ram, uint64_t page)
{
	return meta_is_file(guest_ram_meta(ram, page));
}

size_t freeze_waiting(const struct guest_ram *ram, uint32_t *ret_tids, size_t max)
{
	struct uffd_msg message;
	size_t n = 0;

	/* Reading wakes nobody: the message moves to the list of those that were read. */
	while (n < max && read(ram->uffd, &message, sizeof(message)) == sizeof(message))
		if (message.event == UFFD_EVENT_PAGEFAULT)
			ret_tids[n++] = message.arg.pagefault.feat.ptid;
	return n;
}

bool freeze_slot_of(const struct guest_ram *ram, uint64_t page, uint32_t *ret_slot)
{
	uint32_t meta = guest_ram_meta(ram, page);

	if (!(meta & META_POOL) || (meta & META_ORPHAN))
		return false;
	*ret_slot = meta & META_SLOT_MASK;
	return true;
}
