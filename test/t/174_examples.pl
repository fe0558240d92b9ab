
# README.md and doc/: all their examples run, in the order of the page, and print what is said there;
# each page has a database of its own, which begins as doc/README.md says, or as the page itself does.
# What links point to is there.  Pages that are named as arguments are run alone.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Examples;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $tree = "$FindBin::RealBin/../..";
my @pages = @ARGV ? @ARGV : pages_of($tree);

# These say how to begin, without the library.
my %from_the_beginning = map { $_ => 1 } qw(README.md doc/tutorial.md doc/operating.md);

chdir $tree or die "$tree: $!";
my $node = examples_node();
my @beginning = read_page('doc/README.md');
my ($run, $not_run, $with) = (0, 0, 0);

foreach my $page (@pages)
{
	my @blocks = read_page($page);
	my @examples = grep { $_->{language} ne 'text' } @blocks;

	is_deeply([ map { "$page:$_->{line} $_->{language}" } grep { $_->{language} !~ /^(?:sql|sh|conf|text)$/ } @blocks ],
		[], "$page: what its blocks are");
	next if !@examples;

	start_page($node, $from_the_beginning{$page} ? 'plpgsql' : undef);
	if (!$from_the_beginning{$page} && $page ne 'doc/README.md')
	{
		run_example($node, "$page, beginning", $_) foreach @beginning;
	}
	foreach my $example (@examples)
	{
		if (defined $example->{'not run'})
		{
			$not_run++;
			next;
		}
		run_example($node, $page, $example);
		$run++;
	}
	$with++;

	# what was preloaded still is, and the page that takes the extension out leaves no setting of it
	is($node->safe_psql('postgres', 'SHOW shared_preload_libraries'), 'plpgsql, persist_pipeline', "$page: what was preloaded before still is")
	  if $page eq 'README.md' || $page eq 'doc/tutorial.md';
	is($node->safe_psql('postgres', "SELECT name, setting FROM pg_file_settings WHERE sourcefile ~ 'auto.conf'"),
		'shared_preload_libraries|plpgsql', "$page: no setting is left")
	  if $page eq 'doc/operating.md';
}
cmp_ok($not_run, '<', $run / 10, 'nearly all of them run') if !@ARGV;
diag("$run examples of $with pages run, $not_run not run");

$node->stop;

# ---- links

# The headings of a page, as GitHub names them.
sub anchors_of
{
	my ($page) = @_;
	my $text = slurp_file($page) =~ s/^```.*?^```$//gmsr;

	return map { (lc $_) =~ s/[^\w\- ]//gr =~ s/ /-/gr } $text =~ /^#+ +(.*?)\s*$/mg;
}

foreach my $page (pages_of('.'), 'SECURITY.md')
{
	my ($folder) = $page =~ m{^(.*/|)};
	my @missing;

	foreach my $link (slurp_file($page) =~ /\]\((?!https?:)([^)\s]+)\)/g)
	{
		my ($file, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $path = $file eq '' ? $page : "$folder$file";

		push @missing, $link if !-e $path || defined $anchor && !grep { $_ eq $anchor } anchors_of($path);
	}
	is_deeply(\@missing, [], "$page: what its links point to is there");
}
done_testing();
