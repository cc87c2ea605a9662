/* What the bench freezes: `victim memory MIB | areas N | files N`. It writes the file `ready` and waits for ever. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static char *map(size_t len)
{
	char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		exit(1);
	return at;
}

static void memory(size_t mib)
{
	char *at = map(mib << 20);
	for (size_t i = 0; i < mib << 20; i++)
		at[i] = (char)(i * 2654435761u >> 13);
}

/* Neighbours differ in their protection, so that each page is an area. */
static void areas(size_t count)
{
	char *at = map(count * 4096);
	for (size_t i = 0; i < count; i++) {
		at[i * 4096] = 1;
		if (i % 2 && mprotect(at + i * 4096, 4096, PROT_READ))
			exit(1);
	}
}

static void files(size_t count)
{
	struct rlimit limit;
	char name[32];
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof name, "file-%zu", i);
		int fd = open(name, O_CREAT | O_RDWR, 0600);
		if (fd < 0 || write(fd, name, strlen(name)) < 0)
			exit(1);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	/* What our caller left open may lead out of the tree. */
	close_range(3, ~0U, 0);
	size_t count = strtoul(argv[2], NULL, 10);
	if (!strcmp(argv[1], "memory"))
		memory(count);
	else if (!strcmp(argv[1], "areas"))
		areas(count);
	else
		files(count);
	close(open("ready", O_CREAT | O_WRONLY, 0600));
	for (;;)
		pause();
}
