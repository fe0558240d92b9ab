
# Each setting can be as large as it may: durations and sizes that are added to others don't
# come out as small ones, or as none.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node('largest');
my $dbh = connect_to($node);

sub worker_is
{
	my ($state) = @_;

	wait_for_sql($dbh, "SELECT worker_state = '$state' FROM persist_queue WHERE datname = current_database()");
	return;
}

$node->append_conf('postgresql.conf', 'persist_pipeline.adaptive_flush = off');
$node->append_conf('postgresql.conf', "$_->[0] = '$_->[1]'")
  foreach @{
	$dbh->selectall_arrayref(
		"SELECT name, max_val || coalesce(unit, '') FROM pg_settings"
		  . " WHERE name LIKE 'persist\\_pipeline.%' AND vartype = 'integer' AND context = 'sighup'") };
$node->reload;
wait_for_sql($dbh, "SELECT bool_and(setting = max_val) FROM pg_settings"
	  . " WHERE name LIKE 'persist\\_pipeline.%' AND vartype = 'integer' AND context = 'sighup'");
$dbh->do("CREATE TABLE t (n int CHECK (n > 0))");
$dbh->do("CREATE TABLE u (n int)");
$dbh->do(q{CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END $$});
$dbh->do("CREATE TRIGGER dawdle BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION dawdle()");

$dbh->do(q{SELECT persist_enqueue('t', '{"n": 1}')});
is(one_value($dbh, "SELECT persist_flush('1 min')"), 1, 'flushed');
is(one_value($dbh, "SELECT count(*) FROM t"), 1, 'it lands');

# nothing is written before its time, or cut off
$dbh->do(q{SELECT persist_enqueue('t', '{"n": 2}')});
$dbh->do(q{SELECT persist_enqueue('u', '{"n": 1}')});
worker_is('gathering');
is(one_value($dbh, "SELECT persist_flush('1 min')"), 1, 'flushed, with one that takes its time');
is(one_value($dbh, "SELECT count(*) FROM t"), 2, 'it lands, too');
is(one_value($dbh, "SELECT count(*) FROM u"), 1, 'and that one');

# what is parked is tried again, and what takes none of its items has its time to be mended
$dbh->do("SELECT persist_pause('t')");
$dbh->do(q{SELECT persist_enqueue('t', '{"n": 3}')});
is(one_value($dbh, "SELECT persist_flush('1 min')"), 0, 'paused: not flushed');
$dbh->do("ALTER TABLE t RENAME n TO m");
$dbh->do("ALTER TABLE t ADD CONSTRAINT no CHECK (m < 3)");
$dbh->do("SELECT persist_resume('t')");
wait_for_sql($dbh, "SELECT sqlstate = '23514' FROM persist_dead_letters");
$dbh->do("ALTER TABLE t DROP CONSTRAINT no");
is(one_value($dbh, "SELECT persist_requeue()"), 1, 'the letter is sent again');
is(one_value($dbh, "SELECT persist_flush('1 min')"), 1, 'flushed once more');
is(one_value($dbh, "SELECT count(*) FROM t"), 3, 'it is there');
is(one_value($dbh, "SELECT sum(lost) + sum(discarded) FROM persist_stats"), 0, 'nothing was thrown away');

# a stop isn't forced
$dbh->do(q{SELECT persist_enqueue('u', '{"n": 2}')});
$dbh->do(q{SELECT persist_enqueue('t', '{"m": 4}')});
worker_is('gathering');
$dbh->disconnect;
$node->stop;
$node->start;
$dbh = connect_to($node);
is(one_value($dbh, "SELECT string_agg(forced || ' ' || journalled, ', ') FROM persist_shutdowns"), 'false 0', 'a stop is not forced, and leaves nothing');
is(one_value($dbh, "SELECT count(*) FROM u"), 2, 'what waited was written');
$dbh->disconnect;
is_deeply([ complaints($node, 0, qr/WARNING:  item \d+ for relation "public.t" could not be inserted/) ], [], 'a clean log');
$node->stop;
done_testing();
