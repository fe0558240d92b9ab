
# A streaming standby with the library preloaded: nothing starts, a call is
# refused; after the promotion the pipeline works and ids don't repeat.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use Test::More;

my $primary = pp_node(
	'primary',
	init => [ allows_streaming => 1 ],
	'persist_pipeline.flush_interval' => "'10ms'");
$primary->safe_psql('postgres', "CREATE TABLE t (n int)");
my $first = $primary->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 1}')");
ok(flush($primary), 'flushed');

$primary->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'one', has_streaming => 1);
$standby->start;

my $last = $primary->safe_psql('postgres',
	"SELECT max(persist_enqueue('t', jsonb_build_object('n', i))) FROM generate_series(2, 100) AS i");
ok(flush($primary), 'flushed');

# What is flushed is in the WAL: the position of the WAL written so far covers it.
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
is($standby->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t"),
	'100|100', 'what was flushed reaches the standby');

my $dbh = connect_to($standby);
foreach my $mode ('async', 'direct')
{
	$dbh->do("SET persist_pipeline.mode = '$mode'");
	is(try_sql($dbh, "SELECT persist_enqueue('t', '{\"n\": 0}')"), '25006', "$mode: refused during recovery");
	is(try_sql($dbh, "SELECT persist_enqueue('t', '{\"n\": 0}', false)"), '25006', "$mode: also when not transactional");
	is(try_sql($dbh, "SELECT persist_enqueue_many('t', '[{\"n\": 0}]')"), '25006', "$mode: also many");
}
$dbh->do("RESET persist_pipeline.mode");
is(try_sql($dbh, "SELECT persist_flush()"), '25006', 'persist_flush has nobody to wait for');
is($standby->safe_psql('postgres', "SELECT count(*) FROM persist_queue"), '0', 'no database in use');
is(worker_pid($standby), '', 'no worker runs');
is(launcher_pid($standby), undef, 'nor a launcher');

# core's own line at a stop, and at the primary's end
my @provoked = (qr/client backend 25006 ERROR/, qr/walreceiver \w+ FATAL/);

# a stop and a start as a standby
$dbh->disconnect;
$standby->restart;
is_deeply([ complaints($standby, 0, @provoked) ], [], 'a clean log so far');
is(scalar(log_since($standby, 0, qr/persist_pipeline (worker|launcher) /)), 0, 'with no line of ours');

$primary->stop;
$standby->promote;
ok(wait_for_launcher($standby), 'after the promotion the launcher starts');
my $promoted = $standby->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 101}')");
ok(flush($standby), 'flushed');
is($standby->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t"),
	'101|101', 'the pipeline works');
cmp_ok($promoted, '>', $last, 'ids go on after those of the old primary');
cmp_ok($last, '>', $first, 'and increased there');

is_deeply(
	[ complaints($standby, 0, @provoked) ], [], 'the log holds no WARNING or ERROR that was not provoked');

$standby->stop;
done_testing();
