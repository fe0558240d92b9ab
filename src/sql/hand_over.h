/*-------------------------------------------------------------------------
 *
 * hand_over.h
 *	  What is the same for whatever hands an item over: may it just now, and where does
 *	  the item go?
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_HAND_OVER_H
#define PP_HAND_OVER_H

#include "base/item.h"

extern void pp_hand_over_check(const char *function);
extern int64 pp_hand_over(PpItem *item, bool transactional, int flush_interval);

#endif /* PP_HAND_OVER_H */
