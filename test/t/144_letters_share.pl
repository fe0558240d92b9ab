
# A role has its share of dead_letter_limit: one can't take all of it from the others.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'letters_share',
	'persist_pipeline.flush_interval' => "'5ms'",
	'persist_pipeline.misfit_timeout' => 0,
	'persist_pipeline.dead_letter_limit' => 10);
my $dbh = connect_to($node);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean), persist_requeue(bigint[]) TO alice, bob;
	CREATE TABLE t (n int CONSTRAINT positive CHECK (n > 0));
	CREATE TABLE strict (n int);
	GRANT INSERT ON t, strict TO alice, bob;
	SELECT persist_configure('strict', bad_items => 'dead');
});
my ($alice, $bob);

sub connect_all
{
	$dbh = connect_to($node);
	($alice, $bob) = map { connect_to($node, 'postgres', user => $_) } qw(alice bob);
	return;
}

# How many letters has each?
sub letters
{
	return one_value($dbh, "SELECT string_agg(role_name || ' ' || n, ', ' ORDER BY role_name) FROM"
		  . " (SELECT role_name, count(*) AS n FROM persist_dead_letters GROUP BY 1) AS of_roles");
}

sub is_letters
{
	my ($letters, $name) = @_;

	return ok(eval { wait_until($name, sub { (letters() // '') eq $letters }); 1 }, $name) || diag(letters());
}

connect_all();

# ---- at the insert

enqueue_rows($alice, 't', -9 .. 5);
is_letters('alice 5', 'alice has her share');
wait_for_sql($dbh, "SELECT parked > 0 AND parked_reason = '53400' FROM persist_stats WHERE target = 't'::regclass");
is(one_value($dbh, "SELECT parked FROM persist_stats WHERE target = 't'::regclass"), 5, 'the rest of hers waits');
enqueue_rows($bob, 't', -9 .. 5);
is_letters('alice 5, bob 5', 'bob has the rest');
$node->restart;
connect_all();
enqueue_rows($alice, 't', -1 .. 0);
enqueue_rows($bob, 't', -1 .. 0);
ok(eval { wait_for_sql($dbh, "SELECT parked = 14 FROM persist_stats WHERE target = 't'::regclass"); 1 }, 'after a restart, too');
is_letters('alice 5, bob 5', 'there are no more');

# what is taken away makes room for its role
$dbh->do("SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters WHERE role_name = 'alice' ORDER BY id LIMIT 2))");
ok(eval { wait_for_sql($dbh, "SELECT parked = 12 FROM persist_stats WHERE target = 't'::regclass"); 1 }, 'there is room for two of them');
is_letters('alice 5, bob 5', 'which alice has taken');
$dbh->do("ALTER TABLE t DROP CONSTRAINT positive");
ok(drain($node), 'what waits lands');
is(discard_all($dbh), 10, 'discarded');

# ---- at the call

my $bad = "SELECT persist_enqueue('strict'::regclass, '{\"n\": \"x\"}')";

is(join(' ', map { try_sql($alice, $bad) } 1 .. 6), '00000 ' x 5 . '53400', 'alice is told that she has had her share');
like($alice->errstr, qr/DETAIL:.*"persist_pipeline\.dead_letter_limit" is 10, of which a role may have 50 %/, 'and what it is');
is(join(' ', map { try_sql($bob, $bad) } 1 .. 6), '00000 ' x 5 . '53400', 'bob has the rest');
is_letters('alice 5, bob 5', 'these are they');
is(discard_all($dbh), 10, 'discarded');
is(try_sql($alice, $bad), '00000', 'and there is room again');

# ---- both

$node->append_conf('postgresql.conf', 'persist_pipeline.role_quota = 100');
$node->reload;
wait_for_sql($dbh, "SELECT current_setting('persist_pipeline.role_quota') = '100'");
is(try_sql($alice, $bad), '00000', 'all of it may be one\'s') foreach 2 .. 10;
is(try_sql($bob, $bad), '53400', 'then there is no more');

$_->disconnect foreach $dbh, $alice, $bob;
$node->stop;
is_deeply([ complaints($node, 0, qr/persist_pipeline (?:worker|retrier) 23514 WARNING:  .* could not be inserted/, qr/client backend 53400 ERROR/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');
done_testing();
