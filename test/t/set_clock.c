/*
 * A server whose time of day a test sets; for 027_clock_set_back.pl, which compiles it and
 * has it preloaded by the dynamic linker.
 *
 * The file that CLOCK_SHIFT names has 8 bytes: the time of day is so many seconds later.
 * The steady clock stays as it is.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *shift = NULL;

__attribute__((constructor)) static void
map_shift(void)
{
	const char *name = getenv("CLOCK_SHIFT");
	int file = name ? open(name, O_RDONLY) : -1;
	void *mapped =
		file >= 0 ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;

	if (mapped != MAP_FAILED)
		shift = mapped;
}

/* They are called by signal handlers, too. */
time_t
time(time_t *now)
{
	struct timespec real;

	clock_gettime(CLOCK_REALTIME, &real);
	real.tv_sec += shift ? *shift : 0;
	if (now)
		*now = real.tv_sec;
	return real.tv_sec;
}

int
gettimeofday(struct timeval *now, void *zone)
{
	struct timespec real;

	clock_gettime(CLOCK_REALTIME, &real);
	now->tv_sec = real.tv_sec + (shift ? *shift : 0);
	now->tv_usec = real.tv_nsec / 1000;
	return 0;
}
