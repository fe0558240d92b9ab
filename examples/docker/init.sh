#!/bin/sh
# The image's entry point calls it after initdb, with a server that only it can reach: the
# extension, in a schema where nobody else creates anything, and a role that monitors.
set -eu

psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v password="$MONITORING_PASSWORD" -v database="$POSTGRES_DB" <<'END'
CREATE SCHEMA persist;
CREATE EXTENSION persist_pipeline SCHEMA persist;
ALTER DATABASE :"database" SET search_path = public, persist;
CREATE ROLE monitoring LOGIN PASSWORD :'password';
GRANT pg_monitor TO monitoring;
GRANT USAGE ON SCHEMA persist TO monitoring;
END
