/*-------------------------------------------------------------------------
 *
 * persist_pipeline.c
 *	  Where the library is loaded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "base/compat.h"
#include "base/config.h"
#include "process/launcher.h"
#include "producer/enqueue.h"
#include "ring/shmem.h"
#include "sql/parked_functions.h"
#include "sql/utility.h"
#include "store/pause.h"

PP_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

/*
 * Not preloaded, a session has the settings and the mode "direct", and nothing
 * else.  A server in binary upgrade runs no processes of ours.
 */
void
_PG_init(void)
{
	pp_config_define();

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	pp_shmem_init();
	pp_enqueue_init();
	pp_pause_init();
	pp_parked_functions_init();
	pp_utility_init();
	pp_launcher_register();
}
