/*-------------------------------------------------------------------------
 *
 * faults.c
 *	  What happens at a fault point; see faults.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "base/faults.h"

#define LOOK_MS 2

/* The first letter of what is to happen; '\0': nothing, nobody has asked, or another was first. */
static char
take(const char *name, char *taken)
{
	char asked[MAXPGPATH];
	char action = '\0';
	int fd;

	snprintf(asked, MAXPGPATH, "pp_faults/%s", name);
	snprintf(taken, MAXPGPATH, "pp_faults/%s.%d", name, MyProcPid);
	if (rename(asked, taken) != 0 || (fd = open(taken, O_RDONLY)) < 0)
		return '\0';
	if (read(fd, &action, 1) != 1)
		action = '\0';
	(void) close(fd);
	return action;
}

/* As whatever else waits: on the latch, which is reset, so that who set it is not heard. */
static void
wait_until_released(const char *taken, bool interruptible)
{
	while (access(taken, F_OK) == 0)
	{
		if (interruptible)
			CHECK_FOR_INTERRUPTS();
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH, LOOK_MS,
					  PG_WAIT_EXTENSION) & WL_POSTMASTER_DEATH)
			return;
		ResetLatch(MyLatch);
	}
}

void
pp_fault(const char *name)
{
	int save_errno = errno;
	char taken[MAXPGPATH];

	switch (take(name, taken))
	{
		case 'w':
			wait_until_released(taken, true);
			break;
		case 'h':
			wait_until_released(taken, false);
			break;
		case 'e':
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR), errmsg_internal("fault point %s", name)));
			break;
		case 'c':
			(void) kill(MyProcPid, SIGKILL);
			break;
	}
	errno = save_errno;
}

bool
pp_fault_mistake(const char *name)
{
	char asked[MAXPGPATH];

	snprintf(asked, MAXPGPATH, "pp_faults/%s", name);
	return access(asked, F_OK) == 0;
}
