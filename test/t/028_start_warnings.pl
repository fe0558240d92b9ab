
# What the server warns of when a process connects to a database, each of our workers would
# say, and where they take turns one comes after the other.  The first one says it.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node(
	'start_warnings',
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.max_workers' => 1);
my @names = ('turn_1', 'turn_2');
my $control = connect_to($node);
my %session;
my %warnings = (
	'collation' => qr/ persist_pipeline \w+ \w+ WARNING:  database "turn_\d" has (a collation version mismatch|no actual collation version)/,
	'setting' => qr/ persist_pipeline \w+ \w+ WARNING:  invalid value for parameter "default_text_search_config": "nothing"/);

# Both databases have work again and again, so that their workers take turns.
sub take_turns
{
	my ($turns) = @_;
	my %pids;

	%session = map { $_ => connect_to($node, $_) } @names if !%session;
	while (keys %pids < $turns)
	{
		foreach my $name (@names)
		{
			$session{$name}->do("SELECT persist_enqueue('t', '{\"n\": 1}')");
			is(one_value($session{$name}, "SELECT persist_flush('300 s')"), 1, "$name: flushed");
			$pids{$_}++
			  foreach @{ $control->selectcol_arrayref("SELECT worker_pid FROM persist_queue WHERE worker_pid IS NOT NULL") };
		}
	}
	return;
}

sub told_once
{
	my ($from, $name) = @_;

	is(scalar log_since($node, $from, $warnings{$_}), scalar @names, "$name: $_, told once for each database") foreach sort keys %warnings;
	return;
}

create_model_database($node, 'model');
create_database($control, $_, 'model') foreach @names;
foreach my $name (@names)
{
	$control->do("UPDATE pg_database SET datcollversion = 'another' WHERE datname = ?", undef, $name);
	$control->do("ALTER DATABASE $name SET default_text_search_config = 'nothing'");
}

foreach my $which ('a start', 'another start')
{
	my $from;

	$_->disconnect foreach $control, values %session;
	%session = ();
	$node->stop;
	$from = log_position($node);
	$node->start;
	$control = connect_to($node);
	take_turns(6);
	told_once($from, "after $which");
}

$_->disconnect foreach $control, values %session;
$node->stop;
done_testing();
