
# What doc/scaling.md says of Citus: its SQL, in its order, and what comes of it.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t", $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $page = slurp_file("$FindBin::RealBin/../../doc/scaling.md");
my @blocks = $page =~ /<!-- not run: needs Citus; test\/citus\/check does it -->\n```sql\n(.*?)```/gs;
my @nodes = map { pp_node($_, no_start => 1, max_connections => 100, shared_preload_libraries => "'citus,persist_pipeline'") } qw(coordinator node1 node2);
my ($coordinator) = @nodes;

$_->start foreach @nodes;
$_->safe_psql('postgres', 'CREATE EXTENSION citus') foreach @nodes[ 1, 2 ];

# The names of its servers are those of ours.
sub sql
{
	my ($block) = @_;

	foreach my $node (@nodes)
	{
		my ($name, $host, $port) = ($node->name, $node->host, $node->port);

		$block =~ s/'$name', 5432/'$host', $port/g;
	}
	return $block;
}

# What a block of the page prints, if it begins so.
sub run_block
{
	my ($begin, @before) = @_;
	my ($block) = grep {/^\Q$begin\E/} @blocks;

	die "the page has no block that begins with $begin" if !$block;
	@blocks = grep { $_ ne $block } @blocks;
	return $coordinator->safe_psql('postgres', sql($block));
}

like(run_block('CREATE EXTENSION citus;'), qr/\nt\n1$/, 'set up: the row is there');
is( $coordinator->safe_psql('postgres', q{SELECT count(*) FROM run_command_on_all_nodes($$SELECT has_function_privilege('scraper', 'persist_enqueue(regclass, jsonb, boolean)', 'EXECUTE')$$) WHERE result = 't'}),
	'3', 'set up: the role may call it on each node');

# ---- a table that is altered, while somebody enqueues

my $dbh = connect_to($coordinator, 'postgres', user => 'scraper');
$coordinator->safe_psql('postgres', 'SELECT persist_pause()');
$dbh->do(q{SELECT persist_enqueue('events', '{"tenant": 2, "kind": "before"}')});
# nobody has flushed in time
$coordinator->safe_psql('postgres', "SELECT alter_distributed_table('events', shard_count := 8)");
$coordinator->safe_psql('postgres', 'SELECT persist_resume()');
ok(flush($coordinator), 'altered: flushed');
is($coordinator->safe_psql('postgres', 'SELECT string_agg(kind, $$ $$ ORDER BY kind) FROM events'), 'before start', 'altered: what waited has come to the new table');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM persist_dead_letters'), '0', 'altered: there is no letter');
$dbh->do(q{SELECT persist_enqueue('events', '{"tenant": 3, "kind": "after"}')});
ok(flush($coordinator), 'altered: flushed');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM events'), '3', 'altered: sessions that have enqueued go on');
$dbh->disconnect;

# ---- the extension's own commands

my ($status, undef, $error) = $coordinator->psql('postgres', 'DROP EXTENSION persist_pipeline');
isnt($status, 0, 'DROP EXTENSION is not handed on');
like($error, qr/cannot PREPARE a transaction that has dropped or altered extension "persist_pipeline"/, 'and says why');
is($coordinator->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'persist_pipeline'}), '1', 'and nothing has happened');
run_block('SET citus.enable_ddl_propagation = off;');
is($_->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'persist_pipeline'}), '1', 'dropped and created: on ' . $_->name)
  foreach @nodes;
$coordinator->safe_psql('postgres', q{SELECT persist_enqueue('events', '{"tenant": 4, "kind": "again"}')});
ok(flush($coordinator), 'dropped and created: flushed');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM events'), '4', 'dropped and created: it writes');

# ---- columnar

run_block('CREATE EXTENSION citus_columnar;');
$coordinator->safe_psql('postgres', q{SELECT persist_enqueue('archive', '{"kind": "a"}')});
ok(flush($coordinator), 'columnar: flushed');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM archive'), '1', 'columnar: the row is there');

is(scalar @blocks, 0, 'all blocks of the page have been run');

done_testing();
