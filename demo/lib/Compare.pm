package Compare;

# Compares a table with the rows that were read, one by one, column by column.

use strict;
use warnings;

use Tables;

use constant FETCH_ROWS => 5000;
use constant MAX_EXAMPLES => 5;

# "certain" rows have to be there exactly once, "possible" ones at most once, and
# no others.  Both are lists of [table, row]; all of one table are compared at a
# time.  Returns what was found: rows, values, lists of complaints, and which
# possible rows are there, by their address.  Calls "tick" now and then, with the number
# of rows.
sub compare
{
	my ($dbh, $schema, $certain, $possible, $tick) = @_;
	my %result = (rows => 0, values => 0, complaints => [], found => {}, tick => $tick);

	for my $table (@Tables::TABLES)
	{
		my %want;

		$want{key_of($table, $_->[1])} = {row => $_->[1], certain => 1, seen => 0}
			for grep { $_->[0] == $table } @$certain;
		$want{key_of($table, $_->[1])} = {row => $_->[1], certain => 0, seen => 0}
			for grep { $_->[0] == $table } @$possible;

		compare_rows($dbh, $schema, $table, \%want, \%result);
		for my $key (sort keys %want)
		{
			my $want = $want{$key};

			complain(\%result, "$schema.$table->{name} ($key) is missing")
				if $want->{certain} && $want->{seen} == 0;
			complain(\%result, "$schema.$table->{name} ($key) is there $want->{seen} times")
				if $want->{seen} > 1;
			$result{found}{$want->{row}} = 1 if !$want->{certain} && $want->{seen};
		}
	}
	return \%result;
}

sub key_of
{
	my ($table, $row) = @_;

	return join ', ', @$row{@{$table->{key}}};
}

sub complain
{
	my ($result, $text) = @_;

	push @{$result->{complaints}}, $text;
	return;
}

# See each row of the table.
sub compare_rows
{
	my ($dbh, $schema, $table, $want, $result) = @_;
	my @columns = @{$table->{columns}};
	my $list = join ', ', map { expression(@$_) } @columns;

	# a cursor: the client library would hold all of the rows in memory
	$dbh->begin_work;
	$dbh->do("DECLARE rows NO SCROLL CURSOR FOR SELECT $list FROM $schema.$table->{name}");
	my $fetch = $dbh->prepare('FETCH ' . FETCH_ROWS . ' FROM rows');
	while ($fetch->execute > 0)
	{
		while (my $values = $fetch->fetchrow_arrayref)
		{
			compare_row($schema, $table, $values, $want, $result);
		}
		$result->{tick}->($result->{rows});
	}
	$dbh->commit;
	return;
}

# As the driver shall fetch it.
sub expression
{
	my ($name, $type) = @_;

	return "$name\::text" if $type eq 'bytea';
	return "to_json($name)::text" if $type eq 'text[]';
	return $name;
}

sub compare_row
{
	my ($schema, $table, $values, $want, $result) = @_;
	my @columns = @{$table->{columns}};
	my %row;

	@row{map { $_->[0] } @columns} = @$values;
	my $key = key_of($table, \%row);
	my $source = $want->{$key};
	$result->{rows}++;
	if (!$source)
	{
		complain($result, "$schema.$table->{name} ($key) should not be there");
		return;
	}
	$source->{seen}++;

	for my $column (@columns)
	{
		my ($name, $type) = @$column;
		my $is = Tables::comparable($type, $row{$name});
		my $should = Tables::comparable($type, $source->{row}{$name});

		$result->{values}++;
		next if defined $is ? defined $should && $is eq $should : !defined $should;
		complain($result, "$schema.$table->{name} ($key): column $name differs");
	}
	return;
}

# The first few complaints.
sub examples
{
	my ($result) = @_;
	my @complaints = @{$result->{complaints}};
	my $more = @complaints - MAX_EXAMPLES;

	return @complaints if $more <= 0;
	return (@complaints[0 .. MAX_EXAMPLES - 1], "and $more more");
}

1;
