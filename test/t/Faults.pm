
=pod

=head1 NAME

Faults - a server whose library has the fault points of src/base/faults.h, and what happens there.

The library is built, once for all tests of a run, and put into a copy of the installation: links
to all files of that one, but for the library, and for postgres and pg_ctl, which find the others
from where they are themselves.  So nothing that is installed changes, and SQL functions and
processes all have the one library.

It has two more versions of the extension, 1.0served and 1.0unserved, with scripts from 1.0 and
back, and the library serves the first of them.

=cut

package Faults;

use strict;
use warnings;

use Exporter 'import';
use File::Basename qw(basename dirname);
use File::Copy 'copy';
use File::Glob ':bsd_glob';
use File::Path 'make_path';
use FindBin;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(with_faults ask_fault wait_for_fault end_fault);

my $root;    # of the copy

# In the directory that has this path in the copy: a link to each of its files.
sub link_files
{
	my ($directory) = @_;

	make_path("$root$directory");
	symlink $_, "$root$directory/" . basename($_) foreach glob "$directory/*";
	return;
}

# An extension's new version has a new object, and another view.
sub put_versions
{
	my ($directory) = @_;

	unlink "$root$directory" or die "$directory: $!";    # a link
	link_files($directory);
	foreach my $version ('1.0served', '1.0unserved')
	{
		append_to_file("$root$directory/persist_pipeline--1.0--$version.sql",
			"CREATE FUNCTION persist_version() RETURNS text LANGUAGE sql AS 'SELECT ''$version''';\n"
			  . 'CREATE OR REPLACE VIEW persist_parked AS SELECT target, role, pos, part, parked_at, misfit_since, alone, 1 AS new FROM persist_pipeline_internal.persist_parked;');
		append_to_file("$root$directory/persist_pipeline--$version--1.0.sql",
			"DROP FUNCTION persist_version(); DROP VIEW persist_parked;\n"
			  . 'CREATE VIEW persist_parked AS SELECT target, role, pos, part, parked_at, misfit_since, alone FROM persist_pipeline_internal.persist_parked;');
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
	$extension =~ s/(served_versions\[\] = \{)"1\.0"/$1"1.0served", "1.0"/ or die 'the library serves other versions';
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
