-- Comes last: takes back what prepare has set.

ALTER SYSTEM RESET persist_pipeline.misfit_timeout;
SELECT pg_reload_conf();
