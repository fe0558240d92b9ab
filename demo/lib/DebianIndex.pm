package DebianIndex;

# Reads the machine's package index: what apt knows of every package that could be
# installed.  Fields are missing, texts are long and have many lines, names are in
# all alphabets.

use strict;
use warnings;

use Encode qw(decode);

# What the index calls the columns of Tables.pm; all else goes into "other".
my %COLUMN = (
	'Package' => 'name',
	'Version' => 'version',
	'Architecture' => 'architecture',
	'Source' => 'source',
	'Section' => 'section',
	'Priority' => 'priority',
	'Multi-Arch' => 'multi_arch',
	'Essential' => 'essential',
	'Installed-Size' => 'installed_size',
	'Size' => 'size',
	'Homepage' => 'homepage',
	'Description' => 'description',
	'Tag' => 'tags',
	'SHA256' => 'sha256',
);

# How a column is made of a field's text.
my %CONVERT = (
	essential => sub { $_[0] eq 'yes' ? 1 : 0 },
	tags => sub { [ split /\s*,\s*/, $_[0] ] },
	sha256 => sub {"\\x$_[0]"},
);

my @DEPENDENCIES = qw(Pre-Depends Depends Recommends);

# A hash for each maintainer: id, name, email, and packages: their columns, each
# with a list of dependencies.  Up to that many dependencies in all.  Returns also
# how many there are.  Calls "tick" now and then, with the number of packages.
sub read_index
{
	my ($max_dependencies, $tick) = @_;
	my (%maintainers, %seen);
	my ($ids, $kept, $all) = (0, 0, 0);

	open my $index, '-|', 'apt-cache', 'dumpavail' or die "apt-cache: $!\n";
	local $/ = '';
	while (my $stanza = <$index>)
	{
		$stanza =~ s/\n+\z//;
		$stanza = decode('UTF-8', $stanza);
		my %fields = $stanza =~ /^([A-Za-z0-9-]+):[ \t]*(.*(?:\n[ \t].*)*)/mg;

		# the same package can be had from several places
		next if !defined $fields{Package};
		next if $seen{join ' ', map { $_ // '' } @fields{qw(Package Version Architecture)}}++;

		my $address = $fields{'Original-Maintainer'} // $fields{Maintainer} // '';
		my $maintainer = $maintainers{$address} //=
			{id => scalar(keys %maintainers) + 1, person($address), packages => []};
		my @dependencies = dependencies(\%fields);

		$all += @dependencies;
		splice @dependencies, $max_dependencies - $kept
			if $kept + @dependencies > $max_dependencies;
		$kept += @dependencies;
		push @{$maintainer->{packages}},
			package_of(++$ids, $maintainer->{id}, $stanza, \%fields, \@dependencies);
		$tick->($ids) if $ids % 1000 == 0;
	}
	close $index or die "apt-cache dumpavail failed\n";
	die "apt has no package index: run apt-get update\n" if $ids == 0;

	return ([ sort { $a->{id} <=> $b->{id} } values %maintainers ], $all);
}

# "Name <address>", or one of them
sub person
{
	my ($address) = @_;

	return $address =~ /^\s*"?(.*?)"?\s*<(.*)>/
		? (name => $1, email => $2)
		: (name => $address);
}

sub package_of
{
	my ($id, $maintainer, $stanza, $fields, $dependencies) = @_;
	my %package = (
		id => $id,
		maintainer => $maintainer,
		record => $stanza,
		dependencies => $dependencies);

	while (my ($field, $text) = each %$fields)
	{
		my $column = $COLUMN{$field};

		if (!defined $column)
		{
			$package{other}{$field} = $text;
			next;
		}
		$package{$column} = $CONVERT{$column} ? $CONVERT{$column}->($text) : $text;
	}
	$_->{package} = $id for @$dependencies;
	return \%package;
}

# "a (>= 1) | b:any, c" is a list of lists
sub dependencies
{
	my ($fields) = @_;
	my @all;

	for my $kind (grep { defined $fields->{$_} } @DEPENDENCIES)
	{
		my $position = 0;

		for my $group (split /\s*,\s*/, $fields->{$kind})
		{
			my $alternative = 0;

			$position++;
			for my $text (split /\s*\|\s*/, $group)
			{
				my ($name, $relation, $version) =
					$text =~ /^(\S+)(?:\s*\(\s*([<>=]+)\s*([^)]*?)\s*\))?/ or next;

				push @all, {
					kind => $kind,
					position => $position,
					alternative => ++$alternative,
					name => $name,
					relation => $relation,
					version => $version,
				};
			}
		}
	}
	return @all;
}

1;
