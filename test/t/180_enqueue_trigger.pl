
# persist_enqueue_trigger() where it takes more than a session: rows by the million in bounded
# memory; modes of the server; logical replication; dumps; a server without the library.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

use constant {
	ROWS => 1_000_000,
	GROWTH_KB => 16 * 1024,
};

my $account_sql = "SELECT format('%s %s %s %s', enqueued, persisted, skipped, dead) FROM persist_stats WHERE target = ?::regclass";
my $before = 'BEFORE INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger()';
my $instead = 'INSTEAD OF INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger()';

sub create_trigger
{
	my ($kind, $relation) = @_;

	return sprintf "CREATE TRIGGER enqueue $kind;", $relation;
}

# ---- COPY

my $node = pp_node('copied', init => [ allows_streaming => 'logical' ], 'persist_pipeline.transaction_buffer' => "'4MB'");
my $everything_from = log_position($node);
$node->safe_psql('postgres',
	    'CREATE TABLE t (id bigserial PRIMARY KEY, n int, s text); CREATE VIEW v AS SELECT n, s, id FROM t;'
	  . create_trigger($before, 't')
	  . create_trigger($instead, 'v'));
my $dbh = connect_to($node);
foreach my $relation ('t', 'v')
{
	my $copy = "COPY $relation (n, s) FROM PROGRAM 'seq -f %%.0f,a_text 1 %d' CSV";
	my $session = connect_to($node);

	# what a session needs once: caches, the buffer
	$session->do(sprintf $copy, ROWS / 5);
	my ($early) = own_memory($session->{pg_pid});
	$session->do(sprintf $copy, ROWS);
	my (undef, $peak) = own_memory($session->{pg_pid});
	cmp_ok($peak - $early, '<', GROWTH_KB, "$relation: the session doesn't grow with its rows");
	note sprintf '%s: %.1f MB, at its peak %.1f', $relation, $early / 1024, $peak / 1024;
	$session->disconnect;
}
ok(flush($node), 'copied: flushed');
is(one_value($dbh, "SELECT format('%s %s %s', count(*), count(DISTINCT id), sum(n)) FROM t"),
	join(' ', 2.4 * ROWS, 2.4 * ROWS, 2 * (ROWS * (ROWS + 1) / 2 + ROWS / 5 * (ROWS / 5 + 1) / 2)),
	'copied: each row once');
is(one_value($dbh, $account_sql, 't'), join(' ', 2.4 * ROWS, 2.4 * ROWS, 0, 0), 'copied: and none went around');

# ---- what was accepted is written in any mode

$dbh->do("TRUNCATE t");
foreach my $mode ('reject', 'direct')
{
	$dbh->do("SELECT persist_pause()");
	$dbh->do("INSERT INTO t (n) VALUES (1)");
	$dbh->do("INSERT INTO v (n) VALUES (2)");
	# which the trigger hands over once more
	$dbh->do("SELECT persist_enqueue('v'::regclass, '{\"n\": 3}')");
	change_setting($dbh, 'mode', $mode);
	$dbh->do("SELECT persist_resume()");
	ok(flush($node) && flush($node), "$mode: flushed");
	is(join(', ', rows_of($dbh, 'SELECT n FROM t ORDER BY n')), '1, 2, 3', "$mode: all are there");
	is(try_sql($dbh, "INSERT INTO t (n) VALUES (4)"), $mode eq 'direct' ? '00000' : '55000', "$mode: of a table");
	is(try_sql($dbh, "INSERT INTO v (n) VALUES (5)"), $mode eq 'direct' ? '00000' : '55000', "$mode: and of a view");
	is(one_value($dbh, "SELECT count(*) FROM t WHERE n > 3"), $mode eq 'direct' ? 2 : 0, "$mode: inserted at once or not at all");
	change_setting($dbh, 'mode', 'async');
	$dbh->do("TRUNCATE t");
}

# ---- a dump: the rows come before the trigger; data alone are handed over, but without triggers

my $dir = $node->basedir;

sub restore_ok
{
	my ($database, $what, @options) = @_;

	$node->command_ok([ 'pg_restore', '-e', '-d', $node->connstr($database), @options, "$dir/dump" ], "$what: restored");
	return;
}

$node->safe_psql(
	'postgres',
	"INSERT INTO t (n, s) SELECT i, 'row ' || i FROM generate_series(1, 1000) AS i;"
	  . 'CREATE TABLE p (n int, s text) PARTITION BY RANGE (n); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (500);'
	  . 'CREATE TABLE p2 PARTITION OF p DEFAULT;'
	  . create_trigger($before, 'p')
	  . "INSERT INTO p SELECT n, 'row' FROM generate_series(1, 1000) AS n");
ok(flush($node), 'dump: flushed');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump", $node->connstr('postgres') ], 'dumped');
my $restored_sql = "SELECT format('%s %s %s', (SELECT count(*) FROM t), (SELECT count(*) FROM p), (SELECT count(*) FROM pg_trigger WHERE tgfoid = 'persist_enqueue_trigger'::regproc AND tgparentid = 0))";
my $enqueued_sql = "SELECT coalesce(sum(enqueued), 0) FROM persist_stats";

$node->safe_psql('postgres', 'CREATE DATABASE restored');
restore_ok('restored', 'dump');
is($node->safe_psql('restored', $restored_sql), '1000 1000 3', 'dump: the rows are there at once, and the triggers');
is($node->safe_psql('restored', $enqueued_sql), '0', 'dump: none was handed over');
$node->safe_psql('restored', 'TRUNCATE t, p');
restore_ok('restored', 'data alone', '-a', '-t', 't', '-t', 'p1', '-t', 'p2', '-t', 't_id_seq');
ok(flush($node, 'restored'), 'data alone: flushed');
is($node->safe_psql('restored', $restored_sql), '1000 1000 3', 'data alone: the rows are there');
is($node->safe_psql('restored', $enqueued_sql), '2000', 'data alone: by way of the queue');
$node->safe_psql('restored', 'TRUNCATE t, p');
restore_ok('restored', 'without triggers', '-a', '--disable-triggers', '-t', 't', '-t', 'p1', '-t', 'p2');
is($node->safe_psql('restored', $restored_sql), '1000 1000 3', 'without triggers: the rows are there at once');
is($node->safe_psql('restored', $enqueued_sql), '2000', 'without triggers: and none by way of the queue');

# ---- logical replication: the trigger is for who inserts first, unless it is told otherwise

my $subscriber = pp_node('subscriber');
my $subscribed = connect_to($subscriber);
my $from = log_position($subscriber);

$node->safe_psql('postgres', 'CREATE PUBLICATION pub FOR TABLE t');
$subscriber->safe_psql('postgres',
	'CREATE TABLE t (id bigint PRIMARY KEY, n int, s text);' . create_trigger($before, 't'));
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($node, 'sub');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM t'), '1000', 'replication: the first copy is there');
$dbh->do("INSERT INTO t (n) VALUES (-1)");
ok(flush($node), 'replication: flushed');
$node->wait_for_catchup('sub');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM t'), '1001', 'replication: and the next row');
is($subscriber->safe_psql('postgres', $enqueued_sql), '0', 'replication: nothing was handed over once more');
$subscriber->safe_psql('postgres', 'ALTER TABLE t ENABLE ALWAYS TRIGGER enqueue');
$dbh->do("INSERT INTO t (n) SELECT -i FROM generate_series(2, 100) AS i");
ok(flush($node), 'always: flushed');
$node->wait_for_catchup('sub');
ok(flush($subscriber), 'always: and by the subscriber');
is($subscriber->safe_psql('postgres', "SELECT format('%s %s', count(*), count(DISTINCT n)) FROM t"), '1100 1100', 'always: each row is there');
is($subscriber->safe_psql('postgres', $enqueued_sql), '99', 'always: by way of the queue');
# its publisher sends what it has taken no second time: so a crash must not take it
change_setting($subscribed, 'adaptive_flush', 'off');
change_setting($subscribed, 'flush_interval', '10s');
change_setting($subscribed, 'ring_window', '50s');
$dbh->do("INSERT INTO t (n) SELECT -i FROM generate_series(101, 110) AS i");
ok(flush($node), 'crash: flushed');
$node->wait_for_catchup('sub', 'flush');
is(one_value($subscribed, 'SELECT count(*) FROM t'), 1100, 'crash: the subscriber has taken rows, and not written them');
$subscribed->disconnect;
is_deeply([ complaints($subscriber, $from) ], [], 'replication: nothing in the log above LOG');
$subscriber->stop('immediate');
$subscriber->start;
ok(flush($subscriber), 'crash: flushed by the subscriber');
is($subscriber->safe_psql('postgres', "SELECT format('%s %s', count(*), count(DISTINCT n)) FROM t"), '1110 1110', 'crash: it has kept them');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
$subscriber->stop;

is_deeply([ complaints($node, $everything_from, qr/client backend 55000 ERROR/) ], [], 'nothing in the log above LOG');
$dbh->disconnect;
$node->stop;

# ---- where the library isn't preloaded

$node = pp_node('notpreloaded', shared_preload_libraries => "''");
$node->safe_psql('postgres',
	    'CREATE TABLE t (id bigserial PRIMARY KEY, n int); CREATE VIEW v AS SELECT n, id FROM t;'
	  . create_trigger($before, 't')
	  . create_trigger($instead, 'v'));
$dbh = connect_to($node);
foreach my $relation ('t', 'v')
{
	is(try_sql($dbh, "INSERT INTO $relation (n) VALUES (1)"), '55000', "not preloaded: $relation");
	like($dbh->errstr, qr/HINT:  .*"shared_preload_libraries"/, 'the hint names the setting');
}
$dbh->do("SET persist_pipeline.mode = direct");
is($dbh->do("INSERT INTO $_ (n) VALUES (1), (2)"), 2, "not preloaded, direct: $_") foreach 't', 'v';
is(one_value($dbh, "SELECT count(*) FROM t"), 4, 'not preloaded, direct: inserted at once');
$dbh->disconnect;
$node->stop;

done_testing();
