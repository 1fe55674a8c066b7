/* What is done to pages, and what must be there before and after. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "operations.h"

#define SMALL ((size_t)4096)
#define HUGE ((size_t)2 << 20)
/*
 * So many pages, and twice as many, lie in one page table: its cost falls out of the difference.
 * 248 is 8 * 31 and almost 4 * 63: whole folio batches, and whole batches of the allocator's lists.
 */
#define SMALL_PAGES 248
#define HUGE_PAGES 16
/*
 * A fork is not the same to the instruction each time; more pages make less of that. Beyond a thousand
 * or so it takes long enough for a timer to come in between now and then.
 */
#define FORK_PAGES (2 * SMALL_PAGES)
#define LOOPS 50000

/* Where the pages are mapped: far from all else, at the start of a page table of each level. */
static char *const area = (char *)0x100000000000;

size_t pages;
const char *folder = ".";
long compound = -1;

static size_t step;   /* bytes from one page to the next */
static int file = -1; /* what is mapped or read */

/* Large folios would be another measurement, so the kernel is asked, if one may. */
static long count_compound(void)
{
	enum { PRESENT = 63, COMPOUND_HEAD = 15, COMPOUND_TAIL = 16 };
	int map = open("/proc/self/pagemap", O_RDONLY);
	int flags = open("/proc/kpageflags", O_RDONLY);
	long found = 0;

	for (size_t i = 0; i < pages && found >= 0; i++) {
		uint64_t entry, word;
		off_t where = ((uintptr_t)area + i * step) / SMALL * sizeof entry;

		if (pread(map, &entry, sizeof entry, where) != sizeof entry || !(entry >> PRESENT & 1) ||
		    pread(flags, &word, sizeof word, (entry & ((1ULL << 55) - 1)) * sizeof word) != sizeof word)
			found = -1;
		else
			found += (word >> COMPOUND_HEAD & 1) | (word >> COMPOUND_TAIL & 1);
	}
	close(map);
	close(flags);
	return found;
}

/* What the operations are made of. */

static void map_as(int may, int kind)
{
	if (mmap(area, pages * step, may, kind | MAP_FIXED_NOREPLACE, file, 0) != area)
		cannot("mapping the pages");
}

static void map_area(int kind)
{
	map_as(PROT_READ | PROT_WRITE, kind);
}

static void unmap_area(void)
{
	if (munmap(area, pages * step))
		cannot("munmap");
}

static void drop(void)
{
	if (madvise(area, pages * step, MADV_DONTNEED))
		cannot("madvise");
}

static void touch(void)
{
	for (size_t i = 0; i < pages; i++)
		*(volatile char *)(area + i * step) = 1;
}

static void look(void)
{
	for (size_t i = 0; i < pages; i++)
		(void)*(volatile char *)(area + i * step);
}

static void nothing(void)
{
}

/* All pages of the file are in the page cache after this, and none is mapped. */
static void fill_file(void)
{
	step = SMALL;
	if (ftruncate(file, pages * SMALL))
		cannot("making the file");
	map_area(MAP_SHARED);
	touch();
	compound = count_compound();
	unmap_area();
}

static void memory_file(void)
{
	file = memfd_create("workload", MFD_CLOEXEC);
	if (file < 0)
		cannot("memfd_create");
	fill_file();
}

static void mapped_file(void)
{
	memory_file();
	map_area(MAP_SHARED);
}

static void readable_file(void)
{
	memory_file();
	map_as(PROT_READ, MAP_SHARED);
}

static void touched_file(void)
{
	mapped_file();
	touch();
}

static void private_file(void)
{
	memory_file();
	map_area(MAP_PRIVATE);
}

static void file_in_folder(void)
{
	char name[4096];

	snprintf(name, sizeof name, "%s/workload-XXXXXX", folder);
	file = mkstemp(name);
	if (file < 0 || unlink(name))
		cannot(folder);
	fill_file();
}

static void mapped_anonymous(void)
{
	step = SMALL;
	map_area(MAP_PRIVATE | MAP_ANONYMOUS);
	touch();
	compound = count_compound();
	drop();
}

static void touched_anonymous(void)
{
	mapped_anonymous();
	touch();
}

static void map_hugetlb(size_t bytes)
{
	file = memfd_create("workload", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	if (file < 0 || ftruncate(file, (bytes + HUGE - 1) / HUGE * HUGE))
		cannot("making a file of hugetlb pages");
	map_area(MAP_SHARED);
	touch();
	compound = count_compound();
}

static void mapped_hugetlb(void)
{
	step = HUGE;
	map_hugetlb(pages * step);
}

static void close_file(void)
{
	if (file >= 0)
		close(file);
	file = -1;
}

static void unmap_and_close(void)
{
	/* A hugetlb mapping ends only at the end of a hugepage. */
	if (munmap(area, (pages * step + HUGE - 1) / HUGE * HUGE))
		cannot("munmap");
	close_file();
}

/* The pages of one hugepage after the other: the head, then its tails. */
static void pages_of_hugetlb(void)
{
	size_t wanted = pages;

	step = HUGE;
	pages = (wanted * SMALL + HUGE - 1) / HUGE;
	map_hugetlb(pages * step);
	step = SMALL;
	pages = wanted;
	compound = count_compound();
}

static void map_populated(void)
{
	map_area(MAP_SHARED | MAP_POPULATE);
}

/* A futex that is not private is found by its page: get_user_pages_fast() of one page, and its put. */
static void wake(void)
{
	for (size_t i = 0; i < pages; i++)
		if (syscall(SYS_futex, area + i * step, FUTEX_WAKE, 1, NULL, NULL, 0) != 0)
			cannot("futex");
}

static void read_bytes(void)
{
	char byte;

	for (size_t i = 0; i < pages; i++)
		if (pread(file, &byte, 1, i * step) != 1)
			cannot("pread");
}

static void fork_and_exit(void)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(0);
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		cannot("fork");
}

/* Two instructions a round, whatever the compiler. */
void loop(size_t rounds)
{
	__asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(rounds) : : "cc");
}

static void loop_pages(void)
{
	loop(pages);
}

const struct operation operations[] = {
	{ "calibrate", LOOPS, "a loop of two instructions, to see that they are counted",
	  nothing, nothing, loop_pages, nothing, nothing },
	{ "map", SMALL_PAGES, "mmap(MAP_SHARED | MAP_POPULATE) of a memfd whose pages are there",
	  memory_file, nothing, map_populated, unmap_area, close_file },
	{ "fault-anon", SMALL_PAGES, "write to a private anonymous page that is not there",
	  mapped_anonymous, nothing, touch, drop, unmap_and_close },
	{ "fault-file", SMALL_PAGES, "write to a page of a shared memfd that is there but not mapped",
	  mapped_file, nothing, touch, drop, unmap_and_close },
	{ "fault-cow", SMALL_PAGES, "write to a page of a private memfd that is mapped for reading",
	  private_file, look, touch, drop, unmap_and_close },
	{ "fault-hugetlb", HUGE_PAGES, "write to a 2 MiB page of a shared memfd that is there but not mapped",
	  mapped_hugetlb, drop, touch, nothing, unmap_and_close },
	{ "zap-anon", SMALL_PAGES, "madvise(MADV_DONTNEED) of private anonymous pages, which frees them",
	  mapped_anonymous, touch, drop, nothing, unmap_and_close },
	{ "zap-file", SMALL_PAGES, "madvise(MADV_DONTNEED) of pages of a shared memfd mapped for reading",
	  readable_file, look, drop, nothing, unmap_and_close },
	{ "zap-hugetlb", HUGE_PAGES, "madvise(MADV_DONTNEED) of 2 MiB pages of a shared memfd",
	  mapped_hugetlb, touch, drop, nothing, unmap_and_close },
	{ "fork", FORK_PAGES, "fork with private anonymous pages, and the child's exit",
	  touched_anonymous, nothing, fork_and_exit, nothing, unmap_and_close },
	{ "gup-file", SMALL_PAGES, "futex(FUTEX_WAKE) on a page of a shared memfd: get_user_pages_fast()",
	  touched_file, nothing, wake, nothing, unmap_and_close },
	{ "gup-hugetlb", SMALL_PAGES, "futex(FUTEX_WAKE) on the 4 KiB pages of a hugetlb page, almost all tails",
	  pages_of_hugetlb, nothing, wake, nothing, unmap_and_close },
	{ "read", SMALL_PAGES, "pread() of one byte of a page in the page cache",
	  file_in_folder, nothing, read_bytes, nothing, close_file },
};

const size_t operation_count = sizeof operations / sizeof operations[0];
