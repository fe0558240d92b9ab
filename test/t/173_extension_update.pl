
# ALTER EXTENSION ... UPDATE while items wait in each state, in the middle of a batch and under
# load: to a version that the library serves, and back, nobody notices; under one that it doesn't
# serve calls fail, and all that waits is written once that is mended.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Faults;
use PersistPipeline;
use Test::More;
use Waiting;

my $node = waiting_node('update', with_faults());
my $dbh = connect_to($node);
my $update = 'ALTER EXTENSION persist_pipeline UPDATE TO';
my $version_sql = "SELECT extversion FROM pg_extension WHERE extname = 'persist_pipeline'";
my $waits_sql = "SELECT concat_ws(' ', $pending_sql, (SELECT count(*) FROM persist_parked), (SELECT count(*) FROM persist_dead_letters))";

create_targets($dbh);

# ---- items in each state

foreach my $version ("${version_now}served", $version_now)
{
	discard_all($dbh);
	$dbh->do('TRUNCATE ' . join ', ', map { "life.$_" } @states);
	items_wait($dbh, "to $version, before");
	is(try_sql($dbh, "$update '$version'"), '00000', "to $version: updated");
	is(one_value($dbh, $version_sql), $version, "to $version: it is that one");
	is(one_value($dbh, q{SELECT concat_ws(': ', r->>'severity', r->>'message') FROM persist_health(), jsonb_array_elements(reasons) AS r WHERE r->>'code' = 'version'}),
		$version eq $version_now ? undef : qq{degraded: Its SQL has version "$version", and the library that the server has loaded serves it, but what is new in version "$version_now" is missing.},
		"to $version: persist_health() says so, if it isn't the newest");
	is(resume_parked($dbh), '00000', "to $version: resumed");
	all_settled($dbh, "to $version");
	is_deeply(became($dbh), lands(), "to $version: all of it lands, and letters are kept");
}

# ---- in the middle of a batch

$dbh->do($slow_target);
foreach my $version ("${version_now}served", $version_now)
{
	enqueue_rows($dbh, 'slow', 1, 2);
	enqueue_rows($dbh, 'life.journal', $version eq $version_now ? 11 : 10);
	start_sql(my $flushing = connect_to($node), "SELECT persist_flush('300 s')");
	ok(wait_until_worker_sleeps($node), "to $version, in a batch: the worker is in a trigger");
	is_quick(seconds_of(sub { is(try_sql($dbh, "$update '$version'"), '00000', "to $version, in a batch: updated") }), 1, "to $version, in a batch: at once");
	$dbh->do('INSERT INTO released DEFAULT VALUES');
	is(finish_sql($flushing), '00000', "to $version, in a batch: who waits for it hears nothing of that");
	$flushing->disconnect;
	all_settled($dbh, "to $version, in a batch");
	$dbh->do('TRUNCATE released');
}
is(one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM slow"), '1 1 2 2', 'in a batch: each row once');
is(became($dbh)->{journal}, '1 2 3 10 11', 'in a batch: others, too');

# ---- under load

change_setting($dbh, 'flush_interval', '5ms');
my $from = log_position($node);
my @clients = start_busy_clients($node, $dbh);
foreach my $round (1 .. 10)
{
	foreach my $version ("${version_now}served", $version_now)
	{
		my $persisted = "SELECT COALESCE(sum(persisted), 0) FROM persist_stats WHERE target = 'busy'::regclass";
		my $before = one_value($dbh, $persisted);
		my $state = try_sql($dbh, "$update '$version'");

		is($state, '00000', "under load, $round: to $version") or diag($dbh->errstr);
		ok(eval { wait_for_sql($dbh, "SELECT ($persisted) > $before") }, "under load, $round: rows are written after it");
	}
}
$dbh->do('INSERT INTO stop DEFAULT VALUES');
children_succeeded('under load: no call has failed', @clients);
all_settled($dbh, 'under load');
is(one_value($dbh, "SELECT count(*) - sent_1.n - sent_2.n FROM busy, sent_1, sent_2 GROUP BY sent_1.n, sent_2.n"), 0, 'under load: each row is there once');
is_deeply([ complaints($node, $from) ], [], 'under load: a clean log');
change_setting($dbh, 'flush_interval', '1h');

# ---- to a version that the library doesn't serve, over a restart

discard_all($dbh);
$dbh->do('TRUNCATE ' . join ', ', map { "life.$_" } @states);
items_wait($dbh, 'not served, before');
is(try_sql($dbh, "$update '${version_now}unserved'"), '00000', 'not served: updated');
foreach my $when ('', ', after a restart')
{
	if ($when)
	{
		$dbh->disconnect;
		$node->restart;
		$dbh = connect_to($node);
	}
	is(try_sql($dbh, q{SELECT persist_enqueue('life.ring', '{"n": 4}')}), '55000', "not served$when: a call fails");
	like($dbh->errstr, qr/HINT:  Run ALTER EXTENSION persist_pipeline UPDATE/, "not served$when: and says what to do");
	$dbh->do("SET persist_pipeline.mode = 'direct'");
	is(try_sql($dbh, q{SELECT persist_enqueue('life.ring', '{"n": 4}')}), '55000', "not served$when: in mode direct, too");
	$dbh->do('RESET persist_pipeline.mode');
	is(one_value($dbh, q{SELECT r->>'severity' FROM persist_health(), jsonb_array_elements(reasons) AS r WHERE r->>'code' = 'version'}),
		'unhealthy', "not served$when: so does persist_health()");
	is(one_value($dbh, $waits_sql), '9 3 3', "not served$when: all of it waits in tables");
}
is(try_sql($dbh, "$update '$version_now'"), '00000', 'not served: back');
is(resume_parked($dbh), '00000', 'not served: resumed');
all_settled($dbh, 'served again');
is_deeply(became($dbh), lands(), 'served again: all of it lands, and letters are kept');

$dbh->disconnect;
$node->stop;
done_testing();
