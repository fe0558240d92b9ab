/*-------------------------------------------------------------------------
 *
 * row_check.c
 *	  Checks the data of rows of the journal; see row_check.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/row_check.h"

/* What a row's header says of all the rest. */
pg_crc32c
pp_row_check_crc(const PpRowColumns *columns, PpRowHeader header, const char *bytes, uint32 length)
{
	uint64 values[] = {columns->pos, columns->part, columns->role, columns->installation};
	pg_crc32c crc;

	header.crc = 0;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, values, sizeof(values));
	COMP_CRC32C(crc, &header, sizeof(header));
	COMP_CRC32C(crc, bytes, length);
	FIN_CRC32C(crc);
	return crc;
}

/* So many bytes; they need not be aligned. */
PpRowData
pp_row_check_parse(const PpRowColumns *columns, const char *data, uint32 size)
{
	PpRowData row = {0};

	if (size >= sizeof(PpRowHeader))
	{
		memcpy(&row.header, data, sizeof(PpRowHeader));
		row.bytes = data + sizeof(PpRowHeader);
		row.length = size - sizeof(PpRowHeader);
	}
	row.sound = row.header.version == PP_ROW_VERSION &&
				row.header.crc == pp_row_check_crc(columns, row.header, row.bytes, row.length);
	if (row.sound)
		return row;

	/* how much is lost with it may still be told */
	if (row.header.version != PP_ROW_VERSION || row.header.items > row.length / sizeof(PpItem))
		row.header =
			(PpRowHeader){.version = row.header.version, .items = 1}; /* whatever it is */
	row.header.follows = 0;
	return row;
}

/*
 * The fixed part of the next item that begins in the row, after n of them, at this offset, 0 for
 * the first.  False: there is none.
 */
bool
pp_row_check_next_item(const PpRowData *row, uint32 n, uint64 *offset, PpItem *item)
{
	if (!row->sound || n >= row->header.items || *offset + sizeof(PpItem) > row->length)
		return false;
	memcpy(item, row->bytes + *offset, sizeof(PpItem)); /* it isn't aligned */
	*offset += item->size;
	return true;
}

/* The same for its target. */
bool
pp_row_check_next_target(const PpRowData *row, uint32 n, uint64 *offset, Oid *target)
{
	PpItem item;

	if (!pp_row_check_next_item(row, n, offset, &item))
		return false;
	*target = item.target;
	return true;
}
