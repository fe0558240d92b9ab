/*-------------------------------------------------------------------------
 *
 * storage/spin.h (shim)
 *	  A spinlock on the compiler's atomics, which ThreadSanitizer understands,
 *	  and which checks what the server doesn't: that a thread holds one at most,
 *	  and releases what it holds.
 *
 * A test can set shim_spin_hook for its thread.  It is called right before each
 * acquisition and right after each release: the moments at which other processes
 * get in between.  So an interleaving of two parties can be tested without a
 * second thread, and without luck.  What the hook itself calls has no hook.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPIN_H
#define SPIN_H

#include <sched.h>

#include "port/atomics.h"

typedef unsigned char slock_t;

typedef enum ShimSpinEvent
{
	SHIM_BEFORE_ACQUIRE,
	SHIM_AFTER_RELEASE
} ShimSpinEvent;

typedef void (*ShimSpinHook)(ShimSpinEvent event);

extern _Thread_local ShimSpinHook shim_spin_hook;
extern _Thread_local slock_t *shim_held;

static inline void
shim_spin_event(ShimSpinEvent event)
{
	ShimSpinHook hook = shim_spin_hook;

	if (hook == NULL)
		return;
	shim_spin_hook = NULL;
	hook(event);
	shim_spin_hook = hook;
}

static inline void
SpinLockInit(slock_t *lock)
{
	*lock = 0;
}

static inline void
SpinLockAcquire(slock_t *lock)
{
	shim_spin_event(SHIM_BEFORE_ACQUIRE);
	if (shim_held != NULL)
		shim_abort("spinlock", "acquired while one is held", __FILE__, __LINE__);

	/* there are more threads than processors: let the holder run */
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
	shim_held = lock;
}

static inline void
SpinLockRelease(slock_t *lock)
{
	if (shim_held != lock)
		shim_abort("spinlock", "released but not held", __FILE__, __LINE__);
	shim_forget_barriers();
	shim_held = NULL;
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
	shim_spin_event(SHIM_AFTER_RELEASE);
}

#endif /* SPIN_H */
