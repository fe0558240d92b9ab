
# What triggers enqueue while the worker inserts: its depth has a limit, and it is charged to its
# role.  The trigger gets the error; nobody else's rows suffer for it, and none die for a limit
# that is soon over.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'triggers_enqueue',
	'persist_pipeline.flush_interval' => "'5ms'",
	'persist_pipeline.journal_limit' => "'1MB'",
	'persist_pipeline.ring_size' => "'256kB'",
	'persist_pipeline.misfit_timeout' => 0,
	autovacuum => 'off');
my $dbh = connect_to($node);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE bob LOGIN;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO mallory, bob;
	CREATE FUNCTION enqueue(target text, n int) RETURNS bigint LANGUAGE sql AS
	$$ SELECT public.persist_enqueue(target::regclass, jsonb_build_object('n', n)) $$;

	CREATE TABLE chain (n int);
	CREATE FUNCTION next() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.enqueue(format('public.%I', TG_RELNAME), NEW.n + 1); RETURN NEW; END $$;
	CREATE TRIGGER next BEFORE INSERT ON chain FOR EACH ROW EXECUTE FUNCTION next();

	CREATE TABLE deferred_chain (n int);
	CREATE CONSTRAINT TRIGGER next AFTER INSERT ON deferred_chain DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION next();

	CREATE TABLE hasty_chain (n int);
	CREATE FUNCTION next_at_once() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.persist_enqueue('public.hasty_chain'::regclass, jsonb_build_object('n', NEW.n + 1), false); RETURN NEW; END $$;
	CREATE TRIGGER next BEFORE INSERT ON hasty_chain FOR EACH ROW EXECUTE FUNCTION next_at_once();

	CREATE TABLE two (n int);
	CREATE FUNCTION two() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.enqueue('public.two', NEW.n + 1) FROM generate_series(1, 2); RETURN NEW; END $$;
	CREATE TRIGGER two BEFORE INSERT ON two FOR EACH ROW EXECUTE FUNCTION two();

	CREATE TABLE down (n int);
	CREATE FUNCTION down() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN IF NEW.n % 10 > 0 THEN PERFORM public.enqueue('public.down', NEW.n - 1); END IF; RETURN NEW; END $$;
	CREATE TRIGGER down BEFORE INSERT ON down FOR EACH ROW EXECUTE FUNCTION down();
	CREATE TABLE above (n int);
	CREATE FUNCTION above() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.enqueue('public.down', NEW.n); RETURN NEW; END $$;
	CREATE TRIGGER above BEFORE INSERT ON above FOR EACH ROW EXECUTE FUNCTION above();

	CREATE TABLE calm (n int);
	CREATE TABLE sink (n int, filler text);
	CREATE TABLE fan (n int, times int, transactional bool);
	CREATE FUNCTION fan() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM public.persist_enqueue('public.sink'::regclass, jsonb_build_object('n', NEW.n, 'filler', repeat('x', 5000)), NEW.transactional)
		FROM generate_series(1, NEW.times);
		RETURN NEW;
	END $$;
	CREATE TRIGGER fan BEFORE INSERT ON fan FOR EACH ROW EXECUTE FUNCTION fan();
	GRANT INSERT ON two, sink, fan, calm TO mallory;
	GRANT INSERT ON calm TO bob;
});
my ($mallory, $bob) = map { connect_to($node, 'postgres', user => $_) } qw(mallory bob);

sub enqueue
{
	my ($session, $target, $n) = @_;

	return $session->do("SELECT enqueue('$target', $n)");
}

# "n depth SQLSTATE" of each letter
sub letters
{
	my ($target) = @_;

	return one_value($dbh, "SELECT coalesce(string_agg(concat_ws(' ', item->>'n', depth, sqlstate), ', ' ORDER BY (item->>'n')::int), '')"
		  . " FROM persist_dead_letters WHERE target = '$target'::regclass");
}

sub numbers
{
	my ($target) = @_;

	return one_value($dbh, "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM $target");
}

# Nothing waits but what is parked for good.
sub settle
{
	my ($name) = @_;

	ok(drain($node), "$name: nothing waits");
	return;
}

# ---- depth

foreach my $target (qw(chain deferred_chain hasty_chain))
{
	enqueue($dbh, $target, 0);
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_dead_letters"); 1 }, "$target: a chain without an end comes to one");
	settle($target);
	is(numbers($target), join(' ', 0 .. 15), "$target: up to max_depth");
	is(letters($target), '16 16 54001', "$target: what would be the next one is an error of the trigger's");
	is( one_value($dbh, "SELECT message || ' / ' || detail FROM persist_dead_letters"),
		"the chain of items that enqueue items is too long / The item for relation \"$target\" would be the one at depth 17;"
		  . ' "persist_pipeline.max_depth" is 16.',
		"$target: which says so");

	# a letter doesn't begin anew
	is(one_value($dbh, "SELECT persist_requeue()"), 1, "$target: sent again");
	settle("$target, again");
	is(numbers($target) . ' / ' . letters($target), join(' ', 0 .. 15) . ' / 16 16 54001', "$target: where it was");
	is(one_value($dbh, "SELECT persist_requeue(id, '{\"n\": 50}') FROM persist_dead_letters"), 1, "$target: sent with other values");
	settle("$target, repaired");
	is(numbers($target) . ' / ' . letters($target), join(' ', 0 .. 15) . ' / 50 16 54001', "$target: the same");
	is(discard_all($dbh), 1, "$target: discarded");
}

change_setting($dbh, 'max_depth', 4);
enqueue($mallory, 'two', 0);
enqueue($bob, 'calm', 1);
ok(eval { wait_for_sql($dbh, "SELECT count(*) = 16 FROM persist_dead_letters"); 1 }, 'two of each: there is an end');
settle('two of each');
is(numbers('two'), join(' ', map { ($_) x 2**$_ } 0 .. 3), 'two of each: up to max_depth');
is(letters('two'), join(', ', ('4 4 54001') x 16), 'two of each: those that would enqueue more');
is(numbers('calm'), '1', 'two of each: others land');
is(discard_all($dbh), 16, 'two of each: discarded');

change_setting($dbh, 'max_depth', 0);
enqueue($mallory, 'two', 100);
wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_dead_letters");
is(letters('two'), '100 0 54001', 'max_depth of 0: triggers enqueue nothing');
discard_all($dbh);
change_setting($dbh, 'max_depth', -1);
$dbh->do("UPDATE chain SET n = -1000");
enqueue($dbh, 'chain', 0);
wait_for_sql($dbh, "SELECT EXISTS (SELECT FROM chain WHERE n = 300)");
pass('max_depth of -1: no limit');
change_setting($dbh, 'max_depth', 2);
ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_dead_letters"); 1 }, 'max_depth: a reload ends it');
like(letters('chain'), qr/^\d+ 255 54001$/, 'max_depth: what is deep stays so');
discard_all($dbh);

# items of two depths in one batch, which have been parked and journalled
change_setting($dbh, 'max_depth', 1);
$dbh->do("SELECT persist_pause('down')");
foreach my $i (1 .. 5)
{
	enqueue($dbh, 'above', $i * 10 + 1);
	flush($node);
	enqueue($dbh, 'down', 100 + $i * 10 + 1);
	flush($node);
}
wait_for_sql($dbh, "SELECT parked = 10 FROM persist_stats WHERE target = 'down'::regclass");
$node->restart;
($dbh, $mallory, $bob) = (connect_to($node), map { connect_to($node, 'postgres', user => $_) } qw(mallory bob));
$dbh->do("SELECT persist_resume('down')");
ok(eval { wait_for_sql($dbh, "SELECT count(*) = 5 FROM persist_dead_letters"); 1 }, 'two depths: some are too deep');
settle('two depths');
is(letters('down'), join(', ', map { "${_}1 1 54001" } 1 .. 5), 'two depths: those that triggers have enqueued');
is(numbers('down'), join(' ', map { (100 + $_ * 10, 101 + $_ * 10) } 1 .. 5), 'two depths: the others are not taken for deeper than they are');
discard_all($dbh);
change_setting($dbh, 'max_depth', 16);

# ---- the journal

sub fan
{
	my ($session, $n, $times, $transactional) = @_;

	return $session->do("SELECT count(persist_enqueue('fan', jsonb_build_object('n', i, 'times', $times, 'transactional', $transactional)))"
		  . " FROM generate_series(1, $n) AS i");
}

fan($mallory, 1, 1000, 'true');
ok(eval { wait_for_sql($dbh, "SELECT parked_reason = '53400' FROM persist_stats WHERE target = 'fan'::regclass"); 1 },
	'journal: what would be more than a share is refused, and its target waits');
enqueue($bob, 'calm', 2);
wait_for_sql($dbh, "SELECT EXISTS (SELECT FROM calm WHERE n = 2)");
is(numbers('fan') . numbers('sink') . one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), '0', 'journal: nothing of it has landed or died');
change_setting($dbh, 'journal_limit', '64MB');
settle('journal, with more of it');
is(one_value($dbh, "SELECT count(*) FROM sink"), 1000, 'journal: with a larger one it lands');

$dbh->do("TRUNCATE fan, sink");
change_setting($dbh, 'journal_limit', '1MB');
fan($mallory, 20, 20, 'true');
settle('journal, in parts');
is(one_value($dbh, "SELECT (SELECT count(*) FROM fan) || ' ' || count(*) FROM sink"), '20 400', 'journal: what is too much at once lands in parts');
is(letters('fan'), '', 'journal: and none has died of it');

# ---- the ring

$dbh->do("TRUNCATE fan, sink");
fan($mallory, 10, 20, 'false');
settle('ring');
is(one_value($dbh, "SELECT count(DISTINCT n) || ' ' || count(*) FROM fan"), '10 10', 'ring: rows whose triggers find it full come later');
is(letters('fan'), '', 'ring: and none has died of it');
is(one_value($dbh, "SELECT count(DISTINCT n) FROM sink"), 10, 'ring: with what they have enqueued');

# ---- what is parked

change_setting($dbh, 'parked_limit', '8kB');
$dbh->do("TRUNCATE fan, sink, down, above");
$dbh->do("SELECT persist_pause('sink')");
fan($mallory, 1, 20, 'true');
wait_for_sql($dbh, "SELECT parked = 20 FROM persist_stats WHERE target = 'sink'::regclass");
fan($mallory, 1, 1, 'true');
ok(eval { wait_for_sql($dbh, "SELECT parked_reason = '53400' FROM persist_stats WHERE target = 'fan'::regclass"); 1 },
	'parked: a trigger is refused, too, and its own target waits');
$dbh->do("SELECT persist_resume('sink')");
settle('parked');
is(one_value($dbh, "SELECT count(*) FROM sink"), 21, 'parked: both go on when there is room');

# one that enqueues for its own table, from which more is parked than may be
$dbh->do("SELECT persist_pause('down')");
$dbh->do("SELECT count(enqueue('down', 3)) FROM generate_series(1, 200)");
wait_for_sql($dbh, "SELECT parked = 200 FROM persist_stats WHERE target = 'down'::regclass");
$dbh->do("SELECT persist_resume('down')");
settle('parked, of its own');
is(one_value($dbh, "SELECT count(*) FROM down"), 800, 'parked: one for one it drains');
is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), 0, 'parked: nothing has died');

$_->disconnect foreach $dbh, $mallory, $bob;
$node->stop;
is_deeply([ complaints($node, 0, qr/persist_pipeline (?:worker|retrier) 54001 WARNING:  .* could not be inserted/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');
done_testing();
