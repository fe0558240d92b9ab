/*-------------------------------------------------------------------------
 *
 * decode.c
 *	  A libFuzzer harness: rows and items of whatever bytes there are, checked and then
 *	  read as the worker does; test/fuzz/check builds and runs it.
 *
 * An input's first byte says what follows.
 *
 *	0	items, one after the other, as in a record
 *	1	rows of the journal: for each, flags, part, the length of its data (2 bytes), and
 *		the data, a PpRowHeader and bytes.  A checksum can't be guessed, so the flags
 *		may have it put right.
 *
 * Where an item is sound, its tuple is checked against columns whose lengths and
 * alignments come from the item's digest, which means nothing here; and where it
 * fits them, each value is read as heap_deform_tuple() would, all its bytes.  Memory is
 * as large as what is in it, and no larger: so AddressSanitizer sees whoever reads on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "access/htup_details.h"
#include "access/tupmacs.h"

#include "base/compat.h"
#include "base/item_check.h"
#include "store/row_check.h"

#undef fprintf /* the server's own is in the server */

#define PART_STEP 1024 /* PP_PART_STEP */

enum
{
	FIX_CRC = 1,
	NEW_POS = 2,
};

extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static const PpAttribute kinds[] = {
	{1, TYPALIGN_CHAR},	 {2, TYPALIGN_SHORT},	{4, TYPALIGN_INT},	 {8, TYPALIGN_DOUBLE},
	{-1, TYPALIGN_INT},	 {-1, TYPALIGN_DOUBLE}, {-2, TYPALIGN_CHAR}, {6, TYPALIGN_INT},
	{16, TYPALIGN_CHAR}, {16, TYPALIGN_DOUBLE}, {64, TYPALIGN_CHAR}, {12, TYPALIGN_DOUBLE},
	{3, TYPALIGN_CHAR},	 {24, TYPALIGN_DOUBLE}, {12, TYPALIGN_INT},	 {32, TYPALIGN_DOUBLE},
};

/* So that no read of a byte is optimized away */
static volatile uint8 sink;

/* For the shim. */
pg_crc32c
shim_crc32c(pg_crc32c crc, const void *data, size_t length)
{
	static uint32 table[256];
	const uint8 *bytes = data;

	if (table[1] == 0)
	{
		for (int i = 0; i < 256; i++)
		{
			table[i] = i;
			for (int bit = 0; bit < 8; bit++)
				table[i] = (table[i] >> 1) ^ ((table[i] & 1) ? 0x82F63B78 : 0);
		}
	}
	for (size_t i = 0; i < length; i++)
		crc = (crc >> 8) ^ table[(crc ^ bytes[i]) & 0xFF];
	return crc;
}

static void
touch(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		sink = (uint8) bytes[i];
}

static void
must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "not so: %s\n", what);
	abort();
}

/* Read each value, as heap_deform_tuple() would with such columns. */
static void
walk(MinimalTuple minimal, const PpAttribute *attributes, int n)
{
	HeapTupleHeader tuple = (HeapTupleHeader) ((char *) minimal - MINIMAL_TUPLE_OFFSET);
	const char *end = (const char *) minimal + minimal->t_len;
	char *values = (char *) tuple + tuple->t_hoff;
	long offset = 0;

	for (int i = 0; i < n; i++)
	{
		int length = attributes[i].length;

		if ((tuple->t_infomask & HEAP_HASNULL) && att_isnull(i, tuple->t_bits))
			continue;
		if (length == -1)
			offset = att_align_pointer(offset, attributes[i].alignment, -1, values + offset);
		else
			offset = att_align_nominal(offset, attributes[i].alignment);
		must(values + offset <= end, "a value begins within its tuple");
		if (length == -1)
		{
			must(!VARATT_IS_EXTERNAL(values + offset), "values are complete");
			must(VARSIZE_ANY(values + offset) >= (VARATT_IS_1B(values + offset) ? 1 : VARHDRSZ),
				 "a varlena is as long as its header");
		}
		must(values + att_addlength_pointer(offset, length, values + offset) <= end,
			 "a value ends within its tuple");
		touch(values + offset,
			  att_addlength_pointer(offset, length, values + offset) - offset);
		offset = att_addlength_pointer(offset, length, values + offset);
	}
}

/* An item that is said to be sound. */
static void
read_item(const PpItem *item)
{
	PpAttribute attributes[MaxHeapAttributeNumber];
	int n = 0;

	for (int attnum = 1; attnum <= item->natts; attnum++)
	{
		sink = PpBitmapHas(pp_item_given(item), attnum);
		if (!PpBitmapHas(pp_item_carried(item), attnum))
			continue;
		attributes[n] = kinds[item->layout.digest[n % PG_SHA256_DIGEST_LENGTH] % lengthof(kinds)];
		n++;
	}
	touch((const char *) item, item->size);
	sink = item->durability;
	if (pp_item_check_fits(item, attributes, n))
		walk(pp_item_tuple(item), attributes, n);
	if (n > 0)
		must(!pp_item_check_fits(item, attributes, n - 1), "a tuple has so many columns");
}

/* As add_items() of work_items.c. */
static void
read_items(const char *bytes, uint64 length)
{
	uint64 offset = 0;

	while (offset < length)
	{
		const PpItem *item = (const PpItem *) (bytes + offset);

		if (!pp_item_check_is_sound(item, length - offset))
			return;
		must(item->size > 0 && item->size <= length - offset, "an item ends within its record");
		read_item(item);
		offset += item->size;
	}
}

static char *
copy_of(const void *bytes, size_t length)
{
	char *copy = malloc(length); /* of 0 bytes, too */

	if (length > 0)
		memcpy(copy, bytes, length);
	return copy;
}

static void
append(char **record, uint64 *length, const PpRowData *row)
{
	char *longer = malloc(*length + row->length);

	memcpy(longer, *record, *length);
	if (row->length > 0)
		memcpy(longer + *length, row->bytes, row->length);
	free(*record);
	*record = longer;
	*length += row->length;
}

/* As the scans that count items by target. */
static void
read_targets(const PpRowData *row)
{
	uint64 offset = 0;
	uint32 n = 0;
	Oid target;

	while (pp_row_check_next_target(row, n, &offset, &target))
	{
		sink = (uint8) target;
		n++;
	}
	must(n <= row->header.items, "no more items than the header says");
}

/* Rows of one transaction, or of several; as open_rows() of work_items.c. */
static void
read_rows(const uint8 *input, size_t size)
{
	PpRowColumns columns = {.pos = 1, .role = 10, .installation = 5};
	PpRowHeader header = {.continues = 0};
	char *record = malloc(0);
	uint64 length = 0;

	while (size >= 4)
	{
		uint8 flags = input[0];
		size_t n = Min(size - 4, (size_t) (input[2] | input[3] << 8));
		uint32 previous = columns.part;
		bool begun = header.continues;
		char *data;
		PpRowData row;

		columns.part = input[1] * (PART_STEP / 2);
		if (flags & NEW_POS)
			columns.pos++;
		/* as in a row of a table, at 4 bytes after a place that is aligned */
		data = malloc(n + 4);
		memcpy(data + 4, input + 4, n);
		if ((flags & FIX_CRC) && n >= sizeof(PpRowHeader))
		{
			PpRowHeader fixed;

			memcpy(&fixed, data + 4, sizeof(fixed));
			fixed.crc =
				pp_row_check_crc(&columns, fixed, data + 4 + sizeof(fixed), n - sizeof(fixed));
			memcpy(data + 4, &fixed, sizeof(fixed));
		}
		row = pp_row_check_parse(&columns, data + 4, n);
		read_targets(&row);
		if (!row.sound)
			must(row.header.items <= Max(n / sizeof(PpItem), 1), "what is lost is no more than fits");
		input += 4 + n;
		size -= 4 + n;
		header = row.header;
		if (!row.sound || begun != (header.items == 0) ||
			(begun && columns.part != previous + PART_STEP))
		{
			header.continues = 0;
			free(data);
			continue;
		}
		if (!begun)
			length = 0;
		append(&record, &length, &row);
		free(data);
		if (!header.continues)
			read_items(record, length);
	}
	free(record);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	char *bytes;

	if (size == 0)
		return 0;
	if (data[0] == 1)
		read_rows(data + 1, size - 1);
	else
	{
		bytes = copy_of(data + 1, size - 1);
		read_items(bytes, size - 1);
		free(bytes);
	}
	return 0;
}
