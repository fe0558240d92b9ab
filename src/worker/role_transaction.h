/*-------------------------------------------------------------------------
 *
 * role_transaction.h
 *	  One transaction that settles work items of one role, as that role, which inserts their items.
 *
 * The steps are the same each time: the work items are opened, something is done with their rows,
 * commit.h is told what the COMMIT settles, and the rows of the journal or of the parked table are
 * deleted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ROLE_TRANSACTION_H
#define PP_ROLE_TRANSACTION_H

#include "worker/apply_rows.h"
#include "worker/commit.h"

/* How far a transaction has come */
typedef enum PpStage
{
	PP_STAGE_BEGINNING,
	PP_STAGE_OPENING,
	/* deleting the items' rows from the journal or the parked table; no row is to blame for an
	 * error here */
	PP_STAGE_TAKING,
	PP_STAGE_INSERTING,
	PP_STAGE_COMMITTING
} PpStage;

typedef struct PpRoleTransaction
{
	PpWorkItem *work_items;
	int n;
	bool disbelieves; /* see PpApply ... */
	bool apart;		  /* ... the same */
	PpStage stage;
	int opened; /* so many have been opened; if that fails, the next one can't be */
	PpApply apply;
	PpOutcomeCounts *committed; /* of all its transactions; NULL: nobody asks */
	ErrorData *error;
} PpRoleTransaction;

extern void pp_role_transaction_init(const PpClaim *claim);
extern bool pp_role_transaction_is_spent(void);
extern bool pp_role_transaction_is_unsafe(void);
extern bool pp_role_transaction_run(PpRoleTransaction *transaction, bool at_once, bool impatient,
									const PpTry *known);

#endif /* PP_ROLE_TRANSACTION_H */
