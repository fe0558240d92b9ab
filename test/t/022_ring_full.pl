
# A full ring: what belongs to a transaction goes to the journal instead, in the
# same order, and nobody notices; what is to be handed over at once is refused.

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
	'persist_pipeline.ring_size' => "'64kB'",
	'persist_pipeline.role_quota' => 100);
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

	return try_enqueue($dbh, $table, $n, filler => $filler, transactional => $transactional);
}

# Fill the ring while the worker can't write; how many went in.
sub fill
{
	my ($table) = @_;
	my $n = 0;
	my $state;

	$locker->begin_work;
	$locker->do("LOCK TABLE $table, persist_pipeline_internal.persist_parked IN SHARE MODE"); # so that nothing can be parked

	while (($state = enqueue($table, $n + 1, 0)) eq '00000')
	{
		$n++;
		die "it is never full" if $n > 1000;
	}
	is($state, '53000', "$table: a full ring is an error");
	like($dbh->errstr, qr/ring of database "postgres" is full.*HINT: .*persist_pipeline\.ring_size/s, 'with a hint');
	return $n;
}

# ---- not transactional: an error, and later calls work

my $n = fill('t');
cmp_ok($n, '>=', 40, 'most of the ring can be used');
is($node->safe_psql('postgres', "SELECT items_pending, ring_used <= ring_size, ring_peak <= ring_size FROM persist_queue"),
	"$n|t|t", 'nothing of what was refused is in the ring');

# ---- transactional: many times what the ring holds

$dbh->do("BEGIN");
$dbh->do("INSERT INTO other VALUES (1)");
is(enqueue('t', 1000, 1), '00000', 'in a transaction');
is(try_sql($dbh, "COMMIT"), '00000', 'and so does its commit');
is(enqueue('t', 1000 + $_, 1), '00000', "item $_") foreach 1 .. 5;
foreach my $i (6 .. 500)
{
	my $state = enqueue('t', 1000 + $i, 1);

	die "SQLSTATE $state" if $state ne '00000';
}
is($node->safe_psql('postgres', "SELECT items_pending, ring_used <= ring_size FROM persist_queue"),
	$n + 501 . '|t', 'they wait in the journal');

$locker->commit;
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t"), $n + 501 . '|' . ($n + 501), 'all arrived, each once');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY ctid) = array_agg(n ORDER BY n) FROM t"), 't', 'in their order');
is($node->safe_psql('postgres', "SELECT array_agg(n) FROM other"), '{1}', 'with their transaction');
is($node->safe_psql('postgres', "SELECT items_pending, ring_used FROM persist_queue"), '0|0', 'nothing is left');

# a producer that holds the very lock the worker waits for
$dbh->do("BEGIN");
$dbh->do("LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE");
$dbh->do("SELECT count(persist_enqueue('t', jsonb_build_object('n', 2000 + i, 'filler', repeat('x', $filler)))) FROM generate_series(1, 500) AS i");
is(try_sql($dbh, "COMMIT"), '00000', 'a producer that holds the lock commits');
ok(drain($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE n > 2000"), '500|500', 'and its items arrive');

# from ring to journal and back
foreach my $i (1 .. 300)
{
	my $state = enqueue('t', 3000 + $i, $i % 7 > 0 || 0);

	if ($state eq '53000')
	{
		flush($node);
		redo;
	}
	die "SQLSTATE $state" if $state ne '00000';
}
ok(drain($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE n > 3000"),
	'300|300', 'later calls work');

# ---- a full ring of items whose trigger enqueues another: it must come empty

# small ones, and ones near the limit for an item
foreach my $bytes (900, 15000)
{
	$filler = $bytes;
	$node->safe_psql('postgres', "TRUNCATE logged, log");
	$n = fill('logged');
	$locker->commit;
	is($node->safe_psql('postgres', "SELECT persist_flush('300 s')"),
		't', "a full ring of items that bring forth others, $bytes bytes each");
	is($node->safe_psql('postgres', "SELECT persist_flush('300 s')"), 't', 'and those');
	is( $node->safe_psql('postgres',
			"SELECT (SELECT count(DISTINCT n) || '|' || count(*) FROM logged), (SELECT count(DISTINCT n) || '|' || count(*) FROM log)"),
		"$n|$n|$n|$n",
		'all arrived, each once');
}

$dbh->disconnect;
$locker->disconnect;
is_deeply([ complaints($node, $everything_from, qr/client backend 53000 ERROR/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
