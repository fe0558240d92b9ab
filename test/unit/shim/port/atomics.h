/*-------------------------------------------------------------------------
 *
 * port/atomics.h (shim)
 *	  Atomics and barriers of which ThreadSanitizer understands the meaning.
 *
 * ThreadSanitizer does not model fences.  So a barrier is tied here to the
 * atomic access next to it:
 *
 *	pg_write_barrier	makes this thread's next pg_atomic_write_u32 a release
 *						store; all others are relaxed
 *	pg_read_barrier		loads what this thread's last pg_atomic_read_u32 loaded
 *						once more, as an acquire load; all others are relaxed
 *
 * That is honest, because it promises nothing that the server does not.  The
 * real write barrier orders every store before it with every store after it,
 * not with the next atomic one alone; the real read barrier covers all earlier
 * loads, not one.  Code that is free of races under these is free of races
 * under the real ones, and where a barrier is missing there is a relaxed access,
 * and hence a race that gets reported.  (It is not the other way round: correct
 * code that leans on one barrier for several accesses is reported, too.)  The
 * second load sees the first one's value or a later one; a caller must be right
 * with both, and in the files tested here a value that is followed by a read
 * barrier only changes by the reader's own hand.
 *
 * Two things are weaker than they look.  The server's accesses are volatile,
 * which forbids the compiler a bit more.  And a plain store that comes between
 * the write barrier and the atomic write is ordered here, but not in the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ATOMICS_H
#define ATOMICS_H

typedef struct pg_atomic_uint32
{
	uint32 value;
} pg_atomic_uint32;

/* What the next barrier or write of this thread refers to, see above */
extern _Thread_local bool shim_write_barrier_pending;
extern _Thread_local pg_atomic_uint32 *shim_last_read;

/* Not atomic, as in the server: nobody else may look at it yet. */
static inline void
pg_atomic_init_u32(pg_atomic_uint32 *ptr, uint32 value)
{
	ptr->value = value;
}

static inline uint32
pg_atomic_read_u32(pg_atomic_uint32 *ptr)
{
	shim_last_read = ptr;
	return __atomic_load_n(&ptr->value, __ATOMIC_RELAXED);
}

static inline void
pg_atomic_write_u32(pg_atomic_uint32 *ptr, uint32 value)
{
	if (shim_write_barrier_pending)
		__atomic_store_n(&ptr->value, value, __ATOMIC_RELEASE);
	else
		__atomic_store_n(&ptr->value, value, __ATOMIC_RELAXED);
	shim_write_barrier_pending = false;
}

static inline void
pg_write_barrier(void)
{
	shim_write_barrier_pending = true;
}

static inline void
pg_read_barrier(void)
{
	if (shim_last_read != NULL)
		(void) __atomic_load_n(&shim_last_read->value, __ATOMIC_ACQUIRE);
	shim_last_read = NULL;
}

/*
 * Forget barriers that wait for their access, and the reverse.  The release of a
 * spinlock calls it, so that a barrier on the wrong side of its access can't reach
 * the next call and hide there what it missed here.
 */
static inline void
shim_forget_barriers(void)
{
	shim_write_barrier_pending = false;
	shim_last_read = NULL;
}

#endif /* ATOMICS_H */
