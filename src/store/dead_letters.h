/*-------------------------------------------------------------------------
 *
 * dead_letters.h
 *	  Dead letters: items that could not be inserted, kept until somebody requeues or
 *	  discards them.  The table persist_dead_letters.
 *
 * A letter has the item's id, and its bytes, so that it can be sent again as it was
 * decided at the call; and its values as JSON, for people.  What has never become an
 * item, since it didn't fit its target at the call (bad_items => 'dead'), is JSON
 * alone.  What is too large to be written whole lacks its values, or its bytes, or both; it
 * isn't sent again without its bytes, since its values may not tell all of it.  A checksum
 * tells whether it is as it was written.
 *
 * The worker and producers write letters; persist_requeue() and persist_discard(), and
 * the worker when dead_letter_retention is over, take them away.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_DEAD_LETTERS_H
#define PP_DEAD_LETTERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "base/item.h"
#include "base/table.h"
#include "ring/quota.h"

typedef struct PpDeadLetter
{
	int64 id;
	Oid target;
	Oid role;
	char *role_name; /* of the failure, in one that is read; NULL: it was gone */
	Jsonb *shown; /* NULL: that can't be done */
	const ErrorData *error;
	TimestampTz enqueued_at;
	int attempts;
	int depth;			/* of its item (item.h) */
	uint64 pos;			/* in commit order, 0: it never had one ... */
	uint32 part;		/* ... and where in that: ids don't tell, if it has been sent again */
	const PpItem *item; /* NULL: it has never been one, or can't be read, or ... */
	bool left_out;		/* ... its bytes were too large to be written */
	bool damaged;		/* its role is not known: it can only be discarded */
} PpDeadLetter;

/* Does it lack what is needed to send it again: the item, its values, or the role? */
static inline bool
pp_dead_letter_is_lost(const PpDeadLetter *letter)
{
	return letter->damaged ||
		   (letter->item == NULL && (letter->shown == NULL || letter->left_out));
}

/* What is told of a letter without its item */
typedef struct PpDeadLetterNote
{
	Oid target;
	char *target_name; /* of the failure, as all that follows */
	Oid role;
	char *role_name; /* NULL: it was gone */
	char *sqlstate;
	char *message;
	TimestampTz failed_at;
	int attempts;
} PpDeadLetterNote;

/* Called for each letter that has been taken away; it is gone at the commit */
typedef void (*PpDeadLetterTaker)(const PpDeadLetter *letter, void *arg);

/*
 * Is this one wanted?  42501, if it isn't the caller's to take.  role_name: as of the failure;
 * NULL: it was gone.  Another role with its OID has another name.
 */
typedef bool (*PpDeadLetterFilter)(Oid role, const char *role_name, Oid target,
								   TimestampTz failed_at, void *arg);

extern void pp_dead_letter_put(PpTable *letters, const PpDeadLetter *letter);
extern PpTable pp_dead_letters_open(Oid extension);
extern void pp_dead_letters_count(Oid extension, PpQuota *counts);
extern List *pp_dead_letters_targets(Oid extension);
extern bool pp_dead_letters_find(Oid extension, int64 id, PpDeadLetterNote *note);
extern bool pp_dead_letters_try_lock(Oid extension);
extern uint64 pp_dead_letters_take(Oid extension, const int64 *ids, int nids, bool damaged_too,
								   bool wait, PpDeadLetterFilter filter, PpDeadLetterTaker take,
								   void *arg);

#endif /* PP_DEAD_LETTERS_H */
