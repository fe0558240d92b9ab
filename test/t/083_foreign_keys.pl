
# Foreign keys across targets, roles and sessions: what one by one, in the order of the commits,
# would be accepted, is accepted, and nothing is called bad before that is clear; also where what
# a row refers to is locked, and so is parked.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use Test::More;

my $node = parking_node(
	'fkeys',
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.lock_timeout' => "'100ms'");
my $dbh = session('postgres');
my %session_of;

# The roles' OIDs are in the opposite order of what they do.
foreach my $role (qw(carol bob alice))
{
	$dbh->do("CREATE ROLE $role LOGIN");
	$dbh->do("GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO $role");
}

sub create_tables
{
	my (@definitions) = @_;

	$dbh->do($_) foreach @definitions;
	$dbh->do('GRANT INSERT ON ALL TABLES IN SCHEMA public TO alice, bob, carol');
	return;
}

# Enqueue in a transaction of this role's session: target => item ...
sub enqueue_as
{
	my ($role, @calls) = @_;
	my $own = $session_of{$role} //= connect_to($node, 'postgres', user => $role);

	$own->begin_work;
	while (my ($target, $item) = splice @calls, 0, 2)
	{
		$own->do("SELECT persist_enqueue('$target'::regclass, ?::jsonb)", undef, $item);
	}
	$own->commit;
	return;
}

# The keys of a table, and the dead letters, which are discarded.
sub keys_of
{
	my ($table) = @_;

	return join ' ', rows_of($dbh, "SELECT id FROM $table ORDER BY id");
}

sub dead
{
	my $dead = join ', ', rows_of($dbh, q{SELECT replace(target_name, 'public.', ''), item ->> 'id', sqlstate FROM persist_dead_letters ORDER BY id});

	discard_all($dbh);
	return $dead;
}

# All that is there is in one batch, and settled.
sub is_settled
{
	my ($name) = @_;

	ok(one_value($dbh, 'SELECT persist_flush()'), "$name: flushed");
	return;
}

# A transaction that needs something at its commit that has been enqueued later, or is locked
sub create_circle
{
	my ($left, $right) = @_;

	create_tables(
		"CREATE TABLE $left (id int PRIMARY KEY, other int NOT NULL)",
		"CREATE TABLE $right (id int PRIMARY KEY, other int NOT NULL REFERENCES $left DEFERRABLE INITIALLY DEFERRED)",
		"ALTER TABLE $left ADD FOREIGN KEY (other) REFERENCES $right DEFERRABLE INITIALLY DEFERRED");
	return;
}

create_tables(
	'CREATE TABLE grandparent (id int PRIMARY KEY)',
	'CREATE TABLE parent (id int PRIMARY KEY CHECK (id <> 66), up int NOT NULL REFERENCES grandparent)',
	'CREATE TABLE child (id int PRIMARY KEY, up int NOT NULL REFERENCES parent)',
	'CREATE TABLE other (id int PRIMARY KEY)',
	'CREATE TABLE divided (id int PRIMARY KEY) PARTITION BY RANGE (id)',
	'CREATE TABLE division PARTITION OF divided FOR VALUES FROM (0) TO (100)',
	'CREATE TABLE of_divided (id int PRIMARY KEY, up int REFERENCES divided)',
	'CREATE TABLE of_division (id int PRIMARY KEY, up int REFERENCES division)',
	'CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree)');

# ---- sessions of several roles, in one batch ----

# the child's role comes first in the batch, by another item
enqueue_as(carol => other => '{"id": 1}');
enqueue_as(bob => other => '{"id": 2}');
enqueue_as(alice => grandparent => '{"id": 1}');
enqueue_as(bob => parent => '{"id": 1, "up": 1}');
enqueue_as(carol => child => '{"id": 1, "up": 1}');
is_settled('three generations');
is(keys_of('child'), '1', 'three generations: the role of the third comes first');
is(dead(), '', 'three generations: none is bad');

# the same with rows that are bad in each of them, so that none passes at once
enqueue_as(carol => other => '{"id": 1}', other => '{"id": 3}');
enqueue_as(bob => other => '{"id": 2}');
enqueue_as(alice => grandparent => '{"id": 1}', grandparent => '{"id": 2}');
enqueue_as(bob => parent => '{"id": 2, "up": 99}', parent => '{"id": 3, "up": 2}');
enqueue_as(carol => child => '{"id": 3, "up": 3}', child => '{"id": 2, "up": 2}');
enqueue_as(alice => grandparent => '{"id": 4}');
is_settled('with bad rows');
is(keys_of('grandparent'), '1 2 4', 'with bad rows: the first generation');
is(keys_of('parent'), '1 3', 'with bad rows: the second');
is(keys_of('child'), '1 3', 'with bad rows: the third');
is(dead(), 'other 1 23505, other 2 23505, grandparent 1 23505, parent 2 23503, child 2 23503', 'with bad rows: those that are bad one by one');

# a parent that is refused takes its children along, and nobody else's
enqueue_as(carol => child => '{"id": 4, "up": 3}');
enqueue_as(bob => parent => '{"id": 66, "up": 1}');
enqueue_as(carol => child => '{"id": 5, "up": 66}', child => '{"id": 6, "up": 3}');
is_settled('a parent that is refused');
is(keys_of('child'), '1 3 4 6', 'a parent that is refused: other children land');
is(dead(), 'parent 66 23514, child 5 23503', 'a parent that is refused: its child dies of the foreign key');

# partitions, one way and the other
enqueue_as(carol => other => '{"id": 10}');
enqueue_as(alice => divided => '{"id": 1}', division => '{"id": 2}');
enqueue_as(carol => of_divided => '{"id": 1, "up": 2}', of_division => '{"id": 1, "up": 1}');
is_settled('partitions');
is(keys_of('of_divided'), '1', 'partitions: of the partitioned table');
is(keys_of('of_division'), '1', 'partitions: of the partition');
is(dead(), '', 'partitions: none is bad');

# a table that refers to itself
enqueue_as(carol => other => '{"id": 11}');
enqueue_as(alice => tree => '{"id": 1}', tree => '{"id": 2, "up": 1}');
enqueue_as(carol => tree => '{"id": 3, "up": 2}');
enqueue_as(alice => tree => '{"id": 4, "up": 3}', tree => '{"id": 5, "up": 99}', tree => '{"id": 6, "up": 4}');
is_settled('a tree');
is(keys_of('tree'), '1 2 3 4 6', 'a tree of two roles: each generation is the other one\'s');
is(dead(), 'tree 5 23503', 'a tree: one is bad');

# ---- a parent that is locked ----

my $id = 20;

foreach my $kind (['the parent of a chain', 'grandparent', 'parent', 'child'], ['a partition', 'division', 'of_divided'], ['the partitioned table', 'divided', 'of_division'])
{
	my ($name, $locked, @generations) = @$kind;
	my $lock = lock_tables($locked, 'SHARE');
	my @roles = qw(alice bob carol);

	$id++;
	enqueue_as(carol => other => "{\"id\": $id}");
	enqueue_as(alice => $locked => "{\"id\": $id}");
	enqueue_as($roles[ $_ + 1 ] => $generations[$_] => "{\"id\": $id, \"up\": $id}") foreach 0 .. $#generations;
	is(one_value($dbh, 'SELECT persist_flush()'), 0, "$name is locked: flushed, but for those");
	is_parked('postgres', $locked, 1, '55P03', "$name is locked");
	is_parked('postgres', $_, 1, '23503', "$name is locked: $_ waits") foreach @generations;
	unlock($lock);
	ok(eval { wait_for_sql($dbh, 'SELECT bool_and(pending = 0) FROM persist_stats') }, "$name: nothing waits");
	is(one_value($dbh, "SELECT count(*) FROM $_ WHERE id = $id"), 1, "$name: $_ has come") foreach $locked, @generations;
	is(dead(), '', "$name: none is bad");
}

# ---- circles of deferred keys ----

create_circle('hen', 'egg');

# two items of one transaction; and others that lack theirs
enqueue_as(alice => hen => '{"id": 1, "other": 1}', egg => '{"id": 1, "other": 1}');
enqueue_as(alice => egg => '{"id": 2, "other": 2}', hen => '{"id": 2, "other": 2}', hen => '{"id": 3, "other": 99}');
enqueue_as(bob => egg => '{"id": 4, "other": 4}');
enqueue_as(alice => hen => '{"id": 4, "other": 4}');
is_settled('circles');
is(keys_of('hen'), '1 2', 'circles: of one transaction');
is(keys_of('egg'), '1 2', 'circles: both halves');
is(dead(), 'hen 3 23503, egg 4 23503, hen 4 23503', 'circles: of two transactions each half is bad');

# Two circles, of two roles and in both orders, wait while these are locked.
sub enqueue_circles
{
	my ($locked) = @_;
	my $lock = lock_tables($locked, 'SHARE');

	$id += 2;
	enqueue_as(alice => hen => pair($id), egg => pair($id), other => "{\"id\": $id}");
	enqueue_as(bob => egg => pair($id + 1), hen => pair($id + 1));
	is(one_value($dbh, 'SELECT persist_flush()'), 0, "circles, $locked locked: flushed, but for those");
	is_parked('postgres', $_, 2, '55P03|23503', "circles, $locked locked: $_ waits") foreach 'hen', 'egg';
	is(one_value($dbh, "SELECT count(*) FROM other WHERE id = $id"), 1, "circles, $locked locked: what needs neither has come");
	return $lock;
}

sub pair { my ($n) = @_; return "{\"id\": $n, \"other\": $n}" }

sub circles_land
{
	my ($name) = @_;

	ok(eval { wait_for_sql($dbh, 'SELECT bool_and(pending = 0) FROM persist_stats') }, "$name: nothing waits");
	is(one_value($dbh, "SELECT count(*) FROM $_ WHERE id IN ($id, $id + 1)"), 2, "$name: $_ has come") foreach 'hen', 'egg';
	is(dead(), '', "$name: none is bad");
	return;
}

foreach my $locked ('hen', 'egg', 'hen, egg')
{
	unlock(enqueue_circles($locked));
	circles_land("circles, $locked locked");
}

# one is free, but then the other isn't
foreach my $order ([ 'hen', 'egg', 'locked' ], [ 'egg', 'hen', 'locked' ], [ 'hen', 'egg', 'paused' ])
{
	my ($first, $then, $how) = @$order;
	my $name = "circles, first $first locked, then $then $how";
	my $lock = enqueue_circles($first);
	my $second = $how eq 'locked' ? lock_tables($then, 'SHARE') : $dbh->do("SELECT persist_pause('$then')");

	unlock($lock);
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 2 AND bool_and(sqlstate = '23503' AND tries > 2) FROM persist_parked WHERE target = '$first'::regclass") },
		"$name: the first is tried again and again");
	is_parked('postgres', $_, 2, '', "$name: $_ waits") foreach 'hen', 'egg';
	$how eq 'locked' ? unlock($second) : $dbh->do("SELECT persist_resume('$then')");
	circles_land($name);
}

# one transaction of two roles is written in two: so their rows can't satisfy each other
$dbh->begin_work;
$dbh->do('SET LOCAL ROLE alice');
$dbh->do("SELECT persist_enqueue('hen'::regclass, ?::jsonb)", undef, pair(5));
$dbh->do('SET LOCAL ROLE bob');
$dbh->do("SELECT persist_enqueue('egg'::regclass, ?::jsonb)", undef, pair(5));
$dbh->commit;
is_settled('a circle of two roles');
is(dead(), 'hen 5 23503, egg 5 23503', 'a circle of two roles: both halves are bad');

# three tables, of which the last waits, and one that has no other
create_tables(
	'CREATE TABLE rock (id int PRIMARY KEY, beats int NOT NULL)',
	'CREATE TABLE paper (id int PRIMARY KEY, beats int NOT NULL REFERENCES rock DEFERRABLE INITIALLY DEFERRED)',
	'CREATE TABLE scissors (id int PRIMARY KEY, beats int NOT NULL REFERENCES paper DEFERRABLE INITIALLY DEFERRED)',
	'ALTER TABLE rock ADD FOREIGN KEY (beats) REFERENCES scissors DEFERRABLE INITIALLY DEFERRED');
foreach my $locked ('rock', 'paper', 'scissors')
{
	my $lock = lock_tables($locked, 'SHARE');

	$id++;
	enqueue_as(alice => map { $_ => "{\"id\": $id, \"beats\": $id}" } qw(rock paper scissors));
	enqueue_as(alice => rock => "{\"id\": 1$id, \"beats\": 1$id}");
	is(one_value($dbh, 'SELECT persist_flush()'), 0, "a circle of three, $locked locked: flushed, but for those");
	is_parked('postgres', $_, $_ eq 'rock' ? 2 : 1, '55P03|23503', "a circle of three, $locked locked: $_ waits") foreach 'rock', 'paper', 'scissors';
	unlock($lock);
	ok(eval { wait_for_sql($dbh, 'SELECT bool_and(pending = 0) FROM persist_stats') }, "a circle of three, $locked locked: nothing waits");
	is(one_value($dbh, "SELECT count(*) FROM $_ WHERE id = $id"), 1, "a circle of three, $locked locked: $_ has come") foreach 'rock', 'paper', 'scissors';
	is(dead(), "rock 1$id 23503", "a circle of three, $locked locked: the one without the others is bad");
}

# ---- code that says that a table has failed which its owner has locked: nobody waits for that lock

create_tables(
	'CREATE TABLE accused (id int PRIMARY KEY)',
	'CREATE TABLE accuser (id int)',
	'CREATE TABLE bystander (id int)',
	q{CREATE FUNCTION accuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE foreign_key_violation USING SCHEMA = 'public', TABLE = 'accused'; END $$},
	'CREATE TRIGGER accuse BEFORE INSERT ON accuser FOR EACH ROW EXECUTE FUNCTION accuse()');
{
	my $lock = lock_tables('accused', 'ACCESS EXCLUSIVE');

	enqueue_as(alice => accuser => '{"id": 1}', bystander => '{"id": 1}');
	is(one_value($dbh, 'SELECT persist_flush()'), 0, 'accused: flushed, but for the one');
	is_parked('postgres', 'accuser', 1, '23503', 'accused: whose row may need it waits');
	is(one_value($dbh, "SELECT persisted || ' ' || errors FROM persist_stats WHERE target_name = 'public.bystander'"), '1 0', 'accused: the others have not waited');
	unlock($lock);
	ok(eval { wait_for_sql($dbh, 'SELECT bool_and(pending = 0) FROM persist_stats') }, 'accused: nothing waits');
	is(dead(), 'accuser 1 23503', 'accused: it is bad');
}

# ---- a large transaction, none of whose rows has what it refers to

create_tables(
	'CREATE TABLE absent (id int PRIMARY KEY)',
	'CREATE TABLE of_absent (id int PRIMARY KEY, up int REFERENCES absent DEFERRABLE INITIALLY DEFERRED)');
$dbh->do("SELECT count(persist_enqueue('of_absent', jsonb_build_object('id', i, 'up', i))) FROM generate_series(1, 10000) AS i");
is_quick(seconds_of(sub { is_settled('a large transaction') }), 4, 'a large transaction: the time is in proportion');
is(discard_all($dbh), 10_000, 'a large transaction: all are bad');

is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'nothing is left');
$_->disconnect foreach values %session_of;
is_clean_log(qr/persist_pipeline (?:worker|retrier) 23\d\d\d WARNING/);
$node->stop;
done_testing();
