#
# A worker that may hold something of one role's makes way for another before it serves
# another role.  What is parked of the first one must not be tried again by each new worker
# before anything else: the others' items would wait for ever.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use PersistPipeline;

my $node = pp_node(
	'spent',
	log_min_messages => 'debug1',
	'persist_pipeline.flush_interval' => "'5ms'");
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT persist_grant('alice'), persist_grant('bob');
	CREATE SCHEMA a AUTHORIZATION alice;
	CREATE TABLE plain (n int);
	GRANT INSERT ON plain TO bob;
});
my $dbh = connect_to($node);
my $alice = connect_to($node, 'postgres', user => 'alice');
my $bob = connect_to($node, 'postgres', user => 'bob');

# It spends each process that tries it, and can't be written just now.
$alice->do($_) foreach (
	'CREATE TABLE a.evil (n int)',
	q{CREATE FUNCTION a.spend() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('left.x' || (random() * 1000000)::int, '1', true);
		IF NEW.n > 0 THEN
			RAISE 'not now' USING ERRCODE = '55P03';
		END IF;
		RETURN NEW;
	END $$},
	'CREATE TRIGGER spend BEFORE INSERT ON a.evil FOR EACH ROW EXECUTE FUNCTION a.spend()');

sub workers_since
{
	my ($from) = @_;

	return scalar(log_since($node, $from, qr/persist_pipeline worker for database "postgres" started/));
}

# ---- parked

$alice->do(q{SELECT persist_enqueue('a.evil'::regclass, '{"n": 1}')});
wait_for_sql($dbh, "SELECT parked = 1 FROM persist_stats WHERE target = 'a.evil'::regclass");
my $from = log_position($node);
foreach my $n (1 .. 20)
{
	$bob->do("SELECT persist_enqueue('plain'::regclass, '{\"n\": $n}')");
	wait_for_sql($dbh, "SELECT count(*) = $n FROM plain");
}
pass('parked: the other role\'s items land');
cmp_ok(workers_since($from), '<=', 30, 'parked: a worker or two for each, at most');
is(one_value($dbh, "SELECT parked FROM persist_stats WHERE target = 'a.evil'::regclass"), 1, 'parked: and it still is');

# who only waits for what is parked doesn't start workers for nothing
$from = log_position($node);
$alice->do('DROP TRIGGER spend ON a.evil');
wait_for_sql($dbh, 'SELECT count(*) = 1 FROM a.evil');
cmp_ok(workers_since($from), '<=', 2, 'parked, and no longer: it lands');
ok(flush($node), 'flushed');

# ---- side by side

$alice->do('CREATE TRIGGER spend BEFORE INSERT ON a.evil FOR EACH ROW EXECUTE FUNCTION a.spend()');
foreach my $n (1 .. 20)
{
	$alice->do("SELECT persist_enqueue('a.evil'::regclass, '{\"n\": -$n}')");
	$bob->do("SELECT persist_enqueue('plain'::regclass, '{\"n\": 100}')");
}
ok(flush($node), 'side by side: flushed');
is(one_value($dbh, "SELECT (SELECT count(*) FROM a.evil WHERE n < 0) || ' ' || (SELECT count(*) FROM plain WHERE n = 100)"), '20 20', 'side by side: all land, once');

# ---- a stop: what the process may not write is journalled, and that is no forced stop

$dbh->do("ALTER SYSTEM SET persist_pipeline.adaptive_flush = off");
$dbh->do("ALTER SYSTEM SET persist_pipeline.flush_interval = '1h'");
$node->reload;
wait_for_sql($dbh, "SELECT setting = '3600000' FROM pg_settings WHERE name = 'persist_pipeline.flush_interval'");
$dbh->do("SELECT persist_configure('plain', durability => 'ring')");
flush($node);
$alice->do(q{SELECT persist_enqueue('a.evil'::regclass, '{"n": -100}')});
$bob->do(q{SELECT persist_enqueue('plain'::regclass, '{"n": 200}')});
$_->disconnect foreach $dbh, $alice, $bob;
$from = log_position($node);
$node->stop('fast');
is_deeply([ log_since($node, $from, qr/WARNING|ERROR|FATAL:(?!.*terminating)/) ], [], 'a stop: a clean log');
$node->append_conf('postgresql.conf', "log_min_messages = warning");
$node->start;
$dbh = connect_to($node);
$dbh->do("ALTER SYSTEM RESET persist_pipeline.$_") foreach 'adaptive_flush', 'flush_interval';
$node->reload;
ok(flush($node), 'a stop: flushed after the start');
is(one_value($dbh, "SELECT (SELECT count(*) FROM a.evil WHERE n = -100) || ' ' || (SELECT count(*) FROM plain WHERE n = 200)"), '1 1', 'a stop: nothing is lost, nothing is there twice');
is(one_value($dbh, 'SELECT bool_or(forced) FROM persist_shutdowns'), 0, 'a stop: none was forced');

$dbh->disconnect;
$node->stop;
done_testing();
