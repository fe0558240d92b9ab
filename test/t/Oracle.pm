
=pod

=head1 NAME

Oracle - for 182 and 183: what a seed makes of tables, and of a program of transactions that
enqueue for them; what the pipeline makes of that, and what plain INSERTs make of it, one row
after the other in the order of the commits.

Each table is there twice: in schema C<pipeline>, and in schema C<oracle>.  Both have the same
names, constraints, triggers and policies, so that errors read alike.  The oracle inserts a row
as its role, in a transaction of its own, with ON CONFLICT where the target has C<on_conflict>,
and with what the call has decided: the number that it took from a sequence, its time.

More may be accepted than one by one, or something else, in some ways that are documented.  A
program with an even seed avoids them (it is I<exact>):

=over

=item * a foreign key refers to rows that come before, or to none that ever comes;

=item * two roles claim no key, no range and no place in a group that both could get;

=item * what is deferred can't be mended by an update;

=item * no trigger sees a statement, or what an AFTER trigger sees of the whole batch.

=back

With an odd seed there are all of these, and rows that others have locked; but nothing that could
be refused because more than the oracle's rows have been accepted, or since another role's update
of another row comes later.  So of each table at least as
many have to be accepted.

=cut

package Oracle;

use strict;
use warnings;

use Exporter 'import';
use List::Util qw(first max min);
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(oracle_node scenario play differences shrink describe);

use constant {
	NEVER => 900,      # keys from this number on are in no table
	ALL_ROLES => 9,    # whose keys any role takes
};

my @roles = qw(anna ben cleo);

# ---- chance

sub chance { return rand() < $_[0]; }
sub one_of { return $_[ rand @_ ]; }

# ---- columns

# Of each type a few values, as JSON.
my %values = (
	'int' => [qw(-7 0 1 2 3 100)],
	'bigint' => [qw(-1 0 5 9000000000)],
	'numeric' => [qw(0 1.5 -2.25 1.50 100000000000000000000.001)],
	'numeric(8,2)' => [qw(0 1.5 -2.25 3.333 99.999)],
	'float8' => [qw(0 0.1 -2.5 1e100 "NaN")],
	'bool' => [qw(true false)],
	'text' => [ '""', '"a"', '"Erik Satie"', '"O\'Hara, \\"x\\" \\\\"', '"ü€"' ],
	'varchar(6)' => [qw("" "a" "abcdef")],
	'char(4)' => [qw("a" "ab" "abcd")],
	'date' => [qw("2024-02-29" "1999-12-31" "infinity")],
	'timestamptz' => [ '"2024-02-29 12:00:00+00"', '"1999-12-31 23:59:59.999+02"' ],
	'interval' => [ '"1 day"', '"-2 hours"' ],
	'uuid' => ['"6d1a51c6-0000-4000-8000-000000000001"'],
	'bytea' => [ '"\\\\x"', '"\\\\x00ff"' ],
	'jsonb' => [ '{"a": [1, null]}', '[]', '"text"', '17' ],
	'int[]' => [ '[]', '[1, 2, null]', '[[1, 2], [3, 4]]' ],
	'text[]' => [ '["a", "b c", null]', '[]' ],
	'int4multirange' => [ '"{[1,3),[5,9)}"', '"{}"' ],
	'inet' => [qw("10.0.0.1" "::1/64")],
	'@.mood' => [qw("calm" "slow")],
	'@.positive' => [qw(1 2 30)],
	'@.pair' => [ '{"a": 1, "b": "x"}', '{"b": null}' ]);

# What is no value of the type
my %misfits = (
	'int' => [qw("x" 9000000000 1.5)],
	'bigint' => ['"12 monkeys"'],
	'numeric(8,2)' => [qw(10000000)],
	'float8' => ['"1e"'],
	'bool' => ['"maybe"'],
	'varchar(6)' => ['"abcdefg"'],
	'char(4)' => ['"abcde"'],
	'date' => ['"2023-02-29"'],
	'uuid' => ['"6d1a51c6"'],
	'int[]' => ['"{1"'],
	'@.mood' => ['"angry"'],
	'@.positive' => [qw(-1)],
	'@.pair' => ['{"a": "x"}']);

my %defaults = (
	'int' => '40 + 2',
	'numeric(8,2)' => '0.125',
	'text' => 'current_user',
	'bool' => 'false',
	'varchar(6)' => q{'deflt'},
	'@.mood' => q{'calm'},
	'int[]' => 'ARRAY[1]',
	'jsonb' => q{'{}'});

# Words that make a row bad, where a table has what refuses them
my @refusals = qw(checked refused late deferred secret);

# The i-th key of a role: one key may be written in several ways.
my %keys = (
	'int' => sub { return $_[0] * 10 + $_[1]; },
	'bigint' => sub { return 5000000000 + $_[0] * 10 + $_[1]; },
	'numeric' => sub { return $_[0] * 10 + $_[1] . one_of('', '.0', '.00'); },
	'text' => sub { return qq("key $_[0] of $_[1]"); },
	'varchar(20)' => sub { return qq("$_[0]/$_[1]"); },
	'char(8)' => sub { return qq("$_[0]/$_[1]) . one_of('', ' ') . '"'; },
	'date' => sub { return sprintf '"2%03d-01-%02d"', $_[0], 1 + $_[1]; },
	'uuid' => sub { return sprintf '"00000000-0000-0000-%04d-%012d"', $_[1], $_[0]; });

# ---- tables

sub column
{
	my ($table, %column) = @_;

	push @{ $table->{columns} }, \%column;
	return;
}

sub add_key
{
	my ($s, $table) = @_;

	$table->{key_type} = one_of(sort keys %keys);
	column($table, name => 'k', type => $table->{key_type}, role => 'key');
	$table->{partitions} = chance(0.25) ? one_of('list', 'hash') : '';
	$table->{second} = $table->{partitions} eq 'list' || chance(0.15);
	column($table, name => 'k2', type => 'text', role => 'second') if $table->{second};
	$table->{key} = $table->{second} ? [qw(k k2)] : ['k'];

	# may more be accepted, so that anything could be refused that isn't with the oracle?
	$table->{loose} = !$s->{exact};
	return;
}

# To a table before this one, or itself; each to its own
sub add_foreign_keys
{
	my ($s, $table, @tables) = @_;

	foreach my $number (1 .. one_of(0, 0, 1, 1, 2))
	{
		my $parent = one_of(@tables, $table);
		my @columns = map { "p$number$_" } '', $parent->{second} ? 'b' : ();
		my $deferred = chance(0.3);

		next if $parent->{is_unlogged} && !$table->{is_unlogged};
		column($table, name => $columns[0], type => $parent->{key_type}, role => 'foreign');
		column($table, name => $columns[1], type => 'text', role => 'foreign') if $parent->{second};
		push @{ $table->{foreign} }, { columns => \@columns, parent => $parent, deferred => $deferred };
		$parent->{is_parent} = 1;
		push @{ $table->{constraints} },
		  sprintf('FOREIGN KEY (%s) REFERENCES @.%s (%s)%s%s', join(', ', @columns), $parent->{name}, join(', ', @{ $parent->{key} }),
			chance(0.2) ? ' MATCH FULL' : '', $deferred ? ' DEFERRABLE INITIALLY DEFERRED' : '');
	}
	return;
}

sub add_values
{
	my ($s, $table) = @_;

	column($table, name => 'v', type => 'text', role => 'word');
	foreach my $number (1 .. 1 + int rand 4)
	{
		my $type = one_of(sort keys %values);
		my $default = $defaults{$type} && chance(0.5) ? $defaults{$type} : undef;

		column($table, name => "v$number", type => $type, role => 'value', default => $default,
			not_null => $default || chance(0.2));
	}
	column($table, name => 'added', type => one_of('int', 'bigint', 'numeric', 'numeric(8,2)', 'smallint'), role => 'number', not_null => chance(0.3), default => chance(0.5) ? 0 : undef);
	column($table, name => 'at', type => 'timestamptz', role => 'decided', default => 'now()', decided => 'now()') if chance(0.3);
	column($table, name => 'id', type => 'bigint', role => 'decided', decided => "currval(pg_get_serial_sequence('\@.$table->{name}', 'id'))",
		identity => one_of('ALWAYS', 'BY DEFAULT')) if chance(0.3) && !$table->{partitions};
	column($table, name => 'generated', type => 'text', role => 'none', generated => 'upper(v) || n') if chance(0.3);
	column($table, name => 'ins', type => 'bigint', role => 'none') if $table->{numbered};
	return;
}

sub trigger
{
	my ($table, $name, $when, $body, $end) = @_;

	push @{ $table->{after} },
	  "CREATE FUNCTION \@.$table->{name}_$name() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $body $end; END \$\$",
	  "CREATE "
	  . ($when =~ /DEFERRABLE/ ? 'CONSTRAINT ' : '')
	  . "TRIGGER $name "
	  . ($when =~ s/TABLE/\@.$table->{name}/r)
	  . " EXECUTE FUNCTION \@.$table->{name}_$name()";
	return;
}

sub refuse
{
	my ($word) = @_;
	my $state = one_of(qw(P0001 22023 23514 P0002 ZZ123 42501));

	return qq{IF NEW.v = '$word' THEN RAISE 'row % is $word', NEW.n USING ERRCODE = '$state'; END IF;};
}

sub add_triggers
{
	my ($s, $table) = @_;

	trigger($table, 'a_changes', 'BEFORE INSERT ON TABLE FOR EACH ROW', q{NEW.v := NEW.v || '!'; }, 'RETURN NEW') if chance(0.15);
	trigger($table, 'b_refuses', 'BEFORE INSERT ON TABLE FOR EACH ROW', refuse('refused'), 'RETURN NEW') if chance(0.25);
	if (chance(0.15))
	{
		$table->{skips} = 1;
		trigger($table, 'c_skips', 'BEFORE INSERT ON TABLE FOR EACH ROW', q{IF NEW.v = 'skipped' THEN RETURN NULL; END IF;}, 'RETURN NEW');
	}
	if (!$table->{loose} && chance(0.15))
	{
		trigger($table, 'd_counts', 'BEFORE INSERT ON TABLE FOR EACH ROW',
			qq{IF (SELECT count(*) FROM \@.$table->{name} AS t WHERE t.g = NEW.g AND t.who = NEW.who) >= 4 THEN RAISE 'group % is full', NEW.g; END IF;},
			'RETURN NEW');
	}
	trigger($table, 'e_numbers', 'BEFORE INSERT ON TABLE FOR EACH ROW', q{NEW.ins := nextval('@.ins');}, 'RETURN NEW') if $table->{numbered};
	trigger($table, 'f_lowers', 'BEFORE INSERT ON TABLE FOR EACH ROW', q{NEW.k := lower(NEW.k);}, 'RETURN NEW') if $table->{lowers};
	trigger($table, 'a_refuses_late', 'AFTER INSERT ON TABLE FOR EACH ROW', refuse('late'), 'RETURN NULL') if chance(0.2);
	trigger($table, 'b_logs', 'AFTER ' . one_of('INSERT', 'INSERT OR UPDATE') . ' ON TABLE FOR EACH ROW',
		q{INSERT INTO @.log VALUES (TG_TABLE_NAME, TG_OP, NEW.n, current_user);}, 'RETURN NULL') if chance(0.2);
	trigger($table, 'c_defers', 'AFTER INSERT ON TABLE DEFERRABLE INITIALLY DEFERRED FOR EACH ROW', refuse('deferred'), 'RETURN NULL')
	  if chance(0.2);
	trigger($table, 'u_changes', 'BEFORE UPDATE ON TABLE FOR EACH ROW', q{NEW.v := OLD.v || '+' || NEW.v; }, 'RETURN NEW') if chance(0.15);
	if ($table->{loose})
	{
		trigger($table, 's_before', 'BEFORE INSERT ON TABLE FOR EACH STATEMENT', 'NULL;', 'RETURN NULL') if chance(0.2);
		trigger($table, 's_sees', 'AFTER INSERT ON TABLE REFERENCING NEW TABLE AS news FOR EACH STATEMENT',
			q{IF EXISTS (SELECT FROM news WHERE v = 'late') THEN RAISE 'one is late'; END IF;}, 'RETURN NULL') if chance(0.3);
		trigger($table, 'd_sees', 'AFTER INSERT ON TABLE FOR EACH ROW',
			qq{IF (SELECT count(*) FROM \@.$table->{name} AS t WHERE t.g = NEW.g) > 8 THEN RAISE 'group % is full', NEW.g; END IF;}, 'RETURN NULL')
		  if chance(0.2) && !$table->{foreign} && !$table->{is_parent} && $table->{policy} ne 'update';
	}
	return;
}

sub add_policy
{
	my ($s, $table) = @_;

	$table->{conflict} = $table->{policy} eq 'nothing' && chance(0.5) ? [] : $table->{key};
	return if $table->{policy} eq 'error';

	my @settings = ("on_conflict => '$table->{policy}'", "conflict_columns => '{" . join(',', @{ $table->{conflict} }) . "}'");

	if ($table->{policy} eq 'update' && chance(0.6))
	{
		$table->{adds} = 1;
		push @settings, "add_columns => '{added}'";
	}
	push @{ $table->{settings} }, @settings;
	return;
}

# What refers to the key needs it at once.  With `update`, a key that is deferred could be mended
# by the next row.
sub constrain_key
{
	my ($s, $table) = @_;
	my $kind = one_of('PRIMARY KEY', 'UNIQUE', 'UNIQUE NULLS NOT DISTINCT');
	my $one_role = $table->{loose} || @{ $s->{roles} } == 1;    # or nobody minds

	$table->{lowers} = !$table->{is_parent} && $table->{key_type} =~ /^(?:text|varchar)/ && chance(0.3) && !$table->{partitions};
	$table->{key_deferred} = !$table->{is_parent} && chance(0.15);
	$table->{nulls} = !$table->{second} && ($kind eq 'UNIQUE' || ($kind =~ /NULLS/ && $one_role));
	push @{ $table->{constraints} },
	  "$kind (" . join(', ', @{ $table->{key} }) . ')' . ($table->{key_deferred} ? ' DEFERRABLE INITIALLY DEFERRED' : '');

	my $deferred = grep { $_->{deferred} } @{ $table->{foreign} || [] };

	$table->{policy} = one_of(qw(error error nothing update update));
	$table->{policy} = 'error' if $table->{key_deferred} || ($table->{policy} eq 'update' && $deferred);
	return;
}

# By which rows of different keys are in each other's way
sub add_other_keys
{
	my ($table) = @_;

	if (chance(0.2))
	{
		my $deferred = $table->{policy} eq 'error' && chance(0.3);

		column($table, name => 'during', type => 'int4range', role => 'range');
		push @{ $table->{constraints} }, 'EXCLUDE USING gist (during WITH &&)' . ($deferred ? ' DEFERRABLE INITIALLY DEFERRED' : '');
	}
	if (chance(0.25))
	{
		column($table, name => 'u', type => 'int', role => 'unique');
		push @{ $table->{after} }, "CREATE UNIQUE INDEX ON \@.$table->{name} " . one_of('(u)', '(u) WHERE u > 100', '((u / 2))');
	}
	return;
}

sub add_row_security
{
	my ($table) = @_;

	push @{ $table->{after} },
	  "ALTER TABLE \@.$table->{name} ENABLE ROW LEVEL SECURITY",
	  "CREATE POLICY sees ON \@.$table->{name} FOR SELECT USING (true)",
	  "CREATE POLICY takes ON \@.$table->{name} FOR INSERT WITH CHECK (v IS DISTINCT FROM 'secret')",
	  "CREATE POLICY changes ON \@.$table->{name} FOR UPDATE USING (true) WITH CHECK (v IS DISTINCT FROM 'secret')";
	return;
}

sub make_table
{
	my ($s, $number, @tables) = @_;
	my $table = { name => "t$number", constraints => [], after => [], settings => [], foreign => [] };

	$table->{numbered} = chance(0.3);
	column($table, name => 'n', type => 'int', role => 'number_of_item');
	column($table, name => 'g', type => 'int', role => 'group');
	column($table, name => 'who', type => 'text', role => 'who', default => 'current_user');
	add_key($s, $table);
	$table->{is_unlogged} = !$s->{crash} && !$table->{partitions} && chance(0.1);
	add_foreign_keys($s, $table, grep { !$_->{key_deferred} && !$_->{lowers} } @tables);
	delete $table->{foreign} if !@{ $table->{foreign} };
	add_values($s, $table);

	constrain_key($s, $table);
	add_other_keys($table) if !$table->{loose} && !$table->{partitions};
	push @{ $table->{constraints} }, "CONSTRAINT word CHECK (v <> 'checked')" if chance(0.5);
	add_triggers($s, $table);
	add_row_security($table) if chance(0.15);
	add_policy($s, $table);
	push @{ $table->{settings} }, "durability => '" . one_of($s->{crash} ? 'journal' : qw(journal ring)) . "'" if chance(0.3);
	if (chance(0.2))
	{
		$table->{dies_at_call} = 1;
		push @{ $table->{settings} }, "bad_items => 'dead'";
	}
	return $table;
}

sub create_table
{
	my ($table) = @_;
	my @columns;
	my @sql;

	foreach my $column (@{ $table->{columns} })
	{
		push @columns,
		  join ' ', $column->{name}, $column->{type},
		  $column->{identity} ? "GENERATED $column->{identity} AS IDENTITY"
		  : $column->{generated} ? "GENERATED ALWAYS AS ($column->{generated}) STORED"
		  : defined $column->{default} ? "DEFAULT $column->{default}"
		  : (), $column->{not_null} ? 'NOT NULL' : ();
	}
	push @sql,
	  sprintf "CREATE%s TABLE \@.%s (\n\t%s)%s",
	  $table->{is_unlogged} ? ' UNLOGGED' : '', $table->{name},
	  join(",\n\t", @columns, @{ $table->{constraints} }),
	  $table->{partitions} eq 'list' ? ' PARTITION BY LIST (k2)' : $table->{partitions} eq 'hash' ? ' PARTITION BY HASH (k)' : '';
	push @sql, map { "CREATE TABLE \@.$table->{name}_$_ PARTITION OF \@.$table->{name} FOR VALUES IN ('$_')" } qw(x y)
	  if $table->{partitions} eq 'list';
	push @sql, map { "CREATE TABLE \@.$table->{name}_$_ PARTITION OF \@.$table->{name} FOR VALUES WITH (MODULUS 3, REMAINDER $_)" } 0 .. 2
	  if $table->{partitions} eq 'hash';
	return @sql, @{ $table->{after} };
}

# @ stands for the schema.
sub make_schema
{
	my ($s) = @_;
	my $roles = join ', ', @roles;

	return (
		'CREATE SCHEMA @', "GRANT USAGE ON SCHEMA @ TO $roles",
		q{CREATE TYPE @.mood AS ENUM ('calm', 'slow')},
		'CREATE DOMAIN @.positive AS int CHECK (VALUE > 0)',
		'CREATE TYPE @.pair AS (a int, b text)',
		'CREATE SEQUENCE @.ins',
		'CREATE TABLE @.log (tab text, op text, n int, who text, number bigserial)',
		(map { create_table($_) } @{ $s->{tables} }),
		"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA @ TO $roles",
		"GRANT ALL ON ALL SEQUENCES IN SCHEMA @ TO $roles");
}

# ---- items

sub role_number
{
	my ($role) = @_;

	return first { $roles[$_] eq $role } 0 .. $#roles;
}

# A key: [number, role's number, second column]; all roles share some where that isn't exact.
sub new_key
{
	my ($s, $table, $role) = @_;
	my $owner = $table->{loose} && chance(0.5) ? ALL_ROLES : role_number($role);

	return [ ++$table->{last_key}, $owner, $table->{second} ? one_of(qw(x y)) : '' ];
}

sub name_of_key { return join '-', @{ $_[0] }; }

sub used_key
{
	my ($s, $table, $role) = @_;
	my @candidates = map { $table->{known}{$_} } sort keys %{ $table->{known} };

	@candidates = grep { $_->{key}[1] == role_number($role) || $_->{key}[1] == ALL_ROLES } @candidates;
	@candidates = grep { !$_->{referenced} } @candidates if $s->{exact};

	@candidates = @candidates[ max(0, @candidates - 8) .. $#candidates ];
	return @candidates ? one_of(@candidates)->{key} : new_key($s, $table, $role);
}

sub pick_key
{
	my ($s, $table, $role, $session) = @_;
	my $reuses = $table->{policy} eq 'error' ? 0.06 : 0.55;
	my $key = chance($reuses) ? used_key($s, $table, $role) : new_key($s, $table, $role);
	my $known = $table->{known}{ name_of_key($key) } //= { key => $key };

	$known->{open}{$session} = 1;
	return $key;
}

# What a foreign key refers to: exact is what is there by now in the order of commits, and what
# never comes, both of which never comes again.
sub parent_key
{
	my ($s, $parent, $role, $session) = @_;

	return [ NEVER + int rand 50, 8, $parent->{second} ? 'x' : '' ] if chance(0.03);
	my @candidates = map { $parent->{known}{$_} } sort keys %{ $parent->{known} };

	@candidates = grep { !grep { $_ != $session } keys %{ $_->{open} } } @candidates if $s->{exact};
	@candidates = grep { $_->{sound} } @candidates if chance(0.98);
	return if !@candidates;
	return new_key($s, $parent, $role) if !$s->{exact} && chance(0.1);
	my $known = one_of(@candidates);

	$known->{referenced} = 1;
	return $known->{key};
}

# What comes later though rows have been refused for lack of it
sub wanted_key
{
	my ($s, $table) = @_;

	return $table->{wanted} && @{ $table->{wanted} } ? shift @{ $table->{wanted} } : undef;
}

sub json_of_key
{
	my ($table, $key, $mixes) = @_;
	my $json = $keys{ $table->{key_type} }->(@$key[ 0, 1 ]);

	return $mixes && chance(0.5) ? uc $json : $json;
}

# Has to be given by the item
sub is_wanted
{
	my ($column) = @_;

	return $column->{not_null} && !defined $column->{default};
}

sub json_of_word
{
	my ($item) = @_;

	return qq("$item->{fault}") if grep { $_ eq $item->{fault} } @refusals;
	return if !chance(0.8);
	return $item->{table}{skips} && chance(0.1) ? '"skipped"' : one_of(@{ $values{text} });
}

sub json_of_value
{
	my ($item, $column) = @_;
	my ($fault, $type) = ($item->{fault}, $column->{type});

	if ($fault eq 'misfit' && $misfits{$type} && !$item->{bad})
	{
		$item->{bad} = $fault;
		return one_of(@{ $misfits{$type} });
	}
	return 'null' if $fault eq 'null' && $column->{not_null} && chance(0.7);
	return is_wanted($column) || chance(0.6) ? one_of(@{ $values{$type} }) : undef;
}

sub json_of_number
{
	my ($item, $column) = @_;

	return if !is_wanted($column) && !chance(0.7);
	return 'null' if !$column->{not_null} && chance(0.1);
	return one_of(-3, 1, 1, 2, 50, $column->{type} =~ /numeric/ ? '0.5' : 5);
}

sub json_of_range
{
	my ($item) = @_;
	my $from = role_number($item->{role}) * 100_000 + int rand 500;

	return chance(0.8) ? sprintf('"[%d,%d)"', $from, $from + one_of(0, 1, 5, 20)) : undef;
}

# What an item gives for a column that has this to do; nothing: it doesn't.
my %json_of = (
	number_of_item => sub { return $_[0]{n}; },
	group => sub { return int rand 12; },
	key => sub {
		my ($item) = @_;
		my $table = $item->{table};

		return $table->{nulls} && chance(0.04) ? 'null' : json_of_key($table, $item->{key}, $table->{lowers});
	},
	second => sub { return $_[0]{fault} eq 'partition' ? '"z"' : qq("$_[0]{key}[2]"); },
	unique => sub { return chance(0.8) ? role_number($_[0]{role}) * 1000 + 80 + int rand 40 : undef; },
	word => \&json_of_word,
	value => \&json_of_value,
	number => \&json_of_number,
	range => \&json_of_range);

# What it gives for a foreign key.  Soundness is not known of what comes later, if at all.
sub refer
{
	my ($s, $item, $foreign, $session) = @_;
	my $table = $foreign->{parent};
	my ($first, $second) = @{ $foreign->{columns} };
	my $key = parent_key($s, $table, $item->{role}, $session) or return;
	my $known = $table->{known}{ name_of_key($key) };

	$item->{fault} ||= 'refers' if !$known || !$known->{sound};
	push @{ $table->{wanted} }, $key if !$s->{exact} && !$known && $key->[0] < NEVER;
	$item->{given}{$first} = json_of_key($table, $key);
	$item->{given}{$second} = qq("$key->[2]") if $second && chance(0.95);
	return;
}

# fault: what may be wrong with it; bad: what is wrong with it at its call
sub make_item
{
	my ($s, $table, $role, $session) = @_;
	my $item = { n => ++$s->{items}, role => $role, table => $table, given => {} };

	$item->{fault} = chance($s->{bad}) ? one_of(@refusals, 'misfit', 'unknown', 'null', 'partition') : '';
	$item->{key} = (!$s->{exact} && chance(0.3) && wanted_key($s, $table)) || pick_key($s, $table, $role, $session);
	foreach my $column (@{ $table->{columns} })
	{
		my $make = $json_of{ $column->{role} } or next;
		my $json = $make->($item, $column);

		$item->{given}{ $column->{name} } = $json if defined $json;
	}
	foreach my $foreign (@{ $table->{foreign} || [] })
	{
		refer($s, $item, $foreign, $session) if chance(0.85);
	}
	if ($item->{fault} eq 'unknown')
	{
		$item->{given}{no_column} = 1;
		$item->{bad} = 'unknown';
	}
	my $known = $table->{known}{ name_of_key($item->{key}) };

	$known->{sound} = 1 if $known && !$item->{fault} && ($item->{given}{v} // '') ne '"skipped"';
	return $item;
}

# ---- the program

sub item_json
{
	my ($item) = @_;

	return '{' . join(', ', map { qq("$_": $item->{given}{$_}) } sort keys %{ $item->{given} }) . '}';
}

sub step
{
	my ($s, %step) = @_;

	push @{ $s->{steps} }, \%step;
	return;
}

sub end_transaction
{
	my ($s, $session, $how) = @_;

	step($s, do => $how, session => $session);
	foreach my $table (@{ $s->{tables} })
	{
		delete $_->{open}{$session} foreach values %{ $table->{known} };
	}
	delete $s->{open}{$session};
	return;
}

sub enqueue_step
{
	my ($s, $session) = @_;
	my $tx = $s->{open}{$session};
	my $number = chance(0.5) && defined $tx->{table} ? $tx->{table} : int rand @{ $s->{tables} };
	my $table = $s->{tables}[$number];
	my $sequence = grep { $_->{identity} } @{ $table->{columns} };
	my $n = !$sequence && chance(0.1) ? 2 + int rand 5 : 1;
	my @items = map { make_item($s, $table, $tx->{role}, $session) } 1 .. $n;

	$tx->{table} = $number;
	# what is bad at its call is bad alone
	if ($n > 1 && !grep { $_->{bad} } @items)
	{
		step($s, do => 'enqueue', how => 'many', session => $session, table => $number, items => \@items);
		return;
	}
	foreach my $item (@items)
	{
		my $lacks = grep { $_->{not_null} && !defined $item->{given}{ $_->{name} } } @{ $table->{columns} };
		my $how = $item->{bad} || $sequence ? 'jsonb' : one_of(qw(jsonb jsonb text), $lacks ? () : 'record');

		step($s, do => 'enqueue', how => $how, session => $session, table => $number, items => [$item]);
	}
	return;
}

sub session_step
{
	my ($s, $session) = @_;
	my $tx = $s->{open}{$session};
	my $dice = rand;

	if (!$tx)
	{
		$tx = $s->{open}{$session} = { role => one_of(@{ $s->{roles} }), savepoints => 0 };
		step($s, do => 'begin', session => $session, role => $tx->{role});
		enqueue_step($s, $session);
		end_transaction($s, $session, 'commit') if chance($s->{single});
	}
	elsif ($dice < 0.15)
	{
		end_transaction($s, $session, chance(0.1) ? 'rollback' : 'commit');
	}
	elsif ($dice < 0.2)
	{
		$tx->{role} = one_of(@{ $s->{roles} });
		step($s, do => 'role', session => $session, role => $tx->{role});
	}
	elsif ($dice < 0.25)
	{
		$tx->{savepoints}++;
		step($s, do => 'savepoint', session => $session);
	}
	elsif ($dice < 0.3 && $tx->{savepoints} > 0)
	{
		$tx->{savepoints}--;
		step($s, do => one_of('release', 'undo'), session => $session);
		step($s, do => 'role', session => $session, role => $tx->{role});
	}
	else
	{
		enqueue_step($s, $session);
	}
	return;
}

# A target is locked, or paused, or not any more.
sub disturb
{
	my ($s) = @_;
	my $number = int rand @{ $s->{tables} };

	return step($s, do => 'unlock') if $s->{locked} && chance(0.7);
	$s->{locked} = 1;
	return step($s, do => 'lock', table => $number, mode => 'rows') if !$s->{exact} && chance(0.5);
	return step($s, do => 'lock', table => $number, mode => one_of('SHARE', 'EXCLUSIVE')) if chance(0.5);
	return step($s, do => one_of('pause', 'pause', 'resume'), table => $number);
}

sub anything_step
{
	my ($s) = @_;

	return session_step($s, int rand $s->{sessions}) if chance($s->{disturbs} ? 0.9 : 0.96);
	my $dice = rand;

	if ($dice < 0.4)
	{
		step($s, do => 'flush');
	}
	elsif ($dice < 0.6)
	{
		step($s, do => 'batch_size', to => one_of(1, 2, 3, 10, 10000));
	}
	elsif ($s->{disturbs} && $dice < 0.9)
	{
		disturb($s);
	}
	elsif ($s->{crash} && $dice > 0.8 && $s->{crash}-- > 0)
	{
		step($s, do => 'kill', after => int rand 15_000);
		end_transaction($s, $_, 'gone') foreach sort keys %{ $s->{open} };
	}
	else
	{
		step($s, do => 'terminate');
	}
	return;
}

sub scenario
{
	my ($seed) = @_;
	my $s = { seed => $seed, steps => [], open => {}, items => 0 };

	srand $seed;
	$s->{exact} = $seed % 2 == 0;
	$s->{crash} = chance(0.15) ? 2 : 0;
	$s->{disturbs} = !$s->{crash} && chance(0.25);
	$s->{roles} = [ @roles[ 0 .. one_of(0, 1, 2, 2) ] ];
	$s->{sessions} = 1 + int rand 4;
	$s->{single} = one_of(0.1, 0.5, 0.9);
	$s->{bad} = one_of(0.01, 0.08, 0.08, 0.3);
	$s->{synchronous} = $s->{crash} ? 'on' : one_of('on', 'off');
	$s->{settings} = { batch_size => one_of(1, 2, 3, 5, 10, 30, 10000, 10000), flush_interval => one_of('1h', '1h', '1h', '5ms') };

	$s->{settings}{lock_timeout} = $s->{disturbs} ? '10ms' : '1s';

	foreach my $number (1 .. 1 + int rand 5)
	{
		push @{ $s->{tables} }, make_table($s, $number, @{ $s->{tables} || [] });
	}
	$s->{schema} = [ make_schema($s) ];

	my $items = chance(0.08) ? 400 + int rand 400 : 40 + int rand 160;
	anything_step($s) while $s->{items} < $items;
	end_transaction($s, $_, 'commit') foreach sort keys %{ $s->{open} };
	return $s;
}

# ---- in words, for whoever has to repeat it

sub sql_of_call
{
	my ($table, $step) = @_;
	my $target = "pipeline.$table->{name}";
	my @json = map { item_json($_) } @{ $step->{items} };

	return ("SELECT unnest(persist_enqueue_many('$target'::regclass, ?::jsonb))", '[' . join(', ', @json) . ']') if $step->{how} eq 'many';
	return ("SELECT persist_enqueue(jsonb_populate_record(NULL::$target, ?::jsonb))", @json) if $step->{how} eq 'record';
	return ("SELECT persist_enqueue('$target'::text, ?::text)", @json) if $step->{how} eq 'text';
	return ("SELECT persist_enqueue('$target'::regclass, ?::jsonb)", @json);
}

sub line_of_step
{
	my ($s, $step) = @_;
	my $do = $step->{do};
	my $who = defined $step->{session} ? "session $step->{session}: " : '';

	if ($do eq 'enqueue')
	{
		my ($sql, $json) = sql_of_call($s->{tables}[ $step->{table} ], $step);

		$json =~ s/'/''/g;
		return $who . ($sql =~ s/\?/'$json'/r) . ';';
	}
	return "${who}BEGIN; SET LOCAL ROLE $step->{role};" if $do eq 'begin';
	return "${who}SET LOCAL ROLE $step->{role};" if $do eq 'role';
	return "${who}SAVEPOINT s;" if $do eq 'savepoint';
	return "${who}RELEASE SAVEPOINT s;" if $do eq 'release';
	return "${who}ROLLBACK TO SAVEPOINT s; RELEASE SAVEPOINT s;" if $do eq 'undo';
	return "${who}is gone with the server" if $do eq 'gone';
	return "ALTER SYSTEM SET persist_pipeline.batch_size = $step->{to}; SELECT pg_reload_conf();" if $do eq 'batch_size';
	return "another session: SELECT persist_flush();" if $do eq 'flush';
	return "another session: BEGIN; SELECT FROM pipeline.$s->{tables}[ $step->{table} ]{name} FOR UPDATE;" if $do eq 'lock' && $step->{mode} eq 'rows';
	return "another session: BEGIN; LOCK TABLE pipeline.$s->{tables}[ $step->{table} ]{name} IN $step->{mode} MODE;" if $do eq 'lock';
	return "another session: COMMIT;" if $do eq 'unlock';
	return "the same: COMMIT; SELECT persist_$do('pipeline.$s->{tables}[ $step->{table} ]{name}');" if $do =~ /^(?:pause|resume)$/;
	return "the same, and after $step->{after} us kill -9 of the worker" if $do eq 'kill';
	return "SELECT pg_terminate_backend(worker_pid) FROM persist_queue;" if $do eq 'terminate';
	return $who . uc($do) . ';';
}

sub configure_sql
{
	my ($s) = @_;

	return map { "SELECT persist_configure('pipeline.$_->{name}', " . join(', ', @{ $_->{settings} }) . ')' }
	  grep { @{ $_->{settings} } } @{ $s->{tables} };
}

# Nothing comes between these two of a session: which of them can be left out, the first, or both?
sub needless
{
	my ($first, $second) = @_;

	return 2 if $first =~ /SAVEPOINT s;$/ && $first !~ /RELEASE/ && $second =~ /RELEASE SAVEPOINT s;$/;
	return 2 if $first =~ /BEGIN;/ && $second =~ /(?:COMMIT|ROLLBACK);$/;
	return 1 if $first =~ /(?<!RELEASE )SAVEPOINT s;$/ && $second =~ /(?:COMMIT|ROLLBACK);$/;
	return 1 if $first =~ /^session \d: SET LOCAL ROLE/ && $second =~ /(?:^session \d: SET LOCAL ROLE.*|COMMIT;|ROLLBACK;)$/;
	return 0;
}

# Without transactions, savepoints and roles of which nothing is left
sub lines_of_program
{
	my ($s) = @_;
	my @lines = map { line_of_step($s, $_) } @{ $s->{steps} };

	for (my $i = 0; $i < @lines; $i++)
	{
		my ($session) = $lines[$i] =~ /^(session \d: )/ or next;
		my $next = first { $lines[$_] =~ /^$session/ } $i + 1 .. $#lines;
		my $needless = defined $next ? needless(@lines[ $i, $next ]) : 0;

		next if !$needless;
		splice @lines, $next, 1 if $needless == 2;
		splice @lines, $i, 1;
		$i = -1;    # what was around it may be needless now
	}
	return @lines;
}

sub describe
{
	my ($s) = @_;

	return join "\n",
	  "seed $s->{seed} (" . ($s->{exact} ? 'exact' : 'not exact') . ')',
	  '-- settings',
	  (map { "persist_pipeline.$_ = $s->{settings}{$_}" } sort keys %{ $s->{settings} }),
	  "synchronous_commit = $s->{synchronous}",
	  '-- schema; @ is pipeline, and oracle',
	  (map { "$_;" } @{ $s->{schema} }),
	  (map { "$_;" } configure_sql($s)),
	  '-- program',
	  lines_of_program($s),
	  "SELECT persist_flush();";
}

# ---- the oracle

# SQLSTATE and message of what has failed
sub error_of
{
	my ($dbh) = @_;
	my ($message) = $dbh->errstr =~ /\A(?:\w+:\s+)?(.*?)(?:\n(?:DETAIL|HINT|CONTEXT|LINE \d+|QUERY):.*)?\z/s;

	return $dbh->state . ' ' . ($message =~ s/\boracle\./pipeline./gr);
}

sub sql_of_insert
{
	my ($table, $item, $how) = @_;
	my %given = map { $_ => 1 } keys %{ $item->{given} };
	my %is_key = map { $_ => 1 } @{ $table->{conflict} };
	my $target = "oracle.$table->{name}";
	my (@columns, @set);

	foreach my $column (@{ $table->{columns} })
	{
		my $name = $column->{name};
		my $is_given = !$column->{generated} && ($given{$name} || $how eq 'record');

		push @columns, $name if $is_given || $column->{decided};
		next if !$is_given || $is_key{$name};
		push @set, $table->{adds} && $name eq 'added'
		  ? "$name = COALESCE(t.$name + excluded.$name, excluded.$name, t.$name)" : "$name = excluded.$name";
	}
	my $conflict = @{ $table->{conflict} } ? '(' . join(', ', @{ $table->{conflict} }) . ')' : '';
	my $columns = join ', ', @columns;

	return "INSERT INTO $target AS t ($columns)"
	  . ((grep { $_->{identity} } @{ $table->{columns} }) ? ' OVERRIDING SYSTEM VALUE' : '')
	  . " SELECT $columns FROM jsonb_populate_record(NULL::$target, ?::jsonb || ?::jsonb)"
	  . ( $table->{policy} eq 'error' ? ''
		: $table->{policy} eq 'nothing' || !@set ? " ON CONFLICT $conflict DO NOTHING"
		: " ON CONFLICT $conflict DO UPDATE SET " . join(', ', @set));
}

# One row, in a transaction of its own.  What becomes of it: persisted, skipped, or the error.
sub insert_one
{
	my ($dbh, $table, $item, $how) = @_;
	local $dbh->{RaiseError} = 0;
	my $rows = $dbh->do(sql_of_insert($table, $item, $how), undef, item_json($item), $how eq 'record' ? '{}' : $item->{decided} // '{}');

	return !defined $rows ? error_of($dbh) : $rows > 0 ? 'persisted' : 'skipped';
}

# ---- the pipeline

sub oracle_node
{
	my ($name, %settings) = @_;
	my $node = pp_node(
		$name,
		'persist_pipeline.adaptive_flush' => 'off',
		'persist_pipeline.misfit_timeout' => 0,
		autovacuum => 'off',
		fsync => 'off',
		restart_after_crash => 'on',
		%settings);

	$node->safe_psql('postgres', join '', map { "CREATE ROLE $_; SELECT persist_grant('$_');" } @roles);
	return $node;
}

sub connect_sessions
{
	my ($run) = @_;

	$run->{dbh} = connect_when_up($run->{node});
	$run->{sessions} = [ map { connect_when_up($run->{node}) } 1 .. $run->{s}{sessions} ];
	$_->do("SET synchronous_commit = $run->{s}{synchronous}") foreach @{ $run->{sessions} };
	$run->{locker} = connect_when_up($run->{node});
	$run->{flusher} = connect_when_up($run->{node});
	$run->{flushing} = 0;
	return;
}

sub finish_flush
{
	my ($run) = @_;

	finish_sql($run->{flusher}) if $run->{flushing};
	$run->{flushing} = 0;
	return;
}

sub start_flush
{
	my ($run) = @_;

	finish_flush($run);
	start_sql($run->{flusher}, 'SELECT persist_flush()');
	$run->{flushing} = 1;
	return;
}

sub unlock
{
	my ($run) = @_;

	$run->{locker}->commit if !$run->{locker}{AutoCommit};
	return;
}

# Which waits for whoever has locked the table.
sub pause_or_resume
{
	my ($run, $do, $name) = @_;

	unlock($run);
	$run->{dbh}->do("SELECT persist_$do('pipeline.$name')");
	return;
}

# The worker may be at it.  A row that waits for a locked one is overtaken by later ones.
sub lock_table
{
	my ($run, $name, $mode) = @_;

	unlock($run);
	return begin_with_lock($run->{locker}, "pipeline.$name", $mode) if $mode ne 'rows';
	$run->{locker}->begin_work;
	$run->{locker}->do("SELECT FROM pipeline.$name FOR UPDATE");
	$run->{overtakes} = 1;
	return;
}

sub disconnect_all
{
	my ($run) = @_;

	eval { $_->disconnect } foreach @{ $run->{sessions} }, @$run{qw(flusher locker dbh)};
	return;
}

# What the call has decided, as JSON for the oracle
sub note_decided
{
	my ($dbh, $table, $items) = @_;
	my @decided = grep { $_->{decided} } @{ $table->{columns} };

	return if !@decided || $items->[0]{bad};    # it hasn't come so far
	my $json = one_value($dbh, 'SELECT jsonb_build_object(' . join(', ', map { "'$_->{name}', " . ($_->{decided} =~ s/\@/pipeline/r) } @decided) . ')');

	$_->{decided} = $json foreach @$items;
	return;
}

sub call
{
	my ($run, $step) = @_;
	my $dbh = $run->{sessions}[ $step->{session} ];
	my $table = $run->{s}{tables}[ $step->{table} ];
	my @items = map { { %$_, how => $step->{how}, session => $step->{session} } } @{ $step->{items} };
	my $refused = $items[0]{bad} && !$table->{dies_at_call};
	my ($sql, @values) = sql_of_call($table, $step);

	# what the extension refuses of itself has no like with the oracle
	$dbh->do('SAVEPOINT call') if $refused;
	my $ids = eval { $dbh->selectcol_arrayref($sql, undef, @values) };

	if ($ids && !$refused)
	{
		note_decided($dbh, $table, \@items);
		$items[$_]{id} = $ids->[$_] foreach 0 .. $#items;
		push @{ $run->{open}[ $step->{session} ] }, @items;
		return;
	}
	die "the call failed: " . error_of($dbh) . "\n" if !$refused;
	my $outcome = $ids ? 'accepted' : error_of($dbh);

	$dbh->do('ROLLBACK TO SAVEPOINT call; RELEASE SAVEPOINT call');
	push @{ $run->{refused} }, { %{ $items[0] }, outcome => $outcome };
	return;
}

# R, S, T(stopped), Z(ended) ...
sub state_of
{
	my ($pid) = @_;
	my $stat = eval { slurp_file("/proc/$pid/stat") } // ') Z';

	return $stat =~ /\) (\w)/ ? $1 : 'Z';
}

sub kill_worker
{
	my ($run, $after) = @_;
	my $pid = one_value($run->{dbh}, q{SELECT worker_pid FROM persist_queue WHERE datname = 'postgres'});
	my $from = log_position($run->{node});

	return if !$pid;
	start_flush($run);
	usleep($after);
	# it may have ended by itself, or be about to: what has stopped is ended by us
	kill 'STOP', $pid;
	return if wait_until('it has stopped, or ended', sub { state_of($pid) =~ /([TZ])/ && $1 }) eq 'Z';
	kill 'KILL', $pid;
	$run->{node}->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	disconnect_all($run);
	connect_sessions($run);
	$run->{open} = [];
	return;
}

sub do_step
{
	my ($run, $step) = @_;
	my ($do, $session) = @$step{qw(do session)};
	my $dbh = defined $session ? $run->{sessions}[$session] : $run->{dbh};
	my $open = defined $session ? $run->{open}[$session] //= [] : undef;

	return call($run, $step) if $do eq 'enqueue';
	return start_flush($run) if $do eq 'flush';
	return kill_worker($run, $step->{after}) if $do eq 'kill';
	return change_setting($dbh, 'batch_size', $step->{to}) if $do eq 'batch_size';
	return $dbh->do(q{SELECT pg_terminate_backend(worker_pid) FROM persist_queue WHERE datname = 'postgres'}) if $do eq 'terminate';
	return $dbh->do("SET LOCAL ROLE $step->{role}") if $do eq 'role';
	return pause_or_resume($run, $do, $run->{s}{tables}[ $step->{table} ]{name}) if $do =~ /^(?:pause|resume)$/;
	return unlock($run) if $do eq 'unlock';
	return lock_table($run, $run->{s}{tables}[ $step->{table} ]{name}, $step->{mode}) if $do eq 'lock';
	if ($do eq 'begin')
	{
		$dbh->rollback if !$dbh->{AutoCommit};
		$dbh->begin_work;
		$dbh->do("SET LOCAL ROLE $step->{role}");
		$run->{open}[$session] = [];
		$run->{marks}[$session] = [];
	}
	elsif ($do eq 'savepoint')
	{
		$dbh->do('SAVEPOINT s');
		push @{ $run->{marks}[$session] }, scalar @$open;
	}
	elsif ($do eq 'release')
	{
		$dbh->do('RELEASE SAVEPOINT s');
		pop @{ $run->{marks}[$session] };
	}
	elsif ($do eq 'undo')
	{
		$dbh->do('ROLLBACK TO SAVEPOINT s; RELEASE SAVEPOINT s');
		splice @$open, pop @{ $run->{marks}[$session] };
	}
	elsif ($do eq 'commit' || $do eq 'rollback')
	{
		$dbh->$do if !$dbh->{AutoCommit};
		push @{ $run->{committed} }, @$open if $do eq 'commit';
		$run->{open}[$session] = [];
	}
	return;
}

sub become_quiet
{
	my ($run) = @_;

	unlock($run);
	$run->{dbh}->do("SELECT persist_resume('pipeline.$_->{name}')") foreach @{ $run->{s}{tables} };
	finish_flush($run);
	wait_until(
		'everything is settled',
		sub {
			return one_value($run->{dbh}, q{SELECT persist_flush('10 s')})
			  && one_value($run->{dbh}, q{SELECT items_pending = 0 FROM persist_queue WHERE datname = 'postgres'});
		});
	return;
}

sub columns_to_compare
{
	my ($table) = @_;

	return join ', ', map { $_->{name} } grep { $_->{name} ne 'ins' } @{ $table->{columns} };
}

# What is there in the end, in one of the two schemas
sub contents
{
	my ($dbh, $s, $schema) = @_;
	my %contents;

	foreach my $table (@{ $s->{tables} })
	{
		$contents{ $table->{name} } = $dbh->selectcol_arrayref(sprintf
			  q{SELECT n || ': ' || concat_ws(' ', (SELECT relname FROM pg_class WHERE oid = t.tableoid), ROW(%s)::text) FROM %s.%s AS t ORDER BY n, 1},
			columns_to_compare($table), $schema, $table->{name});
	}
	$contents{log} = $dbh->selectcol_arrayref("SELECT concat_ws(' ', tab, op, n, who) FROM $schema.log ORDER BY 1");
	return \%contents;
}

sub play_pipeline
{
	my ($run) = @_;
	my ($s, $dbh) = @$run{qw(s dbh)};

	do_step($run, $_) foreach @{ $s->{steps} };
	become_quiet($run);
	$dbh = $run->{dbh};
	my $result = $run->{pipeline} = contents($dbh, $s, 'pipeline');
	my %letters = map { $_->[0] => $_->[1] }
	  @{ $dbh->selectall_arrayref(q{SELECT id, concat_ws(' ', sqlstate, message, 'of', role_name) FROM persist_dead_letters}) };

	# an update changes the row's item, and not its number
	foreach my $table (grep { $_->{numbered} && $_->{policy} ne 'update' } @{ $s->{tables} })
	{
		$run->{numbers}{ $table->{name} } = $dbh->selectcol_arrayref("SELECT n FROM pipeline.$table->{name} ORDER BY ins");
	}
	push @{ $run->{numbers}{"log of $_->[0]"} }, $_->[1] foreach @{ $dbh->selectall_arrayref('SELECT tab, n FROM pipeline.log ORDER BY number') };
	$result->{letters} = [ map { $letters{ $_->{id} } ? "$_->{n}: $_->{table}{name} " . delete $letters{ $_->{id} } : () } @{ $run->{committed} } ];
	push @{ $result->{letters} }, map { "nobody's: $letters{$_}" } sort keys %letters;
	$result->{counts} = [ rows_of($dbh, q{SELECT replace(target_name, 'pipeline.', ''), 'persisted', persisted, 'skipped', skipped, 'dead', dead
		FROM persist_stats WHERE target_name LIKE 'pipeline.%' ORDER BY 1}) ];
	$result->{account} = [ rows_of($dbh, q{SELECT * FROM persist_stats
		WHERE target_name LIKE 'pipeline.%' AND enqueued <> persisted + skipped + dead}) ];
	return;
}

sub play_oracle
{
	my ($run) = @_;
	my ($s, $dbh) = @$run{qw(s dbh)};
	my $role = '';
	my (%counts, @letters);

	foreach my $item (@{ $run->{committed} }, @{ $run->{refused} })
	{
		my $table = $item->{table};

		next if $item->{bad} && $item->{bad} eq 'unknown';
		$dbh->do("SET SESSION AUTHORIZATION $item->{role}") if $item->{role} ne $role;
		$role = $item->{role};
		$item->{expected} = insert_one($dbh, $table, $item, $item->{how});
		if ($item->{outcome})
		{
			push @{ $run->{calls} }, "$item->{n}: $item->{outcome}; the oracle: $item->{expected}" if $item->{outcome} ne $item->{expected};
			next;
		}
	}
	$dbh->do('RESET SESSION AUTHORIZATION');
	foreach my $item (@{ $run->{committed} })
	{
		# what has no like with the oracle
		$item->{expected} = qq{42703 column "no_column" of relation "$item->{table}{name}" does not exist} if $item->{bad} && $item->{bad} eq 'unknown';
		my $what = $item->{expected} =~ /^(?:persisted|skipped)$/ ? $item->{expected} : 'dead';

		$counts{ $item->{table}{name} }{$what}++;
		push @letters, "$item->{n}: $item->{table}{name} $item->{expected} of $item->{role}" if $what eq 'dead';
	}
	foreach my $item (grep { $_->{bad} eq 'unknown' } @{ $run->{refused} })
	{
		push @{ $run->{calls} }, "$item->{n}: $item->{outcome}" if $item->{outcome} !~ /^42703 /;
	}
	$run->{oracle} = contents($dbh, $s, 'oracle');
	$run->{oracle}{letters} = \@letters;
	$run->{oracle}{counts} = [ map { my $name = $_; join ' ', $name, map { ($_, $counts{$name}{$_} || 0) } qw(persisted skipped dead) } sort keys %counts ];
	return;
}

# Play the scenario, against both; returns what came of it.
sub play
{
	my ($node, $s) = @_;
	my $run = { node => $node, s => $s, open => [], marks => [], committed => [], refused => [], calls => [] };

	connect_sessions($run);
	my $dbh = $run->{dbh};

	$dbh->do($_) foreach 'SET client_min_messages = error', 'DROP SCHEMA IF EXISTS pipeline, oracle CASCADE';
	discard_all($dbh);
	change_setting($dbh, $_, $s->{settings}{$_}) foreach sort keys %{ $s->{settings} };
	foreach my $schema (qw(pipeline oracle))
	{
		$dbh->do(s/\@/$schema/gr) foreach @{ $s->{schema} };
	}
	$dbh->do($_) foreach configure_sql($s);
	my $played = eval { play_pipeline($run); play_oracle($run); 1 };

	$run->{died} = $@ if !$played;
	disconnect_all($run);
	return $run;
}

# ---- what has to hold

# Lines that only one of them has
sub compare
{
	my ($what, $got, $expected) = @_;
	my %left;
	my @only;

	$left{$_}++ foreach @{ $expected || [] };
	foreach my $line (@{ $got || [] })
	{
		push @only, "$what: only the pipeline: $line" if !$left{$line}--;
		$left{$line} = 0 if $left{$line} < 0;
	}
	return @only, map { ("$what: only the oracle: $_") x $left{$_} } sort grep { $left{$_} > 0 } keys %left;
}

# Of one session, role and table none comes before what was committed earlier.
sub disorder
{
	my ($run) = @_;
	my ($n, %place) = (0);
	my @found;

	$place{ $_->{n} } = [ ++$n, "$_->{session} $_->{role}" ] foreach @{ $run->{committed} };
	foreach my $name (sort keys %{ $run->{numbers} })
	{
		my %last;

		foreach my $row (@{ $run->{numbers}{$name} })
		{
			my ($number, $whose) = @{ $place{$row} || [ 0, '' ] };

			push @found, "$name: $row comes after $last{$whose}[1]" if $last{$whose} && $last{$whose}[0] > $number;
			$last{$whose} = [ $number, $row ];
		}
	}
	return @found;
}

# Each item is there once, or dead; with `update`, or where some are skipped, nobody can tell.
sub unaccounted
{
	my ($run) = @_;
	my %seen;

	foreach my $table (@{ $run->{s}{tables} })
	{
		$seen{$_}++ foreach map { /^(\d+):/ } @{ $run->{pipeline}{ $table->{name} } };
	}
	$seen{$_}++ foreach map { /^(\d+):/ } @{ $run->{pipeline}{letters} };
	return map { "item $_->{n} of $_->{table}{name} is seen " . ($seen{ $_->{n} } || 0) . ' times' }
	  grep { ($seen{ $_->{n} } || 0) != 1 && $_->{table}{policy} eq 'error' && !$_->{table}{skips} } @{ $run->{committed} };
}

sub number_of
{
	my ($counts, $name, $what) = @_;
	my ($line) = grep { /^$name / } @$counts;

	return defined $line && $line =~ / $what (\d+)/ ? $1 : 0;
}

# Fewer than the oracle's
sub fewer
{
	my ($run) = @_;
	my @found;

	foreach my $name (map { $_->{name} } @{ $run->{s}{tables} })
	{
		my ($got, $expected) = map { number_of($run->{$_}{counts}, $name, 'persisted') } qw(pipeline oracle);

		push @found, "$name: $got rows are persisted, with the oracle $expected" if $got < $expected;
	}
	return @found;
}

sub differences
{
	my ($run) = @_;
	my $exact = $run->{s}{exact};

	return "it broke off: $run->{died}" if $run->{died};
	return (
		(map { "call $_" } @{ $run->{calls} }),
		(map { "account: $_" } @{ $run->{pipeline}{account} }),
		$run->{overtakes} ? () : disorder($run),
		unaccounted($run),
		$exact ? (map { compare($_, $run->{pipeline}{$_}, $run->{oracle}{$_}) } sort keys %{ $run->{oracle} }) : fewer($run));
}

# ---- a smaller program that fails, too

my $optional_step = qr/^(?:enqueue|flush|terminate|kill|batch_size|lock|unlock|pause|resume)$/;

# Calls of several items, as one call for each
sub one_call_each
{
	my ($step) = @_;

	return $step if $step->{do} ne 'enqueue' || @{ $step->{items} } == 1;
	return map { { %$step, how => 'jsonb', items => [$_] } } @{ $step->{items} };
}

sub shrink
{
	my ($node, $s, $seconds) = @_;
	my $end = time + $seconds;
	my @steps = map { one_call_each($_) } @{ $s->{steps} };
	my @optional = grep { $steps[$_]{do} =~ $optional_step } 0 .. $#steps;
	my %left = map { $_ => 1 } @optional;
	my $part = @optional;

	while ($part >= 1 && time < $end)
	{
		my @now = grep { $left{$_} } @optional;
		my $smaller = 0;

		$part = @now if $part > @now;
		for (my $from = 0; $from < @now && time < $end; $from += $part)
		{
			my %without = map { $_ => 1 } @now[ $from .. min($from + $part, scalar @now) - 1 ];
			my @some = @steps[ grep { $steps[$_]{do} !~ $optional_step || ($left{$_} && !$without{$_}) } 0 .. $#steps ];

			next if !differences(play($node, { %$s, steps => \@some }));
			delete @left{ keys %without };
			$smaller = 1;
		}
		$part = $part == 1 && !$smaller ? 0 : max(1, int($part / 2)) if !$smaller || $part > 1;
	}
	return { %$s, steps => [ @steps[ grep { $steps[$_]{do} !~ $optional_step || $left{$_} } 0 .. $#steps ] ] };
}

1;
