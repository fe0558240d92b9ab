/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  Just enough of the Test Anything Protocol for the unit tests.
 *
 * A test is a function that CHECKs; it passes if all of its checks held.  Checks
 * may be made in any thread.  A program's main is
 *
 *		tap_start();
 *		TEST(test_this, "this happens");
 *		TODO(test_that, "that happens", "why it doesn't yet");
 *		return tap_finish();
 *
 *-------------------------------------------------------------------------
 */
#ifndef TAP_H
#define TAP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Enough to see what is wrong; a loop may fail a million times. */
#define TAP_MAX_DIAGNOSTICS 5

static int tap_count = 0;
static int tap_failed = 0;
static int tap_broken_checks = 0; /* of the running test; atomic */

#define CHECK(condition) tap_check((condition), #condition, __FILE__, __LINE__)
#define TEST(function, name) tap_test(function, name, NULL)
#define TODO(function, name, reason) tap_test(function, name, reason)

/* Returns the condition, for tests that can't go on without it. */
static inline bool
tap_check(bool condition, const char *text, const char *file, int line)
{
	if (!condition &&
		__atomic_fetch_add(&tap_broken_checks, 1, __ATOMIC_RELAXED) < TAP_MAX_DIAGNOSTICS)
		printf("# %s:%d: %s\n", file, line, text);
	return condition;
}

/* Has the running test failed already? */
static inline bool
tap_test_failed(void)
{
	return __atomic_load_n(&tap_broken_checks, __ATOMIC_RELAXED) > 0;
}

static inline void
tap_test(void (*function)(void), const char *name, const char *todo)
{
	bool passed;

	__atomic_store_n(&tap_broken_checks, 0, __ATOMIC_RELAXED);
	function();
	passed = !tap_test_failed();

	printf("%s %d - %s%s%s\n", passed ? "ok" : "not ok", ++tap_count, name,
		   todo != NULL ? " # TODO " : "", todo != NULL ? todo : "");
	if (!passed && todo == NULL)
		tap_failed++;
}

/*
 * No test waits for a time.  The limit is there so that code which is broken
 * gives a failure instead of a hang.  There is no handler for the signal, since
 * ThreadSanitizer may put off handlers for ever.
 */
static inline void
tap_start(void)
{
	const char *limit = getenv("UNIT_TEST_TIMEOUT");

	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(limit != NULL ? (unsigned int) atoi(limit) : 600);
}

/* End the program here if a test has failed, and later ones might hang then. */
static inline void
tap_bail_if_failed(void)
{
	if (tap_failed > 0)
	{
		printf("Bail out! %d of %d tests failed\n", tap_failed, tap_count);
		exit(EXIT_FAILURE);
	}
}

static inline int
tap_finish(void)
{
	printf("1..%d\n", tap_count);
	if (tap_failed > 0)
		printf("# %d of %d tests failed\n", tap_failed, tap_count);
	return tap_failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif /* TAP_H */
