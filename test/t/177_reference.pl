
# doc/reference: it names each function with its arguments, each view and column, each setting with its
# default, limits and when it takes effect, each option of persist_configure, each reason of
# persist_health(), and each error and message of src/; and nothing that isn't there.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $tree = "$FindBin::RealBin/../..";
my $node = pp_node('reference');

# These are the same.
sub same
{
	my ($there, $named, $what) = @_;
	my ($is, $should) = map { my %h = map { $_ => 1 } @$_; \%h } $named, $there;
	my @missing = grep { !$is->{$_} } sort keys %$should;
	my @wrong = grep { !$should->{$_} } sort keys %$is;

	cmp_ok(scalar keys %$should, '>', 4, "$what: there are some");
	is("@{[ map {qq(\n  $_)} @missing ]}", '', "$what: none is missing");
	is("@{[ map {qq(\n  $_)} @wrong ]}", '', "$what: all of them are there");
	return;
}

sub page
{
	my ($name) = @_;

	return slurp_file("$tree/doc/reference/$name.md");
}

sub lines_of
{
	my ($sql) = @_;

	return split /\n/, $node->safe_psql('postgres', $sql);
}

# ---- errors and messages

# The codes of errors, by their names in C.
sub sqlstates
{
	my $file = `pg_config --includedir-server` =~ s/\n//r . '/utils/errcodes.h';

	return { slurp_file($file) =~ /^#define (ERRCODE_\w+) MAKE_SQLSTATE\(('.','.','.','.','.')\)/mg };
}

# What is in parentheses, and where an argument of a call is a string.
my $in = qr/(?<in>\((?:[^()"']++|"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)'|(?&in))*+\))/;
my $string = qr/"(?:[^"\\]|\\.)*+"(?:\s*"(?:[^"\\]|\\.)*+")*+/;

# As the reference has it: what is filled in is an ellipsis.
sub as_shown
{
	my ($message) = @_;

	$message = join '', $message =~ /"((?:[^"\\]|\\.)*+)"/g;
	$message =~ s/\\"/"/g;
	return $message =~ s/%(?:\.\*|\.\d)?(?:ll|z)?[a-z]/…/gr =~ s/%%/%/gr;
}

# Each error as 'SQLSTATE message', each message as 'level message'.
my (%errors, %messages);
my $states = sqlstates();

sub add_error
{
	my ($message, $codes) = @_;
	my @names = map { $_ eq 'PP_DEAD_LETTERS_FULL' ? 'ERRCODE_CONFIGURATION_LIMIT_EXCEEDED' : $_ } $codes =~ /((?:ERRCODE|PP)_\w+)/g;

	$errors{"$_ $message"} = 1 foreach @names ? map { $states->{$_} =~ s/[',]//gr } @names : 'file';
	return;
}

foreach my $file (grep { !m{/faults\.c$} } glob "$tree/src/*/*.[ch]")
{
	my $source = slurp_file($file);

	while ($source =~ /\bereport\s*$in/g)
	{
		my $call = $+{in};
		my ($level) = $call =~ /^\(\s*(.*?),/s;
		my ($codes) = $call =~ /\berrcode\s*$in/;
		my @shown = map { as_shown($_) } $call =~ /\berrmsg(?:_plural|_internal)?\s*\(\s*($string)/g;

		next if $level =~ /DEBUG/;
		if ($level =~ /ERROR|FATAL/)
		{
			add_error($_, $codes // '') foreach @shown;
		}
		else
		{
			$messages{join(', ', sort $level =~ /[A-Z]{3,}/g) . " $_"} = 1 foreach @shown;
		}
	}
	add_error(as_shown($2), $1) while $source =~ /\bpp_error\(([^";]*?)($string)/g;
}

my $errors = page('errors');
my @rows = $errors =~ /^\| *([\w, ]+?) *\| `([^`]+)` \| [A-Z0-9`].*\|$/mg;
my (@errors, @messages);
while (my ($what, $message) = splice @rows, 0, 2)
{
	push @{ $what =~ /^[A-Z, ]{3,}$/ ? \@messages : \@errors }, "$what $message";
}

same([ keys %errors ], \@errors, 'errors');
same([ keys %messages ], \@messages, 'messages');

# ---- functions

my $functions = page('functions');
my @signatures = lines_of(q{
	SELECT format('%s(%s) → %s', proname, regexp_replace(pg_get_function_arguments(p.oid), '::\w+(\[])?', '', 'g'), pg_get_function_result(p.oid))
	FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	WHERE p.pronamespace = 'public'::regnamespace});
my @named = $functions =~ /^### `(persist_\w+\(.*)`$/mg;
same(\@signatures, \@named, 'functions');

my @options = lines_of(q{
	SELECT unnest(proargnames) FROM pg_proc WHERE proname = 'persist_configure' EXCEPT SELECT 'target'});
same(\@options, [ $functions =~ /^### `persist_configure.*?^\| option(.*?)^$/ms ? "$1" =~ /^\| `(\w+)` \|/mg : () ], 'options of persist_configure');

# Each error that a function's comment names, unless the page says "those of" another function.
foreach my $line (lines_of(q{
	SELECT format('%s(%s) → %s', proname, regexp_replace(pg_get_function_arguments(p.oid), '::\w+(\[])?', '', 'g'), pg_get_function_result(p.oid)),
		   regexp_replace(obj_description(p.oid, 'pg_proc'), '.*Errors[ \w]*:', '') FROM pg_proc AS p
	WHERE p.pronamespace = 'public'::regnamespace AND obj_description(p.oid, 'pg_proc') ~ 'Errors'}))
{
	my ($signature, $comment) = split /\|/, $line;
	my ($section) = $functions =~ /^### `\Q$signature\E`\n(.*?)(?=^##|\z)/ms or next;
	my @missing = grep { $section !~ /\b$_\b|[Tt]hose (?:of|above)|as for|The same/ } $comment =~ /\b(\d\w{4}|XX\d{3})\b/g;

	is("@missing", '', "$signature: its errors are in the reference");
}

# ---- views

my $views = page('views');
my @columns = split /\n(?=persist_\w+\t)/, $node->safe_psql('postgres', q{
	SELECT concat_ws(E'\t', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum))
	FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('v', 'r')});
my (%commented, @shown);

foreach (@columns)
{
	my ($view, $column, $type, $comment) = split /\t/;

	$_ = "$view $column $type";
	$commented{$_} = $comment if defined $comment;
}
foreach my $section (split /^(?=## )/m, $views)
{
	my ($view) = $section =~ /^## (persist_\w+)/ or next;

	while ($section =~ /^\| `(\w+)` \| ([^|]+) \| (.*) \|$/mg)
	{
		next if "$1" =~ /^persist_pipeline_/;
		push @shown, "$view $1 $2";
		is($3, $commented{"$view $1 $2"}, "$view.$1: what its comment says") if defined $commented{"$view $1 $2"};
	}
}
same(\@columns, \@shown, 'views');

my $metrics = $node->safe_psql('postgres', "SELECT pg_get_viewdef('persist_metrics'::regclass)");
my $text = qr/'((?:[^']|'')*)'::text/;
same(
	[ map { s/''/'/gr } map { "persist_pipeline_$_" } do
		{
			my @found;

			push @found, join ' ', map { $_ // '' } $1, $2, $4, $5 while $metrics =~ /\($text, *$text, *(NULL::text|$text), *$text\)/g;
			@found;
		} ],
	[ map { s/` \|| \|//gr } $views =~ /^\| `(persist_pipeline_\w+` \| \w+ \| \w* \| .*) \|$/mg ], 'metrics');

# ---- the reasons that persist_health() may give

my $reasons = $node->safe_psql('postgres', "SELECT pg_get_viewdef('persist_pipeline_internal.persist_health_reasons'::regclass)");
my @codes = grep { !/^(?:fsync|full_page_writes|data_sync_retry|zero_damaged_pages)$/ } $reasons =~ /\('([a-z_]+)'::text,/g;
my ($health) = $views =~ /^## Health\n(.*?)^## /ms;

same(\@codes, [ $health =~ /^\| `(\w+)` \|/mg ], 'reasons');
same(\@codes, [ map { /`(\w+)`/g } slurp_file("$tree/doc/operating.md") =~ /^\*\*(`.*?`)\*\*:/mg ], 'reasons in doc/operating.md');

# ---- settings

my @settings = lines_of(q{
	SELECT concat_ws(' | ', '`' || substr(name, 18) || '`', vartype,
		CASE name WHEN 'persist_pipeline.stateless_libraries' THEN 'plpgsql and others' ELSE current_setting(name) END,
		CASE WHEN min_val IS NULL THEN coalesce(array_to_string(enumvals, ', '), '')
			 WHEN max_val = '2147483647' THEN concat_ws(' ', min_val, unit, 'or more')
			 ELSE concat(min_val, ' to ', max_val) END,
		CASE context WHEN 'postmaster' THEN 'restart' WHEN 'sighup' THEN 'reload'
			 WHEN 'superuser' THEN 'reload, or SET by a superuser' WHEN 'user' THEN 'SET' END)
	FROM pg_settings WHERE name LIKE 'persist_pipeline.%'});
my $page = page('settings');
same(\@settings, [ $page =~ /^\| (`\w+` \| \w+ \| .*? \| .*? \| .*?) \| /mg ], 'settings');
is(($page =~ /^The default of `stateless_libraries`: (.*)\.$/m)[0],
	$node->safe_psql('postgres', 'SHOW persist_pipeline.stateless_libraries'), 'and the longest of their defaults');
$node->stop;
done_testing();
