#
# An engine that plans or executes the batch's INSERT in its own way, as distributed ones do,
# may lose its rows.  Then nothing counts as skipped: the target is parked, and says why.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PersistPipeline;

my $node = pp_node('engine', no_start => 1, 'persist_pipeline.misfit_timeout' => 0);
my $library = $node->basedir . '/engine';
{
	my $headers = $node->config_data('--includedir-server');

	system_or_bail('cc', '-shared', '-fPIC', '-O0', "-I$headers", '-o', "$library.so", "$FindBin::RealBin/engine.c");
}
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'persist_pipeline, $library'");
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION persist_pipeline;
	CREATE TABLE engine (n int, ins serial);
	CREATE TABLE other (n int);
	CREATE TABLE engine_skips (n int);
	CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.n % 2 = 0 THEN NEW END; END $$;
	CREATE TRIGGER skip BEFORE INSERT ON engine_skips FOR EACH ROW EXECUTE FUNCTION skip();
	CREATE TABLE engine_nothing (n int);
	CREATE RULE nothing AS ON INSERT TO engine_nothing DO INSTEAD NOTHING;
	CREATE TABLE engine_elsewhere (n int);
	CREATE VIEW engine_view AS SELECT n FROM engine_nothing;
	CREATE TABLE engine_some (n int);
	CREATE RULE at_most_two AS ON INSERT TO engine_some WHERE NEW.n > 2 DO INSTEAD NOTHING;
	CREATE VIEW engine_view_2 AS SELECT n FROM engine_some;
	CREATE VIEW engine_view_3 AS SELECT n FROM engine_view_2;
	CREATE RULE elsewhere AS ON INSERT TO engine_elsewhere WHERE NEW.n > 2 DO INSTEAD INSERT INTO other VALUES (NEW.n);
});
my $dbh = connect_to($node);

sub enqueue
{
	my ($target, @n) = @_;

	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('$target'::regclass, jsonb_build_object('n', $_))") foreach @n;
	$dbh->commit;
	return;
}

sub set_fault
{
	my ($fault) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET engine.fault = '$fault'");
	$node->reload;
	wait_for_sql($dbh, "SELECT current_setting('engine.fault') = '$fault'");
	# the worker has read it when it has written something after that
	enqueue('other', 0);
	flush($node);
	return;
}

sub account_of
{
	my ($target) = @_;

	return one_value($dbh, "SELECT persisted || ' ' || skipped || ' ' || dead || ' ' || lost || ' ' || parked || ' ' || coalesce(parked_reason, '') FROM persist_stats WHERE target = '$target'::regclass");
}

# The account may still be a moment away: the counters follow the rows, and the reason the items.
sub account_becomes
{
	my ($target, $account, $name) = @_;

	ok(eval { wait_until($name, sub { account_of($target) eq $account }) }, $name) or diag(account_of($target));
	return;
}

# ---- nobody is in the way: what a trigger or a rule takes is skipped

enqueue('engine_skips', 1 .. 5);
enqueue('engine_nothing', 1 .. 3);
enqueue('engine_elsewhere', 1 .. 5);
enqueue('engine_view', 1 .. 4);
enqueue('engine_view_3', 1 .. 4);
ok(flush($node), 'flushed');
is(account_of('engine_skips'), '2 3 0 0 0 ', 'a trigger takes rows: they are skipped');
is(account_of('engine_nothing'), '0 3 0 0 0 ', 'so are those that a rule takes');
is(account_of('engine_view'), '0 4 0 0 0 ', 'also one of a view\'s table');
is(account_of('engine_view_3'), '2 2 0 0 0 ', 'or of what is beneath that');
is(account_of('engine_elsewhere'), '2 3 0 0 0 ', 'and those that a rule takes elsewhere');
is(one_value($dbh, "SELECT count(*) FROM other"), 3, 'where they are');

# ---- faults

my $n = 0;
foreach my $fault ('deaf', 'forgetful')
{
	set_fault($fault);
	enqueue('engine', $n + 1 .. $n + 3);
	enqueue('other', 10);
	account_becomes('engine', "$n 0 0 0 3 39P02", "$fault: the target is parked, and says why");
	is($node->safe_psql('postgres', "SELECT persist_flush('5 s', 'engine')"), 'f', "$fault: it isn't flushed");
	is(one_value($dbh, "SELECT count(*) FROM engine"), $n, "$fault: nothing of it is there");
	set_fault('');
	$n += 3;
	account_becomes('engine', "$n 0 0 0 0 ", "$fault, and no longer: all has landed");
	is(one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY ins) FROM engine"), join(' ', 1 .. $n), "$fault, and no longer: once, in order");
}
is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), 0, 'no letters');

$dbh->disconnect;
$node->stop;
done_testing();
