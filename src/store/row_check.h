/*-------------------------------------------------------------------------
 *
 * row_check.h
 *	  Can these bytes be the data of a row of the journal, in a row with such columns?
 *
 * Pure, as item_check.h, and for the same reason.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ROW_CHECK_H
#define PP_ROW_CHECK_H

#include "postgres.h"

#include "port/pg_crc32c.h"

#include "base/item.h"

#define PP_ROW_VERSION 1

/* What a row of the journal says besides its data; see journal.h */
typedef struct PpRowColumns
{
	uint64 pos;
	uint32 part;
	Oid role;
	uint64 installation;
} PpRowColumns;

/* The beginning of its data */
typedef struct PpRowHeader
{
	uint8 version;
	uint8 continues; /* 1: the record goes on in the next part */
	uint16 items;	 /* that begin in this row */
	uint32 follows;	 /* entries of the same transaction after this one */
	pg_crc32c crc;	 /* of the columns, of this header with a crc of 0, and of the items' bytes */
} PpRowHeader;

/* Its data, where it lies */
typedef struct PpRowData
{
	PpRowHeader header;
	const char *bytes; /* that follow it */
	uint32 length;
	bool sound; /* else the header is a guess */
} PpRowData;

extern pg_crc32c pp_row_check_crc(const PpRowColumns *columns, PpRowHeader header,
								  const char *bytes, uint32 length);
extern PpRowData pp_row_check_parse(const PpRowColumns *columns, const char *data, uint32 size);
extern bool pp_row_check_next_item(const PpRowData *row, uint32 n, uint64 *offset, PpItem *item);
extern bool pp_row_check_next_target(const PpRowData *row, uint32 n, uint64 *offset, Oid *target);

#endif /* PP_ROW_CHECK_H */
