
# Makes inputs for decode.c of real items: rows of the journal, of several shapes.  By hand,
# when the format of items or rows has changed:
#
#	PP_SEEDS=/an/empty/directory make installcheck REGRESS= ISOLATION= PROVE_TESTS=test/fuzz/make-seeds.pl
#
# and then "test/fuzz/check --merge /an/empty/directory".

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t";

use PersistPipeline;
use Test::More;

my $directory = $ENV{PP_SEEDS} or plan skip_all => 'PP_SEEDS says where they are wanted';

# The kinds of decode.c, by length and alignment.
my %kind = (
	'1c' => 0, '2s' => 1, '4i' => 2, '8d' => 3, '-1i' => 4, '-1d' => 5, '6i' => 7,
	'16c' => 8, '16d' => 9, '64c' => 10, '12d' => 11, '12i' => 14, '32d' => 15);

my $node = pp_node('seeds');
my $dbh = connect_to($node);
my $files = 0;

sub write_seed
{
	my ($bytes) = @_;

	open my $file, '>:raw', sprintf '%s/seed-%02d', $directory, ++$files or die "$directory: $!";
	print $file $bytes;
	close $file;
	return;
}

$dbh->do('CREATE TABLE mixed (a int2, b text, c int8, d bool, e uuid, f name, g interval, h float8, i macaddr, j "char", k numeric)');
$dbh->do('CREATE TABLE arrays (a int8[], b box, c jsonb, d lseg, e point[])');
$dbh->do('CREATE TABLE wide (' . join(', ', map {"c$_ int"} 1 .. 40) . ')');
$dbh->do('CREATE TABLE empty ()');
$dbh->do('CREATE TABLE large (a int, b text)');
$dbh->do("SELECT persist_configure(t, 'journal') FROM unnest('{mixed,arrays,wide,empty,large}'::regclass[]) AS t");
$dbh->do("SELECT persist_enqueue('empty'::regclass, '{}')");
$dbh->do('SELECT persist_pause()');

my %attributes;    # of a target, as kinds
foreach my $row (@{ $dbh->selectall_arrayref('SELECT attrelid, attlen || attalign FROM pg_attribute WHERE attnum > 0 ORDER BY 1, attnum') })
{
	push @{ $attributes{ $row->[0] } }, $kind{ $row->[1] } // 4;
}

# Each in a transaction of its own
foreach my $call (
	q{'mixed', '{"a": 1, "b": "short", "c": 2, "d": true, "f": "a name", "h": 1.5, "j": "x", "k": 12.5}'},
	q{'mixed', '{"e": "123e4567-e89b-12d3-a456-426614174000", "g": "1 day", "i": "08:00:2b:01:02:03", "j": "x", "k": -1}'},
	q{'mixed', jsonb_build_object('b', repeat('long', 100), 'c', 3)},
	q{'mixed', '{}'},
	q{'arrays', '{"a": [1, 2, 3], "b": "(1,1),(0,0)", "c": {"k": [null, 1]}, "d": "[(0,0),(1,1)]", "e": ["(1,2)", null]}'},
	q{'arrays', '{"d": "[(0,0),(1,1)]"}'},
	q{'wide', '{"c1": 1, "c9": 9, "c40": 40}'},
	q{'empty', '{}'},
	q{'large', jsonb_build_object('a', 1, 'b', repeat('0123456789', 900))},
	q{'large', jsonb_build_object('b', repeat('x', 17000))})
{
	$dbh->do("SELECT persist_enqueue($call)");
}
$dbh->do(q{SELECT persist_enqueue('mixed'::regclass, jsonb_build_object('a', n, 'b', 'row ' || n)) FROM generate_series(1, 4) AS n});
$dbh->do(q{SELECT persist_enqueue(t, '{}') FROM unnest('{empty,mixed,empty,wide}'::regclass[]) AS t});

# Into digests go the columns' kinds: decode.c looks there.
sub with_kinds
{
	my ($items) = @_;
	my $offset = 0;

	while ($offset + 64 <= length $items)
	{
		my ($size, undef, undef, $natts, $target) = unpack 'LCCSL', substr $items, $offset, 12;
		my @carried = grep { vec(substr($items, $offset + 64, ($natts + 7) / 8), $_, 1) } 0 .. $natts - 1;
		my @kinds = map { $attributes{$target}[$_] } @carried;

		substr($items, $offset + 32, 32) = substr pack('C*', @kinds) . "\0" x 32, 0, 32;
		$offset += $size;
	}
	return $items;
}

my @records = @{ $dbh->selectall_arrayref('SELECT pos, part, data FROM persist_pipeline_internal.persist_journal_1 ORDER BY 1, 2') };
my %rows;

push @{ $rows{ $_->[0] } }, $_ foreach @records;
foreach my $pos (sort { $a <=> $b } keys %rows)
{
	my @data = map { $_->[2] } @{ $rows{$pos} };
	my $items = with_kinds(join '', map { substr $_, 12 } @data);
	my $at = 0;

	write_seed("\0$items");
	foreach my $data (@data)
	{
		my $n = length($data) - 12;

		$data = substr($data, 0, 12) . substr $items, $at, $n;
		$at += $n;
	}
	write_seed("\1" . join '', map { pack('CCS', 1, $_->[1] / 512, length $_->[2]) . shift @data } @{ $rows{$pos} });
}
ok($files > 0, "$files files");
$dbh->disconnect;
$node->stop('immediate');
done_testing();
