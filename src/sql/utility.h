/*-------------------------------------------------------------------------
 *
 * utility.h
 *	  Commands that concern a database or the extension as a whole.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_UTILITY_H
#define PP_UTILITY_H

extern void pp_utility_init(void);

#endif /* PP_UTILITY_H */
