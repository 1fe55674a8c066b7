/* What the workload can do: see workload.c. */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#include <stddef.h>

struct operation {
	const char *name;
	size_t pages;           /* measured beside twice as many */
	const char *what;
	void (*setup)(void);    /* once */
	void (*prepare)(void);  /* before each time */
	void (*work)(void);     /* what is measured */
	void (*tidy)(void);     /* after each time */
	void (*end)(void);      /* once */
};

extern const struct operation operations[];
extern const size_t operation_count;

extern size_t pages;        /* how many are worked on; set before setup() */
extern const char *folder;  /* where a file is made that shall be in a file system */
extern long compound;       /* how many of the pages are in folios of more than one; -1: not known */

void loop(size_t rounds);   /* two instructions a round, and a few */
void fail(int status, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
void cannot(const char *what) __attribute__((noreturn));

#endif
