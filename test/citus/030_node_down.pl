
# A node that is down: what is for it waits, nothing of it dies, and others go on.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t", $FindBin::RealBin;

use Citus;
use PersistPipeline;
use Test::More;

my ($coordinator, @nodes) = citus_nodes('node_down', 'persist_pipeline.flush_interval' => "'20ms'");
my $dbh = connect_to($coordinator);

distribute($coordinator, 'spread', 'n int PRIMARY KEY, v text');
$coordinator->safe_psql('postgres', $_) foreach (
	'CREATE TABLE reference (n int PRIMARY KEY, v text)',
	q{SELECT create_reference_table('reference')},
	'CREATE TABLE plain (n int PRIMARY KEY, v text)');

foreach my $how (qw(fast immediate))
{
	my $from = $how eq 'fast' ? 1 : 1001;
	my $expected = $how eq 'fast' ? '600 600' : '1200 1200';

	# the worker has connections
	enqueue_numbers($dbh, $_, $from, $from + 99) foreach qw(spread reference plain);
	ok(flush($coordinator), "$how: flushed");

	$nodes[1]->stop($how);
	enqueue_numbers($dbh, $_, $from + 100, $from + 299) foreach qw(spread reference plain);
	wait_for_sql($dbh, "SELECT count(*) = $from + 299 - CASE WHEN $from > 1 THEN 700 ELSE 0 END FROM plain");
	pass("$how: a table that is here goes on");
	wait_for_sql($dbh, "SELECT count(*) = 2 AND bool_and(parked = 200 AND dead = 0) FROM persist_stats WHERE target_name IN ('public.spread', 'public.reference')");
	like(one_value($dbh, "SELECT string_agg(parked_reason, ' ') FROM persist_stats WHERE parked > 0"), qr/^(?:08\w\w\w|57P\d\d|58030)( |$)/, "$how: the others wait for a server");
	enqueue_numbers($dbh, $_, $from + 300, $from + 599) foreach qw(spread reference);
	is(try_sql($dbh, "SELECT persist_flush('100ms')"), '00000', "$how: who asks is told");

	$nodes[1]->start;
	wait_for_sql($dbh, "SELECT sum(parked + pending) = 0 FROM persist_stats");
	foreach my $table (qw(spread reference))
	{
		is($coordinator->safe_psql('postgres', "SELECT count(*) || ' ' || count(DISTINCT n) FROM $table"), $expected, "$how: $table: all are there, each once");
	}
	is(one_value($dbh, 'SELECT sum(dead) FROM persist_stats'), '0', "$how: none has died");
}
is(one_value($dbh, 'SELECT sum(enqueued) - sum(persisted) FROM persist_stats'), '0', 'the account adds up');

done_testing();
