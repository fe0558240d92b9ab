
# A full ring refuses, the transaction is rolled back, and later calls work.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node(
	'full',
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.lock_timeout' => "'50ms'",
	'persist_pipeline.ring_size' => "'64kB'");
my $everything_from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int, filler text);
	CREATE TABLE other (n int);

	CREATE TABLE log (n int, filler text);
	CREATE TABLE logged (n int, filler text);
	CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM persist_enqueue('log', to_jsonb(NEW)); RETURN NEW; END $$;
	CREATE TRIGGER log AFTER INSERT ON logged FOR EACH ROW EXECUTE FUNCTION log();
});

my $locker = connect_to($node);
my $dbh = connect_to($node);

my $filler = 900;

sub enqueue
{
	my ($table, $n, $transactional) = @_;

	return try_sql($dbh,
		"SELECT persist_enqueue('$table'::regclass, jsonb_build_object('n', ?::int, 'filler', repeat('x', $filler)), ?)",
		$n, defined $transactional ? $transactional : 1);
}

# Fill the ring while the worker can't write; how many went in.
sub fill
{
	my ($table) = @_;
	my $n = 0;
	my $state;

	$locker->begin_work;
	$locker->do("LOCK TABLE $table IN SHARE MODE");
	while (($state = enqueue($table, $n + 1)) eq '00000')
	{
		$n++;
		die "it is never full" if $n > 1000;
	}
	is($state, '53000', "$table: a full ring is an error");
	like($dbh->errstr, qr/ring of database "postgres" is full.*HINT: .*persist_pipeline\.ring_size/s, 'with a hint');
	return $n;
}

my $n = fill('t');
cmp_ok($n, '>=', 40, 'most of the ring can be used');
is(enqueue('t', 1001, 0), '53000', 'also when not transactional');
$dbh->do("BEGIN");
$dbh->do("INSERT INTO other VALUES (1)");
is(enqueue('t', 1002), '00000', 'in a transaction the call itself succeeds');
is(try_sql($dbh, "COMMIT"), '53000', 'and the commit does not');
$dbh->do("BEGIN");
$dbh->do("INSERT INTO other VALUES (2)");
$dbh->do("SAVEPOINT a");
is(enqueue('t', 1003), '00000', 'an item');
$dbh->do("ROLLBACK TO a");
is(try_sql($dbh, "COMMIT"), '00000', 'that is rolled back needs no room');
is($node->safe_psql('postgres', "SELECT items_pending, ring_used <= ring_size, ring_peak <= ring_size FROM persist_queue"),
	"$n|t|t", 'nothing of them is in the ring');

$locker->commit;
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n), max(n) FROM t"),
	"$n|$n|$n", 'what was accepted arrived, what was refused did not');
is($node->safe_psql('postgres', "SELECT array_agg(n) FROM other"),
	'{2}', 'a refused transaction was rolled back as a whole');
is($node->safe_psql('postgres', "SELECT ring_used FROM persist_queue"), '0', 'all room is free again');

# round and round
foreach my $i (1 .. 300)
{
	my $state = enqueue('t', 2000 + $i);

	if ($state eq '53000')
	{
		flush($node);
		redo;
	}
	die "SQLSTATE $state" if $state ne '00000';
}
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE n > 2000"),
	'300|300', 'later calls work');

# A transaction that is larger than the ring is told at the call that breaks it.
$dbh->do("BEGIN");
my $state = '00000';
my $calls = 0;
$state = enqueue('t', 3001) while $state eq '00000' && $calls++ < 1000;
is($state, '54000', 'a transaction larger than the ring is an error');
$dbh->do("ROLLBACK");

# ---- a full ring of items whose trigger enqueues another: it must come empty

# small ones, and ones near the limit for an item
foreach my $bytes (900, 15000)
{
	$filler = $bytes;
	$node->safe_psql('postgres', "TRUNCATE logged, log");
	$n = fill('logged');
	$locker->commit;
	is($node->safe_psql('postgres', "SELECT persist_flush('20 s')"),
		't', "a full ring of items that bring forth others, $bytes bytes each");
	is($node->safe_psql('postgres', "SELECT persist_flush('20 s')"), 't', 'and those');
	is( $node->safe_psql('postgres',
			"SELECT (SELECT count(DISTINCT n) || '|' || count(*) FROM logged), (SELECT count(DISTINCT n) || '|' || count(*) FROM log)"),
		"$n|$n|$n|$n",
		'all arrived, each once');
}

$dbh->disconnect;
$locker->disconnect;
is_deeply([ complaints($node, $everything_from, qr/client backend (53000|54000|25P02) ERROR/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
