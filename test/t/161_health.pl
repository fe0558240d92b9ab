
# persist_health(): each of its reasons comes with a real fault, and goes when that is over.
# The limits are short, in the session that asks, only for what is tested just then: nothing else
# may be said.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use JSON::PP;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

# The server of a test is started with fsync off; that is a reason, too.
my $node = pp_node(
	'health',
	init => [ allows_streaming => 1 ],
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.journal_limit' => "'256kB'",
	'persist_pipeline.lock_timeout' => "'50ms'",
	'persist_pipeline.ring_size' => "'64kB'",
	'persist_pipeline.role_quota' => 100,
	autovacuum => 'off',
	fsync => 'on',
	full_page_writes => 'on');
my $everything_from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int CHECK (n > 0), filler text);
	CREATE UNLOGGED TABLE u (n int, filler text);
	CREATE TABLE other (n int);
} . $slow_target);

my $dbh = connect_to($node);
my $locker = connect_to($node);

# Its status, then a word for each reason: code, or code! if it is unhealthy.
sub health
{
	my ($session) = @_;
	my ($status, $reasons) = ($session // $dbh)->selectrow_array('SELECT status, reasons FROM persist_health()');

	return join ' ', $status, map { $_->{code} . ($_->{severity} eq 'unhealthy' ? '!' : '') } @{ decode_json($reasons) };
}

# What a reason says.
sub message
{
	my ($code, $session) = @_;

	return one_value($session // $dbh, q{SELECT r ->> 'message' FROM persist_health() AS h, jsonb_array_elements(h.reasons) AS r WHERE r ->> 'code' = ?}, $code);
}

# What it says is to be done.
sub action
{
	my ($code) = @_;

	return one_value($dbh, q{SELECT r ->> 'action' FROM persist_health() AS h, jsonb_array_elements(h.reasons) AS r WHERE r ->> 'code' = ?}, $code);
}

sub wait_for_health
{
	my ($expected, $name, $session) = @_;
	my $last;
	my $seen = eval { wait_until($name, sub { ($last = health($session)) eq $expected }) };

	return ok($seen, "$name: $expected") || diag("it was \"$last\"");
}

# With a limit of the session's own.
sub with_limit
{
	my ($name, $value, $code, $session) = @_;

	($session //= $dbh)->do("SET persist_pipeline.health_$name = '$value'");
	$code->();
	$session->do("RESET persist_pipeline.health_$name");
	return;
}

sub enqueue
{
	my ($target, $n, $filler, $session) = @_;

	($session // $dbh)->do("SELECT persist_enqueue(?::regclass, jsonb_build_object('n', ?::int, 'filler', repeat('x', ?)))",
		undef, $target, $n, $filler // 0);
	return;
}

wait_for_health('ok', 'at first');
is(one_value($dbh, 'SELECT jsonb_array_length(reasons) FROM persist_health()'), 0, 'without reasons');
is($node->safe_psql('postgres', "BEGIN READ ONLY; SELECT status FROM persist_health(); COMMIT"), 'ok', 'in a read-only transaction');
enqueue('t', 1);
ok(flush($dbh), 'flushed');
is(health(), 'ok', 'with the pipeline in use');

# ---- who may ask

$node->safe_psql('postgres', q{
	CREATE ROLE looker LOGIN; GRANT pg_monitor TO looker;
	CREATE ROLE nobody LOGIN;
});
my $looker = connect_to($node, 'postgres', user => 'looker');
is(health($looker), 'ok', 'pg_monitor may ask');
my $nobody = connect_to($node, 'postgres', user => 'nobody');
is(try_sql($nobody, 'SELECT persist_health()'), '42501', 'others may not');
$nobody->disconnect;

# ---- items wait; the journal fills

lock_targets($locker, 't, u');
enqueue('t', 2);
with_limit('degraded_age', '100ms', sub { wait_for_health('degraded oldest_item', 'an item waits'); });
with_limit('unhealthy_age', '200ms', sub {
	wait_for_health('unhealthy oldest_item!', 'it has waited for longer');
	like(message('oldest_item'), qr/^The oldest item has waited for \d+ s; the worker is \w+, and its last error was /, 'it says since when');
});
is(health(), 'ok', 'by the usual limits all is well');

my $n = 2;
enqueue('t', ++$n, 6_000) while one_value($dbh, "SELECT journal_bytes FROM persist_queue WHERE datname = 'postgres'") < 0.82 * 256 * 1024;
wait_for_health('degraded journal_full', 'the journal is filled to 82 %');
like(message('journal_full'), qr/is 8\d % of/, 'it says how much');
enqueue('t', ++$n, 6_000) while one_value($dbh, "SELECT journal_bytes FROM persist_queue WHERE datname = 'postgres'") < 0.955 * 256 * 1024;
wait_for_health('unhealthy journal_full!', 'the journal is filled to 95 %');
with_limit('unhealthy_fill', 100, sub { wait_for_health('degraded journal_full', 'with another limit'); });
$locker->rollback;
ok(drain($node), 'flushed');
wait_for_health('ok', 'the lock is gone');

# ---- the ring is full; then all goes to the journal alone

lock_targets($locker, 't, u');
enqueue('u', ++$n, 1_000) while one_value($dbh, "SELECT ring_used FROM persist_queue WHERE datname = 'postgres'") < 0.85 * 48 * 1024;
wait_for_health('degraded ring_full', 'the ring is full');
with_limit('degraded_fill', 100, sub { wait_for_health('ok', 'with another limit'); });
enqueue('u', ++$n, 1_000) while !one_value($dbh, "SELECT diverted FROM persist_queue WHERE datname = 'postgres'");
with_limit('stall_time', '100ms', sub {
	wait_for_health('degraded diverted ring_full', 'items go to the journal alone');
	$locker->rollback;
	ok(drain($node), 'flushed');
	wait_for_health('ok', 'the lock is gone');
});

# ---- one role holds what one role may hold of the journal

$node->safe_psql('postgres', q{CREATE ROLE app LOGIN; SELECT persist_grant('app'); GRANT INSERT ON t, u TO app});
my $app = connect_to($node, 'postgres', user => 'app');
change_setting($dbh, 'role_quota', 50);
lock_targets($locker, 't, u');
enqueue('t', ++$n, 6_000, $app) while one_value($dbh, "SELECT journal_bytes FROM persist_queue WHERE datname = 'postgres'") < 0.82 * 128 * 1024;
wait_for_health('degraded role_full', 'a role holds 82 % of what it may hold');
like(message('role_full'), qr/^Role "app" holds 8\d % of what a role may hold of the journal \(persist_pipeline\.role_quota\); past it calls fail\.$/, 'it says which, and of what');
with_limit('degraded_fill', 100, sub { is(health(), 'ok', 'with another limit'); });
my $state = '00000';
$state = try_sql($app, qq{SELECT persist_enqueue('t', '{"n": @{[ ++$n ]}}')}) while $state eq '00000';
is($state, '53400', 'its calls fail');
is(health(), 'degraded role_full', 'which is said');
is(one_value($dbh, "SELECT value FROM persist_metrics WHERE name = 'persist_pipeline_health_severity' AND labels->>'reason' = 'role_full'"), 1, 'in metrics, too');
enqueue('t', ++$n);
is(health(), 'degraded role_full', 'calls of another role do not');
$locker->rollback;
ok(drain($node), 'flushed');
wait_for_health('ok', 'it may hold as much again');

lock_targets($locker, 't, u');
$app->do("SELECT persist_enqueue('u', jsonb_build_object('n', ?::int, 'filler', repeat('x', 1000)), false)", undef, ++$n)
  while one_value($dbh, "SELECT ring_used FROM persist_queue WHERE datname = 'postgres'") < 0.85 * 32 * 1024;
wait_for_health('ok', 'of the ring it may hold that much: more goes to the journal');
$locker->rollback;
ok(drain($node), 'flushed');
wait_for_health('ok', 'the lock is gone');
change_setting($dbh, 'role_quota', 100);
$app->disconnect;

# ---- dead letters

enqueue('t', -1);
ok(flush($dbh), 'flushed');
wait_for_health('degraded dead_letters', 'an item has died');
is(message('dead_letters'), 'Items of public.t have become dead letters; kept, with older ones: 1.', 'it says whose');
is(health($looker), 'degraded dead_letters', 'pg_monitor is told');
with_limit('dead_letter_window', '1ms', sub { is(health(), 'ok', 'it is not new any more'); });
$dbh->do('SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');
is(health(), 'ok', 'it has been dropped');

# one from long ago is known after a restart, and with it its time
enqueue('t', -1);
ok(flush($dbh), 'flushed');
$_->disconnect foreach $dbh, $locker, $looker;
$node->restart;
($dbh, $locker) = (connect_to($node), connect_to($node));
wait_for_health('degraded dead_letters', 'after a restart');
$dbh->do('SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');
is(health(), 'ok', 'dropped');

# ---- parked

begin_with_lock($locker, 'other', 'SHARE');
enqueue_rows($dbh, 'other', 1);
with_limit('stall_time', '100ms', sub {
	wait_for_health('degraded parked', 'a target is parked');
	is(message('parked') =~ s/\d+ s/N s/r, 'Items of public.other have been parked for N s: SQLSTATE 55P03.', 'it says which, and why');
	is(one_value($dbh, "SELECT parked_since = oldest_at AND oldest_at < now() FROM persist_queue WHERE datname = 'postgres'"), 1, 'persist_queue has its time');
	is(one_value($dbh, "SELECT abs(extract(epoch FROM s.parked_since - p.parked_at)) < 1 FROM persist_stats AS s JOIN persist_parked AS p USING (target)"), 1, 'and persist_stats');
});
is(health(), 'ok', 'by the usual limit all is well');
is(one_value($dbh, "SELECT last_error || ' ' || (last_error_at > now() - interval '1 min') FROM persist_queue WHERE datname = 'postgres'"), '55P03 true', 'persist_queue has the last error');

# with the time at which it was parked, over a restart
my $parked_at = one_value($dbh, 'SELECT parked_at FROM persist_parked');
wait_for_sql($dbh, "SELECT ?::timestamptz < now() - interval '2 s'", $parked_at);
$_->disconnect foreach $dbh, $locker;
$node->append_conf('postgresql.conf', "persist_pipeline.start_paused = 'on'");    # so that it stays so
$node->restart;
($dbh, $locker) = (connect_to($node), connect_to($node));
enqueue_rows($dbh, 'other', 2);
wait_for_sql($dbh, "SELECT abs(extract(epoch FROM parked_since - ?::timestamptz)) < 1 FROM persist_queue WHERE datname = 'postgres'", $parked_at);
pass('after a restart it is still the time at which it was parked');

# ---- paused

with_limit('degraded_age', '1ms', sub {
	wait_for_health('degraded paused', 'by start_paused');
	is(message('paused'), 'The database is paused: its items wait.', 'it says so');
	is(action('paused'), 'Call persist_resume().', 'and what to do');
});
$node->append_conf('postgresql.conf', "persist_pipeline.start_paused = 'off'");
$node->reload;
$dbh->do('SELECT persist_resume()');
ok(drain($node), 'flushed');
wait_for_health('ok', 'resumed');
$dbh->do('SELECT persist_pause()');
enqueue_rows($dbh, 'other', 3);
wait_for_worker_state($dbh, 'paused');
foreach my $limit ('degraded_age', 'unhealthy_age', 'stall_time')
{
	with_limit($limit, '1ms', sub { is(health(), 'degraded paused', "paused, $limit: that items wait is no news"); });
}
$dbh->do('SELECT persist_resume()');
ok(drain($node), 'flushed');
is(health(), 'ok', 'resumed');
$dbh->do("SELECT persist_pause('other')");
enqueue_rows($dbh, 'other', 4);
wait_for_sql($dbh, "SELECT parked_since < now() - interval '0.1 s' FROM persist_queue WHERE datname = 'postgres'");
with_limit('stall_time', '100ms', sub { is(health(), 'degraded paused', 'a target: what is parked by that is no news'); });
is(message('paused'), 'Targets are paused, whose items wait: public.other.', 'it says which');
is(action('paused'), 'Call persist_resume(target) for each of them.', 'and what to do: persist_resume() alone is for the database');
$dbh->do('SELECT persist_resume()');
is(message('paused'), 'Targets are paused, whose items wait: public.other.', 'that leaves a target paused');
$dbh->do("SELECT persist_resume('other')");
ok(drain($node), 'flushed');
is(health(), 'ok', 'resumed');

# ---- at risk for too long: the worker is stopped

enqueue('t', ++$n);
ok(flush($dbh), 'flushed');
wait_for_worker_state($dbh, 'idle');
my $worker = worker_pid($node);
kill 'STOP', $worker;
$dbh->do('SET synchronous_commit = off');
enqueue('t', ++$n);
wait_for_health('degraded at_risk', 'an item is in the ring alone for longer than the window');
with_limit('degraded_age', '1ms', sub { is(health(), 'degraded at_risk oldest_item', 'a worker is there'); });
kill 'CONT', $worker;
$dbh->do('RESET synchronous_commit');
ok(flush($dbh), 'flushed');
wait_for_health('ok', 'the worker goes on');

# ---- no worker, and failures: the database's files say that it is none

$node->safe_psql('postgres', 'CREATE DATABASE shut');
$node->safe_psql('shut', 'CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int, filler text)');
my $inside = connect_to($node, 'shut');
my $version = $node->data_dir . '/base/' . one_value($dbh, "SELECT oid FROM pg_database WHERE datname = 'shut'") . '/PG_VERSION';
rename $version, "$version.hidden" or die $!;
enqueue('t', 1, 0, $inside);
with_limit('degraded_age', '500ms', sub {
	wait_for_health('unhealthy no_worker! oldest_item', 'there is no worker', $inside);
	like(message('no_worker', $inside), qr/^Items have waited for \d+ s, and no worker runs\.$/, 'it says so');
}, $inside);
wait_for_health('unhealthy worker_failures!', 'the worker has failed three times', $inside);
like(message('worker_failures', $inside), qr/^The worker has failed three times in \d+ s, the last time with SQLSTATE \w{5}\.$/, 'it says how');
# the third may not have ended yet
ok(eval { wait_for_sql($inside, q{SELECT worker_failures >= 3 AND cardinality(worker_failed_at) = 3 AND worker_failed_at[1] > worker_failed_at[2] AND worker_failed_at[2] > worker_failed_at[3]
	AND worker_state = 'not running' AND state_since IS NOT NULL AND last_error_at <= now() FROM persist_queue WHERE datname = 'shut'}) }, 'persist_queue has their times');
is(health(), 'ok', 'another database has nothing to do with it');
rename "$version.hidden", $version or die $!;
ok(flush($inside), 'flushed');
with_limit('degraded_age', '500ms', sub { wait_for_health('unhealthy worker_failures!', 'a worker is there', $inside); }, $inside);
with_limit('failure_window', '1ms', sub { is(health($inside), 'ok', 'the failures are long ago'); }, $inside);
is(one_value($inside, "SELECT oldest_at IS NULL AND diverted_since IS NULL FROM persist_queue WHERE datname = 'shut'"), 1, 'nothing waits');
$inside->disconnect;

# ---- a stop that was forced

$node->append_conf('postgresql.conf', "persist_pipeline.shutdown_timeout = '100ms'");
$node->reload;
enqueue_rows($dbh, 'slow', 1);
wait_until_worker_sleeps($node);
$worker = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
wait_for_sql($dbh, 'SELECT EXISTS (SELECT FROM persist_shutdowns WHERE forced)');
wait_for_health('degraded forced_stop', 'the last stop was forced');
like(message('forced_stop'), qr/^The last stop of the worker, at \S+ \S+, was forced; items left in the journal: 1\.$/, 'it says so');
$dbh->do('INSERT INTO released DEFAULT VALUES');
ok(drain($node), 'flushed');
is(health(), 'degraded forced_stop', 'until the next one');
$worker = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
wait_for_health('ok', 'which was not');

# ---- settings, and versions

foreach my $setting ([ fsync => 'off', 'on' ], [ full_page_writes => 'off', 'on' ], [ 'persist_pipeline.mode' => 'reject', 'async' ],
	[ 'persist_pipeline.statement_timeout' => '0', "'30s'" ])
{
	my ($name, $bad, $good) = @$setting;

	$node->append_conf('postgresql.conf', "$name = $bad");
	$node->reload;
	wait_for_health('degraded weak_setting', "$name = $bad");
	is(message('weak_setting'), "Settings take back what is promised: $name = $bad.", 'it says which');
	$node->append_conf('postgresql.conf', "$name = $good");
	$node->reload;
	wait_for_health('ok', "$name = $good");
}

$dbh->do("UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'persist_pipeline'");
wait_for_health('unhealthy version!', 'the SQL is of a version that is not served');
like(message('version'), qr/^Its SQL has version "0\.9", and the library that the server has loaded serves version "1\.1"\.$/, 'it says so');
$dbh->do("UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'persist_pipeline'");
wait_for_health('ok', 'the version is back');

# ---- limits of a role's own

$node->safe_psql('postgres', 'ALTER ROLE looker SET persist_pipeline.health_dead_letter_window = 0');
enqueue('t', -1);
ok(flush($dbh), 'flushed');
$looker = connect_to($node, 'postgres', user => 'looker');
is(health(), 'degraded dead_letters', 'by the usual limit it is degraded');
is(health($looker), 'ok', 'a role may have a limit of its own');
$looker->disconnect;
$dbh->do('SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');

# ---- a standby

$node->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'one', has_streaming => 1);
$standby->start;
my $there = connect_to($standby);
is(health($there), 'ok', 'on a standby');
enqueue('t', -1);
ok(flush($dbh), 'flushed');
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is(health($there), 'degraded dead_letters', 'a standby knows what is in the tables');
$dbh->do('SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(health($there), 'ok', 'and what is not');
$there->disconnect;
$standby->stop;

# ---- not preloaded

$dbh->disconnect;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$dbh = connect_to($node);
is(health(), 'unhealthy not_preloaded!', 'the library is not preloaded');
$dbh->do("SET persist_pipeline.mode = 'direct'");
is(health(), 'ok', 'where the mode is direct it need not be');
$dbh->disconnect;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'persist_pipeline'");
$node->restart;
$dbh = connect_to($node);
is(health(), 'ok', 'it is again');

is_deeply(
	[
		complaints($node, $everything_from,
			qr/client backend 42501 ERROR/,
			qr/role "app" holds too much of the journal/,
			qr/(?:item \d+|\d+ items) for relation "public.t".* could not be inserted/,
			qr/is not a valid data directory/,
			qr/persist_pipeline worker \w+ WARNING:  .*was forced to stop/,
			qr/invalid configuration parameter name "persist_pipeline.ring_size"/,
			qr/walreceiver \w+ FATAL/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');
$dbh->disconnect;
$node->stop;
done_testing();
