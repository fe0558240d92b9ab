#
# Targets that change while items wait: in transactions that are still to commit, over a
# crash, while they are parked; and how long what a target was like is kept.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use PersistPipeline;

my $node = pp_node('altered', 'persist_pipeline.misfit_timeout' => "'1h'");
my $dbh = connect_to($node);

sub enqueue
{
	my ($session, $target, $json) = @_;

	return one_value($session, "SELECT persist_enqueue('$target'::regclass, '$json'::jsonb)");
}

# The targets whose columns are noted.
sub noted
{
	return "SELECT COALESCE(string_agg(DISTINCT target_name, ' ' ORDER BY target_name), '') FROM persist_pipeline_internal.persist_layouts";
}

# A new worker looks, when it has nothing to do, what is needed no more.
sub new_worker
{
	my $old = one_value($dbh, 'SELECT worker_pid FROM persist_queue WHERE datname = current_database()');

	$dbh->do('SELECT pg_terminate_backend(?)', undef, $old);
	wait_for_sql($dbh, 'SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ?', $old);
	return;
}

# Items come, one after the other, until nothing else is noted.
sub only_noted
{
	my ($session, $wanted) = @_;

	wait_until(
		'only that is noted',
		sub {
			enqueue($session, 'other', '{"a": 2}');
			return one_value($session, noted()) eq $wanted;
		});
	return 1;
}

# ---- an item that nobody else knows of yet, the first of its target

$dbh->do('CREATE TABLE first (a int, v varchar(5))');
$dbh->do('CREATE TABLE other (a int)');
enqueue($dbh, 'other', '{"a": 1}');
my $producer = connect_to($node);
$producer->begin_work;
enqueue($producer, 'first', '{"a": 1, "v": "abc"}');
$dbh->do('ALTER TABLE first ALTER a TYPE numeric(10, 2), ALTER v TYPE text');
$producer->commit;
ok(flush($node), 'still to commit: flushed');
is(one_value($dbh, q{SELECT string_agg(format('%s %s', a, v), ', ') FROM first}), '1.00 abc', 'still to commit: it lands');

# ---- the same, and the table is dropped

$dbh->do('CREATE TABLE dropped (a int, v varchar(5))');
$producer->begin_work;
enqueue($producer, 'dropped', '{"a": 1, "v": "abc"}');
$dbh->do('DROP TABLE dropped');
$producer->commit;
ok(flush($node), 'still to commit, and dropped: flushed');
is(one_value($dbh, q{SELECT format('%s %s %s', target_name, sqlstate, item) FROM persist_dead_letters}),
	'public.dropped 42P01 {"a": 1, "v": "abc"}', 'still to commit, and dropped: the letter has its name and its values');
$dbh->do('SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');

# ---- parked until the column comes again, and over a crash

$dbh->do('CREATE TABLE parked (a int, v varchar(5))');
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 'parked', qq({"a": $_, "v": "v$_"})) foreach 1 .. 3;
$dbh->do('ALTER TABLE parked DROP v');
$dbh->do('SELECT persist_resume()');
wait_for_sql($dbh, "SELECT parked = 3 FROM persist_stats WHERE target_name = 'public.parked'");
$dbh->disconnect;
$node->stop('immediate');
$node->start;
$dbh = connect_to($node);
$dbh->do('ALTER TABLE parked ADD v text, ALTER a TYPE bigint');
wait_for_sql($dbh, "SELECT count(*) = 3 FROM parked");
is(one_value($dbh, q{SELECT string_agg(format('%s %s', a, v), ', ' ORDER BY a) FROM parked}), '1 v1, 2 v2, 3 v3', 'parked, and a crash: they land');

# ---- a type that changes inside

$dbh->do('CREATE TYPE inside AS (x int)');
$dbh->do('CREATE TABLE holds (a int, i inside[], b text)');
$dbh->do('CREATE DOMAIN wrapped AS inside');
$dbh->do('CREATE TYPE outside AS (w wrapped)');
$dbh->do('CREATE TABLE holds_more (a int, o outside, b text)');
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 'holds', '{"a": 1, "i": [{"x": 2}], "b": "c"}');
enqueue($dbh, 'holds', '{"a": 2, "b": "d"}');
enqueue($dbh, 'holds_more', '{"a": 3, "o": {"w": {"x": 4}}, "b": "e"}');
$dbh->do('ALTER TYPE inside ADD ATTRIBUTE y text');
change_setting($dbh, 'misfit_timeout', 0);
$dbh->do('SELECT persist_resume()');
wait_for_sql($dbh, "SELECT count(*) = 2 FROM persist_dead_letters");
is(one_value($dbh, q{SELECT string_agg(format('%s %s %s', target_name, item - 'i' - 'o', COALESCE(item->>'i', item->>'o') ~ '^\\\\x[0-9a-f]{20,}$'), ', ' ORDER BY id) FROM persist_dead_letters}),
	'public.holds {"a": 1, "b": "c"} t, public.holds_more {"a": 3, "b": "e"} t', 'a type that changes inside: the letters have the other values, and its bytes');
is(one_value($dbh, q{SELECT string_agg(format('%s %s', a, b), ', ') FROM holds}), '2 d', 'a type that changes inside: what has no value of it lands');

# ---- a type that is inside others in a million ways

$dbh->do('CREATE TYPE n0 AS (x int)');
$dbh->do("CREATE TYPE n@{[ $_ + 1 ]} AS (a n$_, b n$_)") foreach 0 .. 19;    # for which the server itself takes a second
$dbh->do('CREATE TABLE deep (a int, n n20)');
enqueue($dbh, 'deep', '{"a": 1}');
is_quick(seconds_of(sub { is(try_sql($dbh, 'ALTER TYPE n0 ADD ATTRIBUTE y text'), '00000', 'a type that is inside others in many ways is changed') }), 3, 'and soon');
like(one_value($dbh, noted()), qr/\bpublic\.deep\b/, 'and the columns of a target that has it are noted');
ok(flush($node), 'flushed');

# ---- as long as it can be needed

$dbh->do('CREATE TABLE kept (a int, v varchar(5))');
$producer->disconnect;
$producer = connect_to($node);
like(one_value($dbh, noted()), qr/public.holds public.holds_more/, 'noted: what was altered');
enqueue($dbh, 'other', '{"a": 2}');    # which leases ids: the next one needs no transaction id
ok(flush($node), 'kept: flushed');
$producer->begin_work;
enqueue($producer, 'kept', '{"a": 1, "v": "abc"}');
is(one_value($dbh, 'SELECT count(*) FROM pg_stat_activity WHERE pid = ? AND backend_xid IS NULL AND backend_xmin IS NULL', $producer->{pg_pid}),
	1, 'kept: the transaction has neither an id nor a snapshot');
$dbh->do('ALTER TABLE kept ALTER v TYPE text');
new_worker();
# the worker has nothing to do, and again, when those have ended that it has seen the first time
foreach my $round (1 .. 4)
{
	enqueue($dbh, 'other', '{"a": 2}');
	ok(flush($node), "kept: flushed, $round");
	wait_for_sql($dbh, "SELECT worker_state = 'idle' FROM persist_queue WHERE datname = current_database()");
}
$producer->commit;
ok(flush($node), 'kept: flushed again');
is(one_value($dbh, 'SELECT v FROM kept'), 'abc', 'kept: for a transaction that is still to commit');

# there and back: who has items may be newer than what was noted the first time
$dbh->do('CREATE TABLE again (a int)');
$dbh->do('ALTER TABLE again ALTER a TYPE bigint');
$dbh->do('ALTER TABLE again ALTER a TYPE int');
{
	my $xid = one_value($dbh, 'SELECT txid_current()');

	$dbh->do('ALTER TABLE again ALTER a TYPE bigint');
	is(one_value($dbh, "SELECT string_agg((xmin::text::bigint > $xid)::text, ' ' ORDER BY xmin::text::bigint) FROM persist_pipeline_internal.persist_layouts WHERE target_name = 'public.again'"),
		'false true', 'there and back: what is noted again is as new as that');
}

# of letters, but of nothing else, though something else waits
$dbh->do('CREATE TABLE waits (a int)');
$dbh->do("SELECT persist_pause('waits')");
enqueue($dbh, 'waits', '{"a": 1}');
wait_for_sql($dbh, "SELECT parked = 1 FROM persist_stats WHERE target_name = 'public.waits'");
new_worker();
ok(eval { only_noted($dbh, 'public.holds public.holds_more') }, 'letters: what they are made for is kept, and nothing else');
is(one_value($dbh, 'SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))'), 2, 'letters are discarded');
new_worker();
ok(eval { only_noted($dbh, '') }, 'nothing is kept when nothing needs it');

# of what waits, parked
$dbh->do('ALTER TABLE waits ALTER a TYPE bigint');
$dbh->do('CREATE TABLE useless (a int)');
$dbh->do('DROP TABLE useless');
is(one_value($dbh, noted()), 'public.useless public.waits', 'dropped: it is noted, as somebody may have items');
new_worker();
ok(eval { only_noted($dbh, 'public.waits') }, 'what waits is kept, and nothing else');
$dbh->do("SELECT persist_resume('waits')");
ok(flush($node), 'resumed: flushed');
is(one_value($dbh, 'SELECT a FROM waits'), 1, 'resumed: it lands');

is(join("\n", complaints($node, 0, qr/could not be inserted/)), '', 'no line in the log but for letters');
$node->stop;
done_testing();
