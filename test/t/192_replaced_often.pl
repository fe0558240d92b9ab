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

$producer->disconnect;

$dbh->disconnect;
is_deeply([ complaints($node, 0, qr/persist_pipeline (?:worker|retrier) \w{5} WARNING/) ], [], 'a clean log');
$node->stop;
done_testing();
