# persist_pipeline: asynchronous batched inserts inside PostgreSQL

MODULE_big = persist_pipeline
EXTENSION = persist_pipeline
DATA = sql/persist_pipeline--1.0.sql
PGFILEDESC = "persist_pipeline - asynchronous batched inserts"

# by floor: see doc/house.md
OBJS = \
	src/config.o \
	src/item.o \
	src/ring.o \
	src/shmem.o \
	src/lease.o \
	src/target.o \
	src/convert.o \
	src/enqueue.o \
	src/identity.o \
	src/batch.o \
	src/failure.o \
	src/worker.o \
	src/launcher.o \
	src/api.o \
	src/views.o \
	src/persist_pipeline.o

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
