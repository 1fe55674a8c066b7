// Maps one page of a file, shared, and lets it go again, as many times as it is told to.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int count, char **words)
{
	int file = memfd_create("zap", 0);
	volatile char *page;
	long times = count > 1 ? atol(words[1]) : 0;

	if (file < 0 || ftruncate(file, 4096))
		return 2;
	page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (page == MAP_FAILED)
		return 2;
	while (times-- > 0) {
		page[0] = 1;
		if (madvise((void *)page, 4096, MADV_DONTNEED))
			return 2;
	}
	return 0;
}
