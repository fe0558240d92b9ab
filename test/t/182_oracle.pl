
# As if inserted one by one: random tables, and random items of several sessions and roles, a
# tenth of them bad.  What is there in the end, and which letters are dead of what, is what plain
# INSERTs in the order of the commits make of it (Oracle.pm).
#
# PP_SEEDS: how many seeds, new ones each time (a full run is 300); without it these are 1 to 20.
# PP_SEED: the first one; alone: the only one.  PP_SHRINK: how many seconds are spent on a shorter
# program that fails, too (60).  It is shown with its tables, its settings and what is different.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Oracle;
use PersistPipeline;
use Test::More;

my $first = $ENV{PP_SEED} || ($ENV{PP_SEEDS} ? time % 100_000 : 1);
my $seeds = $ENV{PP_SEEDS} || ($ENV{PP_SEED} ? 1 : 20);
my $shrink_seconds = $ENV{PP_SHRINK} // 60;
my $node = oracle_node('oracle');
my %outcomes;

note("PP_SEED=$first");
foreach my $seed ($first .. $first + $seeds - 1)
{
	my $run = play($node, scenario($seed));
	my @different = differences($run);

	$outcomes{ $_->{expected} =~ /^(persisted|skipped|.{5})/ ? $1 : '' }++ foreach grep { $_->{expected} } @{ $run->{committed} };
	next if ok(!@different, "seed $seed: as if inserted one by one");

	diag("PP_SEED=$seed differs:\n", map { "$_\n" } @different);
	my $smaller = shrink($node, $run->{s}, $shrink_seconds);

	diag("The shortest program found:\n", describe($smaller), "\n", map { "$_\n" } differences(play($node, $smaller)));
}
note('with the oracle: ', join ', ', map { "$_ $outcomes{$_}" } sort keys %outcomes);
$node->stop;
done_testing();
