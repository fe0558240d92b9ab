#
# Targets that are replaced again and again (184): what waits for the first one comes first, however
# many there are, and whatever refers to them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use PersistPipeline;

my $node = pp_node('replaced_often', 'persist_pipeline.misfit_timeout' => "'1h'");
my $dbh = connect_to($node);
my $update = q{on_conflict => 'update', conflict_columns => '{k}', durability => 'journal'};

sub enqueue
{
	my ($session, $target, @items) = @_;

	$session->do("SELECT persist_enqueue('$target'::regclass, ?::jsonb)", undef, $_) foreach @items;
	return;
}

# In one transaction, another table, made as `create` says, takes the place of t.
sub replace
{
	my ($create, @more) = @_;

	$dbh->do(join ';', 'BEGIN', "CREATE TABLE t_new $create", 'DROP TABLE t CASCADE', 'ALTER TABLE t_new RENAME TO t', @more, 'COMMIT');
	return;
}

sub anew
{
	my ($create) = @_;

	$dbh->do('DROP TABLE IF EXISTS t, t2, x, p CASCADE');
	$dbh->do("CREATE TABLE t $create");
	return;
}

sub rows { return join ' ', rows_of($dbh, 'SELECT k || v FROM t ORDER BY k') }
sub wait_for_parked { return wait_for_sql($dbh, "SELECT count(*) = $_[0] FROM persist_parked") }

# ---- two in one transaction, while what waits for both is parked

foreach my $i (1 .. 8)    # whichever the retrier would take first
{
	anew('(k int PRIMARY KEY, v text)');
	$dbh->do('CREATE TABLE t2 (LIKE t INCLUDING ALL)');
	foreach my $target ('t', 't2')
	{
		$dbh->do("SELECT persist_configure('$target', $update)");
		$dbh->do("SELECT persist_pause('$target')");
	}
	enqueue($dbh, 't', '{"k": 1, "v": "old"}');
	wait_for_parked(1);
	enqueue($dbh, 't2', '{"k": 1, "v": "new"}');
	wait_for_parked(2);
	$dbh->do('BEGIN; CREATE TABLE t3 (LIKE t INCLUDING ALL); DROP TABLE t; ALTER TABLE t2 RENAME TO t; DROP TABLE t; ALTER TABLE t3 RENAME TO t; COMMIT');
	$dbh->do(q{SELECT persist_resume('t')});
	drain($node);
	is(rows(), '1new', "in one transaction $i: the last value");
}

# the one between was created by the transaction, and dropped under the name, or under another one
foreach my $case (
	[ 'created', '1a', '', 'CREATE TABLE t2 (k int, v text)', 'DROP TABLE t', 'ALTER TABLE t2 RENAME TO t', 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t' ],
	[ 'created under the name', '1a', '', 'DROP TABLE t', 'CREATE TABLE t (k int, v text)', 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t' ],
	[ 'rolled back', '1a', '', 'CREATE TABLE t2 (k int, v text)', 'DROP TABLE t', 'SAVEPOINT s', 'ALTER TABLE t2 RENAME TO t', 'DROP TABLE t', 'ROLLBACK TO s', 'ALTER TABLE t_new RENAME TO t' ],
	[ 'renamed', '', '{"k": 1, "v": "a"}', 'CREATE TABLE t2 (k int, v text)', 'DROP TABLE t', 'ALTER TABLE t2 RENAME TO t', 'ALTER TABLE t RENAME TO t2', 'DROP TABLE t2', 'ALTER TABLE t_new RENAME TO t' ])
{
	my ($name, $rows, $letters, @commands) = @$case;

	anew('(k int, v text)');
	$dbh->do('SELECT persist_pause()');
	enqueue($dbh, 't', '{"k": 1, "v": "a"}');
	$dbh->do(join ';', 'BEGIN', 'CREATE TABLE t_new (k int, v text)', @commands, 'COMMIT');
	$dbh->do('SELECT persist_resume()');
	ok(flush($node), "$name: flushed");
	is(rows(), $rows, "$name: the rows");
	is(join(' ', rows_of($dbh, 'SELECT item FROM persist_dead_letters')), $letters, "$name: the letters");
	is(discard_all($dbh), $letters ? 1 : 0, "$name: discarded");
}

# ---- foreign keys that refer to each other don't change the order within a batch

anew('(k int PRIMARY KEY, v text, x int)');
$dbh->do('CREATE TABLE x (id int PRIMARY KEY, t int REFERENCES t DEFERRABLE INITIALLY DEFERRED)');
$dbh->do('ALTER TABLE t ADD FOREIGN KEY (x) REFERENCES x DEFERRABLE INITIALLY DEFERRED');
$dbh->do("SELECT persist_configure('t', $update)");
$dbh->do('SELECT persist_pause()');
my $producer = connect_to($node);
$producer->begin_work;
enqueue($producer, 't', '{"k": 1, "v": "old", "x": 5}');
enqueue($producer, 'x', '{"id": 5, "t": 1}');
replace('(k int PRIMARY KEY, v text, x int REFERENCES x DEFERRABLE INITIALLY DEFERRED)', 'ALTER TABLE x ADD FOREIGN KEY (t) REFERENCES t DEFERRABLE INITIALLY DEFERRED');
one_value($producer, 'SELECT count(*) FROM t');    # learns which table it is
enqueue($producer, 't', '{"k": 1, "v": "new", "x": 5}');
$producer->commit;
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'circle: flushed');
is(rows(), '1new', 'circle: the last value');

# ---- what waits for the row of another target is not overtaken by what comes later

anew('(k int PRIMARY KEY, v text)');
$dbh->do('CREATE TABLE p (id int PRIMARY KEY)');
$dbh->do('ALTER TABLE t ADD p int REFERENCES p');
$dbh->do("SELECT persist_configure('t', $update)");
$dbh->do(q{SELECT persist_pause('p')});
enqueue($dbh, 'p', '{"id": 1}');
wait_for_parked(1);
enqueue($dbh, 't', '{"k": 1, "v": "old", "p": 1}');
wait_for_sql($dbh, q{SELECT count(*) = 1 FROM persist_parked WHERE sqlstate = '23503'});
replace('(k int PRIMARY KEY, v text, p int REFERENCES p)');
enqueue($dbh, 't', '{"k": 1, "v": "new"}');
wait_for_sql($dbh, q{SELECT (SELECT count(*) FROM persist_parked) = 3 OR (SELECT count(*) FROM t) = 1});
is(one_value($dbh, q{SELECT persist_flush('2s', 't')}), 0, 'foreign key: what is parked is tried');
is(rows(), '', 'foreign key: nothing overtakes what waits');
$dbh->do(q{SELECT persist_resume('p')});
drain($node);
is(rows(), '1new', 'foreign key: the last value');

# but for a row that it may need: that was enqueued before it, by a transaction that ended sooner
foreach my $kind ('table', 'view')    # of which nobody knows whether it has that row
{
	my $columns = '(k int PRIMARY KEY, v text, t int REFERENCES ';

	anew("${columns}t)");
	$dbh->do(q{SELECT persist_pause('t')});
	$producer->begin_work;
	enqueue($producer, 't', '{"k": 2, "v": "child", "t": 1}');
	replace("${columns}t_new)") if $kind eq 'table';
	$dbh->do("BEGIN; CREATE TABLE base ${columns}base); CREATE VIEW v AS SELECT * FROM base; DROP TABLE t; ALTER VIEW v RENAME TO t; COMMIT") if $kind eq 'view';
	enqueue($dbh, 't', '{"k": 1, "v": "parent"}');
	wait_for_parked(1);
	$producer->commit;
	wait_for_parked(2);
	$dbh->do(q{SELECT persist_resume('t')});
	drain($node);
	is(rows(), '1parent 2child', "foreign key: of the $kind that has replaced it");
	is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, "foreign key: no letter of the $kind");
}
is(one_value($dbh, 'SELECT count(*) FROM persist_parked'), 0, 'foreign key: nothing waits');

# within one transaction each may need the other
$dbh->do('DROP VIEW t');
anew('(k int PRIMARY KEY, v text, t int REFERENCES t DEFERRABLE INITIALLY DEFERRED)');
$dbh->do('DROP TABLE base');
$dbh->do(q{SELECT persist_pause('t')});
$producer->begin_work;
enqueue($producer, 't', '{"k": 2, "v": "child", "t": 1}');
$dbh->do('BEGIN; CREATE TABLE base (k int PRIMARY KEY, v text, t int REFERENCES base DEFERRABLE INITIALLY DEFERRED); CREATE VIEW v AS SELECT * FROM base; DROP TABLE t; ALTER VIEW v RENAME TO t; COMMIT');
one_value($producer, 'SELECT count(*) FROM t');
enqueue($producer, 't', '{"k": 1, "v": "parent"}');
$producer->commit;
wait_for_parked(2);
$dbh->do(q{SELECT persist_resume('t')});
ok(eval { drain($node); 1 }, 'deferred, with a view: nothing waits for ever');
is(rows(), '1parent 2child', 'deferred, with a view: both are there');
$dbh->do('DROP VIEW t');

# what has replaced it passes no more than it has to
anew('(k int PRIMARY KEY, v text, t int REFERENCES t)');
$dbh->do("SELECT persist_configure('t', $update)");
$dbh->do(q{SELECT persist_pause('t')});
$producer->begin_work;
enqueue($producer, 't', '{"k": 2, "v": "child", "t": 1}');
replace('(k int PRIMARY KEY, v text, t int REFERENCES t_new)');
enqueue($dbh, 't', '{"k": 1, "v": "parent"}');
wait_for_parked(1);
$producer->commit;
wait_for_parked(2);
enqueue($dbh, 't', '{"k": 2, "v": "new", "t": 1}');
wait_for_parked(3);
$dbh->do(q{SELECT persist_resume('t')});
drain($node);
is(rows(), '1parent 2new', 'foreign key: no more of it than the row that is needed');
$producer->disconnect;

# a row that waits for what a view gets which has replaced its target
anew('(k int PRIMARY KEY, v text)');
$dbh->do('CREATE TABLE x (t int)');
$dbh->do(q{SELECT persist_pause('t')});
enqueue($dbh, 't', '{"k": 1, "v": "parent"}');
wait_for_parked(1);
$dbh->do('DROP TABLE base; BEGIN; CREATE TABLE base (k int PRIMARY KEY, v text); CREATE VIEW v AS SELECT * FROM base; DROP TABLE t; ALTER VIEW v RENAME TO t; COMMIT');
$dbh->do('ALTER TABLE x ADD FOREIGN KEY (t) REFERENCES base');
enqueue($dbh, 'x', '{"t": 1}');
wait_for_sql($dbh, q{SELECT (SELECT count(*) FROM persist_parked) = 2 OR EXISTS (SELECT FROM persist_dead_letters)});
$dbh->do(q{SELECT persist_resume('t')});
drain($node);
is(one_value($dbh, 'SELECT count(*) FROM x'), 1, 'foreign key: to what a view is of');
is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'foreign key: no letter');
$dbh->do('DROP VIEW t; DROP TABLE base CASCADE');

# ---- a row that waits by itself keeps nothing back

anew('(k int PRIMARY KEY, v text)');
my $holder = connect_to($node);
$dbh->do(q{SELECT persist_pause('t')});
enqueue($dbh, 't', '{"k": 1, "v": "a"}');
wait_for_parked(1);
replace('(LIKE t INCLUDING ALL)');
enqueue($dbh, 't', '{"k": 2, "v": "b"}');
wait_for_parked(2);
$holder->begin_work;
$holder->do(q{INSERT INTO t VALUES (1, 'holder')});
$dbh->do(q{SELECT persist_resume('t')});
ok(eval { wait_for_sql($dbh, 'SELECT count(*) = 1 FROM t') }, 'a row that waits: others pass it');
$holder->rollback;
$holder->disconnect;
drain($node);
is(rows(), '1a 2b', 'a row that waits: it comes when it can');

# nor does the row that another target waits for overtake what is parked for another reason

foreach my $i (1 .. 4)    # whichever the retrier would take first
{
	anew('(k int PRIMARY KEY, v text, z int)');
	$dbh->do("SELECT persist_configure('t', $update)");
	$dbh->do(q{SELECT persist_pause('t')});
	enqueue($dbh, 't', '{"k": 1, "v": "old", "z": 1}');
	wait_for_parked(1);
	replace('(k int PRIMARY KEY, v text)');
	enqueue($dbh, 't', '{"k": 1, "v": "new"}');
	wait_for_parked(2);
	$dbh->do('CREATE TABLE x (id int, t int REFERENCES t)');
	enqueue($dbh, 'x', '{"id": 1, "t": 1}');
	wait_for_parked(3);
	$dbh->do(q{SELECT persist_resume('t')});
	is(one_value($dbh, q{SELECT persist_flush('2s', 'x')}), 0, "child $i: it is tried");
	is(rows(), '', "child $i: the row that it waits for has to wait, too");
	$dbh->do('ALTER TABLE t ADD z int');
	drain($node);
	is(rows(), '1new', "child $i: the last value");
	is(one_value($dbh, 'SELECT count(*) FROM x'), 1, "child $i: it is there");
}
is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'child: no letter');

# ---- what a batch finds to be none of the target's columns is not overtaken by the rest of the batch

anew('(k int PRIMARY KEY, v text, z int)');
$dbh->do("SELECT persist_configure('t', $update)");
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 't', '{"k": 1, "v": "old", "z": 1}');
replace('(k int PRIMARY KEY, v text)');
enqueue($dbh, 't', '{"k": 1, "v": "new"}');
$dbh->do('SELECT persist_resume()');
wait_for_sql($dbh, q{SELECT (SELECT count(*) FROM persist_parked) = 2 OR EXISTS (SELECT FROM t)});
is(rows(), '', 'batch: both wait');
$dbh->do('ALTER TABLE t ADD z int');
drain($node);
is(rows(), '1new', 'batch: the last value');

# ---- many, each of which has been altered before: the worker doesn't look at one of them twice

anew('(k int, v text)');
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 't', '{"k": 0, "v": "a"}');
foreach my $i (1 .. 40)
{
	$dbh->do('ALTER TABLE t ADD x int');
	enqueue($dbh, 't', qq({"k": $i, "v": "a", "x": 1})) if $i % 10 == 0;
	replace('(k int, v text, x int)');
	$dbh->do('ALTER TABLE t DROP x');
}
enqueue($dbh, 't', '{"k": 41, "v": "b"}');
$dbh->do('ALTER TABLE t ADD x int');
$dbh->do('SELECT persist_resume()');
is(one_value($dbh, q{SELECT persist_flush('60s')}), 1, 'many: flushed');
is(rows(), '0a 10a 20a 30a 40a 41b', 'many: the rows are there');
is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'many: no letter');

# ---- what the transaction has enqueued that has created the target, too

foreach my $case (
	[ 'altered', q{ALTER TABLE own ALTER k TYPE bigint, ALTER v TYPE varchar(3)} ],
	[ 'replaced', q{CREATE TABLE own_new (v text, gone int, k bigint); ALTER TABLE own_new DROP gone; DROP TABLE own; ALTER TABLE own_new RENAME TO own} ])
{
	my ($name, $commands) = @$case;

	$dbh->do(qq{BEGIN; CREATE TABLE own (k int, v text); SELECT persist_enqueue('own', '{"k": 1, "v": "a"}'); $commands; COMMIT});
	ok(flush($node), "own, $name: flushed");
	is(join(' ', rows_of($dbh, 'SELECT k || v FROM own')), '1a', "own, $name: the row is there");
	$dbh->do('DROP TABLE own');
}

# ---- another installation begins afresh

$dbh->do('CREATE DATABASE renewed');
my $other = connect_to($node, 'renewed');
$other->do('CREATE EXTENSION persist_pipeline');
$other->do('CREATE TABLE t (k int)');
$other->do(q{SELECT persist_configure('t', bad_items => 'dead')});
$other->do('BEGIN; CREATE TABLE t_new (k int); DROP TABLE t; DROP EXTENSION persist_pipeline; CREATE EXTENSION persist_pipeline; ALTER TABLE t_new RENAME TO t; COMMIT');
is(one_value($other, 'SELECT count(*) FROM persist_settings'), 0, 'another installation: nothing is configured');
$other->disconnect;

# ---- a parallel process may ask for the name of what is gone

$dbh->do('CREATE TABLE gone (k int)');
$dbh->do('SELECT persist_pause()');
my $id = one_value($dbh, q{SELECT persist_enqueue('gone', '{"k": 1}')});
$dbh->do('DROP TABLE gone');
$dbh->do('CREATE TABLE many AS SELECT generate_series(1, 20) AS n');
$dbh->do('SET ' . ($dbh->{pg_server_version} >= 160000 ? 'debug_parallel_query' : 'force_parallel_mode') . ' = on');
$dbh->do("SET $_ = 0") foreach qw(parallel_setup_cost parallel_tuple_cost min_parallel_table_scan_size);
$dbh->do("CREATE FUNCTION safe(int) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS \$\$ BEGIN RETURN (SELECT w::text FROM persist_where($id) AS w); END \$\$");
like(one_value($dbh, 'SELECT min(safe(n)) FROM many'), qr/public\.gone/, 'gone: in parallel');
$dbh->do('RESET ALL');
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'gone: flushed');
is(discard_all($dbh), 1, 'gone: discarded');

$dbh->disconnect;
is_deeply([ complaints($node, 0, qr/persist_pipeline (?:worker|retrier) \w{5} WARNING/) ], [], 'a clean log');
$node->stop;
done_testing();
