/*
 * Keeps a kernel's hugepages, and the memory around them, moving until its standard input ends, and then
 * prints, as JSON, how often it did what. Each of `movers` is a process; what one of them cannot do on a
 * kernel or a machine it does not count, and goes on. With any argument HVO is left as it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HUGE ((size_t)2 << 20)
#define MOST_PAGES 48   /* of the pool of 2 MiB pages */
#define MAPPED_PAGES 8  /* at once, of that pool; a fork may double them */
#define THP_PAGES 8
#define MOST_BLOCKS 256
#define SPAN 8
#define PATIENCE 2 /* seconds for memory to go offline: the kernel itself would go on for ever */

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define GIGANTIC "/sys/kernel/mm/hugepages/hugepages-1048576kB/"
#define SWITCH "/proc/sys/vm/hugetlb_optimize_vmemmap"
#define BLOCK "/sys/devices/system/memory/memory%d/%s"

static struct {
	int ended;
	long grows, shrinks, flips;
	long faults, copies, forks;
	long thp_faults, thp_splits;
	long offlines, onlines;
	long compactions;
	long demotions, gigantic_grows;
} *counts;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int on(void)
{
	return !__atomic_load_n(&counts->ended, __ATOMIC_RELAXED);
}

/* Whoever moves hugepages pauses for every other span of so many seconds, all at the same time. */
static int resting(void)
{
	return (long)now() / SPAN % 2;
}

static void rest(void)
{
	while (on() && resting())
		usleep(50000);
}

static void count(long *what)
{
	__atomic_fetch_add(what, 1, __ATOMIC_RELAXED);
}

static int put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC), done;

	if (file < 0)
		return 0;
	done = write(file, text, strlen(text)) > 0;
	close(file);
	return done;
}

static int get(const char *path, char *text, size_t size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? -1 : read(file, text, size - 1);

	if (file >= 0)
		close(file);
	text[length < 0 ? 0 : length] = 0;
	return length >= 0;
}

static long number(const char *path)
{
	char text[64];

	return get(path, text, sizeof text) ? atol(text) : -1;
}

/* The pool of 2 MiB pages. */

static void resize(long wanted)
{
	long before = number(POOL "nr_hugepages"), after;
	char text[32];

	snprintf(text, sizeof text, "%ld", wanted);
	put(POOL "nr_hugepages", text);
	after = number(POOL "nr_hugepages");
	if (after != before)
		count(after > before ? &counts->grows : &counts->shrinks);
}

static int may_flip = 1;

static void flip(void)
{
	if (may_flip && put(SWITCH, number(SWITCH) ? "0" : "1"))
		count(&counts->flips);
}

/*
 * Wildly; then to and fro between two sizes, about as often as a scan reads again, so that each of its looks
 * may see the same; then not at all, so that a scan can hold the kernel's counters against what it finds.
 */
static void pool(void)
{
	long size = 0;

	for (long turn = 0; on(); turn++) {
		int to_and_fro = turn / 20 % 2;

		rest();
		if (!to_and_fro)
			size = random() % MOST_PAGES;
		resize(size);
		flip();
		usleep(random() % 60000);
		resize(to_and_fro ? size + 8 : random() % 8);
		usleep(random() % 60000);
	}
}

/* Processes that use them. */

static pid_t spawn(void)
{
	pid_t child = fork();

	if (child > 0)
		count(&counts->forks);
	return child;
}

static void use(int wanted)
{
	char *pages = mmap(0, wanted * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (pages == MAP_FAILED) /* and so not reserved */
		return;
	for (int i = 0; i < wanted; i++) {
		pages[i * HUGE] = 1;
		count(&counts->faults);
	}
	if (spawn() == 0) {
		for (int i = 0; i < wanted; i++) {
			pages[i * HUGE] = 2;
			count(&counts->copies);
		}
		_exit(0);
	}
	wait(0);
	usleep(random() % 30000);
}

/* In a process of its own each time, which is killed where the pool has no page for it after all. */
static void map(void)
{
	while (on()) {
		int wanted = 1 + random() % MAPPED_PAGES;

		rest();
		if (spawn() == 0) {
			use(wanted);
			_exit(0);
		}
		wait(0);
		usleep(random() % 30000);
	}
}

/* Transparent hugepages, which come, are split, and go; and small pages between them. */
static void transparent(void)
{
	while (on()) {
		char *area = mmap(0, (THP_PAGES + 1) * HUGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		char *pages = (char *)(((size_t)area + HUGE - 1) & ~(HUGE - 1));

		if (area == MAP_FAILED)
			continue;
		madvise(pages, THP_PAGES * HUGE, MADV_HUGEPAGE);
		for (int i = 0; i < THP_PAGES; i++) {
			pages[i * HUGE] = 1;
			count(&counts->thp_faults);
		}
		for (int i = 0; i < THP_PAGES; i += 2) {
			if (!madvise(pages + i * HUGE, HUGE / 2, MADV_DONTNEED))
				count(&counts->thp_splits);
			madvise(pages + i * HUGE, HUGE, MADV_NOHUGEPAGE);
			for (size_t at = 0; at < HUGE / 2; at += 4096)
				pages[i * HUGE + at] = 1;
		}
		usleep(random() % 60000);
		munmap(area, (THP_PAGES + 1) * HUGE);
		usleep(random() % 200000);
	}
}

/* Memory that goes offline and comes back. */

static void interrupted(int signal)
{
	(void)signal;
}

static int offline(int block)
{
	char path[128], zones[64], state[64];
	struct itimerval patience = { .it_value.tv_sec = PATIENCE }, none = { 0 };
	int gone;

	snprintf(path, sizeof path, BLOCK, block, "state");
	if (!get(path, state, sizeof state) || strncmp(state, "online", 6))
		return 0;
	snprintf(path, sizeof path, BLOCK, block, "valid_zones");
	get(path, zones, sizeof zones);
	snprintf(path, sizeof path, BLOCK, block, "state");
	setitimer(ITIMER_REAL, &patience, 0);
	gone = put(path, "offline");
	setitimer(ITIMER_REAL, &none, 0);
	if (!gone)
		return 0;
	count(&counts->offlines);
	usleep(random() % 300000);
	if (put(path, strstr(zones, "Movable") ? "online_movable" : "online"))
		count(&counts->onlines);
	return 1;
}

static void blocks(void)
{
	struct sigaction action = { .sa_handler = interrupted }; /* and no SA_RESTART */

	sigaction(SIGALRM, &action, 0);
	while (on()) {
		int done = 0;

		for (int block = MOST_BLOCKS; block-- > 0 && done < 3 && on();)
			done += offline(block);
		usleep(random() % 200000);
		if (put("/proc/sys/vm/compact_memory", "1"))
			count(&counts->compactions);
	}
}

/* A 1 GiB page that becomes 512 of 2 MiB, and is put together again where the kernel finds the memory. */
static void gigantic(void)
{
	while (on()) {
		sleep(4);
		rest();
		if (number(GIGANTIC "free_hugepages") > 0) {
			if (put(GIGANTIC "demote", "1"))
				count(&counts->demotions);
		} else if (number(GIGANTIC "nr_hugepages") == 0) {
			put(GIGANTIC "nr_hugepages", "1");
			if (number(GIGANTIC "nr_hugepages") == 1)
				count(&counts->gigantic_grows);
		}
	}
}

static void (*const movers[])(void) = { pool, map, transparent, blocks, gigantic };
#define MOVERS (sizeof movers / sizeof *movers)

int main(int words, char **arguments)
{
	(void)arguments;
	pid_t children[MOVERS];
	int failed = 0;
	char end;

	may_flip = words == 1;
	counts = mmap(0, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < MOVERS; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			srandom(i + 1);
			nice(10); /* whoever looks at all this shall come to it */
			movers[i]();
			_exit(0);
		}
	}
	while (read(0, &end, 1) > 0)
		;
	__atomic_store_n(&counts->ended, 1, __ATOMIC_RELAXED);
	for (size_t i = 0; i < MOVERS; i++) {
		int status;

		waitpid(children[i], &status, 0);
		if (status) {
			fprintf(stderr, "mover %zu ended with wait status %d\n", i, status);
			failed = 1;
		}
	}
	resize(0);
	printf("{\"grows\": %ld, \"shrinks\": %ld, \"flips\": %ld, ", counts->grows, counts->shrinks, counts->flips);
	printf("\"faults\": %ld, \"copies\": %ld, \"forks\": %ld, ", counts->faults, counts->copies, counts->forks);
	printf("\"thp_faults\": %ld, \"thp_splits\": %ld, ", counts->thp_faults, counts->thp_splits);
	printf("\"offlines\": %ld, \"onlines\": %ld, ", counts->offlines, counts->onlines);
	printf("\"compactions\": %ld, ", counts->compactions);
	printf("\"demotions\": %ld, \"gigantic_grows\": %ld}\n", counts->demotions, counts->gigantic_grows);
	return failed;
}
