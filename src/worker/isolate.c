/*-------------------------------------------------------------------------
 *
 * isolate.c
 *	  Which of n rows to try next; see isolate.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/isolate.h"

#define DENSE_STREAK 4 /* out in a row; the next one may be so, too */
#define FEW_FOUND 2	   /* so few say nothing about how many there are: try ... */
#define FEW_PARTS 8	   /* ... an eighth of all at most, which may be in vain ... */
#define FEW_ROWS 100   /* ... or so many */
#define FEWER 4		   /* that many times fewer rows, after some that have failed together ... */
#define MUCH_FEWER 16  /* ... and after all of them: where the bad ones are may be anywhere */
#define MIN_TOLD 64
#define TAKEN_TOGETHER 32 /* so many that are taken out of the rows of a try */

void
pp_isolate_begin(PpIsolate *iso, uint64 n)
{
	*iso = (PpIsolate){.n = n, .width = n};
}

/* So many, from iso->done on; 0: all are done. */
uint64
pp_isolate_next(const PpIsolate *iso)
{
	return Min(Max(iso->width, 1), iso->n - iso->done);
}

/*
 * So many next, as may be free of those that fail, going by those so far.  A try in vain
 * costs all its rows, one more INSERT next to nothing.
 */
static void
widen(PpIsolate *iso, uint64 n)
{
	uint64 most = iso->n;

	if (!iso->told)
		most = iso->found > FEW_FOUND ? iso->done * 3 / 10 / iso->found
									  : Max(iso->n / FEW_PARTS, FEW_ROWS);
	iso->width = Min(2 * n, Max(most, 1));
	if (iso->done < iso->failing_end)
		iso->width = Min(iso->width, Max((iso->failing_end - iso->done) / 2, 1));
}

void
pp_isolate_passed(PpIsolate *iso, uint64 n)
{
	iso->done += n;
	iso->streak = 0;
	widen(iso, n);
}

/* The first row fails, or one of these rows, this one, if it is not 0. */
void
pp_isolate_failed(PpIsolate *iso, uint64 n, uint64 row)
{
	iso->failing_end = iso->done + n;
	if (row > 0)
	{
		iso->told = n > 1 || iso->told;
		iso->failing = iso->done + row;
		iso->width = row - 1; /* may pass without it, or not */
		return;
	}
	iso->failing = 0;
	iso->told = false;
	iso->width = Max(n / (n == iso->n ? MUCH_FEWER : FEWER), 1);
}

/* Fewer of them may do. */
void
pp_isolate_narrow(PpIsolate *iso, uint64 n)
{
	iso->failing = 0;
	iso->width = Max(n / FEWER, 1);
}

/* Is the next row the one that has been told? */
bool
pp_isolate_is_known(const PpIsolate *iso)
{
	return iso->failing > 0 && iso->done + 1 == iso->failing;
}

/* The next row is out. */
void
pp_isolate_out(PpIsolate *iso)
{
	uint64 apart;

	iso->done++;
	iso->found++;
	iso->streak++;
	iso->failing = 0;
	iso->failing_end = iso->done;
	apart = iso->done / iso->found;
	if (iso->told)
		iso->width = Max(4 * apart, MIN_TOLD); /* more would only be read in vain */
	else
		iso->width = iso->streak >= DENSE_STREAK ? 1 : Max(apart / 4, 1);
}

/*
 * One of the next rows, from 1 on, fails whatever the others do, and before any of them has
 * landed: it is out, and those before it need no try of their own.  They are read again each time;
 * so fewer are tried together where many are bad.
 */
void
pp_isolate_take_out(PpIsolate *iso, uint64 row)
{
	iso->told = true;
	iso->found++;
	iso->width = Min(iso->width, Max(TAKEN_TOGETHER * ((iso->done + row) / iso->found), MIN_TOLD));
	pp_isolate_drop(iso, 1);
}

/* So many of those that are not done are gone, wherever they were. */
void
pp_isolate_drop(PpIsolate *iso, uint64 n)
{
	iso->n -= n;
	iso->failing = 0;
	iso->failing_end = Min(iso->failing_end, iso->n);
	iso->width = Max(iso->width, 1);
}
