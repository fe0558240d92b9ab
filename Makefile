# persist_pipeline: asynchronous batched inserts inside PostgreSQL
#
#	make && sudo make install	build and install, for the server of PG_CONFIG; with prefix=DIR into
#								a place of its own, where 18 and later can find it
#	make installcheck			test against a running server that preloads it
#
# These need nothing but make, and root or sudo; they install what they lack and
# leave nothing running:
#
#	make test					every test, on throw-away servers; JOBS=3: so many files at once of those
#								that restart servers, which halves the time
#	make test-matrix			the same on PostgreSQL 15 to 19, each in a Debian of its own, with warnings
#								as errors; MAJORS="15 18": on these alone; two hours, and see tools/matrix
#	make test-clients			unchanged clients: drivers and ORMs in Python, JavaScript and Java,
#								and through pgbouncer, which it installs; clients that enqueue,
#								in Python, JavaScript and C; and a scraper
#	make demo					real data through the pipeline, to look at
#	make test-packages			Debian's packages: built, checked by lintian, installed, upgraded, removed
#								in a root of their own; and PGXN's archive; 10 minutes
#	make torture				the long runs: 50 kills, 20 stops, 10,000,000 items, the account of
#								a mixed load, chaos, 2,000 mutations, 300 random programs beside an
#								oracle; then an hour of new inputs for the decoder, and 10 minutes of
#								sqlsmith; 100 minutes
#	make bench					calls and rows per second beside INSERT, COPY and other queues,
#								with charts, into doc/bench; 30 minutes
#	make bench-quick			the same in 3 minutes, into bench/out
#	make test-monitoring		each alert of monitoring/ fires with a real fault, and ends with it; draws
#								the dashboard into doc/monitoring; 4 minutes
#	make bench-failures			what bad rows, locked tables, attacks and crashes cost
#
# These are for a server that has the other extension, too (PG_CONFIG):
#
#	make test-citus				tables that are spread over several servers, kills of each of them
#	make test-timescaledb		hypertables
#	make bench-citus			calls beside INSERT, into a table on two nodes; 15 minutes
#
# For developers: make setup, floors, unit, format.  For those who release: make packages (into
# packages/, for Debian) and make dist (persist_pipeline-VERSION.zip, for PGXN).

MODULE_big = persist_pipeline
EXTENSION = persist_pipeline
DATA = sql/persist_pipeline--1.0.sql sql/persist_pipeline--1.0--1.1.sql sql/persist_pipeline--1.1.sql
SCRIPTS = persist_healthcheck
PGFILEDESC = "persist_pipeline - asynchronous batched inserts"

include $(dir $(lastword $(MAKEFILE_LIST)))src/files.mk
OBJS = $(patsubst %,src/%.o,$(filter-out %.h,$(FILES)))
PG_CPPFLAGS = -I$(srcdir)/src

# With fault points, for tests only: see src/base/faults.h
ifdef PP_FAULTS
OBJS += src/base/faults.o
PG_CPPFLAGS += -DPP_FAULTS
endif

# test/sql/NAME.sql, expected/NAME.out
REGRESS = \
	prepare \
	surface \
	item_numbers \
	item_text \
	item_unicode \
	item_times \
	item_arrays \
	item_composites \
	item_domains \
	item_enums_ranges \
	item_json \
	item_defaults \
	item_differential \
	item_generated \
	item_record \
	item_bytes \
	errors_item \
	errors_target \
	errors_privileges \
	errors_read_only \
	errors_size \
	enqueue_text \
	enqueue_json \
	enqueue_many \
	enqueue_trigger \
	enqueue_trigger_view \
	target_names \
	target_shapes \
	target_partitioned \
	target_foreign \
	target_view \
	target_view_generated \
	target_fkeys \
	target_columns \
	target_hidden_types \
	target_changed \
	target_altered \
	target_moved \
	target_batch_function \
	target_triggers \
	xact_commit \
	xact_savepoints \
	xact_prepare \
	xact_immediate \
	xact_contexts \
	xact_definer \
	xact_hanging_commit \
	identity_who \
	identity_refused \
	identity_leftovers \
	identity_rls \
	failing_rows \
	failing_fkeys \
	failing_kinds \
	failing_together \
	failing_counts \
	dead_letters \
	my_dead_letters \
	where \
	selftest \
	parked_items \
	target_dropped \
	bad_items \
	unknown_keys \
	upserts \
	capture_settings \
	stats \
	mode_direct \
	mode_direct_nested \
	mode_reject \
	flush \
	overflow_spill \
	queue \
	metrics \
	relocate \
	worker_enqueues \
	worker_statement_timeout \
	worker_fatal \
	worker_enqueues_much \
	target_rule \
	configure \
	pause \
	finish

# test/specs/NAME.spec, expected/NAME.out.  The two share expected/: these names
# begin with iso_.
ISOLATION = \
	iso_attach_partition \
	iso_commit_order \
	iso_ddl \
	iso_hanging_commit \
	iso_letters_order \
	iso_locked_target \
	iso_reindex \
	iso_settings

# test/t/NAME.pl
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

# pg_regress looks for expected/ in the current directory, before and after 16;
# the isolation tester, too, if it writes its output there.
REGRESS_OPTS = --inputdir=test
ISOLATION_OPTS = --inputdir=test --outputdir=.

EXTRA_CLEAN = test/unit/build

# What works before there is a PostgreSQL.
TOOLS = setup test test-matrix test-clients test-packages test-citus test-timescaledb test-monitoring packages dist torture demo bench bench-quick bench-failures bench-citus floors unit format
.PHONY: $(TOOLS)
.DEFAULT_GOAL = all

PG_CONFIG ?= pg_config
ifneq ($(filter-out $(TOOLS),$(or $(MAKECMDGOALS),all)),)
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error "$(PG_CONFIG) --pgxs" gives nothing: set PG_CONFIG, or install what is missing with "make setup")
endif
include $(PGXS)

# PGXS's own prefix has no effect on what the server was configured with by name: with Debian's
# that is everything.
ifeq ($(origin prefix),command line)
override bindir := $(prefix)/bin
override datadir := $(prefix)/share
override pkglibdir := $(prefix)/lib
endif

# Debian's server is not configured to track these.
$(OBJS) $(OBJS:.o=.bc): $(wildcard $(srcdir)/src/*/*.h)

# Built elsewhere than where the sources are: there are no folders yet.
ifdef VPATH
$(shell mkdir -p $(sort $(dir $(OBJS))))
endif
endif

setup:
	@tools/setup

test:
	@tools/setup
	@tools/sandbox tools/run-tests $(if $(JOBS),--jobs $(JOBS))

test-matrix:
	@tools/matrix $(if $(JOBS),--jobs $(JOBS)) $(MAJORS)

test-monitoring:
	@tools/setup --monitoring
	@tools/sandbox --keep doc/monitoring monitoring/try --out doc/monitoring

test-clients:
	@tools/setup --clients
	@tools/sandbox tools/with-server -c fsync=off prove --verbose test/clients/check test/clients/scraper

test-packages:
	@tools/setup --packages
	@test/packages/check

test-citus:
	@tools/setup
	@tools/sandbox test/citus/check

test-timescaledb:
	@tools/setup
	@tools/sandbox test/timescaledb/check

torture:
	@tools/setup
	@tools/sandbox tools/torture

demo:
	@tools/setup --index
	@tools/sandbox demo/demo

bench:
	@tools/setup --bench
	@tools/sandbox --keep doc/bench bench/bench --out doc/bench

bench-quick:
	@tools/setup --bench
	@tools/sandbox --keep bench/out bench/bench --quick

bench-failures:
	@tools/setup
	@tools/sandbox bench/recovery
	@tools/sandbox bench/failing
	@tools/sandbox bench/parking
	@tools/sandbox bench/attacks
	@tools/sandbox bench/poison
	@tools/sandbox bench/roles
	@tools/sandbox bench/counters

bench-citus:
	@tools/setup
	@tools/sandbox bench/citus

packages:
	@tools/setup --packages
	@tools/build-packages packages

dist:
	@tools/dist

floors:
	@tools/floors

unit:
	$(MAKE) -C test/unit check

format:
	clang-format -i src/*/*.[ch]
