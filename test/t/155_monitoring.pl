
# What monitoring/ has for collectors is what the generator writes, and its list of metrics is the
# view's; their queries give what the view has, to a member of pg_monitor, in a transaction that is
# read-only.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $generate = "$FindBin::RealBin/../../monitoring/generate";

is(`$^X $generate --check`, '', 'the files are what the generator writes');
is($?, 0, 'as it says');

my $node = pp_node('monitoring');
$node->safe_psql('postgres', q{
	CREATE TABLE t (n int CHECK (n <> 13));
	SELECT persist_enqueue('t', jsonb_build_object('n', n)) FROM generate_series(1, 20) AS n;
	SELECT persist_flush();
	CREATE ROLE collects LOGIN IN ROLE pg_monitor});
$node->restart; # so that there has been a stop
$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 1}'); SELECT persist_flush()});
wait_for_queue($node, "worker_state = 'idle'") or die 'the worker is not idle';

# the list
my $dbh = connect_to($node, 'postgres', user => 'collects');
$dbh->do('SET default_transaction_read_only = on');
my $shown = $dbh->selectcol_arrayref(q{
	SELECT DISTINCT concat_ws(' ', name, CASE type WHEN 'histogram' THEN 'counter' ELSE type END, 'datname',
		(SELECT key FROM jsonb_object_keys(labels) AS key WHERE key <> 'datname'))
	FROM persist_metrics ORDER BY 1});
is_deeply([ sort map { s/\n//r } `$^X $generate --list` ], [ sort @$shown ], 'name, type and labels are those of the view');

# the queries
my %value;
foreach my $query (`$^X $generate --queries`)
{
	my $rows = $dbh->selectall_arrayref($query, { Slice => {} });

	foreach my $row (@$rows)
	{
		my @labels = grep { exists $row->{$_} } 'datname', 'target', 'class', 'reason', 'le';
		my $labels = join ' ', map { delete $row->{$_} } @labels;

		foreach my $column (keys %$row)
		{
			my ($name) = $query =~ /name = '([a-z_]+)'\) AS $column\b/;

			$value{"$name $labels"} = $row->{$column};
		}
	}
}
my %expected = map { @$_ } @{ $dbh->selectall_arrayref(q{
	SELECT concat_ws(' ', name, labels->>'datname', labels->>'target', labels->>'class', labels->>'reason', labels->>'le'), value FROM persist_metrics}) };

is_deeply([ sort keys %value ], [ sort keys %expected ], 'the queries have what the view has');
# what others do meanwhile may change: the ring's use, say
my @differ = grep { $value{$_} != $expected{$_} } grep { !/_(at_risk_seconds|bytes) / } keys %expected;
is_deeply(\@differ, [], 'with the same values');

is(one_value($dbh, "SELECT string_agg(help, '; ') FROM (SELECT help FROM (SELECT DISTINCT regexp_replace(name, '_(bucket|sum|count)\$', '') AS name, help FROM persist_metrics) AS m GROUP BY help HAVING count(*) > 1) AS m"),
	undef, 'no two metrics are said to be the same');
$dbh->disconnect;
is_deeply([ complaints($node, 0, qr{worker 23514 WARNING}) ], [], 'a clean log');
$node->stop;
done_testing();
