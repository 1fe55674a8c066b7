/*
 * Does one thing to many pages, so that what a page costs the kernel can be counted.
 *
 *   workload list                               what there is to do, as JSON
 *   workload measure OPERATION PAGES TIMES      time-stamps of PAGES and of 2 * PAGES pages, as JSON
 *   workload run OPERATION PAGES TIMES          the same work without time-stamps, for a recorder
 *
 *   -f FOLDER   where `read` makes its file (default: here); its file system is what is read from
 *   -g CGROUP   only while it works, be in this cgroup, so that a recorder can tell the work from
 *               what comes before and after it
 *
 * Where the time-stamp counter counts instructions (QEMU with -icount shift=0), so does `measure`.
 * Exit status: 0; 2 usage; 3 this machine cannot do it (one line why).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "operations.h"

#define MOST_TIMES 10000
#define MOST_PAGES 1000000
#define WARM_UP 5

static const char *cgroup;

void fail(int status, const char *format, ...)
{
	va_list arguments;

	fputs("workload: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(status);
}

void cannot(const char *what)
{
	fail(3, "%s: %s", what, strerror(errno));
}

static void list(void)
{
	for (size_t i = 0; i < operation_count; i++)
		printf("%s{\"operation\": \"%s\", \"pages\": %zu, \"what\": \"%s\"}%s\n", i ? " " : "[",
		       operations[i].name, operations[i].pages, operations[i].what,
		       i + 1 < operation_count ? "," : "]");
}

static const struct operation *find(const char *name)
{
	for (size_t i = 0; i < operation_count; i++)
		if (!strcmp(operations[i].name, name))
			return &operations[i];
	fail(2, "there is no operation %s; `workload list` says which there are", name);
	return NULL;
}

static size_t number(const char *text, size_t most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || value < 1 || value > most)
		fail(2, "%s is no number from 1 to %zu", text, most);
	return value;
}

static uint64_t time_stamp(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/*
 * Return just after a timer's tick and what it wakes, so that the next one is as far away as can be:
 * some millions of instructions. Where no tick is seen, go on after a while.
 */
static void wait_for_tick(void)
{
	enum { DELAY = 200, TICK = 1500, QUIET = 30000, ENOUGH = 25000000 };
	uint64_t start = time_stamp(), last = start, tick = 0;

	while (last - start < ENOUGH && (!tick || last - tick < QUIET)) {
		uint64_t now;

		loop(DELAY);
		now = time_stamp();
		if (now - last > TICK)
			tick = now;
		last = now;
	}
}

static void measure_pages(const struct operation *operation, size_t wanted, size_t times, uint64_t *ticks)
{
	pages = wanted;
	operation->setup();
	for (size_t i = 0; i < WARM_UP + times; i++) {
		uint64_t start, end;

		operation->prepare();
		wait_for_tick();
		start = time_stamp();
		operation->work();
		end = time_stamp();
		operation->tidy();
		ticks[i < WARM_UP ? 0 : i - WARM_UP] = end - start;
	}
	operation->end();
}

static void measure(const struct operation *operation, size_t wanted, size_t times)
{
	static uint64_t ticks[2][MOST_TIMES];
	size_t sizes[2] = { wanted, 2 * wanted };

	/* So that no time is taken by the first touch of where times are kept. */
	memset(ticks, 1, sizeof ticks);
	for (int size = 0; size < 2; size++)
		measure_pages(operation, sizes[size], times, ticks[size]);
	printf("{\"operation\": \"%s\", \"compound\": ", operation->name);
	printf(compound < 0 ? "null" : "%ld", compound);
	printf(", \"sizes\": [");
	for (int size = 0; size < 2; size++) {
		printf("%s{\"pages\": %zu, \"ticks\": [", size ? ", " : "", sizes[size]);
		for (size_t i = 0; i < times; i++)
			printf("%s%" PRIu64, i ? ", " : "", ticks[size][i]);
		printf("]}");
	}
	printf("]}\n");
}

static void enter(const char *parent, const char *group)
{
	char path[4096];
	int procs;

	snprintf(path, sizeof path, "%s%s/cgroup.procs", parent, group);
	procs = open(path, O_WRONLY | O_CLOEXEC);
	if (procs < 0 || write(procs, "0", 1) != 1)
		cannot(path);
	close(procs);
}

static void run(const struct operation *operation, size_t wanted, size_t times)
{
	pages = wanted;
	operation->setup();
	for (size_t i = 0; i < times; i++) {
		operation->prepare();
		if (cgroup)
			enter(cgroup, "");
		operation->work();
		if (cgroup)
			enter(cgroup, "/..");
		operation->tidy();
	}
	operation->end();
	printf("{\"operation\": \"%s\", \"units\": %zu}\n", operation->name, wanted * times);
}

int main(int count, char **arguments)
{
	int option;

	while ((option = getopt(count, arguments, "+f:g:")) != -1) {
		if (option == 'f')
			folder = optarg;
		else if (option == 'g')
			cgroup = optarg;
		else
			return 2;
	}
	arguments += optind;
	count -= optind;
	if (count == 1 && !strcmp(arguments[0], "list")) {
		list();
		return 0;
	}
	if (count != 4)
		fail(2, "usage: workload [-f FOLDER] [-g CGROUP] list|measure|run [OPERATION PAGES TIMES]");
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		cannot("switching transparent hugepages off");
	const struct operation *operation = find(arguments[1]);
	size_t wanted = number(arguments[2], MOST_PAGES);

	if (!strcmp(arguments[0], "measure"))
		measure(operation, wanted, number(arguments[3], MOST_TIMES));
	else if (!strcmp(arguments[0], "run"))
		run(operation, wanted, number(arguments[3], SIZE_MAX / MOST_PAGES));
	else
		fail(2, "there is no command %s", arguments[0]);
	return 0;
}
