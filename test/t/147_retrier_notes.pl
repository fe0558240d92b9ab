
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

create_target('postgres', 'busy');
$dbh->do("CREATE TRIGGER hold BEFORE INSERT ON busy FOR EACH ROW EXECUTE FUNCTION hold()");

# ---- what it parks again is not of the batch at work

{
	my $locker = connect_to($node);

	create_target('postgres', 'again');
	$dbh->do("CREATE UNIQUE INDEX ON again (n)");
	enqueue_paused('postgres', 'again', 1, 5);
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
	is(one_value($dbh, "SELECT worker_state || ' ' || (SELECT count(*) FROM busy) FROM persist_queue WHERE datname = current_database()"),
		'writing 0', 'parked again: and the batch is still at work');
	$dbh->do("DELETE FROM held");
	lands('postgres', 'busy', 'parked again');
	adds_up('postgres', 'parked again');
}

# ---- what has ended the worker is suspected, and so are its neighbours

$dbh->do(
	q{
	CREATE FUNCTION fatal() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		RAISE LOG 'row % in transaction %', NEW.n, txid_current();
		IF NEW.n = 17 THEN
			PERFORM set_config('exit_on_error', 'on', false);
			RAISE 'the end' USING ERRCODE = '22000';
		END IF;
		RETURN NEW;
	END $$;
});

# Row 17 ends whoever inserts it: in the commit, where nobody can tell that it was that one, since
# the others, which need each other, can't be checked one by one.
sub create_fatal
{
	my ($target, $when) = @_;

	$dbh->do("CREATE TABLE $target (n int PRIMARY KEY, other int REFERENCES $target DEFERRABLE INITIALLY DEFERRED)");
	$dbh->do(($when || 'CREATE CONSTRAINT TRIGGER fatal AFTER INSERT ON TARGET DEFERRABLE INITIALLY DEFERRED') =~ s/TARGET/$target/r
		  . " FOR EACH ROW EXECUTE FUNCTION fatal()");
	return;
}

sub enqueue_pairs
{
	my ($target, $n) = @_;

	$dbh->do("SELECT persist_enqueue('$target', jsonb_build_object('n', i, 'other', i + 2 * (i % 2) - 1)) FROM generate_series(1, $n) AS i"
		  . " UNION ALL SELECT persist_enqueue('$target', '{\"n\": 17}')");
	return;
}

# How many rows the retrier has tried in one transaction, at most.
sub most_together
{
	my ($from) = @_;
	my %rows;

	foreach my $line (log_since($node, $from, qr/persist_pipeline retrier \w+ LOG:  row/))
	{
		$rows{$1}++ if $line =~ /in transaction (\d+)/;
	}
	return (sort { $b <=> $a } values %rows)[0];
}

sub dies
{
	my ($target) = @_;

	comes("SELECT count(*) = 1 FROM persist_dead_letters WHERE target_name = 'public.$target' AND item->>'n' = '17'", "$target: the one that ends them is dead");
	$dbh->do("SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))");
	return;
}

# whatever comes before them

{
	my $locker = connect_to($node);
	my $from;

	create_fatal('behind');
	$locker->begin_work;
	$locker->do("INSERT INTO behind VALUES (-1), (0)");
	$dbh->do("SELECT persist_enqueue('behind', jsonb_build_object('n', i)) FROM generate_series(-1, 0) AS i");
	is_parked('postgres', 'behind', 2, '55P03', 'behind: two rows wait');
	$from = log_position($node);
	enqueue_pairs('behind', 8);
	ok($node->wait_for_log(qr/persist_pipeline retrier \w+ LOG:  row 1 /, $from), 'behind: the others have been parked, and are tried');
	comes("SELECT count(*) = 8 FROM behind", 'behind: they land');
	$locker->rollback;
	$locker->disconnect;
	dies('behind');
	comes("SELECT count(*) = 10 FROM behind", 'behind: the others have landed');
	cmp_ok(most_together($from), '<=', 4, 'behind: half of them are tried together, at most');
}

# whatever has ended the retrier

{
	my $from;

	create_target('postgres', 'kept');
	create_fatal('at_once', 'CREATE TRIGGER fatal BEFORE INSERT ON TARGET');
	create_fatal('in_commit');
	enqueue_paused('postgres', 'kept', 1, 2);
	enqueue_paused('postgres', 'at_once', 17, 17);
	$dbh->do("SELECT persist_resume('at_once')");
	dies('at_once');
	$from = log_position($node);
	enqueue_pairs('in_commit', 16);
	dies('in_commit');
	comes("SELECT count(*) = 16 FROM in_commit", 'both: the others have landed');
	cmp_ok(most_together($from), '<=', 8, 'both: after the second end half of them are tried together, at most');
	$dbh->do("SELECT persist_resume('kept')");
	lands('postgres', 'kept', 'both');
}

# ---- nobody waits for a lock any more, though more is parked

{
	my $locker = connect_to($node);
	my $lock;

	create_target('postgres', $_) foreach 'locked', 'row_locked';
	$dbh->do("CREATE UNIQUE INDEX ON row_locked (n)");
	$dbh->do("CREATE TRIGGER hold BEFORE INSERT ON locked FOR EACH ROW WHEN (NEW.n > 2) EXECUTE FUNCTION hold()");
	enqueue('postgres', $_, 1, 1) foreach 'locked', 'row_locked';
	lands('postgres', $_, 'unlocked: before') foreach 'locked', 'row_locked';
	$lock = lock_tables('locked');
	enqueue('postgres', 'locked', 2, 4);
	is_parked('postgres', 'locked', 3, '55P03', 'unlocked: parked');
	set_and_reload('batch_size', 1);
	set_and_reload('lock_timeout', "'10min'");
	wait_for_sql($dbh, "SELECT current_setting('persist_pipeline.lock_timeout') = '10min'");
	$dbh->do("INSERT INTO held VALUES ('retrier')");
	unlock($lock);
	comes("SELECT count(*) = 2 FROM locked", 'unlocked: one of them lands');
	comes("SELECT count(*) = 1 $retrier AND wait_event = 'PgSleep'", 'unlocked: the next one is tried');
	$locker->begin_work;
	$locker->do("INSERT INTO row_locked VALUES (2)");
	enqueue('postgres', 'row_locked', 2, 2);
	comes("SELECT (SELECT parked = 1 FROM persist_stats WHERE target_name = 'public.row_locked')"
		  . " OR (SELECT count(*) = 1 $worker AND wait_event_type = 'Lock' AND xact_start < clock_timestamp() - interval '1 s')", 'unlocked: a row is locked');
	is(one_value($dbh, "SELECT parked FROM persist_stats WHERE target_name = 'public.row_locked'"), 0, 'unlocked: the worker waits for it, as if nothing else had been');
	$locker->rollback;
	$locker->disconnect;
	$dbh->do("DELETE FROM held");
	lands('postgres', $_, 'unlocked') foreach 'locked', 'row_locked';
	set_and_reload('batch_size', 10000);
	set_and_reload('lock_timeout', "'1s'");
}

# ---- a damaged row counts as parked until it has been put aside

{
	my $lock;
	my $aside = connect_to($node);
	my $waits = "$retrier AND wait_event_type = 'Lock'";
	my $since;

	open_guards($aside, 'persist_parked');
	create_target('postgres', 'damaged');
	enqueue('postgres', 'damaged', 1, 1);
	lands('postgres', 'damaged', 'damaged: before');
	$lock = lock_tables('damaged');
	$dbh->do("SELECT persist_enqueue('damaged', jsonb_build_object('n', i)) FROM generate_series(2, 4) AS i");
	is_parked('postgres', 'damaged', 3, '55P03', 'damaged: parked');
	is($aside->do("UPDATE persist_pipeline_internal.persist_parked SET data = set_byte(data, 0, 99) WHERE part = (SELECT max(part) FROM persist_pipeline_internal.persist_parked)"),
		1, 'damaged: one of them');
	$aside->begin_work;
	$aside->do("LOCK TABLE persist_pipeline_internal.persist_copied");
	$dbh->do("SELECT pg_terminate_backend(pid) $retrier");
	comes("SELECT count(*) = 1 $waits", 'damaged: it cannot be put aside');
	$since = one_value($dbh, "SELECT max(xact_start) $retrier");
	comes("SELECT count(*) = 1 $waits AND xact_start > '$since'", 'damaged: the next time, too');
	is(one_value($dbh, "SELECT parked FROM persist_stats WHERE target_name = 'public.damaged'"), 3, 'damaged: it is parked all the same');
	$aside->rollback;
	$aside->disconnect;
	unlock($lock);
	comes("SELECT sum(parked) = 0 AND sum(lost) = 1 FROM persist_stats", 'damaged: it is lost');
	is(one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY ins) FROM damaged"), '1 2 3', 'damaged: the others have landed');
}

# ---- a command wants the database, and then it doesn't: the next one begins anew

{
	my $dropper = connect_to($node);
	my $dropper_pid = one_value($dropper, "SELECT pg_backend_pid()");
	my $sleeps = "SELECT pid $worker AND wait_event = 'PgSleep'";
	my $survived;

	$dbh->do(
		q{
		CREATE SEQUENCE defied;
		CREATE FUNCTION defy() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			WHILE EXISTS (SELECT FROM public.held) LOOP
				BEGIN
					PERFORM pg_sleep(600);
				EXCEPTION WHEN query_canceled THEN
					PERFORM nextval('public.defied');
				END;
			END LOOP;
			RETURN NEW;
		END $$;
	});
	create_target('postgres', 'defiant');
	$dbh->do("CREATE TRIGGER defy BEFORE INSERT ON defiant FOR EACH ROW EXECUTE FUNCTION defy()");
	$dbh->do("INSERT INTO held VALUES ('any')");
	enqueue('postgres', 'defiant', 1, 1);

	# It is cancelled, and goes on.  True: by nothing else.
	my $hold = sub {
		my $pid = wait_for_sql($dbh, $sleeps);
		my $before = one_value($dbh, "SELECT nextval('defied')");
		my $defied = 0;

		$dropper->begin_work;
		start_sql($dropper, "DROP EXTENSION persist_pipeline");
		wait_until('held', sub {
			$defied = one_value($dbh, "SELECT last_value > $before FROM defied");
			return $defied || one_value($dbh, "SELECT NOT EXISTS (SELECT $worker AND pid = $pid)") });
		$dbh->do("SELECT pg_cancel_backend($dropper_pid)");
		finish_sql($dropper);
		$dropper->rollback;
		return ($defied, $defied && (one_value($dbh, $sleeps) || 0) == $pid);
	};

	# it has a quarter of a second to go, which may be too short for us
	foreach (1 .. 10)
	{
		$survived ||= ($hold->())[1];
	}
	ok($survived, 'held: it may be cancelled, and stay');
	one_value($dbh, "SELECT pg_sleep(1)");
	ok(($hold->())[0], 'held again: it is cancelled before it is ended');
	$dbh->do("DELETE FROM held");
	$dbh->do("SELECT pg_cancel_backend(pid) $worker");
	lands('postgres', 'defiant', 'held');
	$dropper->disconnect;
}

# ---- a child isn't dead that is tried together with its parent, when that has to wait once more

{
	$dbh->do('CREATE TABLE mother (n int PRIMARY KEY, ins bigint, c int)');
	$dbh->do('CREATE TABLE daughter (n int REFERENCES mother, ins bigint)');
	$dbh->do("CREATE TRIGGER number BEFORE INSERT ON $_ FOR EACH ROW EXECUTE FUNCTION number()") foreach 'mother', 'daughter';
	$dbh->do("SELECT persist_pause()");
	$dbh->do(q{SELECT persist_enqueue('mother', '{"n": 1, "c": 1}'), persist_enqueue('daughter', '{"n": 1}')});
	$committed{postgres}{$_} = 1 foreach 'mother', 'daughter';
	$dbh->do('ALTER TABLE mother DROP c');
	$dbh->do("SELECT persist_resume()");
	is_parked('postgres', 'mother', 1, '^42', 'together: the parent is parked');
	is_parked('postgres', 'daughter', 1, '23503', 'together: its child, too');
	foreach my $i (1 .. 5)
	{
		# first the parent alone; then the child comes first, and takes it along
		foreach my $targets ([ 'mother' ], [ 'mother', 'daughter' ])
		{
			$dbh->do("SELECT persist_pause('$_')") foreach @$targets;
			is_parked('postgres', $_, 1, '55000', "together, $i: $_ is paused") foreach @$targets;
			$dbh->begin_work;
			$dbh->do("SELECT persist_resume('$_')") foreach @$targets;
			$dbh->commit;
			comes("SELECT parked_reason ~ '^42' FROM persist_stats WHERE target_name = 'public.mother'", "together, $i: tried");
		}
	}
	is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters WHERE target = 'daughter'::regclass"), 0, 'together: the child is not dead');
	$dbh->do('ALTER TABLE mother ADD c int');
	lands('postgres', $_, "together, mended: $_") foreach 'mother', 'daughter';
}

is_clean_log(
	qr/client backend 57014 ERROR:  canceling statement due to user request/,
	qr/persist_pipeline worker 57P01 FATAL:  terminating background worker/,
	qr/persist_pipeline retrier 57P01 FATAL:  terminating background worker/,
	qr/persist_pipeline retrier XX001 WARNING:  items, enqueued as number \d+, could not be read/,
	qr/persist_pipeline (?:worker|retrier) 22000 FATAL:  the end/,
	qr/persist_pipeline (?:worker|retrier) \w+ WARNING:  item \d+ for relation "public.(?:at_once|in_commit|behind)" could not be inserted/);
forget_sessions();
$node->stop;
done_testing();
