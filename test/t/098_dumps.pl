
# What persist_configure() has said goes along with a dump, by the targets' names: also
# where some of the targets are left out, and where data alone are restored, once or
# twice, with triggers or without.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node('dumps');
my $dir = $node->basedir;
my $tables = q{
	CREATE EXTENSION persist_pipeline;
	CREATE SCHEMA other;
	CREATE TABLE kept (n int);
	CREATE TABLE gone (n int);
	CREATE TABLE "Kept, ""too""" (n int);
	CREATE TABLE other.t (n int);
};
my $settings_sql = "SELECT string_agg(concat_ws(' ', target, durability, bad_items, paused), ', ' ORDER BY target::text COLLATE \"C\") FROM persist_settings";
my $all = '"Kept, ""too""" auto error t, gone ring error f, kept journal dead f, other.t ring error f';

sub make_database
{
	my ($name, $sql) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, $sql) if $sql;
	return;
}

sub dump_ok
{
	my ($name, @options) = @_;

	$node->command_ok([ 'pg_dump', '-f', "$dir/$name", @options, $node->connstr('source') ], "$name: dumped");
	return;
}

sub restore_ok
{
	my ($database, $name, $what) = @_;

	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/$name", $node->connstr($database) ],
		"$what: restored without an error");
	return;
}

sub settings_are
{
	my ($database, $expected, $what) = @_;

	is($node->safe_psql($database, $settings_sql), $expected, "$what: these are the settings");
	return;
}

make_database('source', $tables . q{
	SELECT persist_configure('kept', 'journal', 'dead');
	SELECT persist_configure('gone', 'ring');
	SELECT persist_pause('"Kept, ""too"""');
	SELECT persist_configure('other.t', 'ring');
});
settings_are('source', $all, 'source');

# ---- without some of the targets

foreach my $how ([ 'plain' ], [ 'inserts', '--inserts' ], [ 'columns', '--column-inserts' ])
{
	my ($name, @options) = @$how;
	my $from = log_position($node);

	dump_ok($name, @options, '-T', 'gone', '-N', 'other');
	make_database($name);
	restore_ok($name, $name, $name);
	settings_are($name, '"Kept, ""too""" auto error t, kept journal dead f', $name);
	is_deeply([ sort map { m{(42P01 WARNING:  relation \S+ does not exist)} } log_since($node, $from, qr/42P01 WARNING/) ],
		[ map { "42P01 WARNING:  relation $_ does not exist" } 'other.t', 'public.gone' ], "$name: what is missing is told");
}
# all that can be configured

$node->safe_psql('source', q{
	CREATE TABLE other.all_of_it (k int PRIMARY KEY, n int, "N ""m""" int);
	SELECT persist_configure('other.all_of_it', unknown_keys => 'ignore', on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n,"N \"m\""}', flush_interval => '15 ms', capture_settings => '{app.tenant}');
});
dump_ok('all');
make_database('all_of_it');
restore_ok('all_of_it', 'all', 'all of it');
my $all_of_it = q{SELECT to_jsonb(s) - 'target' FROM persist_settings AS s WHERE target = 'other.all_of_it'::regclass};
is($node->safe_psql('all_of_it', $all_of_it), $node->safe_psql('source', $all_of_it), 'all of it: as it was');
like($node->safe_psql('all_of_it', $all_of_it), qr/00:00:00\.015/, 'all of it: it was something');
$node->safe_psql('source', 'DROP TABLE other.all_of_it');

dump_ok('custom', '-Fc');
make_database('custom');
$node->command_ok([ 'pg_restore', '-l', '-f', "$dir/list", "$dir/custom" ], 'custom: its contents');
my $list = slurp_file("$dir/list");
$list =~ s/^(\d+; \d+ \d+ TABLE (?:DATA )?public gone )/;$1/mg;
unlink "$dir/list";
append_to_file("$dir/list", $list);
$node->command_ok([ 'pg_restore', '-e', '-L', "$dir/list", '-d', $node->connstr('custom'), "$dir/custom" ], 'custom: pg_restore without one of them');
settings_are('custom', $all =~ s/gone ring error f, //r, 'custom');

# ---- by several processes, for a role that is no superuser

$node->safe_psql('source', 'CREATE ROLE dumper LOGIN IN ROLE pg_read_all_data');
dump_ok('parallel', '-Fd', '-j', 2, '-U', 'dumper');
make_database('parallel');
$node->command_ok([ 'pg_restore', '-e', '-j', 2, '-d', $node->connstr('parallel'), "$dir/parallel" ], 'parallel: restored');
settings_are('parallel', $all, 'parallel');

# ---- data alone

make_database('twice', $tables);
dump_ok('data', '--data-only');
restore_ok('twice', 'data', "data, time $_") foreach 1 .. 2;
settings_are('twice', $all, 'data twice');

# without triggers, over what was there; a session that knows the target hears of it
my $dbh = connect_to($node, 'twice');

$dbh->do("SELECT persist_configure('kept', 'ring', 'error')");
is(try_sql($dbh, q{SELECT persist_enqueue('kept', '{"m": 1}')}), '42703', 'without triggers: the session knows the target');
dump_ok('bare', '--data-only', '--disable-triggers');
restore_ok('twice', 'bare', "without triggers, time $_") foreach 1 .. 2;
settings_are('twice', $all, 'without triggers twice');
is(try_sql($dbh, q{SELECT persist_enqueue('kept', '{"m": 1}')}), '00000', 'without triggers: its settings hold from then on');
$dbh->disconnect;

# the same where some of the targets are missing
make_database('bare', $tables . 'DROP TABLE gone');
my $bare = slurp_file("$dir/bare");
$bare =~ s/^ALTER TABLE public\.gone .*?;\n//mg;
$bare =~ s/^COPY public\.gone .*?\n\\\.\n//msg;
append_to_file("$dir/some", $bare);
restore_ok('bare', 'some', 'without triggers and one of the targets');
settings_are('bare', $all =~ s/gone ring error f, //r, 'without triggers and one of the targets');

is_deeply([ complaints($node, 0, qr/42P01 WARNING:  relation (?:public\.gone|other\.t) does not exist/, qr/42703 ERROR/) ],
	[], 'a clean log');
done_testing();
