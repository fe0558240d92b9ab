
# Whatever keeps items from being inserted for a while, they come when it is over, each
# once and in order; what will never be over makes dead letters, of no others.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = parking_node(
	'causes',
	deadlock_timeout => "'100ms'",
	'persist_pipeline.misfit_timeout' => "'10min'");
my $dbh = session('postgres');
my $dead = 0;    # letters that there are

create_target('postgres', 'free');
$dbh->do("GRANT SELECT ON gate TO PUBLIC; GRANT USAGE ON SEQUENCE ins TO PUBLIC");

# A trigger on the target, which runs this for each row.
sub add_trigger
{
	my ($target, $code) = @_;

	$dbh->do("CREATE OR REPLACE FUNCTION on_$target() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $code; RETURN NEW; END \$\$");
	$dbh->do("CREATE OR REPLACE TRIGGER on_row BEFORE INSERT ON $target FOR EACH ROW EXECUTE FUNCTION on_$target()");
	return;
}

# All but these have come, in order; these are dead letters, for this reason.
sub lands_without
{
	my ($target, $bad, $sqlstate, $name) = @_;
	my $n = $committed{postgres}{$target};
	my $bad_list = join ',', @$bad;

	$dead += @$bad;
	ok(eval { wait_for_sql($dbh, "SELECT persisted = $n - ? AND dead = ? FROM persist_stats WHERE target_name = 'public.$target'", 0 + @$bad, 0 + @$bad) },
		"$name: all are settled")
	  or diag(join ' ', map { $_ // 'NULL' }
		  $dbh->selectrow_array("SELECT persisted, dead, parked, parked_reason, last_error FROM persist_stats WHERE target_name = 'public.$target'"));
	is(one_value($dbh, "SELECT coalesce(array_agg(n ORDER BY ins), '{}') = array(SELECT i FROM generate_series(1, $n) AS i WHERE i <> ALL ('{$bad_list}')) FROM $target"),
		1, "$name: each once, in order");
	is(one_value($dbh, "SELECT string_agg(item->>'n', ',' ORDER BY id) FROM persist_dead_letters WHERE target = '$target'::regclass AND sqlstate ~ ?", $sqlstate),
		@$bad ? $bad_list : undef, "$name: these are dead letters, and for that reason");
	adds_up('postgres', $name);
	is(one_value($dbh, "SELECT sum(dead) = $dead AND sum(dead) = (SELECT count(*) FROM persist_dead_letters) FROM persist_stats"),
		1, "$name: and no others");
	return;
}

# Others are not delayed.
sub others_land
{
	my ($name) = @_;
	my $n = $committed{postgres}{free} || 0;

	enqueue('postgres', 'free', $n + 1, $n + 10);
	lands('postgres', 'free', "$name, others");
	return;
}

# ---- errors that a trigger raises a few times

foreach my $sqlstate ('40001', '40P01', '08006', '57P03', '58030')
{
	my $target = lc "tries_$sqlstate";

	create_target('postgres', $target);
	$dbh->do("CREATE SEQUENCE seq_$target");
	add_trigger($target, "IF nextval('seq_$target') <= 6 THEN RAISE SQLSTATE '$sqlstate'; END IF");
	enqueue('postgres', $target, 1, 40);
	lands_without($target, [], '', "raised $sqlstate");
}

# ---- a deadlock with somebody else

{
	my $user = connect_to($node);

	create_target('postgres', 'deadlock');
	$dbh->do("CREATE TABLE two AS SELECT generate_series(1, 2) AS id; CREATE SEQUENCE seq_deadlock");
	$user->do("SET application_name = 'user'; SET deadlock_timeout = '1h'");
	add_trigger('deadlock', q{
		PERFORM FROM two WHERE id = 1 FOR UPDATE;
		IF nextval('seq_deadlock') = 1 THEN
			WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'user' AND wait_event_type = 'Lock') LOOP
				PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
			END LOOP;
		END IF;
		PERFORM FROM two WHERE id = 2 FOR UPDATE});
	$user->begin_work;
	$user->do("SELECT FROM two WHERE id = 2 FOR UPDATE");
	enqueue('postgres', 'deadlock', 1, 40);
	wait_for_sql($dbh, "SELECT is_called FROM seq_deadlock");
	start_sql($user, "SELECT FROM two WHERE id = 1 FOR UPDATE");
	is(finish_sql($user), '00000', 'deadlock: the worker gives way');
	others_land('deadlock');
	$user->commit;
	$user->disconnect;
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 40 FROM deadlock") }, 'deadlock: they come');
	is(one_value($dbh, "SELECT count(DISTINCT n) FROM deadlock"), '40', 'deadlock: each once');
	adds_up('postgres', 'deadlock');
}

# ---- statement_timeout: of a row, and of many together

{
	set_and_reload('statement_timeout', "'400ms'");
	create_target('postgres', $_) foreach 'sleepy', 'slow';
	add_trigger('sleepy', "IF NEW.n IN (7, 21) THEN PERFORM pg_sleep(60); END IF");
	enqueue('postgres', 'sleepy', 1, 30);
	others_land('a row sleeps');
	lands_without('sleepy', [ 7, 21 ], '57014', 'a row sleeps');
	add_trigger('slow', "PERFORM pg_sleep(0.03)");
	enqueue_paused('postgres', 'slow', 1, 40);
	$dbh->do("SELECT persist_resume('slow')");
	others_land('all are slow');
	lands_without('slow', [], '', 'all are slow');

	# found out at the end, where nobody knows which row it is
	create_target('postgres', 'hung');
	$dbh->do("CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'");
	$dbh->do("CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON hung DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang()");
	$dbh->begin_work;
	enqueue('postgres', 'hung', 1, 40);
	enqueue('postgres', 'free', $committed{postgres}{free} + 1, $committed{postgres}{free} + 1);
	$dbh->commit;
	my $began = time;
	lands('postgres', 'free', 'all hang, others');
	is_quick(time - $began, 8, 'all hang: others wait for a few timeouts, not for one of each row');
	is_parked('postgres', 'hung', 40, '57014', 'all hang: parked');
	$dbh->do("DROP TRIGGER hang ON hung");
	lands_without('hung', [], '', 'all hang, mended');

	# one after the other: others have their turn meanwhile
	create_target('postgres', 'drowsy');
	add_trigger('drowsy', "PERFORM pg_sleep(60)");
	my $n = 0;
	my $letters = 0;
	$began = time;
	while (time - $began < 6 || ($letters == 0 && time - $began < $PostgreSQL::Test::Utils::timeout_default))
	{
		$n++;
		enqueue('postgres', 'drowsy', $n, $n);
		enqueue('postgres', 'free', $committed{postgres}{free} + 1, $committed{postgres}{free} + 1);
		wait_for_sql($dbh, "SELECT pg_sleep(0.1) IS NOT NULL");
		$letters = one_value($dbh, "SELECT dead FROM persist_stats WHERE target_name = 'public.drowsy'");
	}

	cmp_ok($letters, '<=', (time - $began) / 1.5, 'rows hang: others have most of the time');
	others_land('rows hang');
	add_trigger('drowsy', 'NULL');
	ok(eval { wait_for_sql($dbh, "SELECT persisted + dead = $n FROM persist_stats WHERE target_name = 'public.drowsy'") }, 'rows hang: mended, they come');
	is(one_value($dbh, "SELECT string_agg(DISTINCT message, ',') FROM persist_dead_letters WHERE target_name = 'public.drowsy'"),
		'canceling statement due to "persist_pipeline.statement_timeout"', 'rows hang: what the letters say');
	adds_up('postgres', 'rows hang');
	$dead += one_value($dbh, "SELECT dead FROM persist_stats WHERE target_name = 'public.drowsy'");

	# nobody waits for the table that its letter is to be written to
	wait_for_queue($node, 'retrier_pid IS NULL') or die 'the retrier is still there';
	add_trigger('drowsy', "PERFORM pg_sleep(60)");
	enqueue('postgres', 'drowsy', $n + 1, $n + 1);
	is_parked('postgres', 'drowsy', 1, '57014', 'a row hangs: parked');
	my $lock = lock_tables('persist_pipeline_internal.persist_dead_letters');
	$began = time;
	ok(eval { wait_for_sql($dbh, "SELECT parked_reason = '55P03' FROM persist_stats WHERE target_name = 'public.drowsy'") }, 'a row hangs: its letter has to wait');
	others_land('a row hangs, no letter');
	is_quick(time - $began, 6, 'a row hangs, no letter: others do not');
	unlock($lock);
	ok(eval { wait_for_sql($dbh, "SELECT pending = 0 FROM persist_stats WHERE target_name = 'public.drowsy'") }, 'a row hangs: then it is written');
	$dead++;
	set_and_reload('statement_timeout', "'30s'");
}

# ---- another server

{
	my $remote = PostgreSQL::Test::Cluster->new('remote');

	$remote->init;
	$remote->start;
	$remote->safe_psql('postgres', $parking_tools . q{
		CREATE TABLE far (n int, ins bigint DEFAULT nextval('ins'));
		CREATE TABLE deferred (n int, ins bigint DEFAULT nextval('ins'),
			k int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	});
	$dbh->do("CREATE EXTENSION postgres_fdw");
	$dbh->do("CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $remote->host . "', port '" . $remote->port . "')");
	$dbh->do("CREATE USER MAPPING FOR CURRENT_USER SERVER remote");
	$dbh->do("CREATE FOREIGN TABLE far_rows (n int, ins bigint) SERVER remote OPTIONS (table_name 'far')");
	$dbh->do("CREATE FOREIGN TABLE far (n int) SERVER remote");
	$dbh->do("CREATE FOREIGN TABLE deferred (n int, k int) SERVER remote");
	enqueue('postgres', 'far', 1, 10);
	adds_up('postgres', 'remote');

	foreach my $mode ('fast', 'immediate')
	{
		my $n = $committed{postgres}{far};

		$remote->stop($mode);
		enqueue('postgres', 'far', $n + 1, $n + 40);
		others_land("remote, $mode");
		is_parked('postgres', 'far', 40, '^(08|57)', "remote, $mode: parked");
		enqueue('postgres', 'far', $n + 41, $n + 50);
		$remote->start;
		adds_up('postgres', "remote, $mode");
		is($remote->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, $n + 50)) FROM far"),
			't', "remote, $mode: each once, in order");
	}

	# what only the other's commit finds out
	enqueue('postgres', 'deferred', 1, 1);
	adds_up('postgres', 'remote commit: before');
	$dbh->do("SELECT persist_enqueue('deferred', jsonb_build_object('n', i, 'k', CASE WHEN i IN (7, 20) THEN 0 ELSE i END)) FROM generate_series(2, 30) AS i");
	$committed{postgres}{deferred} += 29;
	others_land('remote commit');
	adds_up('postgres', 'remote commit');
	is(one_value($dbh, "SELECT string_agg(item->>'n', ',' ORDER BY id) FROM persist_dead_letters WHERE target::regclass::text = 'deferred'"),
		'20', 'remote commit: the row that it refuses is a dead letter');
	is($remote->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) = array(SELECT i FROM generate_series(1, 30) AS i WHERE i <> 20) FROM deferred"),
		't', 'remote commit: the others are there, in order');
	$dead++;

	# what one server has committed stays there, if the next one's commit fails: once, until
	# that is known
	$remote->safe_psql('postgres', "CREATE DATABASE other");
	$remote->safe_psql('other', "CREATE TABLE far_other (n int)");
	$dbh->do("CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $remote->host . "', port '" . $remote->port . "', dbname 'other')");
	$dbh->do("CREATE USER MAPPING FOR CURRENT_USER SERVER other");
	$dbh->do("CREATE FOREIGN TABLE far_other (n int) SERVER other");
	$committed{postgres}{far_other} = 0;
	foreach my $from (101, 201, 301)
	{
		$dbh->begin_work;
		foreach my $n ($from .. $from + 15)
		{
			$dbh->do("SELECT persist_enqueue('far_other', jsonb_build_object('n', $n)), persist_enqueue('deferred', jsonb_build_object('n', $n, 'k', CASE WHEN $n % 100 = 8 THEN 0 ELSE $n END))");
		}
		$dbh->commit;
		$committed{postgres}{$_} += 16 foreach 'far_other', 'deferred';
		adds_up('postgres', "two servers, $from");
		is($remote->safe_psql('postgres', "SELECT count(*) FROM deferred WHERE n BETWEEN $from AND $from + 15"), '15', "two servers, $from: where it fails, the others have landed");
		$dead++;
	}
	is($remote->safe_psql('other', "SELECT count(DISTINCT n) FROM far_other"), '48', 'two servers: all have landed');
	cmp_ok($remote->safe_psql('other', "SELECT count(*) FROM far_other"), '<=', 64, 'two servers: none more than twice, and only once');
	$remote->stop;
}

# ---- a right that is revoked, from one of two roles

{
	my %user;

	create_target('postgres', 'granted', "role name DEFAULT current_user");
	foreach my $role ('alice', 'bob')
	{
		$dbh->do("CREATE ROLE $role LOGIN; GRANT INSERT ON granted TO $role; GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO $role");
		$user{$role} = connect_to($node, 'postgres', user => $role);
	}
	my $enqueue = sub {
		my ($role, $from, $to) = @_;

		$user{$role}->do("SELECT persist_enqueue('granted', jsonb_build_object('n', ?::int))", undef, $_) foreach $from .. $to;
		$committed{postgres}{granted} += $to - $from + 1;
	};
	my $have = sub {
		my ($role, $n, $name) = @_;

		ok(eval { wait_for_sql($dbh, "SELECT count(*) = $n FROM granted WHERE role = '$role'") }, "$name: they come");
		is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, $n)) FROM granted WHERE role = '$role'"),
			1, "$name: each once, in order");
	};

	$dbh->do("SELECT persist_pause('granted')");
	$enqueue->($_, 1, 20) foreach 'alice', 'bob';
	is_parked('postgres', 'granted', 40, '55000', 'rights: paused');
	$dbh->do("REVOKE INSERT ON granted FROM alice");
	$dbh->do("SELECT persist_resume('granted')");
	$have->('bob', 20, 'rights: of bob');
	is_parked('postgres', 'granted', 20, '42501', 'rights: those of alice are parked');
	$enqueue->('bob', 21, 40);
	$have->('bob', 40, 'rights: of bob, later ones');
	others_land('rights');
	$dbh->do("GRANT INSERT ON granted TO alice");
	$enqueue->('alice', 21, 40);
	$have->('alice', 40, 'rights: of alice');
	is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters WHERE target::regclass::text = 'granted'"), '0', 'rights: none is dead');
	adds_up('postgres', 'rights');
	$_->disconnect foreach values %user;
}

# ---- a target that takes none

{
	create_target('postgres', 'narrow', 'c int');
	$dbh->do("SELECT persist_pause('narrow')");
	$dbh->do("SELECT persist_enqueue('narrow', jsonb_build_object('n', i, 'c', i)) FROM generate_series(1, 40) AS i");
	$committed{postgres}{narrow} = 40;
	$dbh->do("ALTER TABLE narrow DROP c");
	$dbh->do("SELECT persist_resume('narrow')");
	is_parked('postgres', 'narrow', 40, '^42', 'column dropped: parked');
	others_land('column dropped');
	set_and_reload('misfit_timeout', "'10ms'");
	ok(eval { wait_for_sql($dbh, "SELECT dead = 40 FROM persist_stats WHERE target_name = 'public.narrow'") }, 'column dropped: then they are dead letters');
	$dead += 40;
	enqueue('postgres', 'narrow', 41, 50);
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 10 FROM narrow") }, 'column dropped: others of the target come');
	adds_up('postgres', 'column dropped');
	set_and_reload('misfit_timeout', "'10min'");

	# beside another target's rows that are tried in order, since a foreign key fails, or
	# something deferred
	$dbh->do("CREATE TABLE one (n int PRIMARY KEY)");
	create_target('postgres', 'orphan', 'one int REFERENCES one');
	create_target('postgres', 'refused');
	$dbh->do(q{CREATE FUNCTION refuse_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$});
	$dbh->do("CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON refused DEFERRABLE INITIALLY DEFERRED"
		  . " FOR EACH ROW EXECUTE FUNCTION refuse_later()");
	foreach my $beside ('orphan', 'refused')
	{
		create_target('postgres', "narrow_$beside", 'c int');
		$dbh->do("SELECT persist_pause()");
		$dbh->do("SELECT persist_enqueue('$beside', '" . ($beside eq 'orphan' ? '{"one": 1}' : '{}') . "'),"
			  . qq( persist_enqueue('narrow_$beside', '{"n": 1, "c": 1}')));
		$committed{postgres}{$_} = 1 foreach $beside, "narrow_$beside";
		$dbh->do("ALTER TABLE narrow_$beside DROP c");
		$dbh->do("SELECT persist_resume()");
		ok(eval { wait_for_sql($dbh, "SELECT dead = 1 FROM persist_stats WHERE target_name = 'public.$beside'") }, "column dropped, beside $beside: the other is dead");
		$dead++;
		is_parked('postgres', "narrow_$beside", 1, '^42', "column dropped, beside $beside: parked");
		$dbh->do("ALTER TABLE narrow_$beside ADD c int");
		lands('postgres', "narrow_$beside", "column dropped, beside $beside: mended");
		adds_up('postgres', "column dropped, beside $beside");
	}

	create_target('postgres', 'alike');
	add_trigger('alike', "RAISE check_violation");
	enqueue_paused('postgres', 'alike', 1, 150);
	$dbh->do("SELECT persist_resume('alike')");
	is_parked('postgres', 'alike', 150, '23514', 'all alike: parked');
	enqueue('postgres', 'alike', 151, 200);
	is_parked('postgres', 'alike', 200, '23514', 'all alike: later ones follow');
	others_land('all alike');
	add_trigger('alike', "NULL");
	lands_without('alike', [], '', 'all alike, mended');

	# not alike: each row for its own reason
	create_target('postgres', 'unalike', 'CONSTRAINT low CHECK (n > 50), CONSTRAINT high CHECK (n <= 50)');
	enqueue_paused('postgres', 'unalike', 1, 150);
	$dbh->do("SELECT persist_resume('unalike')");
	lands_without('unalike', [ 1 .. 150 ], '23514', 'all, but not alike');

	# a hundred alike, but not all
	my %bad = (
		'the first is good' => '2 .. 150',
		'the middle is good' => '1 .. 101, 300',
		'the end is good' => '1 .. 101, 151');

	foreach my $name (sort keys %bad)
	{
		my @bad = eval $bad{$name};
		my $target = $name =~ s/ /_/gr;
		my $n = $name =~ /first/ ? 150 : 300;

		create_target('postgres', $target);
		add_trigger($target, 'IF NEW.n IN (' . join(',', @bad) . ") THEN RAISE check_violation; END IF");
		enqueue_paused('postgres', $target, 1, $n);
		$dbh->do("SELECT persist_resume('$target')");
		lands_without($target, \@bad, '23514', "not all alike: $name");
	}

	# the same for what is found out at the end
	$dbh->do("CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN RAISE check_violation; END\$\$");
	create_target('postgres', 'the_first_is_good_later');
	$dbh->do("CREATE CONSTRAINT TRIGGER later AFTER INSERT ON the_first_is_good_later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.n > 1) EXECUTE FUNCTION later()");
	enqueue_paused('postgres', 'the_first_is_good_later', 1, 150);
	$dbh->do("SELECT persist_resume('the_first_is_good_later')");
	lands_without('the_first_is_good_later', [ 2 .. 150 ], '23514', 'not all alike, later: the first is good');

	# beside rows of another target, which are as bad as they are
	foreach my $target ('alike_one', 'alike_two', 'alike_three')
	{
		create_target('postgres', $target);
		add_trigger($target, $target eq 'alike_two' ? 'RAISE check_violation' : "IF NEW.n <= 3 THEN RAISE check_violation; END IF");
	}
	$dbh->begin_work;
	enqueue('postgres', 'alike_one', 1, 5);
	enqueue('postgres', 'alike_two', 1, 150);
	enqueue('postgres', 'alike_three', 1, 5);
	$dbh->commit;
	is_parked('postgres', 'alike_two', 150, '23514', 'alike, of several targets: one is parked');
	is(one_value($dbh, "SELECT string_agg(format('%s %s %s', persisted, dead, errors), ', ' ORDER BY target_name) FROM persist_stats WHERE target_name ~ '^public.alike_(one|three)'"),
		'2 3 3, 2 3 3', 'alike, of several targets: the others have landed or died');
	like(one_value($dbh, "SELECT format('%s %s', errors, last_error) FROM persist_stats WHERE target_name = 'public.alike_two'"),
		qr/^[1-9]\d* 23514$/, 'alike, of several targets: its error is counted');
	$dead += 6;
	add_trigger('alike_two', "NULL");
	lands_without('alike_two', [], '', 'alike, of several targets, mended');

	# where no row has been looked at, and where it is found out at the end
	$dbh->do("CREATE FUNCTION frozen() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN RAISE check_violation; END\$\$");
	foreach my $kind ([ 'TRIGGER', 'BEFORE', 'FOR EACH STATEMENT' ], [ 'CONSTRAINT TRIGGER', 'AFTER', 'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW' ])
	{
		my ($what, $when, $how) = @$kind;
		my $name = "frozen_\L$when";

		create_target('postgres', $name);
		$dbh->do("CREATE $what frozen $when INSERT ON $name $how EXECUTE FUNCTION frozen()");
		enqueue_paused('postgres', $name, 1, 150);
		$dbh->do("SELECT persist_resume('$name')");
		is_parked('postgres', $name, 150, '23514', "all alike, $when: parked");
		others_land("all alike, $when");
		is_parked('postgres', $name, 150, '23514', "all alike, $when: still");
		$dbh->do("DROP TRIGGER frozen ON $name");
		lands_without($name, [], '', "all alike, $when, mended");
	}

	# mended in the middle of a try: those of a transaction that come first don't land last
	{
		my $other = connect_to($node);

		create_target('postgres', 'shaky');
		$dbh->do("CREATE TABLE go ()");
		$dbh->do("CREATE FUNCTION shaky() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN WHILE NEW.n = 50 AND NOT EXISTS (SELECT FROM public.go) LOOP PERFORM pg_sleep(0.01); END LOOP; RAISE check_violation; END \$\$");
		$dbh->do("CREATE CONSTRAINT TRIGGER shaky AFTER INSERT ON shaky DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shaky()");
		$dbh->do("SELECT persist_pause('shaky')");
		$dbh->do("SELECT persist_enqueue('shaky', jsonb_build_object('n', i)) FROM generate_series(1, 150) AS i");
		$committed{postgres}{shaky} = 150;
		is_parked('postgres', 'shaky', 150, '55000', 'mended in the middle: paused');
		$dbh->do("SELECT persist_resume('shaky')");
		wait_for_sql($dbh, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline retrier' AND wait_event = 'PgSleep'");
		start_sql($other, "DROP TRIGGER shaky ON shaky");
		wait_for_sql($dbh, "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'shaky'::regclass AND NOT granted");
		$dbh->do("INSERT INTO go DEFAULT VALUES");
		is(finish_sql($other), '00000', 'mended in the middle');
		lands_without('shaky', [], '', 'mended in the middle');
	}

	# two of them in the same batch, whose rows take turns
	$dbh->do("CREATE TABLE missing (n int PRIMARY KEY)");
	create_target('postgres', $_, 'FOREIGN KEY (n) REFERENCES missing') foreach 'without1', 'without2';
	$dbh->do("SELECT persist_enqueue('without1', jsonb_build_object('n', i)), persist_enqueue('without2', jsonb_build_object('n', i)) FROM generate_series(1, 150) AS i");
	$committed{postgres}{$_} = 150 foreach 'without1', 'without2';
	is_parked('postgres', $_, 150, '23503', "all alike, two: $_ is parked") foreach 'without1', 'without2';
	others_land('all alike, two');
	$dbh->do("INSERT INTO missing SELECT generate_series(1, 150)");
	lands_without($_, [], '', "all alike, two, mended: $_") foreach 'without1', 'without2';

	# before it has looked at a row
	$dbh->do("DROP TRIGGER on_row ON alike; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE check_violation; END'");
	$dbh->do("CREATE TRIGGER refuse BEFORE INSERT ON alike EXECUTE FUNCTION refuse()");
	enqueue_paused('postgres', 'alike', 201, 350);
	$dbh->do("SELECT persist_resume('alike')");
	is_parked('postgres', 'alike', 150, '23514', 'all alike, by the statement: parked');
	$dbh->do("DROP TRIGGER refuse ON alike");
	lands_without('alike', [], '', 'all alike, by the statement, mended');
}

# ---- no room for dead letters

{
	my @bad = grep { $_ % 4 == 0 } 1 .. 40;

	is(one_value($dbh, "SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))"), $dead, 'limit: all are discarded');
	set_and_reload('dead_letter_limit', 15);
	set_and_reload('role_quota', 100);
	create_target('postgres', 'filled', 'CHECK (n % 4 <> 0)');
	enqueue('postgres', 'filled', 1, 40);
	ok(eval { wait_for_sql($dbh, "SELECT dead = 10 FROM persist_stats WHERE target_name = 'public.filled'") }, 'limit: up to it they are dead letters');
	enqueue_paused('postgres', 'filled', 41, 80);
	$dbh->do("SELECT persist_resume('filled')");
	ok(eval { wait_for_sql($dbh, "SELECT parked_reason = '53400' FROM persist_stats WHERE target_name = 'public.filled'") }, 'limit: then the target is parked');
	restart_with();
	$dbh = session('postgres');
	enqueue('postgres', 'filled', 81, 88);
	others_land('limit');
	is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), '15', 'limit: there are no more');
	# the account is right when nothing moves
	ok(eval { wait_for_sql($dbh, "SELECT enqueued = 88 FROM persist_stats WHERE target_name = 'public.filled'") }, 'limit: nothing is lost');
	is(one_value($dbh, "SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))"), '15', 'limit: they are discarded');
	adds_up('postgres', 'limit');
	is(one_value($dbh, "SELECT persisted || ' ' || dead || ' ' || discarded FROM persist_stats WHERE target_name = 'public.filled'"),
		'66 7 15', 'limit: it goes on');
	is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) = array(SELECT i FROM generate_series(1, 88) AS i WHERE i % 4 <> 0) FROM filled"), 1, 'limit: in order');

	# at the call, in transactions that don't see each other's
	my ($first, $second) = map { connect_to($node) } 1 .. 2;
	my $call = "SELECT count(persist_enqueue('refusing', '{\"no\": 1}')) FROM generate_series(1, 10)";

	is(one_value($dbh, "SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))"), '7', 'limit: no others');
	create_target('postgres', 'refusing');
	$dbh->do("SELECT persist_configure('refusing', bad_items => 'dead')");
	$_->begin_work foreach $first, $second;
	is(one_value($first, $call), 10, 'limit: at the call');
	is(try_sql($second, $call), '53400', 'limit: at the call, in two transactions');
	$second->rollback;
	$first->commit;
	is(try_sql($dbh, $call), '53400', 'limit: at the call, later');
	is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), '10', 'limit: at the call, there are no more');
	$committed{postgres}{refusing} = 10;
	is(one_value($dbh, "SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))"), '10', 'limit: at the call, discarded');
	adds_up('postgres', 'limit, at the call');
	$_->disconnect foreach $first, $second;
}

is_clean_log(
	qr/^WARNING:  terminating connection due to/,    # of the other server
	qr/persist_pipeline (?:worker|retrier) (57014|23503|23505|23514|428..|42703|P0001) WARNING:  .* for relation/,
	qr/client backend 53400 ERROR:  the item for relation "refusing" cannot become a dead letter/);
$node->stop;
done_testing();
