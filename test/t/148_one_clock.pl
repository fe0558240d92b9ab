
# All tries of a batch have one clock: what takes too long is left to the retrier, and what was
# to be written beside it gets a short try of its own.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use Test::More;

# a short try of one of 21 targets has a quarter of that by 21, in which a busy machine must come to it
my $node = parking_node('clock', 'persist_pipeline.statement_timeout' => "'3s'");
my $dbh = session('postgres');

sub create_slow
{
	my ($name, $seconds) = @_;

	create_target('postgres', $name);
	$dbh->do("CREATE FUNCTION $name() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep($seconds); RETURN NEW; END \$\$");
	$dbh->do("CREATE TRIGGER delay BEFORE INSERT ON $name FOR EACH ROW EXECUTE FUNCTION $name()");
	return;
}

# One item of each, in one transaction.
sub enqueue_together
{
	my @targets = @_;

	$dbh->do('SELECT ' . join ', ', map { "persist_enqueue('$_', jsonb_build_object('n', " . ++$committed{postgres}{$_} . '))' } @targets);
	return;
}

# What has been seen of a target's errors: how many, and the last one
sub errors_of
{
	my ($target) = @_;

	return one_value($dbh, "SELECT errors || coalesce(' ' || last_error, '') FROM persist_stats WHERE target_name = 'public.$target'");
}

# ---- none of them takes too long, but all together do

my @slow = map { "slow$_" } 1 .. 4;

create_slow($_, 1.8) foreach @slow;
create_target('postgres', 'free');
enqueue_together(@slow, 'free');
lands('postgres', 'free', 'several are slow, another one');
is(errors_of('free'), '0', 'several are slow, another one: it is written with that batch');
is(one_value($dbh, "SELECT count(*) FROM persist_stats WHERE target_name LIKE 'public.slow%' AND last_error ~ '^(57014|53400)\$'"),
	4, 'several are slow: there was no time for them');
lands('postgres', $_, "several are slow: $_") foreach @slow;
is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'several are slow: none is dead');
adds_up('postgres', 'several are slow');

# ---- one has many rows

my @beside = map { "beside$_" } 1 .. 20;

create_slow('long', 0.001);
create_target('postgres', $_) foreach @beside;
$dbh->begin_work;
$dbh->do("SELECT persist_enqueue('long', jsonb_build_object('n', i)) FROM generate_series(1, 9000) AS i");
$committed{postgres}{long} = 9000;
enqueue_together(@beside);
$dbh->commit;
lands('postgres', $_, "many rows are slow: $_") foreach @beside;
unlike(errors_of($_), qr/57014/, "many rows are slow: $_ isn't to blame") foreach @beside;
$dbh->do('DROP TRIGGER delay ON long');
lands('postgres', 'long', 'many rows are slow: they land, too');
adds_up('postgres', 'many rows are slow');

# ---- several roles, in one transaction

create_slow("of_role$_", 1.8) foreach 1 .. 3;
foreach my $i (1 .. 3)
{
	$dbh->do("CREATE ROLE role$i");
	$dbh->do("SELECT persist_grant('role$i')");
	$dbh->do("GRANT INSERT ON of_role$i TO role$i; GRANT USAGE ON SEQUENCE ins TO role$i; GRANT SELECT ON gate TO role$i");
}
$dbh->begin_work;
foreach my $i (1 .. 3)
{
	$dbh->do("SET LOCAL ROLE role$i");
	enqueue_together("of_role$i");
}
$dbh->do('RESET ROLE');
enqueue_together('free');
$dbh->commit;
lands('postgres', $_, "several roles: $_") foreach 'free', map { "of_role$_" } 1 .. 3;
unlike(errors_of('free'), qr/57014/, 'several roles: the last one is not to blame');
is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'several roles: none is dead');
adds_up('postgres', 'several roles');

is_clean_log();
forget_sessions();
$node->stop;
done_testing();
