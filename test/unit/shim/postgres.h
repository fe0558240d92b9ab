/*-------------------------------------------------------------------------
 *
 * postgres.h (shim)
 *	  Shadows the server's header of that name, so that a source file which
 *	  needs little of the server can be tested without one, in threads and
 *	  under sanitizers.
 *
 * It gives just what the files under test use.  A file that comes to need more
 * should fail to compile here, and make its author ask whether it still can be
 * tested outside a server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef POSTGRES_H
#define POSTGRES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef int32_t int32;
typedef int64_t int64;
typedef uint8_t uint8;
typedef uint32_t uint32;
typedef uint64_t uint64;
typedef unsigned int Oid;
#define InvalidOid ((Oid) 0)

#define PG_UINT64_MAX UINT64_MAX
#define PG_INT64_MAX INT64_MAX

#define FLEXIBLE_ARRAY_MEMBER /* empty */
#define pg_attribute_aligned(a) __attribute__((aligned(a)))

#define Max(x, y) ((x) > (y) ? (x) : (y))
#define Min(x, y) ((x) < (y) ? (x) : (y))
#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

#define StaticAssertDecl(condition, message) _Static_assert(condition, message)

/*
 * As in the server, Assert is empty unless USE_ASSERT_CHECKING is defined: the
 * tests run on what is shipped, too.
 */
#ifdef USE_ASSERT_CHECKING
#define Assert(condition)                                                                          \
	do                                                                                             \
	{                                                                                              \
		if (!(condition))                                                                          \
			shim_abort("assertion", #condition, __FILE__, __LINE__);                               \
	} while (0)
#else
#define Assert(condition) ((void) true)
#endif

extern void shim_abort(const char *kind, const char *what, const char *file, int line)
	__attribute__((noreturn));

#endif /* POSTGRES_H */
