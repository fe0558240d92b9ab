/*-------------------------------------------------------------------------
 *
 * poison.c
 *	  Which item has ended a process of ours; see poison.h.
 *
 * A note is one pwrite() into the kernel's page cache: that outlives this process and the
 * postmaster, and a signal handler may do it.  The files are in pg_stat_tmp: no start of a
 * server empties it, base backups and pg_rewind leave its files out, and pg_upgrade doesn't
 * take them along.  A database that is dropped while its note stands leaves its file.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "base/faults.h"
#include "worker/poison.h"

#define MAGIC 0x50504135 /* with another layout, another one */
#define MAX_CONDEMNED 8	 /* with more of them the oldest is a candidate again */
#define ENOUGH 4		 /* ends by nobody knows whom, with the same item at hand */
#define MAX_RELAPSES 3
#define STACK_SIZE 32768 /* for the handler of a crash: the process's own may be used up */
#define MESSAGE_SIZE 200

/* What is being tried, and how that has ended */
typedef struct Attempt
{
	PpAtHand what;
	PpEnd end;
	PpCommitPosition from;
	PpCommitPosition to;
	uint64 items;
	PpCommitPosition item; /* if there is one at hand */
	int sqlstate; /* of a FATAL error; 0: there was none */
	char message[MESSAGE_SIZE];
} Attempt;

typedef struct Condemned
{
	PpCommitPosition item;
	bool fatal;	  /* to insert it has ended a process ... */
	bool unshown; /* to show its values has */
	int sqlstate; /* ... with this error */
	char message[MESSAGE_SIZE];
} Condemned;

/* What is known from how processes have ended */
typedef struct Findings
{
	PpCommitPosition from;
	PpCommitPosition to; /* pos 0: there are no candidates */
	uint64 width;
	bool widened;	/* since it was made less ... */
	int relapses;	/* ... which an end has answered so often */
	/* the item at hand at the last end that neither the process nor anybody known has caused ... */
	PpCommitPosition killed;
	int kills;		/* ... and in how many such ends in a row; 0: there was none */
	int ncondemned;
	Condemned condemned[MAX_CONDEMNED];
} Findings;

typedef struct NoteFile
{
	uint32 magic;
	Oid extension;
	int pid; /* of the process that opened it last */
	Attempt attempt;
	Findings findings;
} NoteFile;

static NoteFile file; /* as we have written it */

static volatile sig_atomic_t fd = -1; /* -1: not open; then nothing outlives us */
static int noted_at; /* the nesting level of the transaction, when an item was noted */
static volatile sig_atomic_t panics = false;
static char path[MAXPGPATH];
static emit_log_hook_type previous_hook;

static Findings *const findings = &file.findings;

static void
write_part(const void *part, size_t size)
{
	if (fd >= 0 && pwrite(fd, part, size, (const char *) part - (const char *) &file) < 0)
		return; /* nobody could be told */
}

static void
write_all(void)
{
	write_part(&file, sizeof(file));
}

/* A caller that has a message adds it. */
static void
write_attempt(void)
{
	write_part(&file.attempt, offsetof(Attempt, message));
}

static int
compare(PpCommitPosition a, uint64 pos, uint32 part)
{
	if (a.pos != pos)
		return a.pos < pos ? -1 : 1;
	return a.part < part ? -1 : a.part > part;
}

static bool
is_same(PpCommitPosition a, PpCommitPosition b)
{
	return compare(a, b.pos, b.part) == 0;
}

/* ---- what the last process has left ---- */

static Condemned *
find_condemned(uint64 pos, uint32 part)
{
	for (int i = 0; i < findings->ncondemned; i++)
	{
		if (compare(findings->condemned[i].item, pos, part) == 0)
			return &findings->condemned[i];
	}
	return NULL;
}

static Condemned *
enter_condemned(PpCommitPosition item)
{
	Condemned *condemned = find_condemned(item.pos, item.part);

	if (condemned)
		return condemned;
	if (findings->ncondemned == MAX_CONDEMNED)
		memmove(findings->condemned, findings->condemned + 1,
				--findings->ncondemned * sizeof(Condemned));
	condemned = &findings->condemned[findings->ncondemned++];
	*condemned = (Condemned){.item = item};
	return condemned;
}

static void
condemn(const Attempt *attempt)
{
	Condemned *condemned = enter_condemned(attempt->item);

	if (attempt->what == PP_AT_HAND_LETTER)
		condemned->unshown = true;
	else
	{
		condemned->fatal = true;
		condemned->sqlstate = attempt->sqlstate;
		memcpy(condemned->message, attempt->message, MESSAGE_SIZE);
	}
	findings->kills = 0;
}

/* A process has ended while it was at that. */
static void
judge(const Attempt *attempt)
{
	bool again = pp_poison_is_candidate(attempt->from.pos, attempt->from.part) ||
				 pp_poison_is_candidate(attempt->to.pos, attempt->to.part);
	bool is_candidate = attempt->what != PP_AT_HAND_ALL &&
				 pp_poison_is_candidate(attempt->item.pos, attempt->item.part);
	bool fewer = again;

	if (!again && !is_candidate)
	{
		findings->width = 0; /* that was about others, which are none any more */
		findings->kills = 0;
	}
	findings->from = attempt->from;
	findings->to = attempt->to;
	if (attempt->what != PP_AT_HAND_ALL && attempt->end == PP_END_BY_ITSELF)
	{
		if (is_candidate)
			condemn(attempt);
		fewer = false;
	}
	else if (attempt->what != PP_AT_HAND_ALL)
	{
		bool known = findings->kills > 0 && is_same(findings->killed, attempt->item);

		findings->killed = attempt->item;
		fewer = !known && findings->kills > 0; /* each time it's another one */
		findings->kills = known ? findings->kills + 1 : 1;
		if (findings->kills == ENOUGH)
		{
			condemn(attempt);
			fewer = false;
		}
	}
	if (!fewer)
		return;
	findings->width = Max(attempt->items / 2, 1);
	findings->relapses += findings->widened;
	findings->widened = false;
}

/* ---- how this one ends ---- */

/* Also called by a signal handler. */
static void
note_end(PpEnd end)
{
	file.attempt.end = end;
	write_part(&file.attempt.end, sizeof(PpEnd));
}

/*
 * A crash; or another process wants it to look like one; or the postmaster wants everybody to
 * go at once.
 */
static void
end_by_signal(int signal, siginfo_t *info, void *context)
{
	bool is_sent = info->si_code <= 0 && info->si_pid != MyProcPid;

	/* a PANIC may be about the disk, or another thing that no item can help */
	note_end(is_sent ? PP_END_BY_OTHERS : panics ? PP_END_UNKNOWN : PP_END_BY_ITSELF);
	if (signal == SIGQUIT)
		_exit(2);  /* as SignalHandlerForCrashExit does */
	raise(signal); /* now it means what it always does */
}

static void
watch_signals(void)
{
	static const int signals[] = {SIGABRT, SIGBUS, SIGILL, SIGQUIT, SIGSEGV};
	static char stack_bytes[STACK_SIZE];
	stack_t stack = {.ss_sp = stack_bytes, .ss_size = STACK_SIZE};
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESETHAND | SA_ONSTACK};

	action.sa_sigaction = end_by_signal;
	sigemptyset(&action.sa_mask);
	(void) sigaltstack(&stack, NULL);
	for (int i = 0; i < lengthof(signals); i++)
		(void) sigaction(signals[i], &action, NULL);
}

/*
 * The item's letter is to tell the error that it ends us with; but a process that had to be
 * ended, since it didn't heed its cancellation, has no error of its own.
 */
static void
note_fatal(ErrorData *error)
{
	Attempt *attempt = &file.attempt;

	panics |= error->elevel == PANIC;
	if (error->elevel == FATAL && error->sqlerrcode != ERRCODE_ADMIN_SHUTDOWN && error->message &&
		attempt->what == PP_AT_HAND_ITEM)
	{
		int length = strlen(error->message);

		length = pg_mbcliplen(error->message, length, MESSAGE_SIZE - 1);
		memcpy(attempt->message, error->message, length);
		attempt->message[length] = '\0';
		attempt->sqlstate = error->sqlerrcode;
		write_part(attempt, sizeof(Attempt));
	}
	if (previous_hook)
		previous_hook(error);
}

/* ---- what is being tried ---- */

static void
clear(void)
{
	if (file.attempt.what == PP_AT_HAND_NOTHING)
		return;
	file.attempt.what = PP_AT_HAND_NOTHING;
	write_attempt();
}

/* The transaction has ended.  One that ends with its process is still being tried. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || (event == XACT_EVENT_ABORT && !proc_exit_inprogress))
		clear();
}

/* The statement that inserts the item has failed; not one of those that it has called. */
static void
at_savepoint_end(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && file.attempt.what > PP_AT_HAND_ALL &&
		GetCurrentTransactionNestLevel() <= noted_at && !proc_exit_inprogress)
		pp_poison_note_item(PP_AT_HAND_ALL, 0, 0);
}

void
pp_poison_note(PpCommitPosition from, PpCommitPosition to, uint64 items)
{
	if (fd < 0)
		return;
	file.attempt = (Attempt){.what = PP_AT_HAND_ALL, .from = from, .to = to, .items = items};
	if (items == 1)
	{
		file.attempt.what = PP_AT_HAND_ITEM;
		file.attempt.item = from;
	}
	noted_at = 0; /* all of it */
	write_attempt();
}

void
pp_poison_note_item(PpAtHand what, uint64 pos, uint32 part)
{
	if (fd < 0 || file.attempt.what == PP_AT_HAND_NOTHING)
		return;
	if (what == PP_AT_HAND_ALL && file.attempt.items == 1)
		what = PP_AT_HAND_ITEM; /* the only one */
	else
		file.attempt.item = (PpCommitPosition){.pos = pos, .part = part};
	file.attempt.what = what;
	noted_at = GetCurrentTransactionNestLevel();
	write_attempt();
}

/* ---- the file ---- */

static void
name_file(char *name, PpPoisonFile kind, Oid database)
{
	snprintf(name, MAXPGPATH, "%s/persist_pipeline.%u.%s", PG_STAT_TMP_DIR, database,
			 kind == PP_POISON_WORKER ? "worker" : "retrier");
}

/* Read it, if it is this installation's. */
static bool
read_poison_file(int from, Oid extension, NoteFile *it)
{
	return pread(from, it, sizeof(*it), 0) == sizeof(*it) && it->magic == MAGIC &&
		   it->extension == extension && it->findings.ncondemned >= 0 &&
		   it->findings.ncondemned <= MAX_CONDEMNED;
}

/*
 * Open and lock it.  The one before us may remove it until we have the lock: then the file
 * that we have opened has no name any more.
 */
static int
open_locked(void)
{
	struct stat status;
	int it;

	for (;;)
	{
		it = BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);
		if (it < 0)
			return -1;
		(void) flock(it, LOCK_EX);
		if (fstat(it, &status) < 0 || status.st_nlink > 0)
			return it;
		(void) close(it);
	}
}

/* Read what there is, as far as it is this installation's. */
static bool
read_or_init(Oid extension)
{
	fd = open_locked();
	if (fd < 0)
		return false;
	ReserveExternalFD();
	if (!read_poison_file(fd, extension, &file))
	{
		memset(&file, 0, sizeof(file));
		file.magic = MAGIC;
		file.extension = extension;
	}
	return true;
}

uint64
pp_poison_open(PpPoisonFile kind, Oid database, Oid extension)
{
	uint64 items = 0;

	name_file(path, kind, database);
	if (!read_or_init(extension))
	{
		ereport(LOG, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path),
					  errdetail("Items that crash the server will not be found out.")));
		return 0;
	}

	/*
	 * in one write: if this process ends before it tries anything, the file has either the old
	 * note or the new one
	 */
	if (file.attempt.what != PP_AT_HAND_NOTHING && file.attempt.end != PP_END_BY_OTHERS)
	{
		items = file.attempt.items;
		judge(&file.attempt);
	}
	memset(&file.attempt, 0, sizeof(Attempt));
	file.pid = MyProcPid;
	write_all();
	(void) flock(fd, LOCK_UN);

	watch_signals();
	previous_hook = emit_log_hook;
	emit_log_hook = note_fatal;
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_savepoint_end, NULL);
	return items;
}

/* Add the candidates of another process to ours. */
static void
add(const Findings *its)
{
	if (findings->to.pos == 0 ||
		compare(its->from, findings->from.pos, findings->from.part) < 0)
		findings->from = its->from;
	if (compare(its->to, findings->to.pos, findings->to.part) > 0)
		findings->to = its->to;
	if (findings->width == 0 || (its->width > 0 && its->width < findings->width))
		findings->width = its->width;
	if (findings->kills == 0)
	{
		findings->killed = its->killed;
		findings->kills = its->kills;
	}
	for (int i = 0; i < its->ncondemned; i++)
	{
		if (find_condemned(its->condemned[i].item.pos, its->condemned[i].item.part) == NULL)
			*enter_condemned(its->condemned[i].item) = its->condemned[i];
	}
}

void
pp_poison_take_over(void)
{
	static NoteFile its;
	char its_path[MAXPGPATH];
	int its_fd;

	if (fd < 0)
		return;
	name_file(its_path, PP_POISON_WORKER, MyDatabaseId);
	its_fd = BasicOpenFile(its_path, O_RDONLY | PG_BINARY);
	if (its_fd < 0)
		return; /* the worker has left, and nothing to say */
	if (read_poison_file(its_fd, file.extension, &its) && its.findings.to.pos > 0)
	{
		add(&its.findings);
		write_all();
	}
	(void) close(its_fd);
}

void
pp_poison_mute(void)
{
	fd = -1;
}

void
pp_poison_note_outlived(void)
{
	static const char message[] =
		"its code went on after its cancellation due to \"persist_pipeline.statement_timeout\"";
	Attempt *attempt = &file.attempt;

	StaticAssertStmt(sizeof(message) <= MESSAGE_SIZE, "the message has to fit");
	if (attempt->what != PP_AT_HAND_ITEM)
		return;
	attempt->sqlstate = ERRCODE_QUERY_CANCELED;
	memcpy(attempt->message, message, sizeof(message));
	write_part(attempt, sizeof(Attempt));
}

/*
 * Leave the file where it says something, or another process has opened it (of an idle one's
 * slot, that one may still be on its way out).
 */
void
pp_poison_close(PpEnd end)
{
	int pid = 0;

	if (fd < 0)
		return;
	if (end != PP_END_CLEAN)
	{
		note_end(end);
		return;
	}
	if (findings->to.pos > 0 || file.attempt.what != PP_AT_HAND_NOTHING)
		return;
	(void) flock(fd, LOCK_EX); /* see open_locked() */
	if (pread(fd, &pid, sizeof(pid), (char *) &file.pid - (char *) &file) == sizeof(pid) &&
		pid == MyProcPid)
	{
		PP_FAULT(removes_note);
		(void) unlink(path);
	}
	(void) close(fd);
	ReleaseExternalFD();
	fd = -1;
}

/* ---- answers ---- */

bool
pp_poison_has_candidates(void)
{
	return findings->to.pos > 0;
}

bool
pp_poison_is_candidate(uint64 pos, uint32 part)
{
	return findings->to.pos > 0 && compare(findings->from, pos, part) <= 0 &&
		   compare(findings->to, pos, part) >= 0;
}

uint64
pp_poison_width(void)
{
	if (findings->width == 0 && findings->kills > 0)
		return PG_UINT64_MAX; /* only one has to be alone */
	return findings->width;
}

bool
pp_poison_is_alone(uint64 pos, uint32 part)
{
	return findings->kills > 0 && compare(findings->killed, pos, part) == 0;
}

ErrorData *
pp_poison_error(uint64 pos, uint32 part)
{
	Condemned *condemned = find_condemned(pos, part);
	ErrorData *error;

	if (condemned == NULL || !condemned->fatal)
		return NULL;
	error = palloc0(sizeof(ErrorData));
	error->elevel = ERROR;
	error->sqlerrcode = condemned->sqlstate ? condemned->sqlstate : ERRCODE_INTERNAL_ERROR;
	error->message = pstrdup(condemned->sqlstate ? condemned->message
												 : "the worker ended while it was inserted");
	return error;
}

bool
pp_poison_has_condemned(uint64 pos, uint32 part, bool any_part)
{
	for (int i = 0; i < findings->ncondemned; i++)
	{
		const Condemned *condemned = &findings->condemned[i];

		if (condemned->fatal && condemned->item.pos == pos &&
			(any_part || condemned->item.part == part))
			return true;
	}
	return false;
}

bool
pp_poison_is_unshown(uint64 pos, uint32 part)
{
	Condemned *condemned = find_condemned(pos, part);

	return condemned && condemned->unshown;
}

bool
pp_poison_may_widen(void)
{
	return findings->relapses < MAX_RELAPSES;
}

void
pp_poison_widen(void)
{
	if (findings->to.pos == 0 || pp_poison_width() == 0 || !pp_poison_may_widen())
		return;
	findings->kills = 0;
	findings->width = findings->width > PG_UINT32_MAX ? 0 : findings->width * 2;
	findings->widened = true;
	write_all();
}

void
pp_poison_forget(void)
{
	if (findings->to.pos == 0)
		return;
	memset(findings, 0, sizeof(Findings));
	write_all();
}
