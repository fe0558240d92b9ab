
# doc/operating.md: all its SQL runs, in the order in which it stands there, and it names each
# reason that persist_health() may give.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $page = slurp_file("$FindBin::RealBin/../../doc/operating.md");
my $node = pp_node('operating', 'persist_pipeline.flush_interval' => "'10ms'");
my ($number, $section) = (0, '');

$node->safe_psql('postgres', 'DROP EXTENSION persist_pipeline; CREATE DATABASE app');

# with a line that psql repeats before each of them, so that an error tells where it is
my @blocks;
foreach my $part (split /^(?=#+ |```)/m, $page)
{
	$section = $1 if $part =~ /^#+ (.*)/;
	push @blocks, [ $section, $1 ] if $part =~ /^```sql\n(.*)/s;
}
cmp_ok(scalar @blocks, '>', 20, 'there are examples');
my $script = join '', map { "\\echo '---- " . ($_->[0] =~ s/'/''/gr) . "'\n$_->[1]\n" } @blocks;
my ($failed, $out, $err) = $node->psql('app', $script, on_error_stop => 1);
is($failed, 0, 'all examples run') or diag((split /^---- /m, $out)[-1], $err);
is(scalar(my @found = $out =~ /^---- /mg), scalar @blocks, 'to the last one');
is($node->safe_psql('app', 'SELECT kind FROM events'), 'start', 'and the row that they enqueue is there');
unlike($err, qr/WARNING/, 'none of them warns');

# what they have set is taken back
unlike(slurp_file($node->data_dir . '/postgresql.auto.conf'), qr/^[^#]/m, 'no setting is left');

# ---- the reasons

$node->safe_psql('app', 'CREATE EXTENSION persist_pipeline');
my $view = $node->safe_psql('app', "SELECT pg_get_viewdef('persist_pipeline_internal.persist_health_reasons'::regclass)");
my %codes = map { $_ => 1 } grep { !/^(?:fsync|full_page_writes|data_sync_retry|zero_damaged_pages)$/ } $view =~ /\('([a-z_]+)'::text,/g;
my %named = map { $_ => 1 } map { /`(\w+)`/g } $page =~ /^\*\*(`.*?`)\*\*:/mg;
cmp_ok(scalar keys %codes, '>', 10, 'there are reasons');
is_deeply([ sort keys %named ], [ sort keys %codes ], 'the page names each of them');

# ---- links

foreach my $link ($page =~ /\]\(([^)#]+)/g)
{
	ok(-e "$FindBin::RealBin/../../doc/$link", "$link is there");
}
$node->stop;
done_testing();
