/*-------------------------------------------------------------------------
 *
 * sorted_rows.c
 *	  Rows of the journal, sorted; see sorted_rows.h.
 *
 * The server's tuplesort does the sorting, but its files end with the transaction;
 * a pass goes over many.  So what comes out of it goes into a tuplestore, whose
 * files don't.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "store/sorted_rows.h"

/* For the rows of a pass, not more than that, however many there are */
#define SORT_KB 4096
#define STORE_KB 1024

enum
{
	COLUMN_POS,
	COLUMN_PART,
	COLUMN_ROW, /* the PpJournalRow */
	COLUMNS
};

struct PpSortedRows
{
	MemoryContext context; /* of all this */
	TupleTableSlot *slot;
	Tuplesortstate *sort; /* while it is being filled */
	Tuplestorestate *rows;
	bool has_current;
	PpJournalRow current;
};

static TupleDesc
make_descriptor(void)
{
	TupleDesc desc = CreateTemplateTupleDesc(COLUMNS);

	TupleDescInitEntry(desc, COLUMN_POS + 1, "pos", INT8OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_PART + 1, "part", INT4OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_ROW + 1, "row", BYTEAOID, -1, 0);
	pp_tupdesc_finalize(desc);
	return desc;
}

static Tuplesortstate *
begin_sort(TupleDesc desc)
{
	AttrNumber columns[] = {COLUMN_POS + 1, COLUMN_PART + 1};
	Oid operators[] = {Int8LessOperator, Int4LessOperator};
	Oid collations[] = {InvalidOid, InvalidOid};
	bool nulls_first[] = {false, false};

	return tuplesort_begin_heap(desc, lengthof(columns), columns, operators, collations,
								nulls_first, SORT_KB, NULL, TUPLESORT_NONE);
}

/* A store that is being filled, and who is told of what doesn't get into it */
typedef struct Filling
{
	PpSortedRows *store;
	PpRowVisitor damaged;
	void *arg;
} Filling;

static void
tell_damaged(const PpJournalRow *row, void *arg)
{
	Filling *filling = arg;

	filling->damaged(row, filling->arg);
}

static void
put_sorted(const PpJournalRow *row, void *arg)
{
	PpSortedRows *store = ((Filling *) arg)->store;
	TupleTableSlot *slot = store->slot;
	union
	{
		int32 align;
		char bytes[VARHDRSZ + sizeof(PpJournalRow)];
	} data;

	SET_VARSIZE(data.bytes, sizeof(data.bytes));
	memcpy(VARDATA(data.bytes), row, sizeof(PpJournalRow));
	ExecClearTuple(slot);
	slot->tts_values[COLUMN_POS] = Int64GetDatum(row->pos);
	slot->tts_values[COLUMN_PART] = Int32GetDatum(row->part);
	slot->tts_values[COLUMN_ROW] = PointerGetDatum(data.bytes);
	memset(slot->tts_isnull, 0, COLUMNS * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	tuplesort_puttupleslot(store->sort, slot);
}

static void
get_sorted(TupleTableSlot *slot, PpJournalRow *row)
{
	bool is_null;
	Datum data = slot_getattr(slot, COLUMN_ROW + 1, &is_null);

	memcpy(row, VARDATA_ANY(DatumGetPointer(data)), sizeof(PpJournalRow));
}

/* Read one into `current`.  What comes from a file is allocated in our context. */
void
pp_sorted_rows_advance(PpSortedRows *store)
{
	MemoryContext caller = MemoryContextSwitchTo(store->context);

	store->has_current = tuplestore_gettupleslot(store->rows, true, false, store->slot);
	if (store->has_current)
		get_sorted(store->slot, &store->current);
	MemoryContextSwitchTo(caller);
}

/* The row that comes next, until the store is advanced; NULL: there are no more. */
const PpJournalRow *
pp_sorted_rows_next(PpSortedRows *store)
{
	return store->has_current ? &store->current : NULL;
}

/*
 * The rows of this installation below a position that the active snapshot sees, in the
 * order of things; visit is called with each of them, in that order.  What is damaged, or
 * another's, is left out, and told to `damaged`.  The store is made in the current memory
 * context, and outlives the transaction.
 */
PpSortedRows *
pp_sorted_rows_fill(Oid extension, uint64 boundary, PpRowVisitor visit, PpRowVisitor damaged,
					void *arg)
{
	MemoryContext context = AllocSetContextCreate(
		CurrentMemoryContext, "persist_pipeline rows of the journal", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	PpSortedRows *store = palloc0(sizeof(PpSortedRows));
	Filling filling = {.store = store, .damaged = damaged, .arg = arg};
	TupleDesc desc = make_descriptor();
	TupleTableSlot *in = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	TupleTableSlot *out = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);

	store->context = context;
	store->slot = in;
	store->sort = begin_sort(desc);
	pp_journal_scan(extension, boundary, put_sorted, tell_damaged, &filling);
	tuplesort_performsort(store->sort);

	store->rows = tuplestore_begin_heap(false, true, STORE_KB);
	PG_TRY();
	{
		while (tuplesort_gettupleslot(store->sort, true, false, out, NULL))
		{
			PpJournalRow row;

			CHECK_FOR_INTERRUPTS();
			get_sorted(out, &row);
			visit(&row, arg);
			tuplestore_puttupleslot(store->rows, out);
		}
	}
	PG_CATCH();
	{
		tuplestore_end(store->rows); /* no transaction's end closes its file */
		PG_RE_THROW();
	}
	PG_END_TRY();
	ExecDropSingleTupleTableSlot(in);
	ExecClearTuple(out);
	tuplesort_end(store->sort);
	store->sort = NULL;
	store->slot = out;
	pp_sorted_rows_advance(store);
	MemoryContextSwitchTo(caller);

	return store;
}

void
pp_sorted_rows_end(PpSortedRows *store)
{
	ExecDropSingleTupleTableSlot(store->slot);
	tuplestore_end(store->rows);
	MemoryContextDelete(store->context);
}
