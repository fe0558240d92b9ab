/*-------------------------------------------------------------------------
 *
 * attempt.c
 *	  Notes what a worker is trying, in a file that it maps; see attempt.h.
 *
 * A store into the mapping is in the kernel's page cache: it costs nothing and
 * outlives this process and the postmaster.  It need not outlive the machine: an item
 * doesn't switch that off.  So nothing is synced, and a note of before the machine's
 * start, or of another machine, isn't believed.
 *
 * The file is in pg_stat_tmp, which initdb makes and the server leaves to extensions:
 * no start empties it, not even one after a crash; base backups and pg_rewind leave
 * its files out; pg_upgrade doesn't take them along.  In base/<oid> it would be in
 * backups, and in every database that is made with this one as its template.  The
 * price is that a database that is dropped while its note stands leaves its file.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

#include "attempt.h"

#define FILE_SIZE 4096
#define MAGIC 0x50504132 /* with another layout, another one */

typedef struct Note
{
	uint32 magic;
	Oid database;
	char boot[40]; /* the kernel's name for its run */
	PpAttempt attempt;
	pg_crc32c crc; /* of the above */

	uint32 excused; /* not in it, so that one store is enough */
	int owner;		/* pid of the worker that opened it last */
} Note;

static volatile Note *file = NULL; /* NULL: not open, do nothing */
static Note ours;				   /* what was stored there last */
static char path[MAXPGPATH];

/* The note in the file is our own, not the last worker's */
static volatile sig_atomic_t is_ours = false;

static pg_crc32c
get_crc(const Note *note)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, note, offsetof(Note, crc));
	FIN_CRC32C(crc);

	return crc;
}

/* Which run of the kernel is this?  Nothing where that has no name. */
static void
get_boot(char *boot, size_t size)
{
	int fd = BasicOpenFile("/proc/sys/kernel/random/boot_id", O_RDONLY);

	memset(boot, 0, size);
	if (fd < 0)
		return;
	if (read(fd, boot, size) < 0)
		memset(boot, 0, size);
	close(fd);
}

/*
 * The note that the file has, if it's a good one.  Else make it one that says nothing,
 * all of it written: to store into a page that the disk has no room for is SIGBUS.
 */
static bool
read_or_init(int fd, Note *note)
{
	char page[FILE_SIZE] = {0};
	ssize_t n = pread(fd, page, FILE_SIZE, 0);

	if (n < 0)
		return false;
	memcpy(note, page, sizeof(Note));
	if (n == FILE_SIZE && memcmp(note, &ours, offsetof(Note, attempt)) == 0 &&
		note->crc == get_crc(note))
		return true;

	*note = ours;
	memset(page, 0, FILE_SIZE);
	memcpy(page, &ours, sizeof(Note));
	errno = ENOSPC; /* if it writes less */
	return pwrite(fd, page, FILE_SIZE, 0) == FILE_SIZE;
}

/*
 * The postmaster wants everybody to go at once: another process has crashed, or this
 * is an immediate shutdown.  Otherwise it's SignalHandlerForCrashExit.
 */
static void
quit(SIGNAL_ARGS)
{
	pp_attempt_excuse();
	_exit(2);
}

PpAttempt
pp_attempt_open(Oid database)
{
	PpAttempt nothing = {0};
	Note found;
	void *map = MAP_FAILED;
	int fd;

	snprintf(path, sizeof(path), "%s/persist_pipeline.%u.attempt", PG_STAT_TMP_DIR, database);
	memset(&ours, 0, sizeof(ours));
	ours.magic = MAGIC;
	ours.database = database;
	get_boot(ours.boot, sizeof(ours.boot));
	ours.crc = get_crc(&ours);

	fd = BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);
	if (fd >= 0 && read_or_init(fd, &found))
		map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		ereport(LOG, (errcode_for_file_access(), errmsg("could not map file \"%s\": %m", path),
					  errdetail("Items that crash the server will not be found out.")));
	if (fd >= 0)
		close(fd);
	if (map == MAP_FAILED)
		return nothing;

	file = map;
	file->owner = MyProcPid;
	pqsignal(SIGQUIT, quit);

	return found.excused || found.attempt.items == 0 ? nothing : found.attempt;
}

/* Whoever dies in the middle of it leaves no note: nothing has been tried yet. */
void
pp_attempt_note(const PpAttempt *attempt)
{
	if (file == NULL)
		return;
	memset(&ours.attempt, 0, sizeof(ours.attempt));
	if (attempt && attempt->items > 0)
		ours.attempt = *attempt;
	ours.crc = get_crc(&ours);

	file->attempt = ours.attempt;
	pg_write_barrier();
	file->crc = ours.crc;
	is_ours = true;
	pg_write_barrier();
	file->excused = false; /* last: until now it excuses the one before */
}

void
pp_attempt_excuse(void)
{
	if (file && is_ours)
		file->excused = true;
}

/*
 * Leave the file where it isn't ours: its note was never answered, or another worker
 * has opened it (of an idle one's lane, that one may still be on its way out).
 */
void
pp_attempt_close(void)
{
	volatile Note *map = file;

	if (map == NULL)
		return;
	file = NULL;
	if (map->owner == MyProcPid && (is_ours || map->attempt.items == 0 || map->excused))
		(void) unlink(path);
	(void) munmap((void *) map, FILE_SIZE);
}
