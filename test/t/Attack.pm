
=pod

=head1 NAME

Attack - what the attack tests share: roles, code that notes whose rights it has and
tries to get others, and the relations that belong to the extension.

mallory owns a schema, tables and code, and may enqueue; bob and alice are those whose
rights he is after, beside the superuser's.

=cut

package Attack;

use strict;
use warnings;

use Exporter 'import';
use PersistPipeline;
use Test::More;

our @EXPORT = qw(
  create_actors allow_to_enqueue session forget_sessions do_as settled
  arm disarm ran_in member_relations valid_row item_tables stop_worker);

my %sessions;

# A session of a role in a database; it stays.
sub session
{
	my ($node, $role, $database) = @_;
	my $key = join ' ', $node->name, $role, $database || 'postgres';

	$sessions{$key} = connect_to($node, $database, $role ? (user => $role) : ())
	  if !$sessions{$key} || !$sessions{$key}->ping;
	return $sessions{$key};
}

sub forget_sessions
{
	$_->disconnect foreach grep { $_ } values %sessions;
	%sessions = ();
	return;
}

# Run statements in a new session of that role, so that it has no state of its own.
sub do_as
{
	my ($node, $role, $sql, $database) = @_;
	my $dbh = connect_to($node, $database, $role ? (user => $role) : ());

	$dbh->do($sql);
	$dbh->disconnect;
	return;
}

# All that was handed over is in the tables, or a dead letter.
sub settled
{
	my ($node, $database) = @_;

	return one_value(session($node, '', $database), "SELECT persist_flush('300 s')");
}

# By hand, not with persist_grant(): what these tests attack is what a GRANT may give.
sub allow_to_enqueue
{
	my ($dbh, @roles) = @_;

	$dbh->do('GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean), persist_enqueue(text, text, boolean),
		persist_enqueue(record), persist_enqueue_many(regclass, jsonb), persist_flush(interval, regclass)
		TO ' . join ', ', @roles);
	return;
}

# The roles, if they aren't there, and in this database mallory's schema:
# mallory.note(what) notes in mallory.ran who runs it, and whether he got further.
# It does so only while it is armed, so that making a table of it notes nothing.
sub create_actors
{
	my ($node, $database) = @_;
	my $dbh = session($node, '', $database);

	foreach my $role ('mallory', 'bob', 'alice')
	{
		$dbh->do("CREATE ROLE $role LOGIN") if !one_value($dbh, "SELECT to_regrole(?)", $role);
	}
	$dbh->do('CREATE SCHEMA mallory AUTHORIZATION mallory; GRANT USAGE ON SCHEMA mallory TO PUBLIC;
		GRANT CREATE, TEMPORARY ON DATABASE ' . ($database || 'postgres') . ' TO mallory, bob, alice;
		GRANT CREATE ON SCHEMA public TO mallory');
	allow_to_enqueue($dbh, 'mallory', 'bob', 'alice');

	# what the code tries: to become another, to get rights, and to write items
	$dbh->do('CREATE TABLE public.escapes (command text); GRANT SELECT ON public.escapes TO PUBLIC');
	my $superuser = one_value($dbh, 'SELECT quote_ident(current_user)');
	my @escapes = (
		'RESET ROLE', 'SET ROLE NONE', "SET ROLE $superuser", 'SET ROLE alice', 'RESET SESSION AUTHORIZATION',
		'SET SESSION AUTHORIZATION DEFAULT', "SET SESSION AUTHORIZATION $superuser", 'SET session_replication_role = replica',
		'ALTER ROLE mallory SUPERUSER', "GRANT $superuser TO mallory");
	foreach my $relation (member_relations($node, $database))
	{
		push @escapes, "SELECT pg_catalog.setval('$relation->{name}', 1)" if $relation->{kind} eq 'S';
		push @escapes, "INSERT INTO $relation->{name} DEFAULT VALUES", "DELETE FROM $relation->{name}",
		  "TRUNCATE $relation->{name}"
		  if $relation->{kind} eq 'r';
	}
	$dbh->do('INSERT INTO public.escapes VALUES (?)', undef, $_) foreach @escapes;

	do_as(
		$node, 'mallory', q{
		CREATE TABLE mallory.ran (what text, who name, sess name);
		CREATE TABLE mallory.armed (place text);
		GRANT SELECT, INSERT ON mallory.ran TO PUBLIC;
		GRANT SELECT ON mallory.armed TO PUBLIC;
		CREATE FUNCTION mallory.note(what text) RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
		DECLARE
			me name := current_user;
			my_session name := session_user;
			command pg_catalog.text;
			got pg_catalog.text[];
		BEGIN
			IF NOT EXISTS (SELECT FROM mallory.armed)
			   OR EXISTS (SELECT FROM mallory.ran AS r WHERE r.what = note.what AND r.who = me AND r.sess = my_session) THEN
				RETURN true;
			END IF;
			INSERT INTO mallory.ran VALUES (what, me, my_session);
			FOR command IN SELECT e.command FROM public.escapes AS e LOOP
				BEGIN
					EXECUTE command;
					IF command !~ 'ROLE|AUTHORIZATION' OR current_user <> me OR session_user <> my_session
					   OR command ~ '^(ALTER|GRANT)' THEN
						got := got || (command || ' as ' || current_user);
					END IF;
					RAISE 'undo';
				EXCEPTION
					WHEN OTHERS THEN NULL;
				END;
			END LOOP;
			INSERT INTO mallory.ran SELECT format('%s: and %s of these: %s', what, cardinality(got), got[1]), me, my_session
			WHERE got IS NOT NULL;
			RETURN true;
		END $$;
		-- where an error that is caught would be one of the server's
		CREATE FUNCTION mallory.note_only(what text) RETURNS boolean LANGUAGE sql VOLATILE AS $$
			INSERT INTO mallory.ran SELECT what, current_user, session_user FROM mallory.armed;
			SELECT true;
		$$;
		-- what the planner and an index believe
		CREATE FUNCTION mallory.note_immutable(what text, ignored anyelement DEFAULT NULL::int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN
			RETURN mallory.note(what);
		END $$;
		CREATE FUNCTION mallory.number_immutable(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN
			PERFORM mallory.note(what);
			RETURN 0;
		END $$;
		CREATE FUNCTION mallory.by_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM mallory.note(TG_ARGV[0]);
			RETURN NEW;
		END $$;
	}, $database);
	return;
}

sub arm
{
	my ($node, $database) = @_;

	session($node, '', $database)->do('TRUNCATE mallory.ran, mallory.armed; INSERT INTO mallory.armed VALUES (current_user)');
	return;
}

sub disarm
{
	my ($node, $database) = @_;

	session($node, '', $database)->do('TRUNCATE mallory.armed');
	return;
}

# Who has run this code, as "current_user session_user", and what he got by it.
sub ran_in
{
	my ($node, $what, $database) = @_;

	return one_value(
		session($node, '', $database),
		q{SELECT COALESCE(string_agg(DISTINCT who || ' ' || sess || substr(what, length($1) + 1), ', '), 'nobody')
		  FROM mallory.ran WHERE what = $1 OR starts_with(what, $1 || ': ')}, $what);
}

# The relations that are members of the extension, whatever their schema and names.
sub member_relations
{
	my ($node, $database, $kinds) = @_;

	return @{
		session($node, '', $database)->selectall_arrayref(
			q{SELECT c.oid, c.relkind AS kind, c.relname AS relname, n.nspname AS schema,
			         format('%I.%I', n.nspname, c.relname) AS name
			  FROM pg_catalog.pg_depend AS d
			  JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
			  JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_catalog.pg_class'::regclass
			  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			  WHERE e.extname = 'persist_pipeline' AND d.deptype = 'e' AND c.relkind::text ~ $1
			  ORDER BY c.relname}, { Slice => {} }, $kinds || '[rSvm]')
	};
}

# Those that hold items, as bytes.
sub item_tables
{
	my ($node, $database) = @_;
	my $dbh = session($node, '', $database);

	return grep {
		one_value($dbh, q{SELECT count(*) FROM pg_catalog.pg_attribute WHERE attrelid = ?::oid AND atttypid = 'bytea'::regtype AND NOT attisdropped}, $_->{oid})
	} member_relations($node, $database, 'r');
}

# End the database's worker, if it has one just now.
sub stop_worker
{
	my ($node, $database) = @_;
	my $dbh = session($node, '');
	my $pid = one_value($dbh, q{SELECT pid FROM pg_catalog.pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND datname = ?}, $database || 'postgres');

	return if !$pid;
	$dbh->do("SELECT pg_catalog.pg_terminate_backend($pid)");
	wait_for_sql($dbh, 'SELECT count(*) = 0 FROM pg_catalog.pg_stat_activity WHERE pid = ?', $pid);
	return $pid;
}

# Columns of a relation, and values that it would take as a row of role 10, the superuser's.
sub valid_row
{
	my ($node, $relation, $database) = @_;
	my $columns = session($node, '', $database)->selectall_arrayref(
		q{SELECT quote_ident(attname), atttypid::regtype::text, attname FROM pg_catalog.pg_attribute
		  WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum}, undef, $relation->{oid});
	my %values = (
		role => "'10'", database => "(SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())",
		target => "'mallory.target'::regclass::oid", durability => "'journal'",
		bad_items => "'error'", on_conflict => "'error'", 'unknown_keys text' => "'error'");
	my %of_type = (
		boolean => 'true', bytea => q{'\x00'}, jsonb => q{'{}'}, regclass => "'mallory.target'",
		'timestamp with time zone' => 'now()', 'pg_lsn' => "'0/0'", uuid => 'gen_random_uuid()');

	return (
		join(', ', map { $_->[0] } @$columns),
		join(', ', map { $values{ $_->[2] } || $values{"$_->[2] $_->[1]"} || $of_type{ $_->[1] } || ($_->[1] =~ /\[\]$/ ? "'{}'" : "'1'") } @$columns));
}

1;
