/*-------------------------------------------------------------------------
 *
 * utils/elog.h (shim)
 *	  What the files under test use of errors; see postgres.h beside it.
 *
 * The server makes its names of SQLSTATEs from errcodes.txt; of these here a wrong one
 * would show in classify_test, which goes by the SQLSTATEs themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ELOG_H
#define ELOG_H

#define PGSIXBIT(ch) (((ch) - '0') & 0x3F)
#define MAKE_SQLSTATE(ch1, ch2, ch3, ch4, ch5)                                                     \
	(PGSIXBIT(ch1) + (PGSIXBIT(ch2) << 6) + (PGSIXBIT(ch3) << 12) + (PGSIXBIT(ch4) << 18) +        \
	 (PGSIXBIT(ch5) << 24))
#define ERRCODE_TO_CATEGORY(ec) ((ec) & ((1 << 12) - 1))

#define ERRCODE_CONNECTION_EXCEPTION MAKE_SQLSTATE('0', '8', '0', '0', '0')
#define ERRCODE_FEATURE_NOT_SUPPORTED MAKE_SQLSTATE('0', 'A', '0', '0', '0')
#define ERRCODE_DATA_EXCEPTION MAKE_SQLSTATE('2', '2', '0', '0', '0')
#define ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION MAKE_SQLSTATE('2', '3', '0', '0', '0')
#define ERRCODE_CHECK_VIOLATION MAKE_SQLSTATE('2', '3', '5', '1', '4')
#define ERRCODE_READ_ONLY_SQL_TRANSACTION MAKE_SQLSTATE('2', '5', '0', '0', '6')
#define ERRCODE_E_R_I_E_SRF_PROTOCOL_VIOLATED MAKE_SQLSTATE('3', '9', 'P', '0', '2')
#define ERRCODE_TRANSACTION_ROLLBACK MAKE_SQLSTATE('4', '0', '0', '0', '0')
#define ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION MAKE_SQLSTATE('4', '2', '0', '0', '0')
#define ERRCODE_GENERATED_ALWAYS MAKE_SQLSTATE('4', '2', '8', 'C', '9')
#define ERRCODE_UNDEFINED_COLUMN MAKE_SQLSTATE('4', '2', '7', '0', '3')
#define ERRCODE_DATATYPE_MISMATCH MAKE_SQLSTATE('4', '2', '8', '0', '4')
#define ERRCODE_CANNOT_COERCE MAKE_SQLSTATE('4', '2', '8', '4', '6')
#define ERRCODE_INSUFFICIENT_RESOURCES MAKE_SQLSTATE('5', '3', '0', '0', '0')
#define ERRCODE_OBJECT_IN_USE MAKE_SQLSTATE('5', '5', '0', '0', '6')
#define ERRCODE_LOCK_NOT_AVAILABLE MAKE_SQLSTATE('5', '5', 'P', '0', '3')
#define ERRCODE_QUERY_CANCELED MAKE_SQLSTATE('5', '7', '0', '1', '4')
#define ERRCODE_ADMIN_SHUTDOWN MAKE_SQLSTATE('5', '7', 'P', '0', '1')
#define ERRCODE_CRASH_SHUTDOWN MAKE_SQLSTATE('5', '7', 'P', '0', '2')
#define ERRCODE_CANNOT_CONNECT_NOW MAKE_SQLSTATE('5', '7', 'P', '0', '3')
#define ERRCODE_SYSTEM_ERROR MAKE_SQLSTATE('5', '8', '0', '0', '0')
#define ERRCODE_FDW_ERROR MAKE_SQLSTATE('H', 'V', '0', '0', '0')
#define ERRCODE_PLPGSQL_ERROR MAKE_SQLSTATE('P', '0', '0', '0', '0')
#define ERRCODE_INTERNAL_ERROR MAKE_SQLSTATE('X', 'X', '0', '0', '0')
#define ERRCODE_INDEX_CORRUPTED MAKE_SQLSTATE('X', 'X', '0', '0', '2')

typedef struct ErrorData
{
	int sqlerrcode;
	char *table_name;
	char *constraint_name;
} ErrorData;

#endif /* ELOG_H */
