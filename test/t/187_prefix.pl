
# "make install prefix=..." puts the extension into a place of its own, and a server finds all of it
# there: extension_control_path and dynamic_library_path, from 18 on.  Those of the workers, too.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
my ($major) = `'$pg_config' --version` =~ /(\d+)/;
plan skip_all => "PostgreSQL $major has no extension_control_path: 18 has" if $major < 18;

my $prefix = PostgreSQL::Test::Utils::tempdir;
{
	# what prove was told isn't for this make
	local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)};
	delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)};
	my $output = `make -s -C '$FindBin::RealBin/../..' install prefix='$prefix' PG_CONFIG='$pg_config' 2>&1`;
	is($?, 0, 'make install prefix=...') or diag($output);
}
my @there = map { s{^\Q$prefix\E/}{}r } grep { -f } glob "$prefix/{bin,lib,share/extension}/*";
is("@there", join(' ', 'bin/persist_healthcheck', 'lib/persist_pipeline.so', sort grep { m{^share/} } @there), 'the program and the library are there');
ok(-f "$prefix/share/extension/persist_pipeline.control", 'and the control file');

# no other place is looked at for the extension
my $node = pp_node('prefix',
	extension_control_path => "'$prefix/share'",
	dynamic_library_path => "'$prefix/lib'");

sub library_of
{
	my ($pid) = @_;

	open my $maps, '<', "/proc/$pid/maps" or die "/proc/$pid/maps: $!";
	my %paths = map { m{(/\S*persist_pipeline\.so)} ? ($1 => 1) : () } <$maps>;
	return join ' ', keys %paths;
}

$node->safe_psql('postgres', 'CREATE TABLE t (n int)');
is($node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 1}') > 0}), 't', 'a call');
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', 'SELECT n FROM t'), '1', 'the row is there');
is(library_of(launcher_pid($node)), "$prefix/lib/persist_pipeline.so", 'the launcher has the library of that place');
is(library_of(worker_pid($node)), "$prefix/lib/persist_pipeline.so", 'and the worker');

$node->restart;
$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 2}')});
ok(flush($node), 'after a restart, too');
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), '2', 'the rows are there');
$node->stop;
done_testing();
