
# Code of a table: whose rights it gets.  mallory hangs code onto tables in every way
# that there is, bob enqueues into them, and the worker, who could do anything, inserts.
# What runs has bob's rights, as in a plain INSERT of his, which is made beside each
# as a control.  And what administrators call runs none of it.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Attack;
use PersistPipeline;
use Test::More;

my $node = pp_node(
	'attacks',
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.misfit_timeout' => 0,
	restart_after_crash => 'on',
	autovacuum => 'off');
my $everything_from = log_position($node);

create_actors($node);

my $admin = session($node, '');
my $mallory = session($node, 'mallory');
my $superuser = one_value($admin, 'SELECT current_user::text');
my $attacks = 0;

# One attack.  Its SQL is run twice, as mallory: {S} is a schema of the pipeline's and
# one of the control.  bob enqueues `item` into {S}.t, or inserts it; while it waits,
# mallory runs `meanwhile`.  Then the number of rows, and who has run {S}'s code.
sub attack
{
	my ($name, %attack) = @_;
	my $item = $attack{item} || { a => 1 };
	my @columns = sort keys %$item;
	my $expected = $attack{expected} || '1: bob bob';
	my ($pipe, $plain) = map { "$_$attacks" } 'pipe', 'plain';
	my $counted = $attack{count} || '{S}.t';

	$attacks++;
	my $bob = session($node, 'bob');
	my $in = sub { my ($schema, $sql) = @_; $sql =~ s/\{S\}/$schema/g; return $sql; };
	my $result = sub {
		my ($schema) = @_;

		# disarmed before: this query is planned by a superuser, who so runs the predicates
		# of indexes
		return one_value($admin, $in->($schema, "SELECT count(*) FROM $counted")) . ': ' . ran_in($node, $schema);
	};

	disarm($node);
	foreach my $schema ($pipe, $plain)
	{
		# by a superuser, for what only he can do
		$admin->do($in->($schema, "CREATE SCHEMA {S} AUTHORIZATION mallory; GRANT USAGE ON SCHEMA {S} TO PUBLIC"));
		$admin->do($in->($schema, $attack{superuser})) if $attack{superuser};
		$mallory->do($in->($schema, $attack{define}));
		$mallory->do($in->($schema, "GRANT INSERT ON {S}.t TO bob")) if !$attack{granted};
	}
	arm($node);

	$admin->do("SELECT persist_pause()") if $attack{meanwhile};
	my $json = '{' . join(', ', map { qq{"$_": } . ($item->{$_} =~ /^(?:\d+|\{.*)$/ ? $item->{$_} : qq{"$item->{$_}"}) } @columns) . '}';
	my $state = try_sql($bob, "SELECT public.persist_enqueue('$pipe.t'::pg_catalog.regclass, ?::pg_catalog.jsonb, true)", $json);
	if ($attack{meanwhile})
	{
		disarm($node);
		$mallory->do($in->($_, $attack{meanwhile})) foreach $pipe, $plain;
		$admin->do("INSERT INTO mallory.armed VALUES ('')");
		$admin->do("SELECT persist_resume()");
	}
	my $flushed = settled($node);
	my $plain_state = try_sql(
		$bob,
		$in->($plain, $attack{insert} || "INSERT INTO {S}.t (" . join(', ', @columns) . ") VALUES (" . join(', ', ('?') x @columns) . ")"),
		$attack{insert} ? () : map { $item->{$_} } @columns);

	disarm($node);
	is("$plain_state " . $result->($plain), "00000 $expected", "$name: a plain INSERT");
	like("$state " . $result->($pipe), $attack{batch} || qr/^00000 \Q$expected\E$/, "$name: a batch");
	is($flushed, 1, "$name: the pipeline goes on");
	return;
}

# New sessions, with the settings that their roles have now.
sub reconnect
{
	forget_sessions();
	$admin = session($node, '');
	$mallory = session($node, 'mallory');
	return;
}

# ---- triggers

attack("trigger, $_->[0]",
	define => "CREATE TABLE {S}.t (a int);
		CREATE $_->[2] TRIGGER x $_->[1] EXECUTE FUNCTION mallory.by_trigger('{S}')")
  foreach (
	[ 'BEFORE ROW', 'BEFORE INSERT ON {S}.t FOR EACH ROW', '' ],
	[ 'AFTER ROW', 'AFTER INSERT ON {S}.t FOR EACH ROW', '' ],
	[ 'BEFORE STATEMENT', 'BEFORE INSERT ON {S}.t', '' ],
	[ 'AFTER STATEMENT', 'AFTER INSERT ON {S}.t', '' ],
	[ 'WHEN', "BEFORE INSERT ON {S}.t FOR EACH ROW WHEN (mallory.note('{S}'))", '' ],
	[ 'transition table', 'AFTER INSERT ON {S}.t REFERENCING NEW TABLE AS n FOR EACH STATEMENT', '' ],
	[ 'constraint', 'AFTER INSERT ON {S}.t FOR EACH ROW', 'CONSTRAINT' ],
	[ 'INITIALLY DEFERRED', 'AFTER INSERT ON {S}.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW', 'CONSTRAINT' ]);
attack('trigger, deferred by a deferred one, at the COMMIT itself',
	define => q{CREATE TABLE {S}.t (a int); CREATE TABLE {S}.u (a int); GRANT INSERT ON {S}.u TO PUBLIC;
		CREATE FUNCTION {S}.again() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO {S}.u VALUES (1); RETURN NEW; END $$;
		CREATE CONSTRAINT TRIGGER x AFTER INSERT ON {S}.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {S}.again();
		CREATE CONSTRAINT TRIGGER x AFTER INSERT ON {S}.u DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('{S}')});
attack('trigger, in an exception block that has failed before',
	define => q{CREATE TABLE {S}.t (a int);
		CREATE FUNCTION {S}.f() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN BEGIN SET ROLE NONE; PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END; PERFORM mallory.note('{S}'); RETURN NEW; END $$;
		CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION {S}.f()});
attack('trigger, SECURITY DEFINER, and code after it',
	define => q{CREATE TABLE {S}.t (a int);
		CREATE FUNCTION {S}.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM mallory.note('{S}'); RETURN NEW; END $$;
		CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION {S}.f();
		CREATE TRIGGER y BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('{S}')},
	expected => '1: bob bob, mallory bob');
attack('trigger, ENABLE ALWAYS and ENABLE REPLICA',
	define => q{CREATE TABLE {S}.t (a int);
		CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('{S}');
		CREATE TRIGGER y BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('{S}: replica');
		ALTER TABLE {S}.t ENABLE ALWAYS TRIGGER x, ENABLE REPLICA TRIGGER y});
attack('trigger, made while the item waits',
	define => 'CREATE TABLE {S}.t (a int)',
	meanwhile => q{CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('{S}')});

# ---- defaults

attack('DEFAULT, volatile', define => q{CREATE TABLE {S}.t (a int, b boolean DEFAULT mallory.note('{S}'))});
attack('DEFAULT, an IMMUTABLE function around a volatile one',
	define => q{CREATE TABLE {S}.t (a int, b boolean DEFAULT mallory.note_immutable('{S}'))});
attack('DEFAULT of a column that the enqueuer may not insert',
	define => q{CREATE TABLE {S}.t (a int, b boolean DEFAULT mallory.note('{S}'), c boolean DEFAULT mallory.note_immutable('{S}'));
		GRANT INSERT (a) ON {S}.t TO bob}, granted => 1);
attack('DEFAULT of a column that is added while the item waits',
	define => 'CREATE TABLE {S}.t (a int)',
	meanwhile => q{ALTER TABLE {S}.t ADD b boolean; ALTER TABLE {S}.t ALTER b SET DEFAULT mallory.note('{S}'), ADD c boolean;
		ALTER TABLE {S}.t ALTER c SET DEFAULT mallory.note_immutable('{S}')});
attack('DEFAULT of a domain',
	define => q{CREATE DOMAIN {S}.d AS boolean DEFAULT mallory.note('{S}'); CREATE TABLE {S}.t (a int, b {S}.d)});

# ---- constraints

attack('domain, CHECK',
	define => q{CREATE DOMAIN {S}.d AS int CHECK (mallory.note('{S}')); CREATE TABLE {S}.t (a {S}.d)});
attack('domain, CHECK that is added while the item waits',
	define => q{CREATE DOMAIN {S}.d AS int; CREATE TABLE {S}.t (a {S}.d)},
	meanwhile => q{ALTER DOMAIN {S}.d ADD CHECK (mallory.note('{S}'))});
attack('domain, CHECK that is added NOT VALID while the item waits',
	define => q{CREATE DOMAIN {S}.d AS int; CREATE TABLE {S}.t (a {S}.d)},
	meanwhile => q{ALTER DOMAIN {S}.d ADD CHECK (mallory.note_immutable('{S}')) NOT VALID});
attack('domain, CHECK that whoever looks the type up folds',
	define => q{CREATE DOMAIN {S}.d AS int CHECK (mallory.note_immutable('{S}')); CREATE TABLE {S}.t (a {S}.d, b {S}.d[])});
attack('domain, CHECK to be folded, that is replaced while the item waits',
	define => q{CREATE DOMAIN {S}.d AS int CONSTRAINT c CHECK (mallory.note_immutable('{S}')); CREATE TABLE {S}.t (a {S}.d)},
	meanwhile => q{ALTER DOMAIN {S}.d DROP CONSTRAINT c; ALTER DOMAIN {S}.d ADD CONSTRAINT c CHECK (VALUE > mallory.number_immutable('{S}'))});
attack('domain over a domain, in an array, in a composite type',
	define => q{CREATE DOMAIN {S}.d AS int; CREATE DOMAIN {S}.e AS {S}.d CHECK (mallory.note('{S}'));
		CREATE TYPE {S}.c AS (x {S}.e[]); CREATE TABLE {S}.t (a {S}.c)},
	item => { a => '{"x": [1, 2]}' }, insert => "INSERT INTO {S}.t VALUES (ROW(ARRAY[1, 2])::{S}.c)");
attack('domain, NULL that its CHECK decides on',
	define => q{CREATE DOMAIN {S}.d AS int CHECK (mallory.note('{S}')); CREATE TABLE {S}.t (a int, b {S}.d)});
attack('CHECK', define => q{CREATE TABLE {S}.t (a int CHECK (mallory.note('{S}')))});
attack('CHECK, an IMMUTABLE function that the planner folds',
	define => q{CREATE TABLE {S}.t (a int CHECK (mallory.note_immutable('{S}')))});
attack('CHECK, added NOT VALID while the item waits',
	define => 'CREATE TABLE {S}.t (a int)',
	meanwhile => q{ALTER TABLE {S}.t ADD CHECK (mallory.note_immutable('{S}')) NOT VALID});
attack('generated column',
	define => q{CREATE TABLE {S}.t (a int, b boolean GENERATED ALWAYS AS (mallory.note_immutable('{S}', a)) STORED)});
attack('generated column, folded', define => q{CREATE TABLE {S}.t (a int, b boolean GENERATED ALWAYS AS (mallory.note_immutable('{S}')) STORED)});
attack('expression index',
	define => q{CREATE TABLE {S}.t (a int); CREATE INDEX ON {S}.t ((mallory.note_immutable('{S}', a)))});
attack('unique index on an expression',
	define => q{CREATE TABLE {S}.t (a int); CREATE UNIQUE INDEX ON {S}.t ((mallory.note_immutable('{S}', a)))});
attack('index predicate',
	define => q{CREATE TABLE {S}.t (a int); CREATE INDEX ON {S}.t (a) WHERE mallory.note_immutable('{S}', a)});
attack('index predicate, folded',
	define => q{CREATE TABLE {S}.t (a int); CREATE INDEX ON {S}.t (a) WHERE mallory.note_immutable('{S}')});
attack('exclusion constraint over an expression, with a predicate',
	define => q{CREATE TABLE {S}.t (a int, EXCLUDE USING btree ((mallory.note_immutable('{S}', a)) WITH =) WHERE (mallory.note_immutable('{S}', a)))});
attack('exclusion constraint over an expression, deferred',
	define => q{CREATE TABLE {S}.t (a int, EXCLUDE USING btree ((mallory.note_immutable('{S}', a)) WITH =) DEFERRABLE INITIALLY DEFERRED)});
attack('statistics over an expression',
	define => q{CREATE TABLE {S}.t (a int); INSERT INTO {S}.t SELECT 1 FROM generate_series(1, 9);
		CREATE STATISTICS {S}.s ON (mallory.note_immutable('{S}', a)) FROM {S}.t; ANALYZE {S}.t},
	expected => '10: nobody');
attack('foreign key, whose comparison needs a cast of the owner\'s',
	define => q{CREATE TYPE {S}.c AS (x int);
		CREATE FUNCTION {S}.f({S}.c) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('{S}'); RETURN $1.x; END $$;
		CREATE CAST ({S}.c AS int) WITH FUNCTION {S}.f AS IMPLICIT;
		CREATE TABLE {S}.p (a int PRIMARY KEY); INSERT INTO {S}.p VALUES (1); CREATE TABLE {S}.t (a {S}.c REFERENCES {S}.p)},
	item => { a => '{"x": 1}' }, insert => 'INSERT INTO {S}.t VALUES (ROW(1))', expected => '1: mallory bob');
attack('foreign key, to a table with a policy',
	define => q{CREATE TABLE {S}.p (a int PRIMARY KEY); INSERT INTO {S}.p VALUES (1); ALTER TABLE {S}.p ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
		CREATE POLICY p ON {S}.p USING (mallory.note('{S}')); CREATE TABLE {S}.t (a int REFERENCES {S}.p DEFERRABLE INITIALLY DEFERRED)},
	expected => '1: nobody');

# ---- policies, rules, views

attack('policy, WITH CHECK',
	define => q{CREATE TABLE {S}.t (a int); ALTER TABLE {S}.t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {S}.t WITH CHECK (mallory.note('{S}'))});
attack('policy, folded', define => q{CREATE TABLE {S}.t (a int); ALTER TABLE {S}.t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {S}.t WITH CHECK (mallory.note_immutable('{S}'))});
attack('policy, enabled while the item waits',
	define => q{CREATE TABLE {S}.t (a int); CREATE POLICY p ON {S}.t WITH CHECK (mallory.note('{S}'))},
	meanwhile => 'ALTER TABLE {S}.t ENABLE ROW LEVEL SECURITY');
attack('policy, with a query of another table that has one',
	define => q{CREATE TABLE {S}.u (a int); INSERT INTO {S}.u VALUES (1); GRANT SELECT ON {S}.u TO bob;
		ALTER TABLE {S}.u ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {S}.u USING (mallory.note('{S}'));
		CREATE TABLE {S}.t (a int); ALTER TABLE {S}.t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {S}.t WITH CHECK (EXISTS (SELECT FROM {S}.u))});
attack('rule, DO ALSO',
	define => q{CREATE TABLE {S}.t (a int); CREATE RULE r AS ON INSERT TO {S}.t DO ALSO SELECT mallory.note('{S}')});
attack('rule, DO INSTEAD',
	define => q{CREATE TABLE {S}.t (a int); CREATE TABLE {S}.u (a int, b boolean);
		CREATE RULE r AS ON INSERT TO {S}.t DO INSTEAD INSERT INTO {S}.u VALUES (NEW.a, mallory.note('{S}'))},
	count => '{S}.u');
attack('rule, DO ALSO, made while the item waits',
	define => 'CREATE TABLE {S}.t (a int)',
	meanwhile => q{CREATE RULE r AS ON INSERT TO {S}.t DO ALSO SELECT mallory.note('{S}')});
attack('view, INSTEAD OF trigger',
	define => q{CREATE TABLE {S}.u (a int); GRANT INSERT ON {S}.u TO bob; CREATE VIEW {S}.t AS SELECT a FROM {S}.u;
		CREATE FUNCTION {S}.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('{S}'); INSERT INTO {S}.u VALUES (NEW.a); RETURN NEW; END $$;
		CREATE TRIGGER x INSTEAD OF INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION {S}.f()},
	count => '{S}.u');
attack('view, CHECK OPTION',
	define => q{CREATE TABLE {S}.u (a int); CREATE VIEW {S}.t AS SELECT a FROM {S}.u WHERE mallory.note('{S}') WITH CHECK OPTION},
	count => '{S}.u');
attack('view, with a DEFAULT',
	define => q{CREATE TABLE {S}.u (a int, b boolean); CREATE VIEW {S}.t AS SELECT a, b FROM {S}.u; ALTER VIEW {S}.t ALTER b SET DEFAULT mallory.note_immutable('{S}')},
	count => '{S}.u');
attack('view, over a table with a DEFAULT and a CHECK',
	define => q{CREATE TABLE {S}.u (a int CHECK (mallory.note('{S}')), b boolean DEFAULT mallory.note_immutable('{S}')); CREATE VIEW {S}.t AS SELECT a FROM {S}.u},
	count => '{S}.u');
attack('view, over a table with a policy, as the view\'s owner',
	define => q{CREATE TABLE {S}.u (a int); ALTER TABLE {S}.u ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
		CREATE POLICY p ON {S}.u WITH CHECK (mallory.note('{S}')); CREATE VIEW {S}.t AS SELECT a FROM {S}.u},
	count => '{S}.u');
attack('view, in place of the table while the item waits',
	define => 'CREATE TABLE {S}.t (a int)',
	meanwhile => q{CREATE TABLE {S}.u (a int); CREATE RULE "_RETURN" AS ON SELECT TO {S}.t DO INSTEAD SELECT a FROM {S}.u;
		CREATE FUNCTION {S}.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('{S}'); RETURN NEW; END $$;
		CREATE TRIGGER x INSTEAD OF INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION {S}.f()},
	expected => '0: bob bob') if $admin->{pg_server_version} < 160000;    # later ones make no view of a table

# ---- partitions, inheritance, other tables

attack('partition, trigger on it alone',
	define => q{CREATE TABLE {S}.t (a int) PARTITION BY LIST (a); CREATE TABLE {S}.p PARTITION OF {S}.t FOR VALUES IN (1);
		CREATE TRIGGER x BEFORE INSERT ON {S}.p FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('{S}')});
attack('partition, deferred trigger of the parent',
	define => q{CREATE TABLE {S}.t (a int) PARTITION BY LIST (a); CREATE TABLE {S}.p PARTITION OF {S}.t DEFAULT;
		CREATE CONSTRAINT TRIGGER x AFTER INSERT ON {S}.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('{S}')});
attack('partition, expression of the key',
	define => q{CREATE TABLE {S}.t (a int) PARTITION BY LIST ((mallory.note_immutable('{S}', a))); CREATE TABLE {S}.p PARTITION OF {S}.t DEFAULT});
attack('partition, expression of the key that whoever opens the table folds',
	define => q{CREATE TABLE {S}.t (a int) PARTITION BY RANGE ((a + mallory.number_immutable('{S}'))); CREATE TABLE {S}.p PARTITION OF {S}.t DEFAULT});
attack('partition, a key to be folded two levels down',
	define => q{CREATE TABLE {S}.t (a int) PARTITION BY LIST (a); CREATE TABLE {S}.p PARTITION OF {S}.t DEFAULT PARTITION BY RANGE ((a + mallory.number_immutable('{S}')));
		CREATE TABLE {S}.q PARTITION OF {S}.p DEFAULT});
attack('partition, attached while the item waits',
	define => q{CREATE TABLE {S}.t (a int) PARTITION BY LIST (a); CREATE TABLE {S}.p (a int, CHECK (mallory.note('{S}')))},
	meanwhile => 'ALTER TABLE {S}.t ATTACH PARTITION {S}.p DEFAULT');

$admin->do("CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '"
	  . $node->host . "', port '" . $node->port . "', dbname 'postgres')");
$admin->do("GRANT USAGE ON FOREIGN SERVER far TO PUBLIC;
	CREATE USER MAPPING FOR bob SERVER far OPTIONS (user 'bob', password_required 'false')");
attack('foreign table, code at the other side',
	define => q{CREATE TABLE {S}.u (a int CHECK (mallory.note('{S}'))); GRANT INSERT ON {S}.u TO bob;
		CREATE FOREIGN TABLE {S}.t (a int) SERVER far OPTIONS (schema_name '{S}', table_name 'u')},
	count => '{S}.u');
attack('foreign table, trigger at this side',
	define => q{CREATE TABLE {S}.u (a int); GRANT INSERT ON {S}.u TO bob;
		CREATE FOREIGN TABLE {S}.t (a int, b boolean) SERVER far OPTIONS (schema_name '{S}', table_name 'u');
		ALTER FOREIGN TABLE {S}.t DROP b;
		CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('{S}')},
	count => '{S}.u');
$admin->do('CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; GRANT USAGE ON FOREIGN SERVER files TO mallory');
is(try_sql($mallory, "CREATE FOREIGN TABLE mallory.files (a text) SERVER files OPTIONS (filename '/etc/passwd')"),
	'42501', 'foreign table of file_fdw: an ordinary role can\'t make one');

# ---- types, casts, operators

attack('cast of the owner\'s, for a column whose type changes while the item waits',
	define => q{CREATE TYPE {S}.e1 AS ENUM ('x'); CREATE TYPE {S}.e2 AS ENUM ('x');
		CREATE FUNCTION {S}.f({S}.e1) RETURNS {S}.e2 LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('{S}'); RETURN 'x'; END $$;
		CREATE CAST ({S}.e1 AS {S}.e2) WITH FUNCTION {S}.f AS ASSIGNMENT; CREATE TABLE {S}.t (a {S}.e1)},
	meanwhile => 'ALTER TABLE {S}.t ALTER a TYPE {S}.e2 USING NULL',
	item => { a => 'x' }, insert => "INSERT INTO {S}.t SELECT 'x'::{S}.e1");
attack('cast of the owner\'s, inlined, for a column whose type changes while the item waits',
	define => q{CREATE TYPE {S}.e1 AS ENUM ('x'); CREATE TYPE {S}.e2 AS ENUM ('x');
		CREATE FUNCTION {S}.f({S}.e1) RETURNS {S}.e2 LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN mallory.note_immutable('{S}') THEN 'x'::{S}.e2 END $$;
		CREATE CAST ({S}.e1 AS {S}.e2) WITH FUNCTION {S}.f AS ASSIGNMENT; CREATE TABLE {S}.t (a {S}.e1)},
	meanwhile => 'ALTER TABLE {S}.t ALTER a TYPE {S}.e2 USING NULL',
	item => { a => 'x' }, insert => "INSERT INTO {S}.t SELECT 'x'::{S}.e1");
attack('domain of the owner\'s, that a column becomes of while the item waits',
	define => q{CREATE DOMAIN {S}.d AS bigint CHECK (mallory.note('{S}')) CHECK (mallory.note_immutable('{S}')); CREATE TABLE {S}.t (a int)},
	meanwhile => 'ALTER TABLE {S}.t ALTER a TYPE {S}.d');
attack('cast of the owner\'s, from text',
	define => q{CREATE TYPE {S}.c AS (x text);
		CREATE FUNCTION {S}.f(text) RETURNS {S}.c LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('{S}'); RETURN ROW('x')::{S}.c; END $$;
		CREATE CAST (text AS {S}.c) WITH FUNCTION {S}.f AS IMPLICIT; CREATE TABLE {S}.t (a {S}.c)},
	item => { a => '{"x": "y"}' }, insert => "INSERT INTO {S}.t SELECT ROW('x')::{S}.c", expected => '1: nobody');
attack('cast of the owner\'s, to jsonb',
	define => q{CREATE TYPE {S}.c AS (x text);
		CREATE FUNCTION {S}.f({S}.c) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('{S}'); RETURN '1'; END $$;
		CREATE CAST ({S}.c AS jsonb) WITH FUNCTION {S}.f AS IMPLICIT; CREATE TABLE {S}.t (a {S}.c)},
	item => { a => '{"x": "y"}' }, insert => "INSERT INTO {S}.t SELECT ROW('x')::{S}.c", expected => '1: nobody');
attack('range, with a subtype_diff of the owner\'s in an index',
	define => q{CREATE FUNCTION {S}.f(float8, float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mallory.note_only('{S}'); RETURN $1 - $2; END $$;
		CREATE TYPE {S}.r AS RANGE (subtype = float8, subtype_diff = {S}.f);
		CREATE TABLE {S}.t (a {S}.r); CREATE INDEX ON {S}.t USING gist (a); INSERT INTO {S}.t SELECT {S}.r(g, g + 1) FROM generate_series(1, 1000) AS g},
	item => { a => '[5000,5001)' }, count => "{S}.t WHERE a = '[5000,5001)'");
attack('enum, composite and collation of the owner\'s',
	define => q{CREATE TYPE {S}.e AS ENUM ('x'); CREATE TYPE {S}.c AS (e {S}.e);
		CREATE COLLATION {S}.k (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
		CREATE TABLE {S}.t (a {S}.c, b text COLLATE {S}.k UNIQUE)},
	item => { a => '{"e": "x"}', b => 'y' }, insert => "INSERT INTO {S}.t SELECT ROW('x')::{S}.c, 'y'", expected => '1: nobody');
# bob's own sessions have mallory's names in front of pg_catalog's
$admin->do('CREATE SCHEMA names AUTHORIZATION mallory; GRANT USAGE ON SCHEMA names TO PUBLIC;
	ALTER ROLE bob SET search_path = names, pg_catalog');
foreach my $type ('int', 'oid', 'bigint', 'name', 'text')
{
	$mallory->do(qq{CREATE FUNCTION names.compare($type, $type) RETURNS boolean LANGUAGE plpgsql AS \$\$ BEGIN RETURN mallory.note('names'); END \$\$;
		CREATE OPERATOR names.= (leftarg = $type, rightarg = $type, function = names.compare);
		CREATE OPERATOR names.<> (leftarg = $type, rightarg = $type, function = names.compare);
		CREATE OPERATOR names.< (leftarg = $type, rightarg = $type, function = names.compare)});
}
$mallory->do(q{CREATE FUNCTION names.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('names'); RETURN pg_catalog.clock_timestamp(); END $$;
	CREATE FUNCTION names.persist_batch() RETURNS SETOF record LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('names'); END $$;
	CREATE FUNCTION names.persist_batch(bigint, anyelement) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('names'); END $$;
	CREATE FUNCTION names.persist_batch_row() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN mallory.note('names'); END $$});
foreach my $type ('int4', 'text', 'bool', 'int8', 'oid', 'jsonb')
{
	$mallory->do("CREATE DOMAIN names.$type AS pg_catalog.$type CHECK (mallory.note('names'))");
}
reconnect();
attack('operators, functions and types with built-in names, in front of pg_catalog',
	define => q{CREATE TABLE {S}.t (a int, b text, c boolean GENERATED ALWAYS AS (a = 1) STORED);
		CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW WHEN (NEW.a = 1) EXECUTE FUNCTION mallory.by_trigger('{S}')},
	item => { a => 1, b => 'x' });
is(ran_in($node, 'names'), 'nobody', 'nothing has met those names');
$admin->do('ALTER ROLE bob RESET search_path');
reconnect();

# What a batch leaves in pg_temp meets the worker's own statements, and the next role's.
$mallory->do(q{
	CREATE TABLE mallory.temporary (a int);
	CREATE FUNCTION mallory.make_temporary() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE 'CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (mallory.note(''pg_temp''))';
		EXECUTE 'CREATE DOMAIN pg_temp.int8 AS pg_catalog.int8 CHECK (mallory.note(''pg_temp''))';
		EXECUTE 'CREATE FUNCTION pg_temp.persist_batch() RETURNS SETOF record LANGUAGE sql AS ''SELECT mallory.note(''''pg_temp'''')''';
		EXECUTE 'CREATE TEMP TABLE mallory_t (a int)';
		EXECUTE 'CREATE TEMP TABLE pg_class (oid oid)';
		PERFORM pg_catalog.set_config('search_path', 'pg_temp, pg_catalog', false);
		RETURN NEW;
	END $$;
	CREATE TRIGGER x BEFORE INSERT ON mallory.temporary FOR EACH ROW EXECUTE FUNCTION mallory.make_temporary();
	CREATE TABLE mallory.then_(a int, b text);
	GRANT INSERT ON mallory.temporary, mallory.then_ TO bob, alice});
arm($node);
do_as($node, 'mallory', q{SELECT persist_enqueue('mallory.temporary'::regclass, '{"a": 1}')});
do_as($node, 'mallory', q{SELECT persist_enqueue('mallory.then_'::regclass, '{"a": 1, "b": "x"}')});
do_as($node, 'alice', q{SELECT persist_enqueue('mallory.then_'::regclass, '{"a": 2, "b": "x"}')});
ok(settled($node), 'domains and functions in pg_temp: the pipeline goes on');
is(one_value($admin, 'SELECT count(*) FROM mallory.then_'), 2, 'domains and functions in pg_temp: later items land');
unlike(ran_in($node, 'pg_temp'), qr/\Q$superuser\E|bob|alice/, 'domains and functions in pg_temp: they meet no one else');

# ---- what an ordinary role can't make

is(try_sql($mallory, 'CREATE OPERATOR CLASS mallory.c FOR TYPE int USING btree AS OPERATOR 1 <'), '42501', 'operator class: an ordinary role can\'t make one');
is(try_sql($mallory, q{CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION mallory.note()}), '42501', 'event trigger: an ordinary role can\'t make one');
isnt(try_sql($mallory, q{CREATE OPERATOR mallory.&& (leftarg = int, rightarg = int, function = mallory.nothing);
	CREATE TABLE mallory.x (a int, EXCLUDE USING gist (a WITH OPERATOR(mallory.&&)))}), '00000', 'exclusion constraint: with an operator of no class it can\'t be made');
isnt(try_sql($mallory, 'CREATE TYPE mallory.b (INPUT = byteain, OUTPUT = byteaout)'), '00000', 'base type: an ordinary role can\'t make one');

# A superuser has made one with mallory's function.  The pipeline's own work is no DDL.
$mallory->do(q{CREATE FUNCTION mallory.by_event() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('event'); END $$;
	CREATE TABLE mallory.plain (a int); GRANT INSERT ON mallory.plain TO bob});
$admin->do("CREATE EVENT TRIGGER on_$_ ON $_ EXECUTE FUNCTION mallory.by_event()") foreach 'ddl_command_start', 'ddl_command_end', 'sql_drop';
arm($node);
do_as($node, 'bob', q{SELECT persist_enqueue('mallory.plain'::regclass, '{"a": 1}')});
do_as($node, 'bob', q{SELECT persist_enqueue('mallory.plain'::regclass, '{"a": 99999}', false)});
ok(settled($node), 'event trigger: the pipeline goes on');
$admin->do("SELECT persist_configure('mallory.plain', durability => 'ring')");
$admin->do("SELECT persist_unconfigure('mallory.plain')");
stop_worker($node);
is(ran_in($node, 'event'), 'nobody', 'event trigger: neither the worker nor persist_configure() fires it');
$admin->do("DROP EVENT TRIGGER on_$_") foreach 'sql_drop', 'ddl_command_start', 'ddl_command_end';
# ---- what a trigger does besides

# What runs at the COMMIT, after all triggers.
attack('trigger, a cursor WITH HOLD that is run at the COMMIT',
	define => q{CREATE TABLE {S}.t (a int);
		CREATE FUNCTION {S}.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DECLARE "{S}" CURSOR WITH HOLD FOR SELECT mallory.note(''{S}'')'; RETURN NEW; END $$;
		CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION {S}.f()});
attack('trigger, a temporary table ON COMMIT DELETE ROWS with a predicate',
	define => q{CREATE TABLE {S}.t (a int);
		CREATE FUNCTION {S}.f() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			EXECUTE 'CREATE TEMP TABLE "{S}" (a int) ON COMMIT DELETE ROWS';
			EXECUTE 'CREATE INDEX ON pg_temp."{S}" (a) WHERE mallory.note_immutable(''{S}'')';
			EXECUTE 'CREATE INDEX ON pg_temp."{S}" ((mallory.note_immutable(''{S}'', a)))';
			EXECUTE 'INSERT INTO pg_temp."{S}" VALUES (1)';
			RETURN NEW;
		END $$;
		CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION {S}.f()});

# A parallel worker gets its identity anew.
attack('trigger, a parallel query in it',
	define => q{CREATE TABLE {S}.t (a int, who text);
		CREATE FUNCTION {S}.who() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN RETURN concat_ws(' ', current_user, session_user, current_setting('is_superuser'), pg_backend_pid()); END $$;
		CREATE FUNCTION {S}.f() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM set_config(CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'force_parallel_mode' ELSE 'debug_parallel_query' END, 'on', true);
			EXECUTE 'SELECT {S}.who()' INTO NEW.who;    -- with INTO alone, a query isn't parallel
			NEW.who := replace(NEW.who, pg_backend_pid()::text, 'the leader');
			RETURN NEW;
		END $$;
		CREATE TRIGGER x BEFORE INSERT ON {S}.t FOR EACH ROW EXECUTE FUNCTION {S}.f()},
	count => "{S}.t WHERE who ~ '^bob bob off [0-9]+\$'", expected => '1: nobody');

# DDL on what the same batch goes into, and on the role's other targets
$mallory->do(q{
	CREATE TABLE mallory.first (a int);
	CREATE TABLE mallory.second (a int);
	CREATE TABLE mallory.third (a int);
	CREATE FUNCTION mallory.ddl() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		command text;
	BEGIN
		FOREACH command IN ARRAY ARRAY['DROP TABLE mallory.second', 'ALTER TABLE mallory.third ALTER a TYPE text', 'ALTER TABLE mallory.first ADD b int',
			'TRUNCATE mallory.first', 'ALTER TABLE mallory.first OWNER TO bob', 'CREATE TABLE mallory.fourth ()', 'DROP EXTENSION persist_pipeline',
			'LOCK TABLE mallory.third'] LOOP
			BEGIN
				EXECUTE command;
			EXCEPTION
				WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		PERFORM mallory.note('ddl');
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER x AFTER INSERT ON mallory.first DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.ddl();
	CREATE TABLE mallory.innocent (a int); GRANT INSERT ON mallory.innocent TO bob});
arm($node);
do_as($node, 'mallory', join ';', map { "SELECT persist_enqueue('mallory.$_'::regclass, '{\"a\": 1}')" } 'first', 'second', 'third');
do_as($node, 'bob', q{SELECT persist_enqueue('mallory.innocent'::regclass, '{"a": 1}')});
ok(settled($node), 'DDL in a trigger, on targets of the batch: flushed');
is(one_value($admin, 'SELECT count(*) FROM mallory.innocent'), 1, "DDL in a trigger: another role's item lands");
is(ran_in($node, 'ddl'), 'mallory mallory', 'DDL in a trigger: nobody else runs it');

# The rows of the batch are for its INSERT alone.
$mallory->do(q{
	CREATE TABLE mallory.asks (a int);
	CREATE TABLE mallory.stolen (what text);
	GRANT INSERT ON mallory.asks, mallory.stolen TO bob;
	CREATE FUNCTION mallory.ask() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		f pg_catalog.text;
		arguments pg_catalog.text;
		rows bigint;
	BEGIN
		FOR f IN SELECT p.oid::regproc FROM pg_proc AS p WHERE p.proname LIKE 'persist\_batch%' AND p.pronamespace <> 'mallory'::regnamespace AND p.pronamespace <> 'names'::regnamespace LOOP
			FOREACH arguments IN ARRAY ARRAY['', '0, NULL::mallory.asks', '1, NULL::mallory.asks', '-1, NULL::mallory.asks', 'NULL, NULL::mallory.asks', '1, NULL::int'] LOOP
				BEGIN
					BEGIN
						EXECUTE format('SELECT count(*) FROM %s(%s) AS b(a int)', f, arguments) INTO rows;
					EXCEPTION
						WHEN syntax_error OR datatype_mismatch THEN
							EXECUTE format('SELECT count(*) FROM %s(%s) AS b', f, arguments) INTO rows;
					END;
					IF rows > 0 AND f !~ 'batch_row' THEN
						INSERT INTO mallory.stolen VALUES (format('%s rows by %s(%s)', rows, f, arguments));
					END IF;
				EXCEPTION
					WHEN OTHERS THEN NULL;
				END;
			END LOOP;
		END LOOP;
		RETURN NEW;
	END $$;
	CREATE TRIGGER x BEFORE INSERT ON mallory.asks EXECUTE FUNCTION mallory.ask();
	CREATE TRIGGER y BEFORE INSERT ON mallory.asks FOR EACH ROW EXECUTE FUNCTION mallory.ask();
	CREATE TRIGGER z AFTER INSERT ON mallory.asks EXECUTE FUNCTION mallory.ask()});
do_as($node, 'bob', q{SELECT persist_enqueue('mallory.asks'::regclass, jsonb_build_object('a', i)) FROM generate_series(1, 10) AS i});
ok(settled($node), 'a trigger asks for the rows of the batch: flushed');
is(one_value($admin, q{SELECT string_agg(what, ', ') FROM mallory.stolen}), undef, 'a trigger asks for the rows of the batch, and gets none');
is(one_value($admin, q{SELECT string_agg(a::text, ' ' ORDER BY a) FROM mallory.asks}), join(' ', 1 .. 10), 'a trigger asks for the rows of the batch: each lands once');

# ---- what a plain INSERT would refuse: domains that got a CHECK while the item waited

$mallory->do(join ';', map { "CREATE DOMAIN mallory.d$_ AS int" } 1 .. 4);
my %nested = (
	'a domain' => [ 'mallory.d1', '-1', q{-1} ],
	'a domain over it' => [ 'mallory.e2', '-1', q{-1} ],
	'a domain that is NOT NULL now' => [ 'mallory.d3', 'null', 'NULL' ]);
$mallory->do('CREATE DOMAIN mallory.e2 AS mallory.d2; CREATE TABLE mallory.holds (a mallory.d4[])');
my %table_of = map { $_ => 'mallory.w_' . $_ =~ tr/ /_/r } sort keys %nested;
$admin->do('SELECT persist_pause()');
foreach my $what (sort keys %nested)
{
	$mallory->do("CREATE TABLE $table_of{$what} (a $nested{$what}[0]); GRANT INSERT ON $table_of{$what} TO bob");
	do_as($node, 'bob', "SELECT persist_enqueue('$table_of{$what}'::regclass, '{\"a\": $nested{$what}[1]}')");
}
$mallory->do("ALTER DOMAIN mallory.d$_ ADD CHECK (VALUE > 0)") foreach 1, 2;
$mallory->do('ALTER DOMAIN mallory.d3 SET NOT NULL');
isnt(try_sql($mallory, 'ALTER DOMAIN mallory.d4 ADD CHECK (VALUE > 0)'), '00000', 'a domain in arrays of a table gets none');
$admin->do('SELECT persist_resume()');
ok(settled($node), 'CHECKs that domains got while items waited: flushed');
foreach my $what (sort keys %nested)
{
	like(try_sql(session($node, 'bob'), "INSERT INTO $table_of{$what} VALUES ($nested{$what}[2])"), qr/^2350[2-4]|^23514/, "$what: a plain INSERT is refused");
	is(one_value($admin, "SELECT count(*) FROM $table_of{$what}"), 0, "$what: so is the item that waited");
}

is(one_value($admin, "SELECT string_agg(target_name, ', ') FROM persist_dead_letters WHERE sqlstate NOT IN ('42804', '23514', '23502')"), undef,
	'no other item of an attack is a dead letter');
$admin->do('SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');

# ---- what administrators call

my $bob = session($node, 'bob');

# Everything of a table and a view that could run.  z depends on nothing.
$mallory->do(
	q{
	CREATE DOMAIN mallory.checked AS int DEFAULT 7 CHECK (mallory.note('adm')) CHECK (mallory.note_immutable('adm'));
	CREATE TYPE mallory.shown AS (x int);
	CREATE FUNCTION mallory.show(mallory.shown) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('adm'); RETURN '1'; END $$;
	CREATE CAST (mallory.shown AS json) WITH FUNCTION mallory.show;
	CREATE FUNCTION mallory.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM mallory.note('adm');
		IF NEW.a < 0 THEN RAISE 'no'; END IF;
		RETURN NEW;
	END $$;
} . join '', map { qq{
	CREATE TABLE mallory.$_ (
		a int CHECK (mallory.note_immutable('adm')), z int,
		b boolean DEFAULT mallory.note_immutable('adm'),
		c boolean DEFAULT mallory.note('adm'),
		d boolean GENERATED ALWAYS AS (mallory.note_immutable('adm')) STORED,
		e mallory.checked, f mallory.shown);
	CREATE INDEX ON mallory.$_ (a) WHERE mallory.note_immutable('adm');
	CREATE INDEX ON mallory.$_ ((mallory.note_immutable('adm')));
	CREATE RULE r AS ON INSERT TO mallory.$_ DO ALSO SELECT mallory.note_immutable('adm');
	CREATE POLICY p ON mallory.$_ WITH CHECK (mallory.note_immutable('adm'));
	ALTER TABLE mallory.$_ ENABLE ROW LEVEL SECURITY;
	CREATE TRIGGER x BEFORE INSERT ON mallory.$_ FOR EACH ROW EXECUTE FUNCTION mallory.refuse();
	CREATE VIEW mallory.${_}_view AS SELECT a, z, b FROM mallory.$_ WHERE mallory.note_immutable('adm');
	ALTER VIEW mallory.${_}_view ALTER b SET DEFAULT mallory.note_immutable('adm');
	GRANT INSERT ON mallory.$_, mallory.${_}_view TO bob;
} } 'adm', 'control');
$mallory->do(q{CREATE TABLE mallory.adm_domain (e mallory.checked); CREATE TABLE mallory.adm_parted (a int) PARTITION BY RANGE ((a + mallory.number_immutable('adm')));
	CREATE TABLE mallory.adm_part PARTITION OF mallory.adm_parted DEFAULT});
$admin->do('CREATE ROLE clerk LOGIN; GRANT bob TO clerk; GRANT SELECT ON persist_dead_letters, persist_stats, persist_queue TO clerk;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO clerk');

arm($node);
foreach my $target ('mallory.adm', 'mallory.adm_view', 'mallory.adm_domain', 'mallory.adm_parted')
{
	foreach my $call (
		"persist_flush('1 s', '$target')",
		"persist_configure('$target', durability => 'journal')",
		"persist_configure('$target', bad_items => 'dead')",
		"persist_pause('$target')",
		"persist_resume('$target')",
		"persist_unconfigure('$target')",
		"persist_enqueue_many('$target', '[]')")
	{
		my $new = connect_to($node);    # that hasn't looked at anything yet
		my $state = try_sql($new, "SELECT $call");

		$new->disconnect;
		is("$state " . ran_in($node, 'adm'), '00000 nobody', "a superuser's $call runs nothing of the owner's");
		$admin->do('TRUNCATE mallory.ran');
	}
}
disarm($node);
$admin->do("SELECT persist_configure('mallory.adm', bad_items => 'dead')");
arm($node);

# letters: an item that fails, and one that has never been an item
$bob->do(q{SELECT persist_enqueue('mallory.adm'::regclass, '{"a": -1, "f": {"x": 1}}')});
$bob->do(q{SELECT persist_enqueue('mallory.adm'::regclass, '{"a": -2, "f": {"x": 1}}')});
$bob->do(q{SELECT persist_enqueue('mallory.adm'::regclass, '{"a": 3, "later": 1}')});
ok(settled($node), 'letters: flushed');
is(one_value($admin, 'SELECT count(*) FROM persist_dead_letters'), 3, 'letters: there they are');
is(ran_in($node, 'adm'), 'bob bob', 'letters: values are shown with the enqueuer\'s rights');
my ($failed, $repaired, $never) = map { $_->[0] } @{ $admin->selectall_arrayref('SELECT id FROM persist_dead_letters ORDER BY id') };

foreach my $look ('persist_dead_letters', 'persist_my_dead_letters', 'persist_stats', 'persist_queue', 'persist_shutdowns', 'persist_metrics', 'persist_settings', 'persist_parked')
{
	$admin->do('TRUNCATE mallory.ran');
	my $state = try_sql($admin, "SELECT row_to_json(x) FROM $look AS x");

	is("$state " . ran_in($node, 'adm'), '00000 nobody', "a superuser looks at $look");
}

disarm($node);
$mallory->do("ALTER TABLE mallory.adm ADD later mallory.checked");
foreach my $caller ('', 'clerk')
{
	my $who = $caller || 'a superuser';

	foreach my $call ("persist_requeue(ARRAY[$failed])", 'persist_requeue()', "persist_requeue($repaired, '{\"a\": -4}')", "persist_requeue(ARRAY[$never])")
	{
		arm($node);
		my $new = connect_to($node, 'postgres', $caller ? (user => $caller) : ());
		my $state = try_sql($new, "SELECT $call");
		my $flushed = settled($node);

		# that the session is another's is all that it can see
		unlike(ran_in($node, 'adm'), qr/(?:^|, )(?!bob |nobody)|:/, "$who calls $call: code runs as the letter's role");
		is($flushed, 1, "$who calls $call: flushed");
		$new->disconnect;
	}
	is(one_value($admin, "SELECT count(*) FROM persist_dead_letters WHERE id IN ($failed, $repaired)"), 2, "$who: what fails again is a letter again");
	$bob->do(q{SELECT persist_enqueue('mallory.adm'::regclass, '{"a": 3, "later2": 1}')});
	ok(settled($node), "$who: flushed");
	$never = one_value($admin, 'SELECT max(id) FROM persist_dead_letters');
	disarm($node);
	$mallory->do("ALTER TABLE mallory.adm ADD later2 mallory.checked") if !$caller;
}

# commands on a table with letters and items that wait, beside the same on one without
arm($node);
$admin->do("SELECT persist_pause('mallory.adm')");
$bob->do(q{SELECT persist_enqueue('mallory.adm'::regclass, '{"a": 1}')});
settled($node);
foreach my $command ('ALTER TABLE %s DROP z CASCADE', 'ALTER TABLE %s ADD y int', 'ALTER TABLE %s RENAME a TO aa', 'ALTER TABLE %s OWNER TO alice', 'TRUNCATE %s', 'DROP TABLE %s CASCADE')
{
	my %ran;

	foreach my $table ('mallory.adm', 'mallory.control')
	{
		$admin->do('TRUNCATE mallory.ran');
		my $new = connect_to($node);
		my $state = try_sql($new, sprintf $command, $table);

		$new->disconnect;
		$ran{$table} = "$state " . ran_in($node, 'adm');
	}
	is($ran{'mallory.adm'}, $ran{'mallory.control'}, "a superuser's " . sprintf($command, 'table') . ': runs what it runs without the extension');
	unlike($ran{'mallory.control'}, qr/\Q$superuser\E \Q$superuser\E/, '... which is nothing with his rights');
}
$admin->do('TRUNCATE mallory.ran');
$admin->do("SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))");
# the item that was parked is tried again, and finds no table
ok(wait_until('nothing waits', sub { settled($node) }), 'letters: flushed');
is(ran_in($node, 'adm'), 'nobody', 'a superuser drops letters: nothing runs');

# What a default leaves in the administrator's session, when he sends a repaired letter.
reconnect();
$mallory->do(q{
	CREATE TABLE mallory.deferred (a int); GRANT INSERT ON mallory.deferred TO PUBLIC;
	CREATE CONSTRAINT TRIGGER x AFTER INSERT ON mallory.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('at the commit');
	CREATE FUNCTION mallory.leave() RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		command text;
	BEGIN
		FOREACH command IN ARRAY ARRAY['INSERT INTO mallory.deferred VALUES (1)', 'CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (mallory.note(''left behind''))',
			'SET search_path = mallory', 'SET app.left = ''x''', 'PREPARE left_behind AS SELECT 1', 'SET ROLE bob', 'DECLARE left_behind CURSOR WITH HOLD FOR SELECT mallory.note(''left behind'')',
			'SET SESSION AUTHORIZATION bob', 'SET row_security = off', 'LISTEN left_behind'] LOOP
			BEGIN
				EXECUTE command;
			EXCEPTION
				WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		RETURN 1;
	END $$;
	CREATE TABLE mallory.leaves (a int CHECK (a > 0), b int DEFAULT mallory.leave(), c text);
	GRANT INSERT ON mallory.leaves TO bob});
do_as($node, 'bob', q{SELECT persist_enqueue('mallory.leaves'::regclass, '{"a": -1, "b": 1}')});
ok(settled($node), 'a default that leaves things: flushed');
my $me = q{SELECT concat_ws(' ', current_user, session_user, current_setting('search_path'), current_setting('row_security'))};
my $before = one_value($admin, $me);
arm($node);
is(try_sql($admin, q{SELECT persist_requeue(id, '{"a": 2, "c": "x"}') FROM persist_dead_letters WHERE target = 'mallory.leaves'::regclass}), '00000', 'a default that leaves things: a superuser sends the letter');
is(one_value($admin, $me), $before, '... and is who he was');
is(one_value($admin, q{SELECT string_agg(x, ', ') FROM (SELECT 'statement' FROM pg_prepared_statements WHERE name = 'left_behind' UNION ALL SELECT 'cursor' FROM pg_cursors WHERE name = 'left_behind'
	UNION ALL SELECT 'listening' FROM pg_listening_channels() UNION ALL SELECT 'setting' WHERE current_setting('app.left', true) = 'x'
	UNION ALL SELECT 'type' FROM pg_type WHERE typname = 'text' AND typnamespace = pg_my_temp_schema()) AS x (x)}), undef, '... with nothing left in his session');
try_sql($admin, q{SELECT 'x'::text});
unlike(ran_in($node, 'at the commit') . ', ' . ran_in($node, 'left behind'), qr/(?:^|, )\Q$superuser\E /, '... and nothing runs as him at the commit, or later');
ok(settled($node), 'a default that leaves things: flushed');
is(one_value($admin, q{SELECT count(*) FROM mallory.leaves}), 1, '... and the row is there');

is_deeply([ log_since($node, $everything_from, qr/terminated by signal|PANIC|TRAP/) ], [], 'nothing has crashed');
$node->stop;
done_testing();
