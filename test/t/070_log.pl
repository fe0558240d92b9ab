
# What the server log says: one line when a worker is stopped, none for its start or
# for a batch; one WARNING for a row that can't be inserted, without its values.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node('log', 'persist_pipeline.flush_interval' => 0);
my $from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA "Some Schema";
	CREATE TABLE "Some Schema"."A table" (n int PRIMARY KEY CHECK (n < 1000), note text NOT NULL);
	CREATE VIEW v AS SELECT n, note FROM "Some Schema"."A table" WHERE n > 0 WITH CHECK OPTION;
	CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	INSERT INTO late VALUES (4711);
	CREATE TABLE raising (n int);
	CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		RAISE 'the secret is %', NEW.n
			USING ERRCODE = 'P1234', DETAIL = 'secret', HINT = 'secret', CONSTRAINT = 'c';
	END $$;
	CREATE TRIGGER raise BEFORE INSERT ON raising FOR EACH ROW EXECUTE FUNCTION raise();
});
my $dbh = connect_to($node);

# ---- a healthy run

foreach my $n (1 .. 100)
{
	$dbh->do("SELECT persist_enqueue('\"Some Schema\".\"A table\"'::regclass, jsonb_build_object('n', ?::int, 'note', 'secret'))",
		undef, $n);
	flush($node) if $n == 50;
}
ok(flush($node), 'flushed');
cmp_ok($node->safe_psql('postgres', "SELECT batches FROM persist_queue"), '>', 1, 'several batches');
is(scalar(log_since($node, $from, qr/persist_pipeline/)), 0, 'no line so far');

my $old = worker_pid($node);
$dbh->do("SELECT pg_terminate_backend($old)");
wait_for_new_worker($node, $old);
my @lines = log_since($node, $from, qr/persist_pipeline/);
is(scalar(@lines), 1, 'one line for the life of a worker');
like(
	$lines[0],
	qr/00000 LOG:  persist_pipeline worker for database "postgres" stopped: \d+\.\d{3} s, 0 items drained, none left/,
	'when it stopped');
is_deeply([ complaints($node, $from) ], [], 'nothing above LOG in a healthy run');

# ---- rows that can't be inserted

# Enqueue one; check the line and everything that goes with it.
sub fails_with
{
	my ($what, $target, $item, $relation, $state, $reason, $constraint) = @_;
	my $position = log_position($node);
	my ($id) = $dbh->selectrow_array("SELECT persist_enqueue(?::regclass, ?::jsonb)", undef, $target, $item);

	ok(flush($node), "$what: flushed");
	wait_until_told($dbh);

	my @own = log_since($node, $position, qr/\] persist_pipeline worker /);
	my @expected = (
		"$state WARNING:  item $id for relation \"$relation\" could not be inserted: SQLSTATE $state",
		"$state DETAIL:  In database \"postgres\": $reason." . ($constraint ? " Constraint \"$constraint\"." : ''),
		"$state HINT:  It is a dead letter: SELECT * FROM public.persist_dead_letters WHERE id = $id.");

	is_deeply([ map { /persist_pipeline worker (.*)/ } @own ], \@expected, "$what: one WARNING, and no values");
	is(one_value($dbh, $expected[2] =~ /(SELECT .*)\./), $id, "$what: and where to look");
	return;
}

my $table = '"Some Schema"."A table"';
fails_with('duplicate key', $table, '{"n": 1, "note": "secret"}', 'Some Schema.A table', '23505', 'a unique constraint has that key already', 'A table_pkey');
fails_with('check', $table, '{"n": 4711, "note": "secret"}', 'Some Schema.A table', '23514', 'a check constraint refuses the row, or no partition takes it', 'A table_n_check');
fails_with('null', $table, '{"n": 200, "note": null}', 'Some Schema.A table', '23502', 'a column that must not be null is null');
fails_with('check option', 'v', '{"n": -1, "note": "secret"}', 'public.v', '44000', 'the view\'s check option refuses the row');
fails_with('trigger', 'raising', '{"n": 4711}', 'public.raising', 'P1234', 'code on the target raises an error', 'c');
fails_with('deferred', 'late', '{"n": 4711}', 'public.late', '23505', 'a unique constraint has that key already', 'late_n_key');
is($node->safe_psql('postgres', "SELECT items_failed, items_persisted, items_pending FROM persist_queue"),
	'6|100|0', 'they are counted');

# Many of them with good ones between: a line that counts them, and no more.
my $position = log_position($node);
$dbh->do("SELECT persist_enqueue('\"Some Schema\".\"A table\"'::regclass,"
	  . " jsonb_build_object('n', CASE WHEN i % 10 = 0 THEN 4711 ELSE 200 + i END, 'note', 'secret'))"
	  . " FROM generate_series(1, 100) AS i");
ok(flush($node), 'flushed');
wait_until_told($dbh);
is(scalar(log_since($node, $position,
		qr/persist_pipeline (?:worker|retrier) 23514 WARNING:  10 items for relation "Some Schema\.A table", the first of them \d+, could not be inserted: SQLSTATE 23514/)),
	1, 'one line for all the bad rows');
is(scalar(complaints($node, $position)), 1, 'and no more');
my ($look) = map { /HINT:  They are dead letters: (SELECT .*)\.$/ } log_since($node, $position, qr/HINT/);
is(scalar(@{ $dbh->selectall_arrayref($look) }), 11, 'with where to look: for these, and an earlier one of that kind');
is($node->safe_psql('postgres', "SELECT count(*) FROM \"Some Schema\".\"A table\" WHERE n > 200"),
	'90', 'the good ones are there');

# ---- the end

$dbh->disconnect;
$node->stop;
my $log = slurp_file($node->logfile, $from);
unlike($log, qr/secret|4711/, 'no value of an item is anywhere in the log');
is(scalar(my @stopped = $log =~ /persist_pipeline worker for database "postgres" stopped: .* (?:none left|in the journal)/g),
	2, 'each of the two workers said that it stopped');

done_testing();
