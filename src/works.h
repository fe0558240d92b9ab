/*-------------------------------------------------------------------------
 *
 * works.h
 *	  Pieces of work (intake.h) as rows that can be inserted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WORKS_H
#define PP_WORKS_H

#include "intake.h"
#include "results.h"
#include "statement.h"

extern void pp_works_note(const PpWork *works, int n);
extern const PpRow **pp_works_open(const PpClaim *claim, PpWork *works, int n, int *opened,
								   uint64 *nrows);
extern void pp_works_take(const PpClaim *claim, const PpWork *works, int n);
extern void pp_works_count_taken(PpResults *results, const PpRow **rows, uint64 n, bool parked);

#endif /* PP_WORKS_H */
