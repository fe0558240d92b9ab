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
anew('(k int PRIMARY KEY, v text, t int REFERENCES t)');
$dbh->do(q{SELECT persist_pause('t')});
$producer->begin_work;
enqueue($producer, 't', '{"k": 2, "v": "child", "t": 1}');
replace('(k int PRIMARY KEY, v text, t int REFERENCES t_new)');
enqueue($dbh, 't', '{"k": 1, "v": "parent"}');
wait_for_parked(1);
$producer->commit;
wait_for_parked(2);
$dbh->do(q{SELECT persist_resume('t')});
drain($node);
is(rows(), '1parent 2child', 'foreign key: of what has replaced it');
is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'foreign key: no letter');
$producer->disconnect;

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

$dbh->disconnect;
is_deeply([ complaints($node, 0, qr/persist_pipeline (?:worker|retrier) \w{5} WARNING/) ], [], 'a clean log');
$node->stop;
done_testing();
