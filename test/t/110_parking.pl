
# What can't be written just now is parked, and others go on: locked tables and rows,
# parents and children, over restarts and crashes, and up to a limit.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use Test::More;
use Time::HiRes qw(time);

my $at_most = 3;    # seconds, of what has to wait for lock_timeout once, 1 s

my $node = parking_node('parking');

# ---- a table that is locked

{
	my $lock;

	create_target('postgres', $_) foreach 'locked', 'free';
	enqueue('postgres', $_, 1, 2) foreach 'locked', 'free';
	flush_returns('postgres', 1, 'lock: flushed');

	$lock = lock_tables('locked');
	enqueue('postgres', $_, 3, 50) foreach 'locked', 'free';
	lands('postgres', 'free', 'lock: others');
	is_parked('postgres', 'locked', 48, '55P03', 'lock: its items are parked');
	enqueue('postgres', $_, 51, 100) foreach 'free', 'locked';
	is_parked('postgres', 'locked', 98, '55P03', 'lock: later ones follow');
	lands('postgres', 'free', 'lock: others, again');
	flush_returns('postgres', 0, 'lock: persist_flush() is false');
	flush_returns('postgres', 0, 'lock: and for that target', 'locked');
	flush_returns('postgres', 1, 'lock: and true for another one', 'free');
	is(queue_value($node, "items_parked || ' of ' || items_pending"), '98 of 98', 'lock: the queue knows');
	unlock($lock);
	lands('postgres', 'locked', 'unlocked');
	adds_up('postgres', 'unlocked');
}

# ---- a bad row behind some of a target that is locked: the first try has told where it is among
# all of them, and the next one is without those

{
	my $dbh = session('postgres');
	my $lock;

	create_target('postgres', 'barred');
	create_target('postgres', 'keyed', 'UNIQUE (n)');
	$lock = lock_tables('barred', 'SHARE');
	$dbh->begin_work;
	enqueue('postgres', @$_) foreach [ 'keyed', 1, 1 ], [ 'barred', 1, 3 ], [ 'keyed', 1, 1 ], [ 'keyed', 2, 2 ];
	$dbh->commit;
	is_parked('postgres', 'barred', 3, '55P03', 'behind: those are parked');
	ok(eval { wait_for_sql($dbh, "SELECT persisted = 2 AND dead = 1 FROM persist_stats WHERE target_name = 'public.keyed'") }, 'behind: it alone is bad');
	unlock($lock);
	lands('postgres', 'barred', 'behind');
	is(one_value($dbh, "SELECT item ->> 'n' FROM persist_dead_letters"), '1', 'behind: the letter is its own');
	discard_all($dbh);
}

# ---- the pauses between the tries grow

{
	my $dbh = session('postgres');
	my $from = log_position($node);
	my $start;

	create_target('postgres', 'tried');
	$dbh->do("CREATE SEQUENCE tries");
	$dbh->do("CREATE FUNCTION count_tries() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM nextval('public.tries'); RETURN NEW; END \$\$");
	$dbh->do("CREATE TRIGGER count BEFORE INSERT ON tried FOR EACH ROW EXECUTE FUNCTION count_tries()");
	shut_gate('postgres');
	$start = time;
	enqueue('postgres', 'tried', 1, 1);
	ok(eval { wait_for_sql($dbh, "SELECT last_value >= 6 FROM tries") }, 'pauses: it is tried again and again');

	# 0.1, 0.2, 0.4, 0.8 and 1.6 s, give or take a quarter
	cmp_ok(time - $start, '>', 2.2, 'pauses: they grow');
	open_gate('postgres');
	lands('postgres', 'tried', 'pauses');
	$node->wait_for_log(qr/items for relation "tried" are not parked any more/, $from);
	is(scalar(log_since($node, $from, qr/items for relation "tried" are parked: SQLSTATE 55006/)), 1, 'pauses: the log says so once');
	adds_up('postgres', 'pauses');
}

# ---- a bad row and one that waits are among those that are tried: the rest of that try waits,
# and is tried before what follows

{
	my $dbh = session('postgres');

	create_target('postgres', 'in_groups', 'CONSTRAINT obstacle CHECK (n <> 5)');
	$dbh->do("CREATE TABLE second_gate AS SELECT 11 AS n");
	$dbh->do("CREATE FUNCTION second_gate() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN"
		  . " IF NEW.n IN (SELECT n FROM public.second_gate) THEN RAISE object_in_use; END IF; RETURN NEW; END \$\$");
	$dbh->do("CREATE TRIGGER second_gate BEFORE INSERT ON in_groups FOR EACH ROW EXECUTE FUNCTION second_gate()");
	set_and_reload('batch_size', 20);
	shut_gate('postgres');
	enqueue('postgres', 'in_groups', 1, 60);
	is_parked('postgres', 'in_groups', 60, '55006', 'groups: parked');
	open_gate('postgres');
	ok( eval { wait_for_sql($dbh, "SELECT dead = 1 AND persisted > 0 AND parked >= 50 FROM persist_stats WHERE target_name = 'public.in_groups'") },
		'groups: before those that wait some have come');
	$dbh->do("TRUNCATE second_gate");
	adds_up('postgres', 'groups');
	is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) = array(SELECT n FROM generate_series(1, 60) AS n WHERE n <> 5) FROM in_groups"),
		1, 'groups: each once, in order');
	is(one_value($dbh, "SELECT format('%s %s', persisted, dead) FROM persist_stats WHERE target_name = 'public.in_groups'"), '59 1', 'groups: the bad one is dead');
	set_and_reload('batch_size', 10000);
}

# ---- items that take several rows of the parked table, between small ones

{
	my $dbh = session('postgres');
	my $lock;

	create_target('postgres', 'large', 'filler text');
	enqueue('postgres', 'large', 1, 1);
	flush_returns('postgres', 1, 'large: flushed');
	$lock = lock_tables('large');
	$dbh->do("SELECT persist_enqueue('large', jsonb_build_object('n', i, 'filler', repeat('x', CASE WHEN i % 3 = 0 THEN 40000 ELSE 10 END))) FROM generate_series(2, 40) AS i");
	$committed{postgres}{large} += 39;
	is_parked('postgres', 'large', 39, '55P03', 'large: parked');
	unlock($lock);
	lands('postgres', 'large', 'large');
	is(one_value($dbh, "SELECT count(*) FROM large WHERE length(filler) = CASE WHEN n % 3 = 0 THEN 40000 ELSE 10 END"), 39, 'large: with their values');
	adds_up('postgres', 'large');
}

# ---- many at once don't add up

{
	my @tables = map { "locked$_" } 1 .. 20;
	my $n = 100;
	my $lock;
	my $start;

	create_target('postgres', $_) foreach @tables;
	enqueue('postgres', $_, 1, 1) foreach @tables;
	flush_returns('postgres', 1, 'twenty: flushed');
	$lock = lock_tables(join ', ', @tables);

	# in one batch, and then, with more of them, in many
	session('postgres')->begin_work;
	enqueue('postgres', $_, 2, 11) foreach @tables;
	enqueue('postgres', 'free', 101, 101);
	session('postgres')->commit;
	$start = time;
	wait_for_sql(session('postgres'), "SELECT count(*) = 101 FROM free");
	is_quick(time - $start, $at_most, 'twenty: the free one has waited once, not twenty times');
	is_parked('postgres', $_, 10, '55P03', "twenty: $_ is parked") foreach @tables;
	unlock($lock);
	lands('postgres', $_, "twenty: $_") foreach @tables;

	$lock = lock_tables(join ', ', @tables);
	enqueue('postgres', $_, 12, 15) foreach @tables;
	enqueue('postgres', 'free', 102, 102);
	$start = time;
	wait_for_sql(session('postgres'), "SELECT count(*) = 102 FROM free");
	is_quick(time - $start, $at_most, 'twenty, in many batches: the same');
	unlock($lock);
	lands('postgres', $_, "twenty, in many batches: $_") foreach @tables;
	adds_up('postgres', 'twenty');

	# a foreign key fails, so that all is done in the order of things
	session('postgres')->do("CREATE TABLE nothing (id int PRIMARY KEY); CREATE TABLE orphan (id int REFERENCES nothing)");
	$lock = lock_tables(join(', ', @tables), 'SHARE');
	session('postgres')->begin_work;
	enqueue('postgres', 'free', 103, 103);
	session('postgres')->do("SELECT persist_enqueue('orphan', '{\"id\": 1}')");
	enqueue('postgres', $_, 16, 20) foreach @tables;
	session('postgres')->commit;
	$committed{postgres}{orphan} = 1;
	$start = time;
	wait_for_sql(session('postgres'), "SELECT count(*) = 103 FROM free");
	is_quick(time - $start, $at_most, 'twenty, in the order of things: the same');
	unlock($lock);
	lands('postgres', $_, "twenty, in the order of things: $_") foreach @tables;
	adds_up('postgres', 'twenty, in the order of things');
}

# ---- the worker ends between the transactions of two roles: one has parked a child, the
# other's parent, which comes before it, is still to come

{
	my $dbh = session('postgres');
	my $enqueue = "SELECT persist_enqueue('%s'::regclass, '{\"id\": %d}'::jsonb)";
	my ($lock, $pid);

	$dbh->do("CREATE ROLE $_") foreach 'of_child', 'of_parent';
	$dbh->do("CREATE TABLE early_parent (id int PRIMARY KEY); CREATE TABLE early_child (id int REFERENCES early_parent); CREATE TABLE late_gate ()");
	$dbh->do(
		"CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN IF EXISTS (SELECT FROM late_gate) THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END \$\$");
	$dbh->do("CREATE TRIGGER wait BEFORE INSERT ON early_parent FOR EACH ROW EXECUTE FUNCTION wait()");
	$dbh->do("GRANT INSERT, SELECT ON early_parent, early_child, late_gate TO of_child, of_parent");
	$dbh->do("GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO of_child, of_parent");
	$dbh->do("INSERT INTO early_parent VALUES (1); INSERT INTO late_gate DEFAULT VALUES");
	$lock = lock_tables('early_child', 'SHARE');
	$dbh->begin_work;
	$dbh->do("SET LOCAL ROLE of_child; " . sprintf($enqueue, 'early_child', 1));
	$dbh->commit;
	is_parked('postgres', 'early_child', 1, '55P03', 'between roles: the target of children is parked');
	$dbh->begin_work;
	$dbh->do("SET LOCAL ROLE of_$_->[0]; " . sprintf($enqueue, "early_$_->[0]", $_->[1])) foreach [ 'child', 1 ], [ 'parent', 2 ], [ 'child', 2 ];
	$dbh->commit;
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type LIKE 'persist%' AND wait_event = 'PgSleep'") },
		'between roles: the parent is being inserted');
	is_parked('postgres', 'early_child', 3, '55P03', 'between roles: its child is parked');
	$dbh->do("DELETE FROM late_gate");
	my $from = log_position($node);
	$pid = worker_pid($node);
	forget_sessions();
	$lock->{InactiveDestroy} = 1;
	undef $lock;
	kill 'KILL', $pid;
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	connect_when_up($node)->disconnect;
	$committed{postgres}{early_child} = 3;
	$committed{postgres}{early_parent} = 1;
	adds_up('postgres', 'between roles');
	is(one_value(session('postgres'), "SELECT string_agg(id::text, ' ' ORDER BY id) FROM early_child"), '1 1 2', 'between roles: the child is there');
}

# ---- rows that are locked, of many targets

{
	my $dbh = session('postgres');
	my @tables = map { "child$_" } 1 .. 20;
	my $lock = connect_to($node);
	my $start;

	$dbh->do("CREATE TABLE parents AS SELECT i AS id FROM generate_series(1, 100) AS i; ALTER TABLE parents ADD PRIMARY KEY (id)");
	$dbh->do("CREATE TABLE $_ (n int, parent int REFERENCES parents)") foreach @tables;
	$lock->begin_work;
	$lock->do("SELECT FROM parents FOR UPDATE");

	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('$_', jsonb_build_object('n', i, 'parent', i)) FROM generate_series(1, 20) AS i") foreach @tables;
	enqueue('postgres', 'free', 104, 104);
	$dbh->commit;
	$start = time;
	wait_for_sql($dbh, "SELECT count(*) = 104 FROM free");
	is_quick(time - $start, $at_most, 'locked rows of twenty targets: the free one has waited once');

	# another batch, and another target
	$dbh->do("CREATE TABLE late_child (n int, parent int REFERENCES parents)");
	$dbh->do("SELECT persist_enqueue('late_child', '{\"n\": 1, \"parent\": 1}')");
	enqueue('postgres', 'free', 105, 105);
	$start = time;
	wait_for_sql($dbh, "SELECT count(*) = 105 FROM free");
	is_quick(time - $start, 0.9, 'locked rows: and in the next batch not again');
	$lock->commit;
	$lock->disconnect;
	$committed{postgres}{$_} = 20 foreach @tables;
	$committed{postgres}{late_child} = 1;
	adds_up('postgres', 'locked rows of twenty targets');
}

# ---- tries in vain

{
	my $dbh = session('postgres');
	my $size = "SELECT pg_relation_size('persist_pipeline_internal.persist_parked') + pg_relation_size('persist_pipeline_internal.persist_parked_order')";
	my $lock;
	my $before;
	my $pid;

	create_target('postgres', 'vain');
	$dbh->do("SELECT persist_flush()");
	shut_gate('postgres');
	enqueue('postgres', 'vain', 1, 2000);
	is_parked('postgres', 'vain', 2000, '55006', 'in vain: parked');
	$before = one_value($dbh, $size);
	ok(eval { wait_for_sql($dbh, "SELECT pg_sleep(3) IS NOT NULL") }, 'in vain: some time later');
	is(one_value($dbh, $size), $before, 'in vain: what is tried leaves nothing in the table');

	# it can't be read
	$pid = worker_pid($node);
	$dbh->do("SELECT persist_pause('vain')");
	open_gate('postgres');
	$lock = lock_tables('persist_pipeline_internal.persist_parked');
	$dbh->do("SELECT persist_resume('vain')");
	ok(eval { wait_for_sql($dbh, "SELECT pg_sleep(4) IS NOT NULL") }, 'the table of parked items is locked');
	unlock($lock);
	lands('postgres', 'vain', 'the table of parked items was locked');
	is(worker_pid($node), $pid, 'the table of parked items was locked: the worker is the same');
	adds_up('postgres', 'the table of parked items was locked');
}

# ---- the table of letters is locked: who has none to write needs it not

{
	my ($lock, $pid);

	restart_with(dead_letter_retention => "'1h'");
	$lock = lock_tables('persist_pipeline_internal.persist_dead_letters');
	enqueue('postgres', 'free', 106, 110);
	lands('postgres', 'free', 'the table of letters is locked, a new worker');
	wait_for_sql(session('postgres'), "SELECT pg_sleep(1.5) IS NOT NULL");    # longer than it waits for a lock
	$pid = worker_pid($node);
	ok($pid, 'the table of letters is locked: the worker is there');
	session('postgres')->do("SELECT pg_terminate_backend($pid)");
	wait_for_new_worker($node, $pid);
	enqueue('postgres', 'free', 111, 115);
	lands('postgres', 'free', 'the table of letters is locked, another worker');
	unlock($lock);
	adds_up('postgres', 'the table of letters is locked');
	restart_with(dead_letter_retention => 0);
}

# ---- what is parked stays so, whatever ends

{
	my %ends = (
		'restart' => sub { forget_sessions(); $node->restart },
		'immediate stop' => sub { forget_sessions(); $node->stop('immediate'); $node->start },
		'crash' => sub {
			my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
			my $from = log_position($node);

			forget_sessions();
			kill 'KILL', $pid;
			$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
			connect_when_up($node)->disconnect;
		},
		'worker terminated' => sub {
			my $pid = worker_pid($node);

			session('postgres')->do("SELECT pg_terminate_backend($pid)");
			wait_for_new_worker($node, $pid);
		},
		'worker_idle_timeout' => sub {
			set_and_reload('worker_idle_timeout', "'50ms'");
		});
	my $n = 0;

	create_target('postgres', 'kept');
	create_target('postgres', 'kept_large', 'filler text');
	foreach my $end (sort keys %ends)
	{
		shut_gate('postgres');
		enqueue('postgres', 'kept', $n + 1, $n + 40);
		is_parked('postgres', 'kept', 40, '55006', "$end: parked");
		session('postgres')->do("SELECT persist_enqueue('kept_large', jsonb_build_object('n', ?::int, 'filler', repeat('x', 40000)))", undef, ++$committed{postgres}{kept_large});
		is_parked('postgres', 'kept_large', 1, '55006', "$end: one that takes several rows");
		$ends{$end}->();
		is_parked('postgres', 'kept', 40, '', "$end: still parked");
		is_parked('postgres', 'kept_large', 1, '', "$end: still one");
		enqueue('postgres', 'kept', $n + 41, $n + 80);
		is_parked('postgres', 'kept', 80, '55006', "$end: later ones follow");
		flush_returns('postgres', 0, "$end: persist_flush() is false");
		open_gate('postgres');
		lands('postgres', 'kept', $end);
		lands('postgres', 'kept_large', "$end, several rows");
		adds_up('postgres', $end);
		$n += 80;
	}
	all_workers_leave('a worker with nothing parked leaves');
}

# ---- rows that are locked

{
	my $dbh = session('postgres');
	my $lock = connect_to($node);

	$dbh->do("CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1), (2)");
	create_target('postgres', 'child', 'parent int REFERENCES parent');
	$lock->begin_work;
	$lock->do("SELECT FROM parent WHERE id = 1 FOR UPDATE");

	# in one transaction, and then in many
	$dbh->do("SELECT persist_enqueue('child', jsonb_build_object('n', i, 'parent', 2 - (i % 5 = 0)::int)) FROM generate_series(1, 25) AS i");
	$dbh->do("SELECT persist_enqueue('child', jsonb_build_object('n', ?::int, 'parent', ?::int))", undef, $_, $_ % 5 ? 2 : 1) foreach 26 .. 50;
	$committed{postgres}{child} = 50;
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 40 FROM child") }, 'row lock: rows of another parent come');
	is_parked('postgres', 'child', 10, '55P03', 'row lock: and only they');
	flush_returns('postgres', 0, 'row lock: persist_flush() is false');
	$lock->commit;
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 50 FROM child") }, 'row lock: the others come after the commit');
	is(one_value($dbh, "SELECT bool_and(came = sorted AND array_length(came, 1) IN (10, 40))"
			. " FROM (SELECT array_agg(n ORDER BY ins) AS came, array_agg(n ORDER BY n) AS sorted FROM child GROUP BY parent) AS p"),
		1, 'row lock: in order, for each parent');
	$lock->disconnect;
	adds_up('postgres', 'row lock');

	# the parents are items, too, and their table is locked: in either way
	my $n = 0;

	$dbh->do("SELECT persist_enqueue('parent', '{\"id\": 3}')");
	$committed{postgres}{parent} = 1;
	adds_up('postgres', 'parents');

	foreach my $mode ('ACCESS EXCLUSIVE', 'SHARE')
	{
		$lock = lock_tables('parent', $mode);
		foreach my $i ($n + 1 .. $n + 20)
		{
			$dbh->begin_work if $i % 2;
			$dbh->do("SELECT persist_enqueue('parent', jsonb_build_object('id', ?::int))", undef, 100 + $i);
			$dbh->do("SELECT persist_enqueue('child', jsonb_build_object('n', ?::int, 'parent', ?::int))", undef, 50 + $i, 100 + $i);
			$dbh->commit if !$dbh->{AutoCommit};
		}
		$n += 20;
		$committed{postgres}{parent} += 20;
		$committed{postgres}{child} += 20;
		is_parked('postgres', 'parent', 20, '55P03', "parents, $mode: parked");
		is_parked('postgres', 'child', 20, '', "parents, $mode: so are their children");
		unlock($lock);
		ok(eval { wait_for_sql($dbh, "SELECT count(*) = 50 + $n FROM child") }, "parents, $mode: children come");
		is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) FILTER (WHERE n > 50) = array(SELECT generate_series(51, 50 + $n)) FROM child"),
			1, "parents, $mode: in order");
		adds_up('postgres', "parents, $mode");
	}

	# only their table is locked, until some children have been tried by themselves: that is
	# no lock of single rows, and nobody passes those that wait
	$dbh->do($_) foreach (
		'INSERT INTO parent SELECT generate_series(1001, 1040)',
		'CREATE SEQUENCE child_tries',
		q{CREATE FUNCTION count_child_try() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.child_tries'); RETURN NEW; END $$},
		'CREATE TRIGGER count_child_try BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION count_child_try()');
	foreach my $tries (117, 119, 121, 123, 125, 127)
	{
		$dbh->do("TRUNCATE child; SELECT setval('child_tries', 1)");
		$lock = lock_tables('parent');
		$dbh->do("SELECT persist_enqueue('child', jsonb_build_object('n', i, 'parent', 1000 + i)) FROM generate_series(1, 40) AS i");
		$committed{postgres}{child} += 40;
		my $end = time + 60;
		1 until one_value($dbh, "SELECT last_value >= $tries FROM child_tries") || time > $end;    # without a pause: it is soon over
		unlock($lock);
		ok(eval { wait_for_sql($dbh, "SELECT count(*) = 40 FROM child") }, "parents' lock, $tries tries: children come");
		is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 40)) FROM child"),
			1, "parents' lock, $tries tries: in order");
	}
	adds_up('postgres', "parents' lock");
}

# ---- a row whose lock is gone comes, though others keep being parked for another lock

{
	my $dbh = session('postgres');
	my @locks = map { connect_to($node) } 1 .. 2;
	my $n = 0;

	$dbh->do("CREATE TABLE waits (n int, parent int REFERENCES parent)");
	foreach my $id (1, 2)
	{
		$locks[ $id - 1 ]->begin_work;
		$locks[ $id - 1 ]->do("SELECT FROM parent WHERE id = $id FOR UPDATE");
	}
	$dbh->do("SELECT persist_enqueue('waits', '{\"n\": 0, \"parent\": 1}')");
	is_parked('postgres', 'waits', 1, '55P03', 'two row locks: parked');
	$locks[0]->commit;
	ok( eval {
			wait_until(
				'it comes',
				sub {
					$dbh->do("SELECT persist_enqueue('waits', jsonb_build_object('n', ?::int, 'parent', 2))", undef, ++$n);
					one_value($dbh, "SELECT count(*) = 1 FROM waits");
				});
		},
		'two row locks: one is gone, and its row comes');
	$locks[1]->commit;
	$_->disconnect foreach @locks;
	$committed{postgres}{waits} = $n + 1;
	adds_up('postgres', 'two row locks');
}

# ---- a row that waits for a lock, and one of the same table that refers to it

{
	my $dbh = session('postgres');
	my $lock = connect_to($node);
	my $letters = one_value($dbh, "SELECT count(*) FROM persist_dead_letters");

	$dbh->do("CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree, parent int REFERENCES parent)");
	$lock->begin_work;
	$lock->do("SELECT FROM parent WHERE id = 1 FOR UPDATE");
	$dbh->do("SELECT persist_enqueue('tree', '{\"id\": 1, \"parent\": 1}')");
	is_parked('postgres', 'tree', 1, '55P03', 'row lock in a tree: the parent is parked');
	$dbh->do("SELECT persist_enqueue('tree', '{\"id\": 2, \"up\": 1}')");
	is_parked('postgres', 'tree', 2, '', 'row lock in a tree: so is the child');
	$lock->commit;
	$lock->disconnect;
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 2 FROM tree") }, 'row lock in a tree: both come');
	$committed{postgres}{tree} = 2;
	adds_up('postgres', 'row lock in a tree');
	is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), $letters, 'row lock in a tree: none is dead');
}

# ---- a limit for each target

{
	my $dbh = session('postgres');
	my $n = 0;

	create_target('postgres', $_, 'filler text') foreach 'bounded', 'unbounded';
	set_and_reload('parked_limit', "'64kB'");
	shut_gate('postgres');
	while ($n < 10000
		&& try_sql($dbh, "SELECT persist_enqueue('bounded', jsonb_build_object('n', ?::int, 'filler', repeat('x', 1000)))", $n + 1) eq '00000')
	{
		$n++;
	}
	$committed{postgres}{bounded} = $n;
	is($dbh->state, '53400', 'parked_limit: past it calls fail');
	like($dbh->errstr, qr/"bounded"/, 'parked_limit: the message names the relation');
	cmp_ok($n, '>=', 60, 'parked_limit: not before');
	is(try_sql($dbh, "SELECT persist_enqueue('bounded', '{}')"), '53400', 'parked_limit: again');
	forget_sessions();
	$node->restart;
	$dbh = session('postgres');
	is_parked('postgres', 'bounded', $n, '55006', 'parked_limit: restarted');
	is(try_sql($dbh, "SELECT persist_enqueue('bounded', '{}')"), '53400', 'parked_limit: after a restart, too');
	enqueue('postgres', 'unbounded', 1, 10);
	is_parked('postgres', 'unbounded', 10, '55006', 'parked_limit: another target has its own');
	open_gate('postgres');
	lands('postgres', $_, "parked_limit: $_") foreach 'bounded', 'unbounded';
	enqueue('postgres', 'bounded', $n + 1, $n + 10);
	lands('postgres', 'bounded', 'parked_limit: now it takes items again');
	shut_gate('postgres');
	enqueue('postgres', 'bounded', $n + 11, $n + 20);
	is_parked('postgres', 'bounded', 10, '55006', 'parked_limit: parked again');
	enqueue('postgres', 'bounded', $n + 21, $n + 30);
	is_parked('postgres', 'bounded', 20, '55006', 'parked_limit: what has gone counts no longer');
	open_gate('postgres');
	lands('postgres', 'bounded', 'parked_limit: parked again');
	adds_up('postgres', 'parked_limit');
}

# ---- dead letters of a target that takes no more stay where they are, and no others

{
	my $dbh = session('postgres');
	my $letters = "SELECT string_agg(target_name || ' ' || attempts, ', ' ORDER BY id) FROM persist_dead_letters";

	$dbh->do("SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))");
	create_target('postgres', $_, 'CONSTRAINT obstacle CHECK (n > 1)') foreach 'brimful', 'roomy';
	enqueue('postgres', $_, 1, 1) foreach 'brimful', 'roomy';
	flush_returns('postgres', 1, 'letters and parked_limit: they die');
	$dbh->do("ALTER TABLE roomy DROP CONSTRAINT obstacle");
	shut_gate('postgres');
	enqueue('postgres', 'brimful', 2, 50);
	is_parked('postgres', 'brimful', 49, '55006', 'letters and parked_limit: full');
	set_and_reload('parked_limit', "'1kB'");
	wait_for_sql($dbh, "SELECT current_setting('persist_pipeline.parked_limit') = '1kB'");
	is(try_sql($dbh, "SELECT persist_requeue(array_agg(id)) FROM persist_dead_letters"), '53400', 'letters and parked_limit: named, an error');
	is(one_value($dbh, "SELECT persist_requeue()"), 1, 'letters and parked_limit: not named, passed over');
	is(one_value($dbh, $letters), 'public.brimful 1', 'letters and parked_limit: it is still there');
	open_gate('postgres');
	lands('postgres', 'roomy', 'letters and parked_limit: the other');
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 49 FROM brimful") }, 'letters and parked_limit: what was parked');
	$dbh->do("ALTER TABLE brimful DROP CONSTRAINT obstacle");
	is(one_value($dbh, "SELECT persist_requeue()"), 1, 'letters and parked_limit: now it is sent, too');
	adds_up('postgres', 'letters and parked_limit');
	is(one_value($dbh, "SELECT count(DISTINCT n) FROM brimful"), 50, 'letters and parked_limit: it is there');
}

is_clean_log(
	qr/client backend 53400 ERROR/,
	qr/persist_pipeline (?:worker|retrier) 23514 WARNING:  item \d+ for relation "public\.(brimful|roomy|in_groups)"/,
	qr/persist_pipeline worker 23505 WARNING:  item \d+ for relation "public\.keyed"/,
	qr/persist_pipeline (?:worker|retrier) 23503 WARNING:  .* "public.orphan"/);
forget_sessions();
$node->stop;
done_testing();
