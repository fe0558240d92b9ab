
# Hypertables of TimescaleDB, and their compressed chunks.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t";

use PersistPipeline;
use Test::More;

# a batch waits for its flush
my $node = pp_node(
	'hypertables',
	no_start => 1,
	max_worker_processes => 20,
	shared_preload_libraries => "'timescaledb,persist_pipeline'",
	'timescaledb.telemetry_level' => 'off',
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'");

$node->start;
$node->safe_psql('postgres', $_) foreach (
	'CREATE EXTENSION timescaledb',
	'CREATE EXTENSION persist_pipeline',
	'CREATE TABLE readings (at timestamptz NOT NULL, n int NOT NULL, v float8 CHECK (v >= 0), UNIQUE (n, at))',
	q{SELECT create_hypertable('readings', 'at', chunk_time_interval => interval '1 day')});

my $dbh = connect_to($node);
my $state = q{SELECT persisted || ' ' || skipped || ' ' || dead || ' ' || parked FROM persist_stats WHERE target_name = 'public.readings'};

# A row for each of these minutes, in one transaction; v is an expression of i.
sub enqueue
{
	my ($from, $to, $v) = @_;

	$dbh->do("SELECT count(persist_enqueue('readings'::regclass, jsonb_build_object('at', timestamptz '2026-01-01 00:00+00' + i * interval '1 minute', 'n', i % 10, 'v', $v)))"
		  . " FROM generate_series($from, $to) AS i");
	return;
}

sub settles
{
	my ($expected, $name) = @_;

	ok(flush($node), "$name: flushed");
	is(one_value($dbh, $state), $expected, "$name: persisted, skipped, dead, parked");
	is(one_value($dbh, 'SELECT count(*) FROM readings'), (split ' ', $expected)[0], "$name: the rows are there") if $name !~ /upsert/;
	return;
}

# ---- chunks come with the rows

enqueue(1, 5000, 'i');
settles('5000 0 0 0', 'chunks');
is(one_value($dbh, q{SELECT count(*) FROM show_chunks('readings')}), '4', 'chunks: there are four');
is(one_value($dbh, q{SELECT batches || ' ' || errors FROM persist_stats}), '1 0', 'chunks: in one batch');

# ---- an ordinary role

$node->safe_psql('postgres', q{CREATE ROLE writer LOGIN; GRANT INSERT ON readings TO writer; SELECT persist_grant('writer')});
{
	my $admin = $dbh;

	$dbh = connect_to($node, 'postgres', user => 'writer');
	enqueue(5001, 8000, 'i');
	$dbh = $admin;
}
settles('8000 0 0 0', 'a role');

# ---- rows for chunks that are compressed, some of them bad

$node->safe_psql('postgres', q{ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'n')});
is(one_value($dbh, q{SELECT count(compress_chunk(c)) FROM show_chunks('readings') AS c}), '6', 'compressed: all chunks are');
enqueue(-500, 0, 'abs(i)');
enqueue(8001, 9000, 'CASE WHEN i % 100 = 7 THEN -1 ELSE i END');
enqueue(1, 3, 'i');
settles('9491 0 13 0', 'compressed');
is( join('; ', rows_of($dbh, 'SELECT sqlstate, count(*) FROM persist_dead_letters GROUP BY sqlstate ORDER BY sqlstate')),
	'23505 3; 23514 10',
	'compressed: the bad ones, also of a key that is in a compressed chunk, each with its own error');
discard_all($dbh);

# ---- upserts into them

$dbh->do(q{SELECT persist_configure('readings', on_conflict => 'nothing')});
enqueue(1, 3, '7');
settles('9491 3 0 0', 'upserts, nothing');
$dbh->do(q{SELECT persist_configure('readings', on_conflict => 'update', conflict_columns => '{n,at}', add_columns => '{v}')});
enqueue(1, 3, '1000');
settles('9494 3 0 0', 'upserts, update');
is(one_value($dbh, 'SELECT string_agg(v::text, $$ $$ ORDER BY v) FROM readings WHERE v BETWEEN 1001 AND 1003 AND at < $$2026-01-01 01:00+00$$'),
	'1001 1002 1003', 'upserts, update: added to what was compressed');

done_testing();
