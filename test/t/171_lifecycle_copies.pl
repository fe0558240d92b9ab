
# What becomes of items that wait when their database is restored over itself, when it and another
# one publish all their tables to each other, and on a standby that is read and promoted.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Waiting;

# A server with targets, which have a row of before.
sub start_node
{
	my ($name, %settings) = @_;
	my $node = waiting_node($name, init => [ allows_streaming => 'logical' ], %settings);
	my $dbh = connect_to($node);

	create_targets($dbh);
	return ($node, $dbh);
}

# ---- pg_dump --clean, and back into the same database

my ($node, $dbh) = start_node('dumped');
my $dir = $node->basedir;
$dbh->do("INSERT INTO life.$_ VALUES (100)") foreach @states;
items_wait($dbh, 'dump');
$dbh->do("SELECT persist_configure('life.journal', 'journal', 'dead')");
my $settings_sql = "SELECT string_agg(concat_ws(' ', target, durability, bad_items, paused), ', ' ORDER BY target::text) FROM persist_settings";
my $settings = one_value($dbh, $settings_sql);
my $from = log_position($node);

foreach my $format ([ 'plain', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f' ], [ 'custom', 'pg_restore', '-e', '--clean', '--if-exists', '-d', $node->connstr('postgres') ])
{
	my ($name, @restore) = @$format;

	$node->command_ok(
		[ 'pg_dump', "-F$name", ($name eq 'plain' ? ('--clean', '--if-exists') : ()), '-f', "$dir/$name", $node->connstr('postgres') ],
		"dump, $name: made");
	ok(are_waiting($dbh), "dump, $name: they wait as before");
	$dbh->do('INSERT INTO life.dead VALUES (101)');    # which the dump doesn't have
	$node->command_like([ 'sh', '-c', '"$0" "$@" 2>&1', @restore, "$dir/$name" ], qr/^(?!.*ERROR)/s, "dump, $name: restored");
	is(one_value($dbh, "SELECT concat_ws(' ', $pending_sql, (SELECT count(*) FROM persist_parked), (SELECT count(*) FROM persist_dead_letters))"),
		'0 0 0', "dump, $name: what waited has gone with the extension");
	is_deeply(became($dbh), { map { $_ => '100' } @states }, "dump, $name: the tables are as they were");
	is(one_value($dbh, $settings_sql), $settings, "dump, $name: and so are the settings");
	items_wait($dbh, "dump, $name: who might enqueue still may");
	next if $name eq 'plain';
	is(resume_parked($dbh), '00000', "dump, $name: resumed");
	all_settled($dbh, "dump, $name");
	is_deeply(
		became($dbh),
		{ (map { $_ => '1 2 3 100' } qw(ring journal parked)), dead => '100; ' . lands()->{dead} },
		"dump, $name: what is enqueued from then on lands");
}

# tables are dropped before the extension, and until then it goes on
is_deeply([ complaints($node, $from, qr/persist_pipeline worker 23514 WARNING/, qr/persist_pipeline (?:worker|retrier) 42P01 WARNING/) ], [], 'dump: a clean log');
$dbh->disconnect;
$node->stop;

# ---- two servers that publish all their tables to each other

# What a subscription brings isn't sent on, so that no row goes round: servers before 16 can't be
# told so (origin = none).
my %server;
foreach my $name ('here', 'there')
{
	my ($server, $session) = start_node($name);

	foreach my $target (map { "life.$_" } @states)
	{
		$session->do("ALTER TABLE $target ADD home text DEFAULT '$name', DROP CONSTRAINT " . ($target =~ s/.*\.//r) . '_pkey, ADD PRIMARY KEY (n, home)');
	}
	$session->do(q{CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$});
	foreach my $target (map { "life.$_" } @states)
	{
		$session->do("CREATE TRIGGER came_back BEFORE INSERT ON $target FOR EACH ROW WHEN (NEW.home = '$name') EXECUTE FUNCTION skip()");
		$session->do("ALTER TABLE $target ENABLE REPLICA TRIGGER came_back");
	}
	$session->do('CREATE PUBLICATION everything FOR ALL TABLES');
	$server{$name} = { node => $server, dbh => $session, from => log_position($server) };
}
my %other = (here => 'there', there => 'here');
foreach my $name (sort keys %server)
{
	my $publisher = $server{ $other{$name} }{node}->connstr . ' dbname=postgres';

	$server{$name}{dbh}->do("CREATE SUBSCRIPTION from_$other{$name} CONNECTION '$publisher' PUBLICATION everything WITH (copy_data = false)");
}
items_wait($server{$_}{dbh}, "both ways, $_") foreach sort keys %server;
foreach my $name (sort keys %server)
{
	is(resume_parked($server{$name}{dbh}), '00000', "both ways, $name: resumed");
	all_settled($server{$name}{dbh}, "both ways, $name");
	is( one_value($server{$name}{dbh}, q{SELECT count(persist_requeue(id, jsonb_build_object('n', - (item->>'n')::int))) FROM persist_dead_letters}),
		3, "both ways, $name: letters are sent again");
	all_settled($server{$name}{dbh}, "both ways, $name, sent again");
}
foreach my $name (sort keys %server)
{
	my ($publisher, $subscriber) = @server{ $other{$name}, $name };

	$publisher->{node}->wait_for_catchup("from_$other{$name}", 'replay', $publisher->{node}->lsn('insert'));
	foreach my $state (@states)
	{
		is( one_value($subscriber->{dbh}, "SELECT string_agg(concat_ws(' ', n, home), ', ' ORDER BY home, n) FROM life.$state"),
			join(', ', map { my $home = $_; map { "$_ $home" } 1 .. 3 } sort keys %server),
			"both ways, $name, $state: each row of both, once");
	}
	is(one_value($subscriber->{dbh}, "SELECT concat_ws(' ', $pending_sql, (SELECT count(*) FROM persist_parked), (SELECT count(*) FROM persist_dead_letters))"),
		'0 0 0', "both ways, $name: nothing waits that came from the other one");
	is(one_value($subscriber->{dbh}, "SELECT count(*) FROM persist_queue WHERE items_copied > 0"), 0, "both ways, $name: nor was put aside");
	is_deeply([ complaints($subscriber->{node}, $subscriber->{from}, qr/persist_pipeline worker 23514 WARNING/) ], [], "both ways, $name: a clean log");
}

# ---- the same with the initial copy: it has rows of our tables, which are passed over, and holds nobody up

{
	my ($publisher, $subscriber) = @server{ 'here', 'there' };
	my $before = log_position($subscriber->{node});

	$server{$_}{dbh}->do("DROP SUBSCRIPTION from_$other{$_}") foreach keys %server;
	$_->{dbh}->do('TRUNCATE ' . join ', ', map { "life.$_" } @states) foreach $publisher, $subscriber;
	items_wait($publisher->{dbh}, 'initial copy, there');
	$publisher->{dbh}->do("SELECT persist_configure('life.journal', 'journal', 'dead')");
	$subscriber->{dbh}->do("CREATE SUBSCRIPTION from_here CONNECTION '" . $publisher->{node}->connstr . " dbname=postgres' PUBLICATION everything");
	ok(eval { wait_for_sql($subscriber->{dbh}, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel") }, 'initial copy: all tables are in step');
	is(one_value($subscriber->{dbh}, "SELECT concat_ws(' ', $pending_sql, (SELECT count(*) FROM persist_parked), (SELECT count(*) FROM persist_dead_letters))"),
		'0 0 0', 'initial copy: nothing of what waits has come');
	is(one_value($subscriber->{dbh}, $settings_sql), one_value($publisher->{dbh}, $settings_sql), 'initial copy: the settings have, as with a dump');
	is(resume_parked($_->{dbh}), '00000', 'initial copy: resumed') foreach $publisher, $subscriber;
	all_settled($publisher->{dbh}, 'initial copy');
	$publisher->{node}->wait_for_catchup('from_here', 'replay', $publisher->{node}->lsn('insert'));
	is_deeply(became($subscriber->{dbh}), { %{ lands() }, dead => '' }, 'initial copy: what is written from then on comes');
	is_deeply([ complaints($subscriber->{node}, $before, qr/logical replication (?:apply )?worker 57P01 FATAL/) ], [], 'initial copy: a clean log');
	$subscriber->{dbh}->do('DROP SUBSCRIPTION from_here');
}
$_->{dbh}->disconnect, $_->{node}->stop foreach values %server;

# ---- a standby, read and promoted

($node, $dbh) = start_node('primary');
$node->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'one', has_streaming => 1);
$standby->start;
items_wait($dbh, 'standby');
$dbh->do("SELECT persist_configure('life.journal', 'journal', 'dead')");
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));

my $reader = connect_to($standby);
my $waits_sql = "SELECT concat_ws(' ', $pending_sql, (SELECT count(*) FROM persist_parked), (SELECT count(*) FROM persist_dead_letters))";
is(one_value($reader, $waits_sql), '6 3 3', 'standby: what waits in tables is there to be read, and the letters');
is(one_value($reader, $settings_sql), one_value($dbh, $settings_sql), 'standby: and the settings');
foreach my $view (map { "persist_$_" } qw(queue stats parked dead_letters settings shutdowns))
{
	is(try_sql($reader, "SELECT * FROM $view"), '00000', "standby: $view can be read");
}
is(try_sql($reader, 'SELECT * FROM persist_health()'), '00000', 'standby: persist_health() works');
is(try_sql($reader, "SELECT $_"), '25006', "standby: $_ is refused")
  foreach q{persist_enqueue('life.ring', '{"n": 9}')}, 'persist_requeue()', "persist_discard(ARRAY[1])", 'persist_pause()', "persist_resume('life.parked')";
$reader->disconnect;
$node->stop('immediate');
$dbh->disconnect;
$standby->promote;
$dbh = connect_to($standby);
is(resume_parked($dbh), '00000', 'promoted: resumed');
all_settled($dbh, 'promoted');
is_deeply(became($dbh), { %{ lands() }, ring => '' }, 'promoted: all lands but what was in the ring alone, and letters are kept');
is(one_value($dbh, q{SELECT count(persist_requeue(id, jsonb_build_object('n', - (item->>'n')::int))) FROM persist_dead_letters}), 3, 'promoted: letters are sent again');
all_settled($dbh, 'promoted, sent again');
is(became($dbh)->{dead}, '1 2 3', 'promoted: and land');
$dbh->disconnect;
$standby->stop;
done_testing();
