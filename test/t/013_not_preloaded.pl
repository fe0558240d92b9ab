
# Where the library isn't preloaded, the extension can be created and direct
# mode works, so that applications and dumps keep working; async says what to do.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node('notpreloaded', shared_preload_libraries => "''");

is_deeply([ map { s/.*? (01000 \w+: .*)/$1/r } log_since($node, 0, qr/client backend 01000/) ],
	[
		'01000 WARNING:  persist_pipeline was not loaded when the server started',
		'01000 DETAIL:  Nothing can be handed over until it is; but where "persist_pipeline.mode" is "direct", each call is an INSERT.',
		'01000 HINT:  Add persist_pipeline to "shared_preload_libraries" and restart the server.'
	],
	'CREATE EXTENSION warns, and says what to do');
my $everything_from = log_position($node);

$node->safe_psql('postgres', "CREATE TABLE t (n int PRIMARY KEY, id bigint)");
is(launcher_pid($node), undef, 'no process');

my $dbh = connect_to($node);
foreach my $call (
	"persist_enqueue('t', '{\"n\": 1}')",
	"persist_enqueue('t'::text, '{\"n\": 1}'::text)",
	"persist_enqueue(ROW(1, 1)::t)",
	"persist_enqueue('t', '{\"n\": 1}', false)",
	"persist_enqueue_many('t', '[{\"n\": 1}]')")
{
	is(try_sql($dbh, "SELECT $call"), '55000', "$call in async mode");
	like($dbh->errstr, qr/HINT:  .*"shared_preload_libraries"/, 'the hint names the setting');
}
my ($failed, $flushed, $notice) = $node->psql('postgres', "SELECT persist_flush()");
is($flushed, 't', 'there is nothing to flush');
like($notice, qr/^\S*:? ?NOTICE:  nothing waits, since persist_pipeline was not loaded when the server started\nHINT:  Add .*"shared_preload_libraries"/m,
	'and it says why');
is($node->safe_psql('postgres', "SELECT count(*) FROM persist_queue"), '0', 'nor to see');

# ids increase, in a session and from one to the next
my $last = 0;
foreach my $session (1 .. 3)
{
	my $direct = connect_to($node);

	$direct->do("SET persist_pipeline.mode = 'direct'");
	foreach my $n (1 .. 3)
	{
		my ($id) = $direct->selectrow_array(
			"SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))",
			undef, $session * 10 + $n);

		cmp_ok($id, '>', $last, "session $session, row $n: the id is greater than the one before");
		$last = $id;
	}
	$direct->disconnect;
}
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM t"),
	'{11,12,13,21,22,23,31,32,33}', 'the rows are there at once');

# direct: it is the caller's INSERT, with its errors and in its transaction
$dbh->do("SET persist_pipeline.mode = 'direct'");
is(try_sql($dbh, "SELECT persist_enqueue('t', '{\"n\": 11}')"), '23505', 'a duplicate key is the caller\'s error');
is(try_sql($dbh, "SELECT persist_enqueue('t', '{\"m\": 11}')"), '42703', 'so is an unknown key');
$dbh->do("BEGIN");
$dbh->do("SELECT persist_enqueue('t', '{\"n\": 41}')");
$dbh->do("ROLLBACK");
is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE n = 41"), '0', 'ROLLBACK takes it back');

# set for the database, the way an administrator would
$node->safe_psql('postgres', "ALTER DATABASE postgres SET persist_pipeline.mode = 'direct'");
$node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 51}')");
is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE n = 51"), '1',
	'the mode can be set before the library is loaded');
$dbh->disconnect;

is_deeply([ complaints($node, $everything_from, qr/client backend (55000|23505|42703) ERROR/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

# preloaded later: ids go on from there
$node->safe_psql('postgres', "ALTER DATABASE postgres RESET persist_pipeline.mode");
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'persist_pipeline'");
$node->restart;
cmp_ok($node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 61}')"),
	'>', $last, 'preloaded: ids go on increasing');
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE n = 61"), '1', 'and the pipeline works');

# preloaded no more, with something in the journal, or parked: nobody will write that
foreach my $paused ('', "'t'")
{
	$node->safe_psql('postgres', "SELECT persist_pause($paused)");
	$node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 71}')");
	$node->safe_psql('postgres', "SELECT persist_flush()");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	my ($failed, $flushed, $warning) = $node->psql('postgres', "SELECT persist_flush()");
	is($flushed, 'f', 'not preloaded any more: what waits isn\'t settled');
	like($warning, qr/WARNING:  nobody writes the items that wait, since .*\nHINT:  Add /, 'and it says why');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'persist_pipeline'");
	$node->restart;
	$node->safe_psql('postgres', "SELECT persist_resume($paused)");
	ok(flush($node), 'preloaded again: settled');
	is($node->safe_psql('postgres', "DELETE FROM t WHERE n = 71 RETURNING n"), "71", 'and there');
}

# parked items can be dropped there, too, in one transaction after the other: nothing is left of one
# that the next would write to
$node->safe_psql('postgres', "SELECT persist_pause('t')");
$node->safe_psql('postgres', "SELECT count(persist_enqueue('t', jsonb_build_object('n', 80 + g))) FROM generate_series(1, 4) AS g");
$node->safe_psql('postgres', "SELECT persist_flush()");
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
my $discard = "SELECT persist_discard_parked(ARRAY(SELECT min(id) FROM persist_parked));\n";
my ($status, $dropped) = $node->psql('postgres',
	$discard . "BEGIN;\n" . join('', map { "SAVEPOINT s$_;\n" } 1 .. 30) . $discard x 2 . "ROLLBACK TO s3;\nCOMMIT;\n" . $discard);
is("$status " . ($dropped // '') =~ tr/\n/ /r, '0 1 1 1 1', 'parked items are dropped where the library is not preloaded');
is($node->safe_psql('postgres', 'SELECT count(*) FROM persist_parked'), '2', 'and those of a savepoint that was left are there');
is($node->safe_psql('postgres', 'SELECT persist_parked_to_dead(ARRAY(SELECT id FROM persist_parked))'), '2', 'they become dead letters');

# a column that the tables are given where nothing refuses it: each row that is written would be read from behind its values
my ($given, undef, $fault) = $node->psql('postgres', 'BEGIN; ALTER TABLE persist_pipeline_internal.persist_account ADD more text; SELECT persist_stats_reset()');
isnt($given, 0, 'a table that has more columns is not written to');
like($fault, qr/cannot be used as it is\n.*DETAIL:  Its relation "persist_account" has been given columns\.\n/, 'and it says why');

$node->stop;
done_testing();
