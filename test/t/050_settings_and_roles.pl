
# Whose settings hold for the worker's INSERTs, roles that are gone at the flush,
# what a trigger leaves behind in the session, and a foreign server.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Time::HiRes qw(usleep);

my $node = pp_node('settings', 'persist_pipeline.adaptive_flush' => 'off', 'persist_pipeline.flush_interval' => "'1h'");
my $everything_from = log_position($node);
my $superuser = $node->safe_psql('postgres', "SELECT current_user");

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN;
	CREATE TABLE t (n int, note text);
	GRANT INSERT ON t TO alice, bob, carol;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO alice, bob, carol;
});

sub enqueue_as
{
	my ($role, $table, $n) = @_;
	my $dbh = connect_to($node, 'postgres', user => $role);

	# whatever the database's settings
	$dbh->do("SET default_transaction_read_only = off");
	$dbh->do("SET statement_timeout = 0");
	$dbh->do("SELECT persist_enqueue('$table'::regclass, jsonb_build_object('n', ?::int), true)", undef, $n);
	$dbh->disconnect;
	return;
}

# ---- a role that is dropped between call and flush

my $from = log_position($node);
enqueue_as('alice', 't', 1);
enqueue_as('bob', 't', 2);
enqueue_as('bob', 't', 3);
enqueue_as('carol', 't', 4);
$node->safe_psql('postgres', "DROP OWNED BY bob; DROP ROLE bob");
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM t"),
	'{1,4}', 'items of other roles arrive');
wait_until_told($node);
is(scalar(log_since($node, $from, qr/42704 WARNING:  2 items for relation "public.t", the first of them \d+, could not be inserted: SQLSTATE 42704/)),
	1, 'a line for the dropped role\'s items');
is(scalar(log_since($node, $from, qr/WARNING:  .*relation "public.t"/)), 1, 'and no other');
is($node->safe_psql('postgres', "SELECT array_agg(item->>'n' ORDER BY id) FROM persist_dead_letters WHERE sqlstate = '42704'"),
	'{2,3}', 'they are dead letters');
is($node->safe_psql('postgres', "SELECT items_pending, items_failed, items_persisted FROM persist_queue"),
	'0|2|2', 'and they are counted');

# ---- a privilege that was lost between call and flush

enqueue_as('alice', 't', 5);
enqueue_as('carol', 't', 6);
$node->safe_psql('postgres', "REVOKE INSERT ON t FROM carol");
ok(!flush($node), 'a lost privilege: not flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM t WHERE n > 4"),
	'{5}', 'a privilege is checked again at the flush');
is($node->safe_psql('postgres', "SELECT parked, parked_reason FROM persist_stats WHERE target_name = 'public.t'"),
	'1|42501', 'the item is parked: it may be given back');
$node->safe_psql('postgres', "GRANT INSERT ON t TO carol");
ok(drain($node), 'flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM t WHERE n > 4"), '{5,6}', 'so it is');
is(scalar(log_since($node, $from, qr/42501 WARNING/)), 0, 'without a line');

# or it may not
$node->append_conf('postgresql.conf', "persist_pipeline.misfit_timeout = 0");
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('persist_pipeline.misfit_timeout') = '0'") or die 'no reload';
enqueue_as('alice', 't', 7);
enqueue_as('carol', 't', 8);
$node->safe_psql('postgres', "REVOKE INSERT ON t FROM carol");
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM t WHERE n > 6"), '{7}', 'a privilege that stays lost');
wait_until_told($node);
is(scalar(log_since($node, $from, qr/42501 WARNING:  item \d+ /)), 1, 'with a line');
is($node->safe_psql('postgres', "SELECT item->>'n' FROM persist_dead_letters WHERE sqlstate = '42501'"), '8', 'and a dead letter');
$node->append_conf('postgresql.conf', "persist_pipeline.misfit_timeout = '60s'");
$node->reload;

# ---- settings of the database and of the superuser that the worker is

my %forced = (
	default_transaction_deferrable => [ 'on', 'off' ],
	default_transaction_isolation => [ "'serializable'", 'read committed' ],
	default_transaction_read_only => [ 'on', 'off' ],
	row_security => [ 'off', 'on' ],
	session_replication_role => [ "'replica'", 'origin' ],
	statement_timeout => [ '1', '0' ],
	synchronous_commit => [ "'on'", 'off' ],
	transaction_isolation => [ undef, 'read committed' ],
	transaction_read_only => [ undef, 'off' ]);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE seen (setting text, value text);
	GRANT INSERT ON seen TO alice;
	CREATE TABLE watched (n int);
	CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
	BEGIN
		INSERT INTO seen SELECT s, current_setting(s) FROM unnest(ARRAY[}
	  . join(', ', map { "'$_'" } sort keys %forced) . q{]) AS s;
		PERFORM pg_sleep(0.1);	-- longer than the statement_timeout
		RETURN NEW;
	END $$;
	CREATE TRIGGER watch BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch();
	ALTER TABLE watched ENABLE ROW LEVEL SECURITY;
	CREATE POLICY positive ON watched FOR INSERT TO alice WITH CHECK (n > 0);
	GRANT INSERT ON watched TO alice;
});

my $administrator = connect_to($node);
$administrator->do("SET statement_timeout = 0");
$administrator->do("SET default_transaction_read_only = off");
$administrator->begin_work;
foreach my $setting (sort grep { $forced{$_}[0] } keys %forced)
{
	$administrator->do("ALTER DATABASE postgres SET $setting = $forced{$setting}[0]");
	$administrator->do("ALTER ROLE \"$superuser\" SET $setting = $forced{$setting}[0]");
	$administrator->do("ALTER ROLE alice SET $setting = $forced{$setting}[0]")
	  if $setting ne 'session_replication_role';
}
$administrator->do("ALTER DATABASE postgres SET search_path = nowhere");
$administrator->commit;

# With these, psql sessions are of no use; this one sees what is so.
my $queue = sub { return $administrator->selectrow_array("SELECT $_[0] FROM persist_queue") };
my $old = $queue->('worker_pid');
$administrator->do("SELECT pg_terminate_backend($old)");
until (($queue->('worker_pid') || $old) != $old && !$queue->('ring_closed')) { usleep(50_000); }

$from = log_position($node);
foreach my $round (1, 2)
{
	local $ENV{PGOPTIONS} = '-c statement_timeout=0';    # not by SET, which alone may take longer than alice's 1 ms
	my $dbh = connect_to($node, 'postgres', user => 'alice');
	$dbh->do("SET default_transaction_read_only = off");
	$dbh->do("SET search_path = public");
	$dbh->do("SELECT persist_enqueue('watched'::regclass, jsonb_build_object('n', ?::int), true)", undef, $_)
	  foreach ($round, -$round);
	$dbh->disconnect;
	is($administrator->selectrow_array("SELECT persist_flush('300 s')"), 1, "round $round: flushed");

	my $seen = $administrator->selectall_arrayref("SELECT DISTINCT setting, value FROM seen ORDER BY 1, 2");
	is_deeply(
		$seen,
		[ map { [ $_, $forced{$_}[1] ] } sort keys %forced ],
		"round $round: none of these settings reaches the worker's INSERTs");
	is($administrator->selectrow_array("SELECT array_agg(n ORDER BY n)::text FROM watched"),
		$round == 1 ? '{1}' : '{1,2}', "round $round: the policy is applied");

	# a second time after a reload, since that is when settings are read again
	$node->append_conf('postgresql.conf', "default_transaction_read_only = on\nstatement_timeout = 1");
	$node->reload;
}
wait_until_told($administrator);
is(scalar(log_since($node, $from, qr/42501 WARNING:  item /)), 2, 'and said no twice');

$node->append_conf('postgresql.conf', "default_transaction_read_only = off\nstatement_timeout = 0");
$node->reload;
$administrator->do("ALTER DATABASE postgres RESET ALL");
$administrator->do("ALTER ROLE \"$superuser\" RESET ALL");
$administrator->do("ALTER ROLE alice RESET ALL");
$administrator->disconnect;
$node->restart;

# ---- what is read of a role's settings for each batch takes no memory that stays

{
	my $dbh = connect_to($node);
	my $pid;
	my $before;

	$dbh->do("ALTER ROLE alice SET app.large = '" . 'x' x 100_000 . "'");
	foreach my $batch (1 .. 220)
	{
		$dbh->begin_work;
		$dbh->do('SET LOCAL ROLE alice');
		$dbh->do(q{SELECT persist_enqueue('t'::regclass, '{"n": 0}')});
		$dbh->commit;
		one_value($dbh, "SELECT persist_flush('300 s')") or die 'not flushed';
		next if $batch != 20;
		$pid = worker_pid($node);
		($before) = own_memory($pid);
	}
	is(worker_pid($node), $pid, 'many batches: the same worker');
	cmp_ok((own_memory($pid))[0] - $before, '<', 5 * 1024, 'many batches: it has not grown');
	$dbh->do('ALTER ROLE alice RESET ALL');
	$dbh->disconnect;
}

# ---- what a trigger leaves behind in the session isn't there for the next role

$node->safe_psql(
	'postgres', q{
	CREATE TABLE litter (n int);
	CREATE FUNCTION litter() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_lock(4711);
		PERFORM set_config('search_path', 'pg_temp', false);
		PERFORM set_config('my.litter', 'here', false);
		PERFORM set_config('work_mem', '64kB', false);
		CREATE TEMP TABLE IF NOT EXISTS litter (n int);
		EXECUTE 'PREPARE litter AS SELECT 1';
		RETURN NEW;
	END $$;
	CREATE TRIGGER litter BEFORE INSERT ON litter FOR EACH ROW EXECUTE FUNCTION litter();
	GRANT INSERT ON litter TO alice;

	CREATE TABLE clean (n int, found text[]);
	CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		NEW.found := ARRAY(
			SELECT 'lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
			UNION ALL SELECT 'search_path' WHERE current_setting('search_path') = 'pg_temp'
			UNION ALL SELECT 'my.litter' WHERE current_setting('my.litter', true) <> ''
			UNION ALL SELECT 'work_mem' WHERE current_setting('work_mem') = '64kB'
			UNION ALL SELECT 'temporary table' FROM pg_class
				WHERE relpersistence = 't' AND pg_my_temp_schema() = relnamespace
			UNION ALL SELECT 'prepared statement' FROM pg_prepared_statements
			UNION ALL SELECT 'role' WHERE current_user <> 'carol' OR session_user <> 'carol');
		RETURN NEW;
	END $$;
	CREATE TRIGGER look BEFORE INSERT ON clean FOR EACH ROW EXECUTE FUNCTION look();
	GRANT INSERT ON clean TO carol;
	GRANT TEMPORARY ON DATABASE postgres TO PUBLIC;
});
enqueue_as('alice', 'litter', 1);
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*) FROM litter"), '1', 'a trigger left things behind');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'"),
	'no lock of the session is held after the batch');
my $pid = worker_pid($node);
enqueue_as('carol', 'clean', 1);
ok(flush($node), 'flushed');
isnt(worker_pid($node), $pid, 'another worker: this one may have kept something');
is($node->safe_psql('postgres', "SELECT n, found FROM clean"), '1|{}', 'another role finds none of them');

# ---- a foreign server: the same cluster, and for a while nobody

SKIP:
{
	skip 'postgres_fdw is not installed', 8
	  if $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") eq '0';

	my ($host, $port) = ($node->host, $node->port);

	$from = log_position($node);
	$node->safe_psql(
		'postgres', qq{
		CREATE DATABASE far;
	});
	$node->safe_psql('far', "CREATE TABLE t (n int, who text DEFAULT session_user); GRANT INSERT ON t TO alice, carol");
	$node->safe_psql(
		'postgres', qq{
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'far');
		CREATE USER MAPPING FOR alice SERVER far OPTIONS (user 'alice', password_required 'false');
		CREATE USER MAPPING FOR carol SERVER far OPTIONS (user 'carol', password_required 'false');
		CREATE FOREIGN TABLE far (n int) SERVER far OPTIONS (table_name 't');
		GRANT INSERT ON far TO alice, carol;
	});
	enqueue_as('alice', 'far', 1);
	enqueue_as('carol', 'far', 2);
	ok(flush($node), 'flushed');
	is($node->safe_psql('far', "SELECT n, who FROM t ORDER BY n"),
		"1|alice\n2|carol", 'a foreign table is written to as the enqueuer');

	$node->safe_psql('postgres', "ALTER SERVER far OPTIONS (SET host '/nowhere')");
	enqueue_as('alice', 'far', 3);
	$node->safe_psql('postgres', "SELECT persist_flush('1 ms')");
	ok(wait_for_queue($node, "retrier_pid > 0 AND items_parked = 1"), 'a foreign server that is away is waited for');
	enqueue_as('alice', 't', 9);
	is($node->safe_psql('postgres', "SELECT persist_flush('300 s', 't')"), 't', 'but not by others');
	is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE n = 9"), '1', 'which arrive');
	$node->safe_psql('postgres', "ALTER SERVER far OPTIONS (SET host '$host')");
	ok(drain($node), 'flushed');
	is($node->safe_psql('far', "SELECT array_agg(n ORDER BY n) FROM t"),
		"{1,2,3}", 'and when it is back the items arrive, each once');
	is_deeply([ complaints($node, $from) ], [], 'nothing to warn of');
}

is_deeply(
	[
		complaints($node, $everything_from, qr/persist_pipeline (?:worker|retrier) 42704 WARNING/,
			qr/persist_pipeline (?:worker|retrier) 42501 WARNING/, qr/client backend 57P01 FATAL/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
