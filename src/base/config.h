/*-------------------------------------------------------------------------
 *
 * config.h
 *	  The settings, all of them prefixed "persist_pipeline.".
 *
 * The settings of kind (restart) are defined only where the library is preloaded; elsewhere they
 * keep their defaults, and nothing reads them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_CONFIG_H
#define PP_CONFIG_H

typedef enum PpMode
{
	PP_MODE_ASYNC,	/* items go to the worker */
	PP_MODE_DIRECT, /* each call is an INSERT by the caller */
	PP_MODE_REJECT	/* each call is an error */
} PpMode;

/* (restart) */
extern int pp_config_ring_size; /* kB for each ring */
extern int pp_config_max_databases; /* number of rings */
extern int pp_config_max_workers; /* at the same time */

/* (reload; mode also per session, by superusers) */
extern int pp_config_mode;
extern int pp_config_flush_interval; /* ms */
extern bool pp_config_adaptive_flush;
extern int pp_config_ring_window; /* ms, 0: it is closed */
extern int pp_config_batch_size;   /* items */
extern int pp_config_lock_timeout; /* ms, 0: none; of the worker */
extern int pp_config_statement_timeout; /* ms, 0: none; of a transaction of the worker */
extern int pp_config_shutdown_timeout; /* ms */
extern int pp_config_worker_idle_timeout; /* ms, 0: none */
extern int pp_config_journal_retention; /* ms */
extern int pp_config_journal_limit; /* kB */
extern int pp_config_role_quota;   /* per cent */
extern int pp_config_max_depth;	   /* of items that the worker's triggers enqueue; -1: none */
extern int pp_config_transaction_buffer; /* kB */
extern bool pp_config_start_paused;
extern int pp_config_parked_limit;	 /* kB, of a target */
extern int pp_config_mismatch_timeout; /* ms, 0: none */
extern int pp_config_dead_letter_limit; /* letters */
extern int pp_config_dead_letter_retention; /* min, 0: for ever */
extern char *pp_config_stateless_libraries; /* names, with commas */

/* (session) what persist_health() calls degraded, and unhealthy */
extern int pp_config_health_degraded_age;		/* ms, of an item that waits */
extern int pp_config_health_unhealthy_age;		/* ms */
extern int pp_config_health_degraded_fill;		/* per cent, of the ring and of the journal */
extern int pp_config_health_unhealthy_fill;		/* per cent, of the journal */
extern int pp_config_health_stall_time;			/* ms, parked or diverted */
extern int pp_config_health_dead_letter_window; /* ms */
extern int pp_config_health_failure_window;		/* ms, of three failures of the worker */

extern void pp_config_define(void);

#endif /* PP_CONFIG_H */
