
# What the retrier knows of what is parked, and what it notes of its tries: it waits for nothing
# that doesn't concern it, and what has come of a try is not told of another.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = parking_node(
	'retrier_notes',
	'persist_pipeline.statement_timeout' => "'10min'",
	'persist_pipeline.misfit_timeout' => "'10min'");
my $retrier = "FROM pg_stat_activity WHERE backend_type = 'persist_pipeline retrier'";
my $worker = "FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'";
my $dbh = session('postgres');

# Whichever of the two is named in `held` sleeps, where a table has this trigger.
$dbh->do(
	q{
	CREATE TABLE held (process text);
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE EXISTS (SELECT FROM public.held WHERE 'persist_pipeline ' || process = current_setting('application_name')) LOOP
			PERFORM pg_sleep(0.02);
		END LOOP;
		RETURN NEW;
	END $$;
});

sub comes
{
	my ($sql, $name) = @_;

	return ok(eval { wait_for_sql($dbh, $sql); 1 }, $name);
}

# Items that only the retrier will try: they are paused when they come.
sub enqueue_paused
{
	my ($target, $from, $to) = @_;

	$dbh->do("SELECT persist_pause('$target')");
	enqueue('postgres', $target, $from, $to);
	is_parked('postgres', $target, $to - $from + 1, '55000', "$target: paused");
	return;
}

create_target('postgres', 'busy');
$dbh->do("CREATE TRIGGER hold BEFORE INSERT ON busy FOR EACH ROW EXECUTE FUNCTION hold()");

# ---- what it parks again is not of the batch at work

{
	my $locker = connect_to($node);

	create_target('postgres', 'again');
	$dbh->do("CREATE UNIQUE INDEX ON again (n)");
	enqueue_paused('again', 1, 5);
	$locker->begin_work;
	$locker->do("INSERT INTO again VALUES (3)");
	$dbh->do("INSERT INTO held VALUES ('worker')");
	enqueue('postgres', 'busy', 1, 1);
	comes("SELECT count(*) = 1 $worker AND wait_event = 'PgSleep'", 'parked again: a batch is at work');
	$dbh->do("SELECT persist_resume('again')");
	comes("SELECT count(*) = 4 FROM again", 'parked again: all but one have landed');
	$locker->rollback;
	$locker->disconnect;
	comes("SELECT count(*) = 5 FROM again", 'parked again: that one does, too');
	is(one_value($dbh, "SELECT count(*) $worker AND wait_event = 'PgSleep'"), 1, 'parked again: and the batch is still at work');
	$dbh->do("DELETE FROM held");
	lands('postgres', 'busy', 'parked again');
	adds_up('postgres', 'parked again');
}

is_clean_log();
forget_sessions();
$node->stop;
done_testing();
