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
 * What is known of suspects has a checksum of its own, and is written when no attempt is
 * noted, or before the attempt that it comes from is taken back: so whoever dies in the
 * middle of one or the other leaves the other.
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
#define MAGIC 0x50504133 /* with another layout, another one */
#define MAX_CULPRITS 8	 /* with more of them the oldest is a suspect again */
#define ENOUGH 4		 /* times that a worker was killed with the same item in hand */
#define STACK_SIZE 32768 /* for the handler of a crash: the worker's own may be used up */

/* Whose file it is */
typedef struct Owner
{
	uint32 magic;
	Oid database;
	Oid extension;
	char boot[40]; /* the kernel's name for its run */
} Owner;

/* An item that was tried alone when a worker ended, or was being buried */
typedef struct Culprit
{
	uint64 pos;
	uint32 part;
	uint8 deaths;		 /* of workers; it is a culprit when they are ENOUGH */
	uint8 burial_deaths; /* then its values can't be shown */
} Culprit;

typedef struct Suspects
{
	uint64 from; /* from here ... */
	uint64 to;	 /* ... to there; 0: there are none */
	uint32 nculprits;
	Culprit culprits[MAX_CULPRITS];
} Suspects;

typedef struct Notes
{
	Owner owner;
	Suspects suspects;
	pg_crc32c suspects_crc; /* with the owner */
	PpAttempt attempt;
	pg_crc32c attempt_crc; /* the same */

	/* of the attempt; not in its sum, so that one store is enough */
	uint32 excused;
	uint32 blamed;

	int pid; /* of the worker that opened it last */
} Notes;

static volatile Notes *file = NULL; /* NULL: not open; then nothing outlives us */
static Owner owner;
static Suspects suspects; /* as in the file */
static char path[MAXPGPATH];

static pg_crc32c
get_crc(const void *data, size_t size)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &owner, sizeof(owner));
	COMP_CRC32C(crc, data, size);
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
 * What the file has, as far as it is ours and good.  It is made as large as it has to be,
 * and written to: to store into a page that the disk has no room for is SIGBUS.
 */
static bool
read_or_init(int fd, Notes *found)
{
	char page[FILE_SIZE] = {0};

	if (pread(fd, page, FILE_SIZE, 0) < 0)
		return false;
	memcpy(found, page, sizeof(Notes));
	if (memcmp(&found->owner, &owner, sizeof(Owner)) != 0)
	{
		memset(page, 0, FILE_SIZE);
		memset(found, 0, sizeof(Notes));
		memcpy(page, &owner, sizeof(Owner));
	}
	if (found->suspects_crc != get_crc(&found->suspects, sizeof(Suspects)))
		memset(&found->suspects, 0, sizeof(Suspects));
	if (found->attempt_crc != get_crc(&found->attempt, sizeof(PpAttempt)) || found->excused)
		memset(&found->attempt, 0, sizeof(PpAttempt));
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

/* A crash; or another process wants it to look like one. */
static void
crash(int signal, siginfo_t *info, void *context)
{
	if (info->si_code <= 0 && info->si_pid != MyProcPid)
		pp_attempt_excuse();
	else
		pp_attempt_blame();
	raise(signal); /* now it means what it always does */
}

static void
watch_crashes(void)
{
	static const int signals[] = {SIGABRT, SIGBUS, SIGILL, SIGSEGV};
	static char stack_bytes[STACK_SIZE];
	stack_t stack = {.ss_sp = stack_bytes, .ss_size = STACK_SIZE};
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESETHAND | SA_ONSTACK};

	action.sa_sigaction = crash;
	sigemptyset(&action.sa_mask);
	(void) sigaltstack(&stack, NULL);
	for (int i = 0; i < lengthof(signals); i++)
		(void) sigaction(signals[i], &action, NULL);
}

static volatile Notes *
map_file(Notes *found)
{
	void *map = MAP_FAILED;
	int fd = BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);

	if (fd >= 0 && read_or_init(fd, found))
		map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		ereport(LOG, (errcode_for_file_access(), errmsg("could not map file \"%s\": %m", path),
					  errdetail("Items that crash the server will not be found out.")));
	if (fd >= 0)
		close(fd);
	return map == MAP_FAILED ? NULL : map;
}

static void
store_suspects(void)
{
	if (file == NULL)
		return;
	memcpy((void *) &file->suspects, &suspects, sizeof(Suspects));
	pg_write_barrier();
	file->suspects_crc = get_crc(&suspects, sizeof(Suspects));
	pg_write_barrier();
}

static Culprit *
find_culprit(uint64 pos, uint32 part)
{
	for (int i = 0; i < suspects.nculprits; i++)
	{
		if (suspects.culprits[i].pos == pos && suspects.culprits[i].part == part)
			return &suspects.culprits[i];
	}
	return NULL;
}

static void
remove_culprit(Culprit *culprit)
{
	Culprit *last = &suspects.culprits[--suspects.nculprits];

	memmove(culprit, culprit + 1, (last - culprit) * sizeof(Culprit));
	memset(last, 0, sizeof(Culprit));
}

static void
add_suspects(uint64 from, uint64 to)
{
	suspects.from = suspects.to > 0 ? Min(suspects.from, from) : from;
	suspects.to = Max(suspects.to, to);
}

static void
count(uint8 *deaths, bool blamed)
{
	*deaths = blamed ? ENOUGH : Min(*deaths + 1, ENOUGH);
}

/* A worker has ended while it was at that. */
static void
accuse(const PpAttempt *attempt, bool blamed)
{
	Culprit *culprit;

	add_suspects(attempt->from, attempt->to);
	if (!attempt->alone)
		return;
	culprit = find_culprit(attempt->from, attempt->part);
	if (culprit == NULL)
	{
		if (suspects.nculprits == MAX_CULPRITS)
			remove_culprit(&suspects.culprits[0]);
		culprit = &suspects.culprits[suspects.nculprits++];
		culprit->pos = attempt->from;
		culprit->part = attempt->part;
	}
	count(attempt->burying ? &culprit->burial_deaths : &culprit->deaths, blamed);
}

uint64
pp_attempt_open(Oid database, Oid extension, const char *kind)
{
	Notes found = {.pid = 0};

	snprintf(path, sizeof(path), "%s/persist_pipeline.%u.%s%sattempt", PG_STAT_TMP_DIR, database,
			 kind ? kind : "", kind ? "." : "");
	memset(&owner, 0, sizeof(owner));
	owner.magic = MAGIC;
	owner.database = database;
	owner.extension = extension;
	get_boot(owner.boot, sizeof(owner.boot));

	file = map_file(&found);
	if (file == NULL)
		return 0;

	/* from here on it is known, whatever ends us before we try anything */
	suspects = found.suspects;
	if (found.attempt.items > 0)
		accuse(&found.attempt, found.blamed);
	file->pid = MyProcPid;
	store_suspects();
	pp_attempt_note(NULL);
	pqsignal(SIGQUIT, quit);
	watch_crashes();

	return found.attempt.items;
}

/* Whoever dies in the middle of it leaves no note: nothing has been tried yet. */
void
pp_attempt_note(const PpAttempt *attempt)
{
	static const PpAttempt nothing = {0};
	const PpAttempt *note = attempt ? attempt : &nothing;

	if (file == NULL)
		return;
	memcpy((void *) &file->attempt, note, sizeof(PpAttempt));
	pg_write_barrier();
	file->attempt_crc = get_crc(note, sizeof(PpAttempt));
	pg_write_barrier();
	file->blamed = false;
	file->excused = false; /* last: until now it excuses the one before */
}

void
pp_attempt_excuse(void)
{
	if (file)
		file->excused = true;
}

void
pp_attempt_blame(void)
{
	if (file)
		file->blamed = true;
}

void
pp_attempt_suspect(uint64 from, uint64 to)
{
	add_suspects(from, to);
	store_suspects();
}

bool
pp_attempt_is_suspect(uint64 pos)
{
	return pos >= suspects.from && pos <= suspects.to && suspects.to > 0;
}

PpGuilt
pp_attempt_guilt(uint64 pos, uint32 part)
{
	Culprit *culprit = find_culprit(pos, part);

	if (culprit && culprit->burial_deaths == ENOUGH)
		return PP_CULPRIT_UNSHOWN;
	return culprit && culprit->deaths == ENOUGH ? PP_CULPRIT : PP_INNOCENT;
}

void
pp_attempt_close_case(uint64 pos, uint32 part)
{
	Culprit *culprit = find_culprit(pos, part);

	if (culprit == NULL)
		return;
	remove_culprit(culprit);
	store_suspects();
}

void
pp_attempt_acquit(void)
{
	if (suspects.to == 0)
		return;
	memset(&suspects, 0, sizeof(suspects));
	store_suspects();
}

/*
 * Leave the file where it says something, or another worker has opened it (of an idle
 * one's lane, that one may still be on its way out).
 */
void
pp_attempt_close(void)
{
	volatile Notes *map = file;

	if (map == NULL)
		return;
	file = NULL;
	if (map->pid == MyProcPid && suspects.to == 0 && (map->attempt.items == 0 || map->excused))
		(void) unlink(path);
	(void) munmap((void *) map, FILE_SIZE);
}
