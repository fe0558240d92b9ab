-- Comes first: what fails as a whole fails at once in the tests that follow, and not
-- after a while (persist_pipeline.misfit_timeout).  The last one, finish, takes it back.

ALTER SYSTEM SET persist_pipeline.misfit_timeout = 0;
SELECT pg_reload_conf();
\c
SHOW persist_pipeline.misfit_timeout;
