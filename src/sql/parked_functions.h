/*-------------------------------------------------------------------------
 *
 * parked_functions.h
 *	  The SQL functions on parked items.
 *
 * They delete rows of the parked table, which the retrier may be trying at that moment.  Who of
 * the two deletes a row first has it: the other one's transaction fails (the retrier's), or finds
 * that it is gone (the function's, which has waited).  So no item is lost, or counted twice.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PARKED_FUNCTIONS_H
#define PP_PARKED_FUNCTIONS_H

extern void pp_parked_functions_init(void);

#endif /* PP_PARKED_FUNCTIONS_H */
