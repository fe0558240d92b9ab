/*-------------------------------------------------------------------------
 *
 * shim.c
 *	  What the headers of the shim need exactly once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdio.h>
#include <stdlib.h>

#include "port/atomics.h"
#include "storage/spin.h"

_Thread_local bool shim_write_barrier_pending = false;
_Thread_local pg_atomic_uint32 *shim_last_read = NULL;

_Thread_local ShimSpinHook shim_spin_hook = NULL;
_Thread_local slock_t *shim_held = NULL;

void
shim_abort(const char *kind, const char *what, const char *file, int line)
{
	fflush(stdout);
	fprintf(stderr, "%s:%d: %s: %s\n", file, line, kind, what);
	abort();
}
