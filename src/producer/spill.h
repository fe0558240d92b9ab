/*-------------------------------------------------------------------------
 *
 * spill.h
 *	  A list of bytes that grows at its end, in bounded memory: when there are more
 *	  than a limit, what is there goes to a temporary file.
 *
 *		0 ... spilled					length
 *		[ in the file  )[ in the buffer )
 *
 * A struct of zeros is an empty one.  It lives as long as the top transaction does,
 * and the file, too; before that commits it has to be closed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SPILL_H
#define PP_SPILL_H

#include "postgres.h"

#include "storage/fd.h"

typedef struct PpSpill
{
	char *buffer;
	uint64 room; /* of the buffer */
	File file;	 /* 0: there is none */
	uint64 spilled;
	uint64 length;
} PpSpill;

extern void pp_spill_reserve(PpSpill *spill, uint64 length, uint64 limit);
extern void pp_spill_append(PpSpill *spill, const void *bytes, uint64 length);
extern void pp_spill_cut(PpSpill *spill, uint64 length);
extern void pp_spill_copy(PpSpill *spill, uint64 start, uint64 length, void *to);
extern const char *pp_spill_read(PpSpill *spill, uint64 start, uint64 length);
extern const char *pp_spill_in_memory(const PpSpill *spill, uint64 start);
extern void pp_spill_close(PpSpill *spill);

#endif /* PP_SPILL_H */
