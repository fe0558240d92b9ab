
=pod

=head1 NAME

Faults - a server whose library has the fault points of src/base/faults.h, and what happens there.

The library is built, once for all tests of a run, and put into a copy of the installation: links
to all files of that one, but for the library, and for postgres and pg_ctl, which find the others
from where they are themselves.  So nothing that is installed changes, and SQL functions and
processes all have the one library.

It has two more versions of the extension, that of today (C<$version_now>) with "served" and
"unserved" behind it, with scripts from today's and back, and the library serves the first of them.

=cut

package Faults;

use strict;
use warnings;

use Exporter 'import';
use Fcntl ':flock';
use File::Basename qw(basename dirname);
use File::Copy 'copy';
use File::Glob ':bsd_glob';
use File::Path 'make_path';
use FindBin;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw($version_now with_faults ask_fault wait_for_fault end_fault);

my $root;    # of the copy
our ($version_now) = slurp_file("$FindBin::RealBin/../../persist_pipeline.control") =~ /default_version = '(.+)'/;

# In the directory that has this path in the copy: a link to each of its files.
sub link_files
{
	my ($directory) = @_;

	make_path("$root$directory");
	symlink $_, "$root$directory/" . basename($_) foreach glob "$directory/*";
	return;
}

# A new version has another object, and another of its own tables, for which nobody may use that.
sub put_versions
{
	my ($directory) = @_;
	my $change = 'ALTER TABLE persist_pipeline_internal.persist_journal_1 ALTER data SET STORAGE';

	unlink "$root$directory" or die "$directory: $!";    # a link
	link_files($directory);
	foreach my $version ("${version_now}served", "${version_now}unserved")
	{
		append_to_file("$root$directory/persist_pipeline--$version_now--$version.sql", "$change EXTERNAL; CREATE FUNCTION persist_new() RETURNS int LANGUAGE sql AS 'SELECT 1';\n");
		append_to_file("$root$directory/persist_pipeline--$version--$version_now.sql", "$change PLAIN; DROP FUNCTION persist_new();\n");
	}
	return;
}

# Instead of the link, this file itself
sub put_file
{
	my ($file, $into) = @_;
	my $copy = "$root$into/" . basename($file);

	unlink $copy;
	copy($file, $copy) or die "$copy: $!";
	chmod 0755, $copy;
	return;
}

# Not optimized, which takes two thirds of the time.
sub build
{
	my $source = "$FindBin::RealBin/../..";
	local $ENV{MAKEFLAGS} = '';

	foreach my $file (glob "$source/{Makefile,*.control,src/files.mk,src/*/*.[ch]}")
	{
		my $copy = "$root/build/" . substr $file, length "$source/";

		make_path(dirname($copy));
		copy($file, $copy) or die "$copy: $!";
	}
	my $extension = slurp_file("$root/build/src/base/extension.c");
	$extension =~ s/(served_versions\[\] = \{)/$1"${version_now}served", / or die 'the library serves other versions';
	unlink "$root/build/src/base/extension.c";
	append_to_file("$root/build/src/base/extension.c", $extension);
	system_or_bail('make', '-s', '-j2', '-C', "$root/build", 'PG_CONFIG=pg_config',
		'PP_FAULTS=1', 'COPT=-O0', 'with_llvm=no', 'persist_pipeline.so');
	return "$root/build/persist_pipeline.so";
}

# Settings of pp_node() for a server that has fault points.
sub with_faults
{
	$root = "$PostgreSQL::Test::Utils::tmp_check/faults";    # which is known by now
	my ($bin, $lib, $share) = map { `pg_config --$_` =~ /(.*)/ } qw(bindir pkglibdir sharedir);

	# of tests that run at once, one makes it, and the others wait for that
	open my $lock, '>', "$root.lock" or die "$root.lock: $!";
	flock $lock, LOCK_EX or die "$root.lock: $!";
	if (!-e "$root/done")
	{
		link_files($_) foreach $bin, $lib, $share;
		put_versions("$share/extension");
		put_file("$bin/$_", $bin) foreach 'postgres', 'pg_ctl';
		put_file(build(), $lib);
		append_to_file("$root/done", '');
	}
	return (install_path => $root . dirname($bin));
}

# This happens to the next one that comes there: wait, hang, error, crash.
sub ask_fault
{
	my ($node, $fault, $action) = @_;
	my $directory = $node->data_dir . '/pp_faults';

	end_fault($node, $fault);    # what is left of the last time
	mkdir $directory;
	append_to_file("$directory/.$fault", $action || 'wait');
	rename "$directory/.$fault", "$directory/$fault" or die "$fault: $!";
	return;
}

# Wait until it has happened; to the process with this pid.
sub wait_for_fault
{
	my ($node, $fault) = @_;

	return wait_until("somebody comes to $fault", sub { (glob $node->data_dir . "/pp_faults/$fault.*")[0] }) =~ s/.*\.//r;
}

# Who waits there goes on, and nobody else is to.
sub end_fault
{
	my ($node, $fault) = @_;

	unlink glob $node->data_dir . "/pp_faults/{$fault,$fault.*}";
	return;
}

1;
