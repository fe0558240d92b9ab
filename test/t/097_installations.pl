
# What waits belongs to one installation.  Nothing of the extension is decoded, so that
# CREATE EXTENSION doesn't stop who subscribes to all tables; rows of the journal that
# come to another server by logical replication are put aside there, whatever the OIDs
# say; so is what waits in a standby that has been made a server of its own; and after
# pg_upgrade it is written.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %logical = (
	wal_level => 'logical',
	max_wal_senders => 10,
	max_replication_slots => 10,
	'persist_pipeline.flush_interval' => "'10ms'");

# Servers that are alike, down to the OID of their table t.
sub make_node
{
	my ($name) = @_;
	my $node = pp_node($name, no_start => 1, %logical);

	$node->start;
	$node->safe_psql('postgres', 'CREATE TABLE t (n int)');
	return $node;
}

sub enqueue
{
	my ($node, $from, $to) = @_;

	$node->safe_psql('postgres', "SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series($from, $to) AS i");
	return;
}

sub count_of
{
	my ($node) = @_;

	return $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t");
}

sub copied_in
{
	my ($node) = @_;

	return $node->safe_psql('postgres', "SELECT coalesce(sum(items_copied), 0) FROM persist_queue");
}

# ---- a subscriber to all tables, which has no such extension

my $publisher = make_node('publisher');
my $subscriber = make_node('subscriber');
my $target_sql = "SELECT 'public.t'::regclass::oid || ' ' || (SELECT oid FROM pg_database WHERE datname = 'postgres')";

$publisher->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION everything");
$subscriber->wait_for_subscription_sync($publisher, 's');

my $decoding = connect_to($publisher);
$decoding->do("SELECT pg_create_logical_replication_slot('text', 'test_decoding')");
$publisher->safe_psql('postgres', 'CREATE EXTENSION persist_pipeline');
is(one_value($decoding, "SELECT string_agg(data, ' ') FROM pg_logical_slot_get_changes('text', NULL, NULL) WHERE data LIKE 'table %'"),
	undef, 'CREATE EXTENSION: nothing of it is decoded');
$decoding->do("SELECT pg_drop_replication_slot('text')");
$decoding->disconnect;
# as many do with all tables that have no primary key
$publisher->safe_psql('postgres', q{
	DO $$
	DECLARE
		t regclass;
	BEGIN
		FOR t IN SELECT objid FROM pg_depend JOIN pg_class AS c ON c.oid = objid
			WHERE deptype = 'e' AND classid = 'pg_class'::regclass AND relkind = 'r' AND relpersistence = 'p' LOOP
			EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', t);
		END LOOP;
	END $$});
enqueue($publisher, 1, 10);
ok(flush($publisher), 'CREATE EXTENSION: items are written');
$publisher->safe_psql('postgres', $_)
  foreach "SELECT persist_configure('t', 'journal', 'dead')", "SELECT persist_enqueue('t', '{\"n\": \"bad\"}')", "SELECT persist_pause(), persist_resume()", "SELECT persist_unconfigure('t')";
enqueue($publisher, 11, 20);
ok(flush($publisher), 'CREATE EXTENSION: with settings, a dead letter and a pause');
ok( $subscriber->poll_query_until('postgres', "SELECT count(*) = 20 FROM t")
	  && !log_since($subscriber, 0, qr/ERROR/),
	'CREATE EXTENSION: who subscribes to all tables gets what is inserted, and is not stopped')
  or BAIL_OUT('the subscriber has stopped');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');

# ---- rows of the journal that a subscription copies

# Its guards would refuse them.
$subscriber->safe_psql('postgres', 'CREATE EXTENSION persist_pipeline; TRUNCATE t');
is($subscriber->safe_psql('postgres', $target_sql), $publisher->safe_psql('postgres', $target_sql), 'copied: OIDs are the same');
{
	my $dbh = connect_to($subscriber);

	open_guards($dbh, 'persist_journal_1', 'persist_parked');
	$dbh->disconnect;
}
$publisher->safe_psql('postgres', "TRUNCATE t; SELECT persist_pause('t')");
enqueue($publisher, 1, 50);
ok($publisher->poll_query_until('postgres', "SELECT sum(parked) = 50 FROM persist_stats"), 'copied: 50 items are parked');
$publisher->safe_psql('postgres', 'SELECT persist_pause()');
ok(wait_for_queue($publisher, "worker_pid IS NULL"), 'copied: paused');
enqueue($publisher, 51, 100);
my $log = log_position($subscriber);
$publisher->safe_psql('postgres', 'CREATE PUBLICATION waiting FOR TABLE t, persist_pipeline_internal.persist_journal_1, persist_pipeline_internal.persist_parked');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION waiting");
$subscriber->wait_for_subscription_sync($publisher, 's');
is($subscriber->safe_psql('postgres', 'SELECT count(*) > 0 FROM persist_pipeline_internal.persist_journal_1'), 't', 'copied: rows are there');
$publisher->safe_psql('postgres', "SELECT persist_resume('t'), persist_resume()");
ok(drain($publisher), 'copied: the publisher writes them');
ok($subscriber->poll_query_until('postgres', "SELECT count(*) = 100 FROM t"), 'copied: and the subscriber gets them');
$subscriber->restart;
ok($subscriber->poll_query_until('postgres', "SELECT coalesce(sum(items_copied), 0) = 100 OR (SELECT count(*) > 100 FROM t) FROM persist_queue"),
	'copied: after a restart somebody has looked');
is(copied_in($subscriber), '100', 'copied: they are put aside');
enqueue($subscriber, 1001, 1010);
ok(flush($subscriber), 'copied: its own are written');
is(count_of($subscriber), '110|110', 'copied: and no item a second time');
is($subscriber->safe_psql('postgres', 'SELECT (SELECT count(*) FROM persist_pipeline_internal.persist_journal_1) + (SELECT count(*) FROM persist_parked)'),
	'0', 'copied: nothing is left');
is(scalar(log_since($subscriber, $log, qr/LOG:  50 items came to database "postgres" from elsewhere, where they are written/)), 2, 'copied: the log says so');
is($subscriber->safe_psql('postgres', 'SELECT persist_discard()'), '100', 'copied: persist_discard() drops them');

# ---- with the server running, and its own items in the same journal

$publisher->safe_psql('postgres', "TRUNCATE t; SELECT persist_pause()");
ok(wait_for_queue($publisher, "worker_pid IS NULL"), 'copied later: paused');
enqueue($publisher, 1, 10);
$subscriber->safe_psql('postgres', "DROP SUBSCRIPTION s; TRUNCATE t; SELECT persist_pause()");
ok(wait_for_queue($subscriber, "worker_pid IS NULL"), 'copied later: the subscriber, too');
enqueue($subscriber, 11, 20);
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION waiting");
$subscriber->wait_for_subscription_sync($publisher, 's');
enqueue($subscriber, 21, 30);
$subscriber->safe_psql('postgres', "DROP SUBSCRIPTION s; SELECT persist_resume()");
ok(flush($subscriber), 'copied later: flushed');
is($subscriber->safe_psql('postgres', 'SELECT array_agg(n ORDER BY n) = array(SELECT generate_series(11, 30)) FROM t'), 't', 'copied later: its own are written');
is(copied_in($subscriber), '10', 'copied later: the others put aside');
$subscriber->safe_psql('postgres', 'SELECT persist_resume()');
ok(flush($subscriber), 'copied later: persist_resume() has them written');
is(count_of($subscriber), '30|30', 'copied later: once');
is($subscriber->safe_psql('postgres', 'SELECT (SELECT count(*) FROM persist_pipeline_internal.persist_journal_1) + (SELECT count(*) FROM persist_pipeline_internal.persist_copied)'),
	'0', 'copied later: nothing is left');
is_deeply([ complaints($subscriber, $log, qr/logical replication (?:apply )?worker 57P01 FATAL/) ], [], 'copied: a clean log');
$subscriber->stop;
$publisher->stop;

# ---- pg_upgrade: another server goes on with the files

my $old = make_node('old');
my $new = pp_node('new', no_start => 1, %logical);
my $bin = $old->config_data('--bindir');

$old->safe_psql('postgres', "CREATE EXTENSION persist_pipeline; SELECT persist_pause('t')");
enqueue($old, 1, 10);
ok($old->poll_query_until('postgres', "SELECT sum(parked) = 10 FROM persist_stats"), 'pg_upgrade: items are parked');
$old->safe_psql('postgres', "SELECT persist_pause()");
ok(wait_for_queue($old, "worker_pid IS NULL"), 'pg_upgrade: paused');
enqueue($old, 11, 20);
my $installation_sql = "SELECT installation FROM persist_pipeline_internal.persist_state";
my $installation = $old->safe_psql('postgres', $installation_sql);
my $system_sql = "SELECT system_identifier FROM pg_control_system()";
my $system = $old->safe_psql('postgres', $system_sql);
$old->stop;
chdir $PostgreSQL::Test::Utils::tmp_check or die $!;    # it leaves files behind
command_ok(
	[
		'pg_upgrade', '--no-sync', '-b', $bin, '-B', $bin, '-d', $old->data_dir, '-D', $new->data_dir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port
	],
	'pg_upgrade: it runs');
$new->start;
isnt($new->safe_psql('postgres', $system_sql), $system, 'pg_upgrade: the server is another one');
$new->safe_psql('postgres', "SELECT persist_resume('t'), persist_resume()");
ok(drain($new), 'pg_upgrade: resumed');
is(count_of($new), '20|20', 'pg_upgrade: all that waited is written');
is($new->safe_psql('postgres', $installation_sql), $installation, 'pg_upgrade: it is the same installation');
ok($new->poll_query_until('postgres', "SELECT system_identifier = (SELECT system FROM persist_pipeline_internal.persist_state) FROM pg_control_system()"),
	'pg_upgrade: which knows its server');

# ---- a standby becomes a server of its own, as by pg_createsubscriber

$new->safe_psql('postgres', "TRUNCATE t; SELECT persist_pause()");
ok(wait_for_queue($new, "worker_pid IS NULL"), 'another identifier: paused');
enqueue($new, 1, 10);
$new->stop;
{
	my $control = $new->data_dir . '/global/pg_control';
	my $bytes = slurp_file($control);

	# its first field; pg_resetwal puts the checksum right, and the WAL
	substr($bytes, 0, 8) = pack 'Q', 4711 + unpack 'Q', $bytes;
	open my $out, '>:raw', $control or die $!;
	print $out $bytes;
	close $out or die $!;
	command_ok([ 'pg_resetwal', '-f', $new->data_dir ], 'another identifier: given');
}
$log = log_position($new);
$new->start;
$new->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 11}')");
ok($new->poll_query_until('postgres', "SELECT coalesce(sum(items_copied), 0) = 10 FROM persist_queue"), 'another identifier: what waits is put aside');
ok(eval { $new->wait_for_log(qr/LOG:  database "postgres" is a copy, and with it came 10 items/, $log) }, 'another identifier: the log says so');
is(scalar(log_since($new, $log, qr/LOG:  database "postgres" is a copy/)), 1, 'another identifier: once');
isnt($new->safe_psql('postgres', $installation_sql), $installation, 'another identifier: it is another installation');
$new->safe_psql('postgres', "SELECT persist_resume()");
ok(flush($new), 'another identifier: persist_resume() has it written');
is(count_of($new), '11|11', 'another identifier: each item once');
is_deeply([ complaints($new, $log) ], [], 'another identifier: a clean log');
$new->stop;

done_testing();
