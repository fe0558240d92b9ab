
# The extension's own tables, sequences and names.  Whoever can write them could write
# items in any role's name.  So nothing is granted at creation, whatever the default
# privileges are, and what is granted later gives no write.  And what others name as
# the extension names its own is not met by it.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Attack;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'tables',
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.misfit_timeout' => 0,
	'persist_pipeline.max_databases' => 10,
	max_replication_slots => 10,
	max_wal_senders => 10,
	max_worker_processes => 20,
	wal_level => 'logical',
	autovacuum => 'off');
my $everything_from = log_position($node);
my $admin = session($node, '');
my $superuser = one_value($admin, 'SELECT current_user::text');

create_actors($node);

# A database with the extension, made after some statements; its session.
sub database
{
	my ($name, %option) = @_;

	$admin->do("CREATE DATABASE $name" . ($option{owner} ? " OWNER $option{owner}" : ''));
	my $dbh = session($node, '', $name);

	$dbh->do($option{before}) if $option{before};
	my ($out, $warnings) = ('', '');
	$node->psql($name, $option{create} || 'CREATE EXTENSION persist_pipeline', stdout => \$out, stderr => \$warnings);
	return ($dbh, $warnings);
}

# ---- what an ordinary role may do with what the extension has made

sub surface
{
	my ($database) = @_;

	return join "\n", map { $_->[0] } @{
		session($node, '', $database)->selectall_arrayref(
			q{
		WITH member AS (
			SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
			WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'persist_pipeline')
		SELECT format('%s on %s', p, c.relname)
		FROM member JOIN pg_class AS c ON c.oid = objid AND classid = 'pg_class'::regclass,
			unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p
		WHERE c.relkind IN ('r', 'v', 'm') AND has_table_privilege('mallory', c.oid, p)
		UNION ALL
		SELECT format('%s on %s', p, c.relname)
		FROM member JOIN pg_class AS c ON c.oid = objid AND classid = 'pg_class'::regclass,
			unnest('{USAGE,SELECT,UPDATE}'::text[]) AS p
		WHERE c.relkind = 'S' AND has_sequence_privilege('mallory', c.oid, p)
		UNION ALL
		SELECT format('EXECUTE on %s', f.oid::regprocedure)
		FROM member JOIN pg_proc AS f ON f.oid = objid AND classid = 'pg_proc'::regclass
		WHERE has_function_privilege('mallory', f.oid, 'EXECUTE')
		UNION ALL
		SELECT format('%s on schema %s', p, n.nspname)
		FROM member JOIN pg_namespace AS n ON n.oid = objid AND classid = 'pg_namespace'::regclass,
			unnest('{CREATE}'::text[]) AS p
		WHERE has_schema_privilege('mallory', n.oid, p)
		ORDER BY 1})
	};
}

database('fresh');
my $fresh = surface('fresh');
is(join(', ', grep { !/^EXECUTE/ } split /\n/, $fresh), 'SELECT on persist_my_dead_letters, SELECT on persist_parked, SELECT on persist_settings', 'an ordinary role may read persist_settings, and what shows him what is his, and do nothing else with tables and sequences');
unlike($fresh, qr/EXECUTE on (?:[\w.]*\.)?(?:persist_enqueue\w*|persist_flush|persist_requeue|persist_discard\(bigint|persist_\w+_rows)\(/, '... and executes none of what enqueues, flushes or handles letters');
database('generous',
	before => 'ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO mallory, PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO mallory, PUBLIC;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO mallory; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO mallory, PUBLIC;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO mallory;
		ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO mallory; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO mallory;
		ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO mallory');
is(surface('generous'), $fresh, 'default privileges that give everything give nothing of the extension\'s');
database('hardened', before => 'ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC');
is(surface('hardened'), $fresh, 'default privileges that take everything take nothing that ordinary roles need');

# ---- writes, by whoever got them granted

$admin->do('CREATE ROLE all_data LOGIN; GRANT pg_read_all_data, pg_write_all_data TO all_data; CREATE ROLE granted LOGIN');
foreach my $schema (sort { $a cmp $b } keys %{ { map { $_->{schema} => 1 } member_relations($node) } })
{
	$admin->do("GRANT USAGE ON SCHEMA $schema TO granted, all_data; GRANT ALL ON ALL TABLES IN SCHEMA $schema TO granted;
		GRANT ALL ON ALL SEQUENCES IN SCHEMA $schema TO granted");
}
allow_to_enqueue($admin, 'all_data', 'granted');
do_as($node, 'mallory', q{
	CREATE TABLE mallory.target (a int);
	CREATE TABLE mallory.trap (a int);
	CREATE FUNCTION mallory.spring() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM mallory.note('trap'); IF NEW.a < 0 THEN RAISE 'no'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER x BEFORE INSERT ON mallory.trap FOR EACH ROW EXECUTE FUNCTION mallory.spring();
	GRANT INSERT ON mallory.target, mallory.trap TO PUBLIC});

# rows everywhere: a letter, something parked, something in the journal, a stop, settings
arm($node);
$admin->do("SELECT persist_configure('mallory.target', durability => 'journal')");
do_as($node, 'all_data', q{SELECT persist_enqueue('mallory.trap'::regclass, '{"a": -1}')});
ok(settled($node), 'flushed');
wait_until('a stop of the worker', sub {
	do_as($node, 'all_data', q{SELECT persist_enqueue('mallory.target'::regclass, '{"a": 0}')});
	stop_worker($node);
	return one_value($admin, 'SELECT count(*) FROM persist_shutdowns');
});
ok(settled($node), 'flushed');
$admin->do("SELECT persist_pause('mallory.target')");
do_as($node, 'bob', q{SELECT persist_enqueue('mallory.target'::regclass, '{"a": 1}')});
settled($node);
wait_for_sql($admin, 'SELECT items_parked = 1 FROM persist_queue WHERE datname = current_database()');
$admin->do('SELECT persist_pause()');
do_as($node, 'all_data', q{SELECT persist_enqueue('mallory.trap'::regclass, '{"a": 1}')});

my @tables = member_relations($node, undef, 'r');
my $contents = sub {
	return join ', ', map { "$_->{relname} " . one_value($admin, "SELECT md5(string_agg(x::text, ' ' ORDER BY x::text)) FROM $_->{name} AS x") } @tables;
};
my $before = $contents->();

# COPY goes by its own protocol
sub copy_from
{
	my ($dbh, $table, $columns, $values) = @_;
	my $line = join "\t", map { s/^'|'$|'::.*//gr } map { one_value($admin, "SELECT ($_)::text") =~ s/\\/\\\\/gr } @$values;
	local $dbh->{RaiseError} = 0;

	return $dbh->state if !defined $dbh->do("COPY $table ($columns) FROM STDIN");
	$dbh->pg_putcopydata("$line\n");
	return $dbh->pg_putcopyend ? '00000' : $dbh->state;
}

foreach my $who ('all_data', 'granted', 'granted, without the USAGE', '', 'a superuser, session_replication_role = replica')
{
	my $dbh = session($node, $who eq 'all_data' ? $who : $who =~ /^granted/ ? 'granted' : '');
	my $name = $who || 'a superuser';
	my $is_superuser = $name =~ /superuser/;
	my %taken;

	$dbh->do('SET session_replication_role = replica') if $name =~ /replica/;
	foreach my $table (@tables)
	{
		my ($columns, $values) = valid_row($node, $table);
		my ($first) = $columns =~ /^([^,]+)/;
		my $t = $table->{name};
		my %statement = (
			INSERT => "INSERT INTO $t ($columns) VALUES ($values)",
			'INSERT ... SELECT' => "INSERT INTO $t ($columns) SELECT $columns FROM $t",
			UPDATE => "UPDATE $t SET $first = $first",
			DELETE => "DELETE FROM $t",
			TRUNCATE => "TRUNCATE $t",
			MERGE => "MERGE INTO $t AS t USING (VALUES (1)) AS v ON false WHEN NOT MATCHED THEN INSERT ($columns) VALUES ($values)",
			'COPY' => [ $t, $columns, $values ]);

		# a row of it is what a dump restores
		delete @statement{ 'INSERT', 'MERGE', 'COPY', 'INSERT ... SELECT' } if $is_superuser && $table->{relname} eq 'persist_settings';
		foreach my $verb (sort keys %statement)
		{
			$dbh->begin_work;
			my $state = ref $statement{$verb}
			  ? copy_from($dbh, $t, $columns, [ split /, (?![^(]*\))/, $values ])
			  : try_sql($dbh, $statement{$verb});
			$dbh->rollback;
			$taken{$verb} ||= '';
			$taken{$verb} .= " $table->{relname}" if $state !~ /^(?:42501|55000|0A000|42809)$/;
		}
	}
	is($taken{$_}, '', "$name: $_ is refused") foreach sort keys %taken;
	$dbh->do('RESET session_replication_role') if $name =~ /replica/;
	next if $who ne 'granted';
	$admin->do("REVOKE USAGE ON SCHEMA $_ FROM granted") foreach grep { $_ ne 'public' } map { $_->{schema} } @tables;
}

# what may be written: the settings of one's own table, as a dump does it
my ($settings) = grep { $_->{relname} eq 'persist_settings' } @tables;
my ($columns, $values) = valid_row($node, $settings);
$admin->do("GRANT INSERT, UPDATE, DELETE ON $settings->{name} TO mallory");
do_as($node, 'mallory', 'CREATE TABLE mallory.restored (a int)');
do_as($node, 'bob', 'CREATE SCHEMA bobs; CREATE TABLE bobs.t (a int); GRANT USAGE ON SCHEMA bobs TO mallory');
sub settings_for { my ($target) = @_; return $values =~ s/'mallory\.target'(?:::regclass::oid)?/'$target'::regclass/r; }
is(try_sql(session($node, 'mallory'), "INSERT INTO $settings->{name} ($columns) VALUES (" . settings_for('bobs.t') . ')'), '42501', 'persist_settings: no row for another\'s table');
is(try_sql(session($node, 'mallory'), "INSERT INTO $settings->{name} ($columns) VALUES (" . settings_for('mallory.restored') . ')'), '00000', 'persist_settings: a row for one\'s own table');
is(copy_from($admin, $settings->{name}, $columns, [ split /, (?![^(]*\))/, settings_for('bobs.t') ]), '00000', 'persist_settings: a superuser restores any');
$admin->do("SELECT persist_unconfigure('mallory.restored')");
$admin->do("SELECT persist_unconfigure('bobs.t')");
is($contents->(), $before, 'the tables are what they were');

# reading: the items of others are no one's business
is(join(' ', map { $_->{relname} } grep {
	my $table = $_;
	eval { one_value(session($node, 'all_data'), "SELECT count(*) FROM $table->{name}") }
} item_tables($node)), '', 'a member of pg_read_all_data reads no item');

# ---- forged items, to the end: rows copied in role 10's name

my @forged;
foreach my $who ('all_data', 'granted')
{
	foreach my $table (grep { (valid_row($node, $_))[0] =~ /\brole\b/ } @tables)
	{
		my $names = (valid_row($node, $table))[0];
		my $copies = $names =~ s/\brole\b/10/r =~ s/\bpart\b/part + 100/r;

		foreach my $sql ("INSERT INTO $table->{name} ($names) SELECT $copies FROM $table->{name}", "UPDATE $table->{name} SET role = 10")
		{
			push @forged, "$who: $table->{relname}" if try_sql(session($node, $who), $sql) eq '00000';
		}
	}
}
is(join(', ', @forged), '', 'no row is forged');

# code on them: with TRIGGER granted, the extension's own writes must not meet it
my @hooked = grep { try_sql(session($node, 'granted'), "CREATE TRIGGER hook BEFORE INSERT OR UPDATE OR DELETE ON $_->{name} FOR EACH ROW EXECUTE FUNCTION mallory.by_trigger('hook')") eq '00000' } @tables;
push @hooked, grep { try_sql(session($node, 'granted'), "CREATE TRIGGER hook2 AFTER INSERT OR UPDATE OR DELETE ON $_->{name} EXECUTE FUNCTION mallory.by_trigger('hook')") eq '00000' } @tables;
is(try_sql(session($node, $_->[0]), "DO 'BEGIN LOCK TABLE $_->[1]{name}; END'"), '42501', "$_->[0]: LOCK TABLE $_->[1]{relname} is refused")
  foreach map { my $table = $_; map { [ $_, $table ] } qw(granted all_data) } grep { $_->{relname} ne 'persist_settings' } @tables;
session($node, 'all_data')->do('CREATE VIEW pg_temp.through AS SELECT * FROM persist_pipeline_internal.persist_journal_1');
is(try_sql(session($node, 'all_data'), "DO 'BEGIN LOCK TABLE $_; END'"), '42501', "LOCK TABLE $_ is refused")
  foreach 'pg_temp.through', 'persist_dead_letters', 'persist_settings';
# Whoever can name a table can wait for a strong lock on it, whatever his rights; and those
# who enqueue would wait behind him.
$admin->do("SELECT persist_grant('bob')");
my $locker = connect_to($node);
foreach my $who ('bob', 'all_data')
{
	my $dbh = connect_to($node, 'postgres', user => $who);

	$admin->do("CREATE SCHEMA waits AUTHORIZATION $who");
	$dbh->do($_) foreach 'CREATE TABLE waits.parent (pos bigint) PARTITION BY RANGE (pos)', 'CREATE TABLE waits.other (a bigint)', "SET lock_timeout = '100ms'";
	foreach my $table (@tables)
	{
		my $t = $table->{name};
		my %statement = (
			'LOCK TABLE' => "DO 'BEGIN LOCK TABLE $t; END'",
			TRUNCATE => "TRUNCATE $t",
			'foreign key' => "CREATE TABLE waits.child (a bigint, FOREIGN KEY (a) REFERENCES $t (pos))",
			'foreign key of a column' => "CREATE TABLE waits.child (a bigint REFERENCES $t (pos))",
			'foreign key added' => "ALTER TABLE waits.other ADD FOREIGN KEY (a) REFERENCES $t (pos)",
			'foreign key added with a column' => "ALTER TABLE waits.other ADD b bigint REFERENCES $t (pos)",
			trigger => "CREATE TRIGGER t BEFORE INSERT ON $t EXECUTE FUNCTION mallory.by_trigger('waits')",
			rule => "CREATE RULE r AS ON INSERT TO $t DO NOTHING",
			'partition attached' => "ALTER TABLE waits.parent ATTACH PARTITION $t DEFAULT",
			'partition detached' => "ALTER TABLE waits.parent DETACH PARTITION $t");

		$statement{PREPARE} = "PREPARE p AS DELETE FROM $t" if $who eq 'bob' && $table->{schema} eq 'persist_pipeline_internal';
		$locker->begin_work;
		$locker->do("LOCK TABLE $t IN ROW EXCLUSIVE MODE");
		is(join(', ', grep { try_sql($dbh, $statement{$_}) ne '42501' } sort keys %statement), '', "$table->{relname}: $who waits for no lock on it");
		$locker->rollback;
	}
	$admin->do('DROP SCHEMA waits CASCADE');
	$dbh->disconnect;
}
$locker->disconnect;
foreach my $table (@tables)
{
	my ($column) = (valid_row($node, $table))[0] =~ /^([^,]+)/;

	my @changes = ("ADD UNIQUE ($column)", 'ADD more int PRIMARY KEY', 'ADD more int', "DROP $column", "ALTER $column TYPE text", 'INHERIT mallory.target',
		'SET UNLOGGED', 'SET ACCESS METHOD heap');

	foreach my $sql ((map { "ALTER TABLE $table->{name} $_" } @changes), "CREATE INDEX ON $table->{name} ($column)")
	{
		$admin->begin_work;
		is(try_sql($admin, $sql), '42501', "$table->{relname}: not by a superuser: $sql");
		$admin->rollback;
	}
}
isnt(try_sql(session($node, 'granted'), "CREATE POLICY p ON $_->{name}"), '00000', "$_->{relname}: no policy of another's") foreach @tables;

$admin->do('SELECT persist_requeue()');
$admin->do("SELECT persist_configure('mallory.trap', bad_items => 'dead')");
$admin->do("SELECT persist_resume('mallory.target')");
$admin->do('SELECT persist_resume()');
settled($node);
# the server lets him set any sequence, whoever runs his trigger
is(ran_in($node, 'trap') =~ s/, all_data all_data: and 1 of these: SELECT pg_catalog\.setval\([^;]*\) as all_data//r,
	'all_data all_data', 'forged items run nothing as another');
is(ran_in($node, 'hook'), 'nobody', 'triggers that others made on the extension\'s tables never fire');
foreach my $table (@hooked)
{
	$admin->do("DROP TRIGGER IF EXISTS $_ ON $table->{name}") foreach 'hook', 'hook2';
}

# ---- an apply worker of logical replication, which a superuser's subscription has

sub wait_in_journal
{
	$admin->do('SELECT persist_pause()');
	do_as($node, 'bob', q{SELECT persist_enqueue('mallory.trap'::regclass, '{"a": 5}')});
	return;
}

wait_in_journal();
my @replicated = grep { $_->{relname} !~ /letter/ } item_tables($node);
$admin->do('CREATE DATABASE publisher');
my $publisher = session($node, '', 'publisher');
$admin->do("CREATE TABLE public.saved AS SELECT * FROM $replicated[0]->{name} LIMIT 0");
foreach my $table (@replicated)
{
	my $definition = one_value($admin, q{SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
		FROM pg_attribute WHERE attrelid = ?::oid AND attnum > 0 AND NOT attisdropped}, $table->{oid});
	$publisher->do("CREATE SCHEMA IF NOT EXISTS $table->{schema}; CREATE TABLE $table->{name} ($definition)");
}

# the row that bob's item is, in role 10's name
my ($source) = grep { one_value($admin, "SELECT count(*) FROM $_->{name}") } @replicated;
my $names = (valid_row($node, $source))[0];
my $row = $admin->selectrow_arrayref('SELECT ' . join(', ', map { "quote_nullable($_)" } split /, /, $names =~ s/\brole\b/10::oid/r =~ s/\bpart\b/part + 100/r)
	  . " FROM $source->{name} LIMIT 1");
my $rows = sub { return join ' ', map { one_value($admin, "SELECT count(*) FROM $_->{name}") } @replicated; };
$publisher->do('CREATE PUBLICATION p FOR TABLE ' . join ', ', map { $_->{name} } @replicated);
foreach my $way ('copied at the start', 'applied', 'truncated')
{
	my $from = log_position($node);
	my $counts = $rows->();
	my $copy = $way =~ /copied/ ? 'true' : 'false';

	$publisher->do("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
	$publisher->do("INSERT INTO $source->{name} ($names) VALUES (" . join(', ', @$row) . ')') if $way =~ /copied/;
	$admin->do("CREATE SUBSCRIPTION s CONNECTION 'dbname=publisher host=" . $node->host . ' port=' . $node->port . "' PUBLICATION p
		WITH (create_slot = false, copy_data = $copy)");
	$publisher->do("INSERT INTO $source->{name} ($names) VALUES (" . join(', ', @$row) . ')') if $way eq 'applied';
	$publisher->do("TRUNCATE $source->{name}") if $way eq 'truncated';
	wait_until("replication, $way", sub {
		return log_since($node, $from, qr/logical replication (?:\w+ )?worker \w+ ERROR/) || $rows->() ne $counts
		  || $way =~ /copied/ && one_value($admin, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel");
	});
	is($rows->(), $counts, "logical replication, $way: nothing gets into the extension's tables, nor out of them");
	$admin->do('ALTER SUBSCRIPTION s DISABLE');
	$admin->do('ALTER SUBSCRIPTION s SET (slot_name = NONE)');
	$admin->do('DROP SUBSCRIPTION s');
	wait_for_sql($admin, "SELECT count(*) = 0 FROM pg_replication_slots WHERE active OR slot_name <> 's'");
	$publisher->do("SELECT pg_drop_replication_slot('s')");
	arm($node);
	$admin->do('SELECT persist_resume()');
	settled($node);
	is(ran_in($node, 'trap'), 'bob bob', "logical replication, $way: the item runs as its enqueuer, and no other does");
	wait_in_journal();
}
$admin->do('SELECT persist_resume()');


# ---- sequences: setval() and nextval() by pg_write_all_data

database('seq');
create_actors($node, 'seq');
do_as($node, 'mallory', q{CREATE TABLE mallory.t (n int, ins serial); GRANT INSERT ON mallory.t TO bob; GRANT USAGE ON SEQUENCE mallory.t_ins_seq TO bob}, 'seq');
my @ids;
my $number = 0;
foreach my $attack ('', 'setval(%s, 1)', 'setval(%s, 9223372036854775807)', 'setval(%s, 1, false)', 'nextval(%s)')
{
	if ($attack)
	{
		foreach my $sequence (member_relations($node, 'seq', 'S'))
		{
			try_sql(session($node, 'all_data', 'seq'), 'SELECT ' . sprintf($attack, "'$sequence->{oid}'::oid::regclass")) foreach 1 .. 3;
		}
		$node->restart;
		forget_sessions();
	}
	my $name = $attack ? sprintf $attack, 'sequence' : 'before';
	my @new;
	foreach my $session (1 .. 3)
	{
		my $dbh = connect_to($node, 'seq', user => 'bob');

		push @new, map { my $n = $_; eval { one_value($dbh, "SELECT persist_enqueue('mallory.t'::regclass, ?::jsonb, true)", qq({"n": $n})) } } map { ++$number } 1 .. 2
		  if eval { one_value($dbh, 'SELECT 1') };
		$dbh->disconnect;
	}
	my %seen = map { $_ => 1 } @ids;
	is(scalar(grep { $_ } @new), 6, "$name: items are taken");
	is_deeply([ grep { $seen{$_} } grep { defined } @new ], [], "$name: no id is given twice");
	push @ids, grep { defined } @new;
	ok(settled($node, 'seq'), "$name: flushed");
}
is_deeply([ sort { $a <=> $b } @ids ], \@ids, 'setval() and nextval() of others: ids still increase');
is(one_value(session($node, '', 'seq'), 'SELECT string_agg(n::text, \' \' ORDER BY ins) FROM mallory.t'), join(' ', 1 .. $number), '... and items land in their order');
$admin = session($node, '');

# ---- names like the extension's

# mallory owns these databases, and so may create in public: in one, objects with the
# names that the extension uses; in the other, built-in names, and has public come first.
my @names = (
	(map { "CREATE FUNCTION public.$_ LANGUAGE plpgsql AS \$\$ BEGIN PERFORM mallory.note('names'); RETURN NULL; END \$\$" }
		'persist_batch(x int DEFAULT 1) RETURNS int', 'persist_batch() RETURNS int', 'persist_batch(bigint, anyelement) RETURNS anyelement',
		'persist_batch(bigint, record) RETURNS int', 'persist_batch(VARIADIC anyarray) RETURNS int',
		'persist_batch_row() RETURNS boolean', 'persist_batch_row(x int DEFAULT 1) RETURNS boolean', 'persist_discard(int[]) RETURNS bigint',
		'persist_requeue(int[]) RETURNS bigint', 'persist_queue_rows(x int DEFAULT 1) RETURNS int', 'persist_waiting_rows(x int DEFAULT 1) RETURNS int'),
	(map { "CREATE TABLE public.$_ (pos bigint, part int, role oid, installation bigint, data bytea)" }
		'persist_journal_1', 'persist_journal_2', 'persist_parked', 'persist_dead_letter'),
	'CREATE SCHEMA persist_pipeline_internal', 'CREATE TYPE public.persist_batch AS (x int)', 'CREATE SEQUENCE public.persist_ids');
my @built_in = (
	(map { "CREATE FUNCTION public.$_ LANGUAGE plpgsql AS \$\$ BEGIN PERFORM mallory.note('names'); RETURN NULL; END \$\$" }
		(map { "eq($_, $_) RETURNS boolean" } 'int', 'oid', 'bigint', 'text', 'name'),
		'sum(bigint) RETURNS bigint', 'now() RETURNS timestamptz', 'current_database() RETURNS name', 'pg_table_is_visible(oid) RETURNS boolean',
		'int8pl(bigint, bigint) RETURNS bigint'),
	(map { my $type = $_; map { "CREATE OPERATOR public.$_ (leftarg = $type, rightarg = $type, function = public.eq)" } '=', '<>', '<', '+' } 'int', 'oid', 'bigint', 'text', 'name'),
	(map { "CREATE DOMAIN public.$_ AS pg_catalog.$_ CHECK (mallory.note('names'))" } 'int4', 'int8', 'text', 'oid', 'bytea', 'jsonb', 'bool', 'timestamptz'),
	(map { "CREATE TABLE public.$_ (oid oid, relname name)" } 'pg_class', 'pg_type', 'pg_database'),
	map { "ALTER DATABASE %s SET $_" } 'search_path = public, pg_catalog', "bytea_output = 'escape'", 'standard_conforming_strings = off', 'array_nulls = off',
	'transform_null_equals = on', 'quote_all_identifiers = on', "DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Kathmandu'",
	"default_transaction_isolation = 'serializable'", 'default_transaction_read_only = on', 'default_transaction_deferrable = on', 'statement_timeout = 1',
	'lock_timeout = 1', 'idle_in_transaction_session_timeout = 1', "plan_cache_mode = 'force_custom_plan'", 'work_mem = 64', 'temp_buffers = 100',
	'row_security = off', "client_encoding = 'LATIN1'", "client_min_messages = 'debug5'", 'exit_on_error = on', 'check_function_bodies = off',
	'synchronous_commit = off', 'enable_sort = off', "role = 'mallory'");

foreach my $case ([ 'named', 'objects with the extension\'s names', @names ], [ 'owned', 'built-in names and settings', @built_in ])
{
	my ($database, $what, @statements) = @$case;
	my ($dbh, $warning) = database($database, owner => 'mallory');

	like($warning, qr/WARNING/, "$what: CREATE EXTENSION warns where others may create objects in its schema");
	create_actors($node, $database);
	do_as($node, 'mallory', q{CREATE TABLE mallory.t (a int); GRANT INSERT ON mallory.t TO bob; CREATE TABLE mallory.bad (a int CHECK (a > 0)); GRANT INSERT ON mallory.bad TO bob}, $database);
	my $mallory = session($node, 'mallory', $database);
	my $made = grep { try_sql($mallory, sprintf $_, $database) eq '00000' } @statements;
	cmp_ok($made, '>', 10, "$what: $made of them could be made");
	$dbh->do('SET search_path = public');
	arm($node, $database);
	local $ENV{PGOPTIONS} = '-c statement_timeout=0';    # not by SET, which alone may take longer than mallory's 1 ms
	my $bob = connect_to($node, $database, user => 'bob');
	$bob->do("SET $_") foreach 'lock_timeout = 0', 'default_transaction_read_only = off', 'role = none', 'search_path = pg_catalog',
	  'synchronous_commit = on';    # by way of the journal
	foreach my $table ('t', 'bad')
	{
		is(try_sql($bob, "SELECT public.persist_enqueue('mallory.$table'::regclass, '{\"a\": -1}'::jsonb, true)"), '00000', "$what: $table takes an item");
	}
	$bob->disconnect;
	ok(one_value($dbh, "SELECT public.persist_flush('300 s'::interval, NULL::regclass)"), "$what: flushed");
	is(one_value($dbh, 'SELECT count(*) FROM mallory.t'), 1, "$what: the item lands");
	is(one_value($dbh, "SELECT string_agg(sqlstate, ' ') FROM public.persist_dead_letters"), '23514', "$what: a bad one is a letter");
	is(one_value($dbh, 'SELECT public.persist_requeue(NULL::bigint[])'), 1, "$what: which can be requeued");
	ok(one_value($dbh, "SELECT public.persist_flush('300 s'::interval, NULL::regclass)"), "$what: flushed");
	$dbh->do("SELECT * FROM public.$_") foreach 'persist_stats', 'persist_queue', 'persist_dead_letters';
	$dbh->do("SELECT public.persist_pause('mallory.t')");
	$dbh->do("SELECT public.persist_unconfigure('mallory.t')");
	is(ran_in($node, 'names', $database), 'nobody', "$what: none has run");
	forget_sessions();
	$admin = session($node, '');
}

# What is closed doesn't keep a database's owner from dumping it, settings and all.
do_as($node, 'mallory', q{SELECT public.persist_configure('mallory.bad', durability => 'journal')}, 'named');
foreach my $who ('mallory', 'all_data')
{
	my $from = $who eq 'mallory' ? 'named' : 'postgres';
	my ($dump, $errors) = run_command([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-U', $who, $from ]);

	is($errors, '', "pg_dump of $from by $who, who is no superuser");
	like($dump, qr/^COPY [\w.]*persist_settings .*?^mallory\./ms, "... has persist_settings");
	unlike($dump, qr/^COPY [\w.]*persist_(?!settings)\w+ .*FROM stdin;\n(?!\\\.)/m, "... and nothing else of the extension's");
}

# in a schema of its own, as the README has it
database('dumped', owner => 'mallory', create => 'CREATE SCHEMA persist; CREATE EXTENSION persist_pipeline SCHEMA persist');
do_as($node, 'mallory', 'CREATE TABLE public.t (a int)', 'dumped');
session($node, '', 'dumped')->do("SELECT persist.persist_configure('public.t', 'journal')");
my ($owners_dump, $owners_errors) = run_command([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'mallory', 'dumped' ]);
is($owners_errors, '', 'pg_dump by the database\'s owner, where the extension has a schema of its own');
like($owners_dump, qr/^COPY persist\.persist_settings .*?^public\.t\t/ms, '... has persist_settings');

# The extension's schemas are not somebody's who was there first.
$admin->do('CREATE DATABASE squatted OWNER mallory');
do_as($node, 'mallory', 'CREATE SCHEMA persist_pipeline_internal; GRANT ALL ON SCHEMA persist_pipeline_internal TO PUBLIC', 'squatted');
try_sql(session($node, '', 'squatted'), 'CREATE SCHEMA persist; CREATE EXTENSION persist_pipeline SCHEMA persist');
is(join(' ', grep { one_value(session($node, '', 'squatted'), "SELECT has_schema_privilege('mallory', ?, 'CREATE')", $_) }
		map { $_->{schema} } member_relations($node, 'squatted')),
	'', 'a schema that somebody has made with the name of the internal one is not used');

# where nobody else may create anything, as the README has it
my $in_schema = 'CREATE SCHEMA persist; CREATE EXTENSION persist_pipeline SCHEMA persist';
my ($safe, $no_warning) = database('safe', owner => 'mallory', create => $in_schema);
is($no_warning, '', 'a schema of its own: no warning');
foreach my $schema (sort keys %{ { map { $_->{schema} => 1 } member_relations($node, 'safe') } })
{
	is(try_sql(session($node, 'mallory', 'safe'), "CREATE FUNCTION $schema.persist_batch(x int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
		'42501', "nobody creates functions in schema $schema");
	is(try_sql(session($node, 'mallory', 'safe'), "CREATE TABLE $schema.t (a int)"), '42501', "nor tables in $schema");
}

# ---- data alone, restored with triggers disabled: the guards stand afterwards

$safe->do('CREATE TABLE public.restored (a int)');
$safe->do("SELECT persist.persist_configure('public.restored', 'ring')");
my ($dump) = run_command([ 'pg_dump', '--data-only', '--disable-triggers', $node->connstr('safe') ]);
like($dump, qr/ENABLE TRIGGER ALL/, 'a dump of data alone disables triggers');
$node->safe_psql('safe', $dump);
is(one_value($safe, "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'persist.persist_settings'::regclass AND NOT tgisinternal AND tgenabled <> 'A'"), 0, 'restored: the guards fire always');
isnt(try_sql($safe, "SET session_replication_role = replica; DELETE FROM persist.persist_settings"), '00000', 'restored: also with session_replication_role');
try_sql($safe, 'ROLLBACK');
$safe->do('RESET session_replication_role');
$safe->do("SELECT persist.persist_configure('public.restored', 'journal')");
is(one_value($safe, "SELECT string_agg(durability, ' ') FROM persist.persist_settings WHERE target = 'public.restored'::regclass"), 'journal', 'restored: one row for each target, once it is configured');

# nor does it leave those of other tables open to who sets session_replication_role
foreach my $relation (grep { $_->{kind} eq 'r' } member_relations($node, 'safe'))
{
	my $table = $relation->{name};

	$safe->do("ALTER TABLE $table DISABLE TRIGGER ALL, ENABLE TRIGGER ALL");
	is(one_value($safe, "SELECT string_agg(tgname, ' ') FROM pg_trigger WHERE tgrelid = ?::regclass AND NOT tgisinternal AND tgenabled <> 'A'", $table), undef, "$table: its triggers fire always");
}

# ---- what an enqueuer needs, given in one call

my $weird = 'we"ird; role';
$safe->do('CREATE ROLE "we""ird; role" LOGIN; CREATE TABLE public.t (a int); GRANT INSERT ON public.t TO PUBLIC');
my @calls = (
	"persist.persist_enqueue('public.t'::regclass, '{\"a\": 1}'::jsonb)", "persist.persist_enqueue('public.t'::text, '{\"a\": 1}'::text)",
	'persist.persist_enqueue(ROW(1)::public.t)', "persist.persist_enqueue_many('public.t', '[{\"a\": 1}]')", "persist.persist_flush('300 s')");
my $states = sub { return join ' ', map { try_sql(session($node, $weird, 'safe'), "SELECT $_") } @calls; };
is($states->(), '42501 42501 42501 42501 42501', 'persist_grant(): nothing before');
isnt(try_sql(session($node, $weird, 'safe'), q{SELECT persist.persist_grant('"we""ird; role"')}), '00000', 'persist_grant(): no one gives it to himself');
is(try_sql($safe, q{SELECT persist.persist_grant('"we""ird; role"')}), '00000', 'persist_grant(): a superuser gives it');
is($states->(), '00000 00000 00000 00000 00000', 'persist_grant(): all that an enqueuer needs');
is(try_sql(session($node, $weird, 'safe'), "SELECT persist.$_"), '42501', "persist_grant(): it lets him call no $_")
  foreach "persist_grant('mallory')", "persist_revoke('mallory')", 'persist_requeue()', "persist_discard(ARRAY[1]::bigint[])";
ok(settled_in_schema(), 'persist_grant(): flushed');
is(one_value($safe, 'SELECT count(*) FROM public.t'), 4, 'persist_grant(): the rows are there');
is(try_sql($safe, q{SELECT persist.persist_revoke('"we""ird; role"')}), '00000', 'persist_revoke(): a superuser takes it');
is($states->(), '42501 42501 42501 42501 42501', 'persist_revoke(): nothing is left');
sub settled_in_schema { return one_value($safe, "SELECT persist.persist_flush('300 s')"); }

# ---- a database whose PUBLIC executes nothing

my $hardened = session($node, '', 'hardened');
create_actors($node, 'hardened');
$hardened->do('CREATE ROLE scraper LOGIN; GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean), persist_enqueue(text, text, boolean) TO scraper;
	CREATE TABLE public.t (a int); GRANT INSERT ON public.t TO scraper;
	CREATE VIEW public.v AS SELECT a FROM public.t; GRANT INSERT ON public.v TO scraper');
do_as($node, 'scraper', "SELECT persist_enqueue('$_', '{\"a\": 1}')", 'hardened') foreach 't', 'v';
ok(settled($node, 'hardened'), 'EXECUTE revoked from PUBLIC: flushed');
is(one_value($hardened, 'SELECT count(*) FROM public.t'), 2, 'EXECUTE revoked from PUBLIC: the rows land');
is(one_value($hardened, 'SELECT count(*) FROM persist_dead_letters'), 0, 'EXECUTE revoked from PUBLIC: no letters');

# EXECUTE on a default's function: of each role of a session
do_as($node, 'mallory', q{CREATE FUNCTION mallory.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION mallory.f FROM PUBLIC; GRANT EXECUTE ON FUNCTION mallory.f TO alice;
	CREATE TABLE mallory.h (a int, b int DEFAULT mallory.f()); GRANT INSERT ON mallory.h TO alice, bob}, 'hardened');
$hardened->do('CREATE ROLE either LOGIN NOINHERIT; GRANT alice, bob TO either');
foreach my $statement (q{INSERT INTO mallory.h (a) VALUES (1)}, q{SELECT persist_enqueue('mallory.h'::regclass, '{"a": 1}'::jsonb)})
{
	my $either = session($node, 'either', 'hardened');
	my @states;

	foreach my $role ('alice', 'bob', 'alice', 'bob')
	{
		$either->do("SET ROLE $role");
		push @states, try_sql($either, $statement);
	}
	$either->do('RESET ROLE');
	is("@states", '00000 42501 00000 42501', ($statement =~ /^INSERT/ ? 'a plain INSERT' : 'a call') . ' asks each role for EXECUTE on a default\'s function');
}

# ---- a role that gets the OID of one that was dropped

$admin->do('CREATE ROLE gone LOGIN');
allow_to_enqueue($admin, 'gone');
my $oid = one_value($admin, "SELECT oid FROM pg_roles WHERE rolname = 'gone'");
do_as($node, 'gone', q{SELECT persist_enqueue('mallory.trap'::regclass, '{"a": -1}')});
ok(settled($node), 'flushed');
my $letter = one_value($admin, "SELECT id FROM persist_dead_letters WHERE role_name = 'gone'");
$admin->do('DROP OWNED BY gone; DROP ROLE gone');
forget_sessions();
$node->restart;
$node->safe_psql('postgres', 'VACUUM pg_authid');    # what looks for a free OID sees dead rows
$node->stop;
command_ok([ 'pg_resetwal', '-o', $oid, '-D', $node->data_dir ], 'the next OID is that of the dropped role');
$node->start;
$admin = session($node, '');
$admin->do('CREATE ROLE newcomer LOGIN; GRANT EXECUTE ON FUNCTION persist_requeue(bigint[]), persist_requeue(bigint, jsonb), persist_discard(bigint[]) TO newcomer');
is(one_value($admin, "SELECT oid FROM pg_roles WHERE rolname = 'newcomer'"), $oid, 'a new role has it');
is(try_sql(session($node, 'newcomer'), "SELECT $_"), '42501', "the new role may not call $_")
  foreach "persist_requeue(ARRAY[$letter])", "persist_requeue($letter, '{\"a\": 1}')", "persist_discard(ARRAY[$letter])";
try_sql(session($node, 'newcomer'), 'SELECT persist_requeue()');
arm($node);
is(try_sql($admin, "SELECT persist_requeue(ARRAY[$letter])"), '42704', 'a superuser can\'t have it run as the new one');
my $others = one_value($admin, "SELECT count(*) FROM persist_dead_letters WHERE role_name <> 'gone'");
is(one_value($admin, 'SELECT persist_requeue()'), $others, 'nor with all the others');
ok(settled($node), 'flushed');
is(ran_in($node, 'trap'), 'nobody', 'nothing has run');

# ---- indexes on the table of letters, each on a server of its own: one has crashed it

foreach my $index ("CREATE INDEX ON %s ((item->>'a'))", "CREATE INDEX ON %s (id) WHERE sqlstate = '23514'", 'CREATE UNIQUE INDEX ON %s (message)', 'CREATE UNIQUE INDEX ON %s ((lower(message))) WHERE attempts > 0')
{
	my $other = pp_node('letters' . ($index =~ tr/a-z//), 'persist_pipeline.misfit_timeout' => 0);
	my ($letters) = grep { $_->{relname} =~ /dead_letter/ } member_relations($other, undef, 'r');
	my $state = try_sql(session($other, ''), sprintf $index, $letters->{name});
	my $n = eval {
		session($other, '')->do('CREATE TABLE t (a int CHECK (a > 0))');
		session($other, '')->do(qq(SELECT persist_enqueue('t'::regclass, '{"a": -$_}'))) foreach 1 .. 3;
		settled($other);
		one_value(session($other, ''), 'SELECT count(*) FROM persist_dead_letters');
	};

	is($n, 3, sprintf("$index ($state): letters are written", 'letters'));
	is_deeply([ log_since($other, 0, qr/terminated by signal|TRAP/) ], [], '... and the server stands');
	forget_sessions();
	$other->stop('immediate', fail_ok => 1);
}
$node->stop;
done_testing();
