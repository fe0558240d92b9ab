#
# Ids and places come from a sequence that a member of pg_write_all_data can set: none comes
# a second time, whoever sets it when, with a ring and without.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use PersistPipeline;

my $node = pp_node('leases', 'persist_pipeline.max_databases' => 1);
my $dbh = connect_to($node);

$dbh->do('CREATE ROLE wally LOGIN IN ROLE pg_write_all_data');
$dbh->do('CREATE TABLE t (n int, id bigint, ins serial)');
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int, ins serial)');

sub set_sequence
{
	my ($database, $value) = @_;
	my $wally = connect_to($node, $database, user => 'wally');

	$wally->do("SELECT setval('persist_pipeline_internal.persist_id_seq', $value, false)");
	$wally->disconnect;
	return;
}

# ---- with a ring: the range at hand goes on, and the next one is above it

my @ids = map { enqueue_rows($dbh, 't', $_) } 1 .. 3;
foreach my $value (1, '9223372036854775807', 2_000_000)
{
	set_sequence('postgres', $value);
	# who had the ring's range is gone with a restart
	flush($node);
	$dbh->disconnect;
	$node->restart;
	$dbh = connect_to($node);
	push @ids, map { enqueue_rows($dbh, 't', $_) } scalar(@ids) + 1 .. scalar(@ids) + 3;
}
is(join(' ', sort { $a <=> $b } @ids), join(' ', @ids), 'set, and a restart: ids go on upwards');
ok(flush($node), 'flushed');
is(one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY ins) FROM t"), join(' ', 1 .. @ids), 'set, and a restart: places, too');

# ---- without a ring: others' ranges may not be committed yet

my $lock = connect_to($node);
$lock->begin_work;
$lock->do('LOCK TABLE t, persist_pipeline_internal.persist_parked IN SHARE MODE');
enqueue_rows($dbh, 't', 0);    # this database keeps the only ring
my @sessions = map { connect_to($node, 'second') } 1 .. 4;
my @second;

foreach my $i (0 .. $#sessions)
{
	$sessions[$i]->begin_work;
	push @second, enqueue_rows($sessions[$i], 't', $i);
	set_sequence('second', 1 + 1_000_000 * ($i % 2));
}
is(scalar(keys %{ { map { $_ => 1 } @second } }), 4, 'no ring, transactions that are open: no id twice');
$sessions[0]->rollback;
push @second, enqueue_rows($sessions[0], 't', 4), enqueue_rows($sessions[1], 't', 5);
set_sequence('second', 1);
push @second, enqueue_rows(connect_to($node, 'second'), 't', 6);
is(scalar(keys %{ { map { $_ => 1 } @second } }), 7, 'no ring, one rolled back: no id twice');
$_->commit foreach @sessions[ 1 .. 3 ];
$lock->commit;
ok(flush($node, 'second'), 'flushed');
is($node->safe_psql('second', "SELECT count(*) FROM t"), 6, 'no ring: all that was committed lands');
is($node->safe_psql('second', "SELECT count(*) FROM persist_dead_letters"), 0, 'no letters');

# ---- a ring that is given back, and another one: ids and places go on where they were

$node->append_conf('postgresql.conf', "persist_pipeline.worker_idle_timeout = '10ms'");
$node->reload;
foreach my $database ('postgres', 'second', 'postgres', 'second')
{
	my $session = connect_to($node, $database);
	my $n = 100 + scalar @ids;

	wait_for_sql($session, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'");
	my ($first) = enqueue_rows($session, 't', $n);
	ok(flush($node, $database), "given back, $database: flushed");
	wait_for_sql($session, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'");
	push @ids, enqueue_rows($session, 't', $n + 1);
	is($ids[-1], $first + 1, "given back, $database: the next id is the next one");
	ok(flush($node, $database), "given back, $database: flushed again");
	is(one_value($session, "SELECT string_agg(n::text, ' ' ORDER BY ins) FROM t WHERE n >= $n"), "$n " . ($n + 1), "given back, $database: in order");
	$session->disconnect;
}

# what a ring has left is not used any more once others have had higher ones
{
	my $second = connect_to($node, 'second');
	my $first = connect_to($node);

	wait_for_sql($second, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'");
	$second->do('SELECT persist_pause()');
	wait_for_sql($second, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type ~ 'persist_pipeline (worker|probe)'");
	$lock->begin_work;
	$lock->do('LOCK TABLE t, persist_pipeline_internal.persist_parked IN SHARE MODE');
	enqueue_rows($first, 't', 1000);
	is(one_value($first, "SELECT string_agg(datname, ' ') FROM persist_queue WHERE ring_size IS NOT NULL"), 'postgres', 'left, and others have had more: the ring is in use');
	enqueue_rows($second, 't', 1001);
	$lock->commit;
	ok(flush($node), 'left, and others have had more: flushed');
	enqueue_rows($second, 't', 1002);
	is(one_value($second, "SELECT count(*) FROM persist_queue WHERE ring_size IS NOT NULL AND datname = 'second'"), 1, 'left, and others have had more: another ring');
	$second->do('SELECT persist_resume()');
	ok(flush($node, 'second'), 'left, and others have had more: flushed, too');
	is(one_value($second, "SELECT string_agg(n::text, ' ' ORDER BY ins) FROM t WHERE n > 1000"), '1001 1002', 'left, and others have had more: in order');
	$_->disconnect foreach $first, $second;
}

$_->disconnect foreach $dbh, $lock, @sessions;
$node->stop;
done_testing();
