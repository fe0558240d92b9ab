
# The launcher is connected to the catalogs that all databases share: it is listed, holds
# nothing while it sleeps, waits for no lock, and knows itself which databases there are.  And
# nothing gets into a ring alone without a worker: so a stop loses nothing, though the launcher
# never becomes one.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Time::HiRes qw(time usleep);
use Waiting;

my $node = pp_node(
	'launcher',
	log_min_messages => 'debug1',    # says which processes start
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.statement_timeout' => 0);
my $control = connect_to($node);
my @databases = ('a', 'b', 'c', 'd');
my %session;

create_model_database($node, 'model');
foreach my $name (@databases)
{
	create_database($control, $name, 'model');
	$session{$name} = connect_to($node, $name);
}

# ---- it is listed

my $listed = "FROM pg_stat_activity WHERE backend_type = 'persist_pipeline launcher'";
my $launcher = wait_for_launcher($node);

is(one_value($control, "SELECT count(*) $listed AND datid IS NULL"), 1, 'the launcher is listed, without a database');
wait_for_sql($control, "SELECT count(*) = 1 $listed AND wait_event IS NOT NULL AND xact_start IS NULL AND backend_xid IS NULL AND backend_xmin IS NULL");
pass('it sleeps, without a transaction or a snapshot');
is(one_value($control, "SELECT count(*) FROM pg_locks WHERE pid = $launcher"), 0, 'nor a lock');
is(one_value($control, "SELECT pg_cancel_backend($launcher)"), 1, 'told to cancel');
usleep(200_000);
is(launcher_pid($node), $launcher, 'it goes on');
$control->do("SELECT pg_terminate_backend($launcher)");
isnt(wait_for_launcher($node, $launcher), $launcher, 'told to end, it comes back');

# ---- after a start it has each database looked into, by one process each

$_->disconnect foreach values %session, $control;
$node->stop;
my $from = log_position($node);
$node->start;
$control = connect_to($node);
my @names = map { $_->[0] } @{ $control->selectall_arrayref('SELECT datname FROM pg_database WHERE datallowconn ORDER BY oid') };
my @oids = map { $_->[0] } @{ $control->selectall_arrayref('SELECT oid FROM pg_database WHERE datallowconn ORDER BY oid') };

$node->wait_for_log(qr/looked into database "$names[-1]"/, $from);
is_deeply([ map { /looked into database "(\w+)"/ } log_since($node, $from, qr/looked into database/) ], \@names, 'it looks into all databases, in their order');
is_deeply([ map { /starting background worker process "persist_pipeline probe for database (\d+)"/ } log_since($node, $from, qr/starting background worker process "persist_pipeline probe/) ],
	\@oids, 'with a process for each, and no other');

# ---- who locks pg_database doesn't stop it

$control->begin_work;
$control->do('LOCK TABLE pg_catalog.pg_database IN ACCESS EXCLUSIVE MODE');
foreach my $round (1, 2)
{
	my $old = one_value($control, "SELECT pid $listed");

	$control->do("SELECT pg_terminate_backend($old)");
	ok(wait_until('another launcher', sub {
		# what a transaction has seen of the statistics is forgotten
		$control->do('SELECT pg_stat_clear_snapshot()');
		one_value($control, "SELECT count(*) = 1 $listed AND pid <> $old AND wait_event_type IS DISTINCT FROM 'Lock' AND wait_event IS NOT NULL");
	}), "pg_database is locked: the launcher comes, and goes, and waits for nothing ($round)");
}
$from = log_position($node);
$control->commit;
$node->wait_for_log(qr/looked into database "$names[-1]"/, $from);
pass('then it reads it');

# ---- a process that fails is followed by another one, once the other databases have been seen

{
	my $locker = connect_to($node, 'a');

	$control->do("ALTER DATABASE a SET lock_timeout = '50ms'");
	$locker->begin_work;
	$locker->do('LOCK TABLE persist_pipeline_internal.persist_state IN ACCESS EXCLUSIVE MODE');
	$from = log_position($node);
	$control->do("SELECT pg_terminate_backend(pid) $listed");
	$node->wait_for_log(qr/persist_pipeline probe 55P03 ERROR/, $from);
	$node->wait_for_log(qr/looked into database "$_"/, $from) foreach 'b', $names[-1];
	is(scalar(log_since($node, $from, qr/looked into database "a"/)), 0, 'one could not be looked into, others have been');
	$from = log_position($node);
	$locker->commit;
	# to the end of that round: what follows counts the looks of another one
	$node->wait_for_log(qr/looked into database "a".*looked into database "$names[-1]"/s, $from);
	pass('then it is');
	$control->do('ALTER DATABASE a RESET lock_timeout');
	$locker->disconnect;
}

# ---- a command that has a database for itself holds up no other

{
	my $command = connect_to($node, 'a');

	$command->begin_work;
	$command->do('DROP EXTENSION persist_pipeline');
	$from = log_position($node);
	$control->do("SELECT pg_terminate_backend(pid) $listed");
	ok(eval { $node->wait_for_log(qr/looked into database "$names[-1]"/, $from) }, 'one is blocked, the others are looked into')
	  or diag($@);
	is(scalar(log_since($node, $from, qr/looked into database "a"/)), 0, 'it is not');
	wait_for_sql($control, q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'persist_pipeline probe')});
	my $looks = scalar(log_since($node, $from, qr/looked into database/));
	usleep(1_200_000);
	is(scalar(log_since($node, $from, qr/looked into database/)), $looks, 'nor is any of the others again, while it is blocked');
	$from = log_position($node);
	$command->rollback;
	$node->wait_for_log(qr/looked into database "a"/, $from);
	pass('then it is');
	$command->disconnect;
}

# ---- an item that is not transactional has a worker started, and waits for that

my $at_once = "SELECT persist_enqueue(?::regclass, jsonb_build_object('n', ?::int), false)";

$session{$_} = connect_to($node, $_) foreach @databases;
is(worker_pid($node, 'a'), '', 'no worker is there');
is(try_sql($session{a}, $at_once, 't', 1), '00000', 'an item is handed over at once');
is(one_value($session{a}, "SELECT worker_pid > 0 FROM persist_queue WHERE datname = 'a'"), 1, 'and one is there');
ok(flush($node, 'a'), 'flushed');

# max_workers is used up
$session{a}->do("SELECT persist_enqueue('slow', '{\"n\": 1}')");
wait_for_sql($control, "SELECT worker_state = 'writing' FROM persist_queue WHERE datname = 'a'");
my $began = time;
is(try_sql($session{b}, $at_once, 't', 1), '53000', 'no worker is free: it is refused');
cmp_ok(time - $began, '>', 4, 'after a while');
is_quick(time - $began, 15, 'and not after a long one');
like($session{b}->errstr, qr/no worker is free for database "b".*DETAIL:  .*not transactional.*HINT:  .*"persist_pipeline.max_workers"/s, 'with the reason and a hint');
is(try_sql($session{b}, "SELECT persist_enqueue('t', '{\"n\": 2}')"), '00000', 'one that is transactional is accepted');
start_sql($session{b}, "SELECT persist_enqueue('t', '{\"n\": 3}', false)");
$session{a}->do('INSERT INTO released DEFAULT VALUES');
is(finish_sql($session{b}), '00000', 'once a worker is free, so is what waits for it');
ok(flush($node, $_), "$_: flushed") foreach 'a', 'b';
is($node->safe_psql('b', 'SELECT array_agg(n ORDER BY n) FROM t'), '{2,3}', 'both have arrived');

# in the transaction that creates the extension no worker sees it, and none is waited for
$control->do('CREATE DATABASE new');
$session{new} = connect_to($node, 'new');
$session{new}->begin_work;
$session{new}->do('CREATE EXTENSION persist_pipeline');
$session{new}->do('CREATE TABLE t (n int)');
is_quick(seconds_of(sub { is(try_sql($session{new}, $at_once, 't', 1), '00000', 'in an installation that is new: accepted') }), 3, 'at once');
$session{new}->commit;
ok(flush($node, 'new'), 'flushed');
is($node->safe_psql('new', 'SELECT array_agg(n) FROM t'), '{1}', 'and it arrives');

# ---- a stop, while four databases take turns: all that was accepted is there

$_->disconnect foreach values %session, $control;
$from = log_position($node);
my $directory = $node->basedir;
my @pids = in_children(
	scalar(@databases),
	sub {
		my ($client) = @_;
		my $dbh = connect_to($node, $databases[ $client - 1 ]);

		open my $file, '>', "$directory/$client" or die $!;
		$file->autoflush(1);
		for (my $n = 1000;; $n++)
		{
			my ($state, $committed);

			$dbh->begin_work;
			$state = try_sql($dbh, $at_once, 't', $n);
			print $file "$n\n" if $state eq '00000';
			last if !eval { $dbh->rollback; $dbh->ping };
			die $state if $state !~ /^(?:00000|53000|57P01)$/;
		}
		close $file;
	});
wait_until('all have handed something over', sub { !grep { !-s "$directory/$_" } 1 .. @databases });
usleep(1_500_000);
$node->stop('fast');
children_succeeded('clients', @pids);
is_deeply([ log_since($node, $from, qr/could not be saved|no persist_pipeline worker is left/) ], [], 'a stop: nothing is lost');
$node->start;
foreach my $client (1 .. @databases)
{
	my $name = $databases[ $client - 1 ];
	my $dbh = connect_to($node, $name);
	my $accepted = join ',', split /\n/, PostgreSQL::Test::Utils::slurp_file("$directory/$client");

	ok(flush($node, $name), "$name: flushed");
	is(one_value($dbh, "SELECT count(*) FROM unnest('{$accepted}'::int[]) AS n WHERE n NOT IN (SELECT n FROM t)"), 0, "$name: what was accepted is there");
	is(one_value($dbh, 'SELECT count(*) - count(DISTINCT n) FROM t WHERE n >= 1000'), 0, "$name: once");
	note "$name: ", 1 + ($accepted =~ tr/,//), ' items';
	$dbh->disconnect;
}
is_deeply([ complaints($node, 0, qr/client backend (?:53000|57P01) (?:ERROR|FATAL)|persist_pipeline probe 55P03 ERROR/) ], [], 'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
# ---- to look into a database whose items wait doesn't have them written

{
	my $waiting = waiting_node('waiting', log_min_messages => 'debug1');
	my $dbh = connect_to($waiting);

	create_targets($dbh);
	items_wait($dbh, 'looked into');
	my $before = log_position($waiting);
	$dbh->do('SELECT pg_terminate_backend(' . wait_for_launcher($waiting) . ')');
	$waiting->wait_for_log(qr/looked into database "postgres": items wait/, $before);
	wait_for_sql($dbh, q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'persist_pipeline probe')});
	ok(are_waiting($dbh), 'looked into, by a process that has gone: all are where they were');
	$dbh->disconnect;
	$waiting->stop;
}

done_testing();
