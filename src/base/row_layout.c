/*-------------------------------------------------------------------------
 *
 * row_layout.c
 *	  Digests of row layouts; see row_layout.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/row_layout.h"

/* A nested type that has been walked */
typedef struct SeenType
{
	Oid type; /* hash key */
	PpLayout layout;
} SeenType;

/* The last columns of a relation whose digest was computed, and that */
#define KNOWN_COLUMNS 64
static struct
{
	int n;
	PpColumnLayout columns[KNOWN_COLUMNS];
	PpLayout layout;
} known_digest;

/* The digest of an array of columns.  The worker asks for the same with each batch. */
PpLayout
pp_row_layout_of_columns(const PpColumnLayout *columns, int n)
{
	pg_cryptohash_ctx *ctx;
	PpLayout layout;

	if (n > 0 && n == known_digest.n &&
		memcmp(columns, known_digest.columns, n * sizeof(PpColumnLayout)) == 0)
		return known_digest.layout;

	ctx = pg_cryptohash_create(PG_SHA256);
	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) columns, n * sizeof(PpColumnLayout)) < 0 ||
		pg_cryptohash_final(ctx, layout.digest, sizeof(layout.digest)) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not compute the digest of a row layout: %s",
							   pg_cryptohash_error(ctx))));
	pg_cryptohash_free(ctx);

	/* one column may be what an array of those is made of */
	if (n > 1 && n <= KNOWN_COLUMNS)
	{
		known_digest.n = n;
		memcpy(known_digest.columns, columns, n * sizeof(PpColumnLayout));
		known_digest.layout = layout;
	}
	return layout;
}

static PpColumnLayout layout_of_type(PpLayoutWalk *walk, Oid type);

/* The members of a composite type, dropped ones too: they have left gaps. */
static PpLayout
layout_of_composite(PpLayoutWalk *walk, Oid type, Oid relid)
{
	TupleDesc desc;
	PpColumnLayout *columns;
	PpLayout layout;
	int natts;

	if (walk->lock)
		LockRelationOid(relid, AccessShareLock);
	walk->composites = lappend_oid(walk->composites, relid);
	desc = lookup_rowtype_tupdesc_copy(type, -1);
	natts = desc->natts;
	columns = palloc0((natts + 1) * sizeof(PpColumnLayout));
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped)
		{
			columns[i] = pp_row_layout_of_column(walk, att);
			continue;
		}
		columns[i].attnum = att->attnum;
		columns[i].length = att->attlen;
		columns[i].alignment = att->attalign;
		columns[i].by_value = att->attbyval;
		columns[i].dropped = true;
	}
	layout = pp_row_layout_of_columns(columns, natts);
	pfree(columns);
	FreeTupleDesc(desc);
	return layout;
}

/* The layout of what is inside a type, computed once. */
static PpLayout
layout_of_inside(PpLayoutWalk *walk, Oid type, Oid element, Oid relid)
{
	SeenType *seen;
	PpLayout layout;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (walk->seen == NULL)
	{
		HASHCTL ctl = {
			.keysize = sizeof(Oid), .entrysize = sizeof(SeenType), .hcxt = CurrentMemoryContext};

		walk->seen = hash_create("persist_pipeline types", 16, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	seen = hash_search(walk->seen, &type, HASH_FIND, NULL);
	if (seen)
		return seen->layout;

	if (OidIsValid(relid))
		layout = layout_of_composite(walk, type, relid);
	else
	{
		PpColumnLayout column = layout_of_type(walk, element);

		layout = pp_row_layout_of_columns(&column, 1);
	}
	seen = hash_search(walk->seen, &type, HASH_ENTER, NULL);
	seen->layout = layout;
	return layout;
}

static PpColumnLayout
layout_of_type(PpLayoutWalk *walk, Oid type)
{
	PpColumnLayout column;
	Oid element = InvalidOid;
	Oid relid = InvalidOid;
	HeapTuple tuple;
	Form_pg_type form;
	char kind;

	memset(&column, 0, sizeof(column));
	column.typmod = -1;
	column.type = getBaseType(type);
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(column.type));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("type with OID %u does not exist", column.type)));
	form = (Form_pg_type) GETSTRUCT(tuple);
	column.length = form->typlen;
	column.alignment = form->typalign;
	column.by_value = form->typbyval;
	kind = form->typtype;
	if (kind == TYPTYPE_COMPOSITE)
		relid = form->typrelid;
	else if (form->typsubscript == F_ARRAY_SUBSCRIPT_HANDLER)
		element = form->typelem;
	ReleaseSysCache(tuple);
	if (kind == TYPTYPE_RANGE)
		element = get_range_subtype(column.type);
	else if (kind == TYPTYPE_MULTIRANGE)
		element = get_multirange_range(column.type);

	if (OidIsValid(relid) || OidIsValid(element))
	{
		column.nested = true;
		column.inner = layout_of_inside(walk, column.type, element, relid);
	}
	return column;
}

/* 42704 if its type has gone. */
PpColumnLayout
pp_row_layout_of_column(PpLayoutWalk *walk, Form_pg_attribute att)
{
	PpColumnLayout column = layout_of_type(walk, att->atttypid);

	column.attnum = att->attnum;
	column.typmod = att->atttypmod;
	(void) getBaseTypeAndTypmod(att->atttypid, &column.typmod);
	return column;
}
