/*-------------------------------------------------------------------------
 *
 * enqueue_functions.h
 *	  What is the same for whatever hands an item over: may it just now, and where does
 *	  the item go?
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ENQUEUE_FUNCTIONS_H
#define PP_ENQUEUE_FUNCTIONS_H

#include "base/item.h"

extern void pp_enqueue_functions_check(const char *function);
extern int64 pp_enqueue_functions_hand_over(PpItem *item, bool transactional, int flush_interval);

#endif /* PP_ENQUEUE_FUNCTIONS_H */
