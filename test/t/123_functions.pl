
# Every SQL function of the extension, with arguments that nobody means: NULLs, OIDs of
# nothing and of the wrong thing, numbers and times without measure, JSON of every kind;
# in transactions that may not write, in parallel, under savepoints, after errors; trigger
# functions called by hand and on tables that aren't theirs.  Each call returns, or raises an
# error that says what is wrong: nothing internal, nothing corrupted; and the server stands.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node(
	'functions',
	'persist_pipeline.flush_interval' => 0,
	statement_timeout => "'2min'",    # who hangs
	max_parallel_workers_per_gather => 2);
my $from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE anna LOGIN;
	CREATE TABLE t (n int PRIMARY KEY, j jsonb, a int[]);
	CREATE TABLE gone (n int);
	CREATE VIEW v AS SELECT * FROM t;
	CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
	CREATE SEQUENCE s;
	CREATE TYPE pair AS (a int, b text);
	CREATE TABLE parts (n int) PARTITION BY RANGE (n);
	CREATE INDEX parts_n ON parts (n);
	CREATE TABLE annas (n int);
	ALTER TABLE annas OWNER TO anna;
	GRANT INSERT ON t TO anna;
	GRANT CREATE ON SCHEMA public TO anna;
	SELECT persist_grant('anna');
	CREATE DATABASE elsewhere;
});
$node->safe_psql('elsewhere', "CREATE TABLE there AS SELECT generate_series(1, 3) AS n");

my $elsewhere = $node->safe_psql('elsewhere', "SELECT 'there'::regclass::oid");
my $dbh = connect_to($node);
my $anna = connect_to($node, 'postgres', user => 'anna');
my %name = ($dbh => 'superuser', $anna => 'anna');
my $started = one_value($dbh, 'SELECT pg_postmaster_start_time()');
my $gone = one_value($dbh, "SELECT 'gone'::regclass::oid");
my $toast = one_value($dbh, "SELECT reltoastrelid FROM pg_class WHERE oid = 't'::regclass");
my %states;
my @bad;
my $calls = 0;

$dbh->do('DROP TABLE gone');

# ---- the functions

# What pg_depend says is the extension's; those that return triggers are called otherwise.
sub functions
{
	my ($condition) = @_;

	return @{ $dbh->selectall_arrayref(
			qq{
			SELECT p.oid::regproc::text AS name, p.proretset AS set,
			       ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, i) ORDER BY i) AS types
			FROM pg_proc AS p
			JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
			JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
			WHERE d.deptype = 'e' AND e.extname = 'persist_pipeline' AND $condition
			ORDER BY p.oid::regprocedure::text}, { Slice => {} }) };
}

# nobody has a value of type internal
my @functions = functions("p.prorettype <> 'trigger'::regtype AND NOT 'internal'::regtype = ANY (p.proargtypes)");
my @trigger_functions = map { $_->{name} } functions("p.prorettype = 'trigger'::regtype");

cmp_ok(scalar(@functions), '>=', 20, scalar(@functions) . ' functions');
cmp_ok(scalar(@trigger_functions), '>=', 2, scalar(@trigger_functions) . ' of them for triggers');

# ---- arguments

# Some say what they are for, so that a call with one bad argument gets as far as that.
my %good = (
	regclass => "'t'",
	oid => "'t'::regclass",
	cstring => "'t'",
	'persist_pipeline_internal.persist_target' => "'t'",
	jsonb => q{'{"n": 1}'},
	json => q{'{"n": 1}'},
	boolean => 'true',
	text => "'t'",
	record => 'ROW(1, NULL, NULL)::t',
	interval => "'1 ms'",
	regrole => "'anna'",
	bigint => '1',
	'bigint[]' => "'{1}'",
	'text[]' => "'{}'",
	anyelement => 'NULL::t');

my $deep = join '', ('[') x 5_000, (']') x 5_000;
my $deeper = q{('{"n": ' || repeat('[', 100000) || repeat(']', 100000) || '}')::jsonb};
my %bad = (
	oid => [ 0, 1, 4294967295, $gone, $elsewhere, "'pg_class'::regclass", $toast ],
	cstring => [ "''", "'.'", "'nothing.of.this'", "'0'", "'4294967295'" ],
	'persist_pipeline_internal.persist_target' => [ "'0'", "'4294967295'" ],
	regclass => [
		0, 1, 4294967295, $gone, $elsewhere, "'pg_class'", "'pg_authid'", "'t_pkey'", "'s'", $toast, "'pair'", "'v'", "'m'",
		"'parts'", "'parts_n'", "'annas'", "'pg_stat_activity'",
		map {"'persist_pipeline_internal.$_'"} qw(persist_journal_1 persist_parked persist_dead_letters persist_account persist_id_seq),
	],
	jsonb => [
		"'null'", "'1'", "'\"text\"'", "'[]'", "'{}'", "'true'", "'[[[1]]]'", "'{\"nothing\": 1}'", "'{\"n\": {\"n\": 1}}'",
		"'{\"n\": 1e400}'", "'[{\"n\": 1}, 2, null]'", "'{\"\": null}'", "'$deep'", "('{\"j\": $deep}')::jsonb", $deeper,
		"(SELECT jsonb_agg(jsonb_build_object('n', i)) FROM generate_series(1, 2000) AS i)",
		"jsonb_build_object(repeat('k', 100000), 1)", "jsonb_build_object('j', repeat('x', 3000000))",
	],
	json => [ "'null'", "'[]'", "'{\"n\": 1e400}'", "'{\"n\": 1, \"n\": 2}'", "'{\"j\": \"\\u0000\"}'", "('{\"n\": ' || repeat('[', 100000) || repeat(']', 100000) || '}')" ],
	boolean => ['false'],
	text => [
		"''", "'.'", "'\"'", "'a.b.c.d'", "'pg_class'", "'{}'", "'auto'", "'nonsense'", "repeat('x', 100000)", "E'\\t'", "'{\"n\":'",
		"'0'", "'4294967295'", "repeat('[', 100000)",
	],
	record => [ 'ROW()', 'ROW(1)', "ROW(1, 'x')::pair", '(SELECT c FROM pg_class AS c LIMIT 1)', 'ROW(1)::annas', 'ROW(1)::parts', 'NULL::t', 'ROW(NULL, NULL, NULL)::t' ],
	interval => [ "'-1 s'", "'0'", "'178000000 years'", "'-178000000 years'", "'1 us'", "'-1 month 1 day'" ],
	regrole => [ 0, 1, 4294967295, "'pg_monitor'", $gone ],
	bigint => [ 0, -1, 9223372036854775807, '-9223372036854775808' ],
	'bigint[]' => [
		"'{}'", "'{NULL}'", "'{-1,0,9223372036854775807}'", "'{{1,2},{3,4}}'", "'[-2:0]={1,2,3}'",
		"(SELECT array_agg(i) FROM generate_series(1, 200000) AS i)", "array_fill(1::bigint, '{1000,100}')",
	],
	'text[]' => [
		"'{NULL}'", "'{n}'", "'{n,n}'", "'{{n,j},{n,j}}'", "'{\"\"}'", "'[-2:-1]={n,j}'", "'{ctid,tableoid}'", "'{a.b,a.b.c}'",
		"ARRAY[repeat('x', 100000)]", "(SELECT array_agg('app.s' || i) FROM generate_series(1, 2000) AS i)",
	],
	anyelement => [ '1', "'x'::text", 'ROW(1)', 'NULL::annas', 'NULL::pair', 'NULL::pg_class', "'{}'::int[]", 'NULL::pg_type' ]);

sub typed
{
	my ($value, $type) = @_;

	return $type =~ /^(?:record|anyelement)$/ ? $value : "$value\::$type";
}

sub null_of
{
	my ($type) = @_;

	return typed($type eq 'record' ? 'NULL::t' : $type eq 'anyelement' ? 'NULL::t' : 'NULL', $type);
}

# All lists of arguments for the function: good ones, NULLs, and bad ones, one by one.
sub argument_lists
{
	my ($function) = @_;
	my @types = @{ $function->{types} };
	my @good = map { typed($good{$_}, $_) } @types;
	my @lists = ([@good], [ map { null_of($_) } @types ]);

	die "of which type is an argument of $function->{name}(@types)?" if grep { !defined $good{$_} } @types;
	foreach my $i (0 .. $#types)
	{
		foreach my $value (null_of($types[$i]), map { typed($_, $types[$i]) } @{ $bad{ $types[$i] } })
		{
			push @lists, [ @good[ 0 .. $i - 1 ], $value, @good[ $i + 1 .. $#types ] ];

			# one that is refused keeps a call from coming to the next: those that may be NULL are
			push @lists, [ $good[0], map { $_ == $i ? $value : null_of($types[$_]) } 1 .. $#types ] if @types > 3 && $i > 0;
		}
	}
	return map { join ', ', @$_ } @lists;
}

# ---- calls

# What is no answer: errors that are nobody's doing but ours, and no answer at all.
sub call
{
	my ($session, $sql) = @_;
	my $state = try_sql($session, $sql);

	$calls++;
	$states{$state}++;
	return $state if $state !~ /^(?:XX|08|57014|57P0)/;
	push @bad, join ' ', grep { defined } $name{$session}, $state, substr($sql, 0, 200), $session->errstr;
	return $state;
}

sub check_calls
{
	my ($what) = @_;

	is_deeply([ splice @bad ], [], $what);
	return;
}

# A call that pauses or waits is the last one of its transaction.
sub each_call
{
	my ($code) = @_;

	foreach my $function (@functions)
	{
		foreach my $arguments (argument_lists($function))
		{
			$code->("SELECT " . ($function->{set} ? '* FROM ' : '') . "$function->{name}($arguments)");
		}
	}
	return;
}

sub is_up
{
	my ($when) = @_;

	is(one_value($dbh, 'SELECT pg_postmaster_start_time()'), $started, "$when: the server stands");
	return;
}

# in a transaction of its own, which is rolled back: nothing of this is meant
foreach my $session ($dbh, $anna)
{
	each_call(
		sub {
			$session->begin_work;
			call($session, @_);
			$session->rollback;
		});
	check_calls("$name{$session}: each call returns, or says what is wrong");
}
is_up('rolled back');

# in one transaction, each after an error, under a savepoint of its own
each_call(
	sub {
		my ($sql) = @_;

		$dbh->begin_work if $dbh->{AutoCommit};
		$dbh->do('SAVEPOINT s');
		try_sql($dbh, 'SELECT 1 / 0');
		push @bad, "after an error: $sql" if call($dbh, $sql) ne '25P02';
		$dbh->do('ROLLBACK TO s');
		call($dbh, $sql);
		$dbh->do('ROLLBACK TO s') if try_sql($dbh, 'RELEASE s') ne '00000';
	});
$dbh->rollback;
check_calls('under savepoints, in one transaction');
is_up('savepoints');

# The session that calls may not write, or isn't alone
sub with_good_arguments
{
	my ($code) = @_;

	foreach my $function (@functions)
	{
		my ($arguments, $nulls) = argument_lists($function);

		$code->("SELECT " . ($function->{set} ? '* FROM ' : '') . "$function->{name}($_)") foreach $arguments, $nulls;
	}
	return;
}

with_good_arguments(
	sub {
		$dbh->do('BEGIN READ ONLY');
		call($dbh, @_);
		$dbh->do('ROLLBACK');
	});
check_calls('in a transaction that is read-only');

$dbh->do('SET ' . ($dbh->{pg_server_version} >= 160000 ? 'debug_parallel_query' : 'force_parallel_mode') . ' = on');
$dbh->do("SET $_ = 0") foreach qw(parallel_setup_cost parallel_tuple_cost min_parallel_table_scan_size);
$dbh->do('INSERT INTO t SELECT generate_series(1000, 1019)');
foreach my $function (@functions)
{
	my ($arguments) = argument_lists($function);
	my $call = "$function->{name}($arguments)";

	$dbh->begin_work;
	# a function that says it is safe, and isn't; and the call as it is
	$dbh->do("CREATE FUNCTION pg_temp.safe() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS "
		  . "\$\$ BEGIN PERFORM " . ($function->{set} ? '* FROM ' : '') . "$call; RETURN 1; END \$\$");
	$dbh->do('SAVEPOINT s');
	call($dbh, 'SELECT count(*) FROM t WHERE pg_temp.safe() = n');
	$dbh->do('ROLLBACK TO s');
	call($dbh, "SELECT count(*) FROM t WHERE ($call) IS NULL") if !$function->{set};
	$dbh->rollback;
}
$dbh->do('RESET ALL');
check_calls('in parallel');
is_up('parallel');

# in a function that catches what it raises, and goes on
with_good_arguments(
	sub {
		my ($sql) = @_;

		$dbh->begin_work;
		call($dbh, "DO \$\$ BEGIN FOR i IN 1 .. 3 LOOP BEGIN EXECUTE \$x\$ $sql \$x\$; RAISE EXCEPTION 'no'; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END \$\$");
		try_sql($dbh, 'COMMIT') if $sql !~ /persist_(?:pause|discard|stats_reset|revoke)/;
		$dbh->rollback;
	});
check_calls('in subtransactions of a function');

# ---- triggers

foreach my $function (@trigger_functions)
{
	foreach my $session ($dbh, $anna)
	{
		call($session, "SELECT $function()");
		foreach my $event (
			'BEFORE INSERT', 'AFTER INSERT', 'BEFORE UPDATE', 'AFTER DELETE', 'BEFORE TRUNCATE', 'AFTER TRUNCATE',
			'INSTEAD OF INSERT', 'CONSTRAINT')
		{
			foreach my $level ('ROW', 'STATEMENT')
			{
				my $on = $event =~ /INSTEAD/ ? 'v' : $session == $anna ? 'annas' : 't';
				my $trigger = $event eq 'CONSTRAINT' ? 'CONSTRAINT TRIGGER x AFTER INSERT' : "TRIGGER x $event";

				$session->begin_work;
				if (call($session, "CREATE $trigger ON $on FOR EACH $level EXECUTE FUNCTION $function()") eq '00000')
				{
					foreach my $sql ("INSERT INTO $on VALUES (1)", "UPDATE $on SET n = 5000 WHERE n = 1000", "DELETE FROM $on WHERE n = 1001", "TRUNCATE $on")
					{
						$session->do('SAVEPOINT s');
						call($session, $sql);
						$session->do('ROLLBACK TO s');
					}
				}
				$session->rollback;
			}
		}
		my $event_trigger = $session == $dbh ? call($session, "CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION $function()") : '42501';

		isnt($event_trigger, '00000', "$name{$session}: $function is none for events");
	}
}
check_calls('trigger functions, by hand and in the wrong place');
is_up('triggers');

# ---- and it works

my $internal = join ', ', map {"$_ $states{$_}"} sort keys %states;

note("$calls calls: $internal");
is_deeply([ log_since($node, $from, qr/terminated by signal|PANIC:|TRAP:/) ], [], 'no process ended by a signal');
$dbh->do('SELECT persist_resume()');
$dbh->do('TRUNCATE t');
$dbh->do(q{SELECT persist_enqueue('t'::regclass, '{"n": 7}')});
is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, 'what is enqueued afterwards is flushed');
is(one_value($dbh, 'SELECT count(*) FROM t WHERE n = 7'), 1, 'and lands');

$_->disconnect foreach $dbh, $anna;
$node->stop;
done_testing();
