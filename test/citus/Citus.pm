
=pod

=head1 NAME

Citus - what the tests on Citus share: a coordinator and two nodes for it, with both extensions, and
what the nodes were told.

=cut

package Citus;

use strict;
use warnings;

use Exporter 'import';
use PersistPipeline;

our @EXPORT = qw(citus_nodes enqueue_numbers distribute statements_since);

# The coordinator and its nodes.  %settings: of all of them.
sub citus_nodes
{
	my ($name, %settings) = @_;
	my @nodes = map {
		pp_node(
			$_ == 0 ? "${name}_coordinator" : "${name}_node$_",
			no_start => 1,
			max_connections => 100,
			'citus.enable_statistics_collection' => 'off',
			shared_preload_libraries => "'citus,persist_pipeline'",
			%settings)
	} 0 .. 2;
	my ($coordinator, @others) = @nodes;

	$_->start foreach @nodes;
	$_->safe_psql('postgres', 'CREATE EXTENSION citus') foreach @nodes;
	$coordinator->safe_psql('postgres', "SELECT citus_set_coordinator_host('" . $coordinator->host . "', " . $coordinator->port . ')');
	$coordinator->safe_psql('postgres', "SELECT citus_add_node('" . $_->host . "', " . $_->port . ')') foreach @others;
	$coordinator->safe_psql('postgres', 'CREATE EXTENSION persist_pipeline');
	return @nodes;
}

# A table that is spread over the nodes.
sub distribute
{
	my ($node, $table, $columns, $shards) = @_;

	$node->safe_psql('postgres', "CREATE TABLE $table ($columns)");
	$node->safe_psql('postgres', "SELECT create_distributed_table('$table', 'n', shard_count => " . ($shards // 8) . ')');
	return;
}

# In one transaction, from one number to another; v is the row's other column.
sub enqueue_numbers
{
	my ($dbh, $table, $from, $to, $v) = @_;

	$dbh->do(
		"SELECT count(persist_enqueue(?::regclass, jsonb_build_object('n', n, 'v', ?::text))) FROM generate_series(?::int, ?::int) AS n",
		undef, $table, $v // 'good', $from, $to);
	return;
}

# How many statements like that a node was told since then.  It has log_statement = 'all'.
sub statements_since
{
	my ($node, $position, $like) = @_;

	my @told = log_since($node, $position, qr/LOG:\s+(?:statement|execute [^:]*): $like/);

	return scalar @told;
}

1;
