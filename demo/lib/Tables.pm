package Tables;

# The three tables: how they are made, and how a row is handed over.

use strict;
use warnings;

use JSON::XS;

# Columns are [name, type, constraint]; a key is a list of columns.  Every table
# has one more column, which gets its default.  The indexes are those that a site
# which shows packages would need.
our @TABLES = (
	{
		name => 'maintainers',
		key => [qw(id)],
		columns => [
			[ id => 'integer' ],
			[ name => 'text', 'NOT NULL' ],
			[ email => 'text' ],
		],
	},
	{
		name => 'packages',
		key => [qw(id)],
		also => ['UNIQUE (name, version, architecture)'],
		indexes => [
			'(maintainer)',
			'(source)',
			'USING gin (tags)',
			q{USING gin (to_tsvector('english', description))},
		],
		columns => [
			[ id => 'integer' ],
			[ maintainer => 'integer', 'NOT NULL REFERENCES SCHEMA.maintainers' ],
			[ name => 'text', 'NOT NULL' ],
			[ version => 'text', 'NOT NULL' ],
			[ architecture => 'text', 'NOT NULL' ],
			[ source => 'text' ],
			[ section => 'text' ],
			[ priority => 'text' ],
			[ multi_arch => 'text' ],
			[ essential => 'boolean' ],
			[ installed_size => 'bigint' ],
			[ size => 'bigint' ],
			[ homepage => 'text' ],
			[ description => 'text' ],
			[ tags => 'text[]' ],
			[ sha256 => 'bytea' ],
			[ other => 'jsonb' ],
			[ record => 'text', 'NOT NULL' ],
		],
	},
	{
		name => 'dependencies',
		key => [qw(package kind position alternative)],
		indexes => ['(name)'],
		columns => [
			[ package => 'integer', 'REFERENCES SCHEMA.packages' ],
			[ kind => 'text' ],
			[ position => 'smallint' ],
			[ alternative => 'smallint' ],
			[ name => 'text', 'NOT NULL' ],
			[ relation => 'text' ],
			[ version => 'text' ],
		],
	},
);

my $json = JSON::XS->new->canonical;

# Make the tables in a schema of their own.  Without keys and indexes, a row could
# be in one of them twice.
sub create
{
	my ($dbh, $schema, %options) = @_;

	$dbh->do("CREATE SCHEMA $schema");
	for my $table (@TABLES)
	{
		my $name = "$schema.$table->{name}";
		my @parts = map {
			my ($column, $type, $constraint) = @$_;
			join ' ', $column, $type, $options{keys} ? $constraint // () : ();
		} @{$table->{columns}};

		push @parts, 'loaded_at timestamptz NOT NULL DEFAULT clock_timestamp()';
		push @parts, 'PRIMARY KEY (' . join(', ', @{$table->{key}}) . ')',
			@{$table->{also} // []}
			if $options{keys};
		$dbh->do("CREATE TABLE $name (" . (join(', ', @parts) =~ s/SCHEMA/$schema/gr) . ')');
		next if !$options{keys};
		$dbh->do("CREATE INDEX ON $name $_") for @{$table->{indexes} // []};
	}
	return;
}

# What JSON makes of a value of this type.
my %AS_JSON = (
	integer => sub { $_[0] + 0 },
	smallint => sub { $_[0] + 0 },
	bigint => sub { $_[0] + 0 },
	boolean => sub { $_[0] ? \1 : \0 },
);

# The row as a JSON object; what is missing stays missing.
sub item
{
	my ($table, $row) = @_;
	my %object;

	for my $column (@{$table->{columns}})
	{
		my ($name, $type) = @$column;
		my $value = $row->{$name};

		$object{$name} = $AS_JSON{$type} ? $AS_JSON{$type}->($value) : $value
			if defined $value;
	}
	return $json->encode(\%object);
}

# A text that two equal values have in common, one from a row, one from the server.
sub comparable
{
	my ($type, $value) = @_;

	return undef if !defined $value;
	return $value ? 'true' : 'false' if $type eq 'boolean';
	return $json->encode(ref $value ? $value : $json->decode($value))
		if $type eq 'jsonb' || $type eq 'text[]';
	return $value;
}

1;
