
# Targets that are paused or dropped with items that are parked, a copy of their
# database, and more databases with parked items than rings and workers.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use Test::More;

my $node = parking_node(
	'pauses',
	wal_level => 'replica',
	max_wal_senders => 1);

create_target('postgres', 'free');

# ---- paused, while no worker has a reason to stay

{
	my $other;

	session('postgres')->do("CREATE ROLE other LOGIN; GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO other");
	create_target('postgres', 'paused');
	session('postgres')->do("GRANT INSERT ON paused TO other");
	$other = connect_to($node, 'postgres', user => 'other');
	is(try_sql($other, "SELECT persist_$_('paused')"), '42501', "persist_$_(target) is for its owner") foreach 'pause', 'resume', 'unconfigure';
	$other->disconnect;

	session('postgres')->do("SELECT persist_pause('paused')");
	enqueue('postgres', 'paused', 1, 40);
	enqueue('postgres', 'free', 1, 40);
	lands('postgres', 'free', 'paused: others');
	is_parked('postgres', 'paused', 40, '55000', 'paused: its items are parked');
	flush_returns('postgres', 0, 'paused: persist_flush() is false', 'paused');
	flush_returns('postgres', 1, 'paused: and true for another one', 'free');
	restart_with();
	enqueue('postgres', 'paused', 41, 80);
	is_parked('postgres', 'paused', 80, '55000', 'paused: over a restart');
	enqueue('postgres', 'free', 41, 80);
	lands('postgres', 'free', 'paused: others, after the restart');
	set_and_reload('worker_idle_timeout', "'50ms'");
	all_workers_leave('paused: no worker has to stay');
	is_parked('postgres', 'paused', 80, '', 'paused: without a worker');
	flush_returns('postgres', 0, 'paused: without a worker, persist_flush() is false', 'paused');
	flush_returns('postgres', 1, 'paused: and true for another one', 'free');
	set_and_reload('worker_idle_timeout', "'1min'");
	session('postgres')->do("SELECT persist_resume('paused')");
	lands('postgres', 'paused', 'resumed');
	adds_up('postgres', 'resumed');

	session('postgres')->do("SELECT persist_pause('paused')");
	enqueue('postgres', 'paused', 81, 90);
	is_parked('postgres', 'paused', 10, '55000', 'paused again');
	session('postgres')->do("SELECT persist_unconfigure('paused')");
	lands('postgres', 'paused', 'unconfigured');
	adds_up('postgres', 'unconfigured');

	# what refers to its rows waits with them, to the third generation
	session('postgres')->do("CREATE TABLE g$_ (id int PRIMARY KEY, parent int" . ($_ > 1 ? ' REFERENCES g' . ($_ - 1) : '') . ')') foreach 1 .. 3;
	session('postgres')->do("SELECT persist_pause('g1')");
	session('postgres')->do("SELECT persist_enqueue('g1', '{\"id\": 1}'), persist_enqueue('g2', '{\"id\": 1, \"parent\": 1}'), persist_enqueue('g3', '{\"id\": 1, \"parent\": 1}')");
	$committed{postgres}{"g$_"} = 1 foreach 1 .. 3;
	is_parked('postgres', "g$_", 1, $_ == 1 ? '55000' : '23503', "paused parent: generation $_ waits") foreach 1 .. 3;
	session('postgres')->do("SELECT persist_resume('g1')");
	ok(eval { wait_for_sql(session('postgres'), "SELECT count(*) = 1 FROM g3") }, 'paused parent: resumed, all of them come');
	adds_up('postgres', 'paused parent');

	# so does what comes after a restart
	session('postgres')->do("SELECT persist_pause('g1')");
	session('postgres')->do("SELECT persist_enqueue('g1', '{\"id\": 2}')");
	is_parked('postgres', 'g1', 1, '55000', 'paused parent: parked');
	restart_with();
	session('postgres')->do("SELECT persist_enqueue('g2', '{\"id\": 2, \"parent\": 2}')");
	is_parked('postgres', 'g2', 1, '23503', 'paused parent: its child waits, after a restart');
	session('postgres')->do("SELECT persist_resume('g1')");
	ok(eval { wait_for_sql(session('postgres'), "SELECT count(*) = 2 FROM g2") }, 'paused parent: resumed after a restart, both come');
	$committed{postgres}{$_}++ foreach 'g1', 'g2';
	adds_up('postgres', 'paused parent, after a restart');

	# what needs each other in the end, in one transaction, stays together beside a bad row
	session('postgres')->do("CREATE TABLE nd (id int PRIMARY KEY, up int REFERENCES nd DEFERRABLE INITIALLY DEFERRED, CHECK (id < 100))");
	session('postgres')->do("SELECT persist_pause('nd')");
	session('postgres')->do("SELECT persist_enqueue('nd', '{\"id\": 2, \"up\": 1}'), persist_enqueue('nd', '{\"id\": 1}')");
	session('postgres')->do("SELECT persist_enqueue('nd', '{\"id\": 100}')");
	$committed{postgres}{nd} = 3;
	is_parked('postgres', 'nd', 3, '55000', 'paused circle: parked');
	session('postgres')->do("SELECT persist_resume('nd')");
	ok(eval { wait_for_sql(session('postgres'), "SELECT persisted + dead = 3 FROM persist_stats WHERE target_name = 'public.nd'") }, 'paused circle: settled');
	is(one_value(session('postgres'), "SELECT string_agg(id::text, ' ' ORDER BY id) FROM nd"), '1 2', 'paused circle: both have landed');
	adds_up('postgres', 'paused circle');
}

# ---- what was parked long before its target took none of it has its misfit_timeout, too,
# which goes on over a restart

{
	my $since = "SELECT count(misfit_since) > 0 FROM persist_parked WHERE target = 'misfit'::regclass";

	create_target('postgres', 'misfit');
	session('postgres')->do("SELECT persist_pause('misfit')");
	enqueue('postgres', 'misfit', 1, 40);
	is_parked('postgres', 'misfit', 40, '55000', 'grace: parked for another reason');
	open_guards(session('postgres'), 'persist_parked');
	is(session('postgres')->do("UPDATE persist_pipeline_internal.persist_parked SET parked_at = parked_at - interval '1 day'"), 40, 'grace: a day ago');
	session('postgres')->do("ALTER TABLE misfit DROP COLUMN n");
	restart_with(misfit_timeout => "'1h'");
	session('postgres')->do("SELECT persist_resume('misfit')");
	ok(eval { wait_for_sql(session('postgres'), $since) }, 'grace: it begins when the items are tried');
	is_parked('postgres', 'misfit', 40, '^42', 'grace: none has died');
	session('postgres')->do("ALTER TABLE misfit ADD COLUMN n int");
	lands('postgres', 'misfit', 'grace: mended');
	adds_up('postgres', 'grace: mended');

	session('postgres')->do("SELECT persist_pause('misfit')");
	enqueue('postgres', 'misfit', 41, 60);
	session('postgres')->do("ALTER TABLE misfit DROP COLUMN n");
	session('postgres')->do("SELECT persist_resume('misfit')");
	is_parked('postgres', 'misfit', 20, '^42', 'grace: parked again');
	ok(eval { wait_for_sql(session('postgres'), $since) }, 'grace: noted');
	is(one_value(session('postgres'), "SELECT count(*) FROM persist_parked WHERE target = 'misfit'::regclass AND misfit_since BETWEEN parked_at - interval '10 ms' AND now()"), 1, 'grace: with one item');
	session('postgres')->do("UPDATE persist_pipeline_internal.persist_parked SET misfit_since = misfit_since - interval '1 day'");
	restart_with();
	ok(eval { wait_for_sql(session('postgres'), "SELECT dead = 20 AND parked = 0 FROM persist_stats WHERE target_name = 'public.misfit'") }, 'grace: it is over after a restart');
	adds_up('postgres', 'grace: over');
	set_and_reload('misfit_timeout', "'60s'");
}

# ---- a retrier that ends with the last item that was parked: nothing says that there are others

{
	my $dbh = session('postgres');
	my $pid;

	create_target('postgres', 'last');
	$dbh->do("CREATE TABLE awake ()");
	$dbh->do("CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
		  . " 'BEGIN WHILE NOT EXISTS (SELECT FROM public.awake) LOOP PERFORM pg_sleep(0.1); END LOOP; RETURN NEW; END'");
	$dbh->do("CREATE TRIGGER dawdle BEFORE INSERT ON last FOR EACH ROW EXECUTE FUNCTION dawdle()");
	$dbh->do("SELECT persist_pause('last')");
	enqueue('postgres', 'last', 1, 1);
	is_parked('postgres', 'last', 1, '55000', 'last item: parked');
	$dbh->do("SELECT persist_resume('last')");
	wait_for_sql($dbh, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline retrier' AND wait_event = 'PgSleep'");
	$pid = one_value($dbh, "SELECT retrier_pid FROM persist_queue WHERE datname = 'postgres'");
	$dbh->do("SELECT pg_terminate_backend($pid)");
	$dbh->do("INSERT INTO awake DEFAULT VALUES");
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM last") }, 'last item: it has come');
	adds_up('postgres', 'last item: the retrier was terminated');
}

# ---- a commit that takes its time comes into the ring after later ones, and is parked with them

{
	my $late = connect_to($node);
	my $other = connect_to($node);
	my ($hanging, $lock);

	create_target('postgres', 'overtaken');
	$_->do("SELECT persist_enqueue('overtaken', '{\"n\": 0}')") foreach $late, $other;    # they know it now
	flush_returns('postgres', 1, 'overtaken: flushed');
	set_and_reload('adaptive_flush', 'off');
	set_and_reload('flush_interval', "'3s'");
	$lock = lock_tables('overtaken');
	$other->do("SET synchronous_commit = local");
	$hanging = hang_commits($node);
	start_sql($late, "SELECT persist_enqueue('overtaken', '{\"n\": 1}')");
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $late->{pg_pid}"),
		'overtaken: a transaction hangs in its commit');
	$other->do("SELECT persist_enqueue('overtaken', '{\"n\": 100}')");
	release_commits($node, $hanging);
	is(finish_sql($late), '00000', 'overtaken: it is committed');
	is_parked('postgres', 'overtaken', 2, '55P03', 'overtaken: parked');
	set_and_reload('flush_interval', "'10ms'");
	set_and_reload('adaptive_flush', 'on');
	$late->do("SELECT persist_enqueue('overtaken', '{\"n\": 2}')");
	is_parked('postgres', 'overtaken', 3, '55P03', 'overtaken: the next one of that session, too');
	unlock($lock);
	ok(eval { wait_for_sql(session('postgres'), "SELECT count(*) = 5 FROM overtaken") }, 'overtaken: they come');
	is(one_value(session('postgres'), "SELECT array_agg(n ORDER BY ins) = '{1,2}' FROM overtaken WHERE n IN (1, 2)"), 1, 'overtaken: in order');
	$committed{postgres}{overtaken} = 5;
	$_->disconnect foreach $late, $other;
}

# ---- the same of a parent that is parked: its child, whose place is between theirs, waits for it

{
	my $dbh = session('postgres');
	my ($late, $child, $other) = map { connect_to($node) } 1 .. 3;
	my $hanging;

	$dbh->do('CREATE TABLE late_parent (n int PRIMARY KEY); CREATE TABLE late_child (n int REFERENCES late_parent)');
	$late->do(q{SELECT persist_enqueue('late_parent', '{"n": 0}')});    # they know it now
	$other->do(q{SELECT persist_enqueue('late_parent', '{"n": 1}')});
	$child->do(q{SELECT persist_enqueue('late_child', '{"n": 0}')});
	flush_returns('postgres', 1, 'a late parent: flushed');
	$dbh->do("SELECT persist_pause('late_parent')");
	set_and_reload('adaptive_flush', 'off');
	set_and_reload('flush_interval', "'1h'");
	$other->do('SET synchronous_commit = local');
	$hanging = hang_commits($node);
	foreach my $call ([ $late => 'late_parent' ], [ $child => 'late_child' ])
	{
		my ($session, $target) = @$call;

		start_sql($session, qq{SELECT persist_enqueue('$target', '{"n": 10}')});
		ok( $node->poll_query_until('postgres',
				"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $session->{pg_pid}"),
			"a late parent: $target: a transaction hangs in its commit");
	}
	$other->do(q{SELECT persist_enqueue('late_parent', '{"n": 100}')});
	release_commits($node, $hanging);
	is(finish_sql($_), '00000', 'a late parent: it is committed') foreach $late, $child;
	flush_returns('postgres', 0, 'a late parent: one batch has them');
	is_parked('postgres', 'late_parent', 2, '55000', 'a late parent: parked');
	is_parked('postgres', 'late_child', 1, '23503', 'a late parent: its child waits for it');
	set_and_reload('flush_interval', "'10ms'");
	set_and_reload('adaptive_flush', 'on');
	$dbh->do("SELECT persist_resume('late_parent')");
	ok(eval { wait_for_sql($dbh, 'SELECT count(*) = 1 FROM late_child WHERE n = 10') }, 'a late parent: the child comes');
	@{ $committed{postgres} }{qw(late_parent late_child)} = (4, 2);
	$_->disconnect foreach $late, $child, $other;
}

# ---- single rows are parked, then it is paused, and then there is more than a batch

{
	my $dbh = session('postgres');
	my $lock = connect_to($node);

	$dbh->do("CREATE TABLE row_parent AS SELECT i AS id FROM generate_series(1, 2) AS i; ALTER TABLE row_parent ADD PRIMARY KEY (id)");
	create_target('postgres', 'rows', 'parent int REFERENCES row_parent');
	set_and_reload('batch_size', 10);
	$lock->begin_work;
	$lock->do("SELECT FROM row_parent WHERE id = 1 FOR UPDATE");
	$dbh->do("SELECT persist_enqueue('rows', '{\"n\": 0, \"parent\": 1}')");
	is_parked('postgres', 'rows', 1, '55P03', 'a row: parked');
	$dbh->do("SELECT persist_pause('rows')");
	$dbh->do("SELECT persist_enqueue('rows', jsonb_build_object('n', i, 'parent', 2)) FROM generate_series(1, 2000) AS i");
	is_parked('postgres', 'rows', 2001, '55000', 'a row: paused, and others follow');
	$dbh->begin_work;
	$dbh->do("SELECT persist_resume('rows')");
	$dbh->do("SELECT persist_enqueue('rows', jsonb_build_object('n', i, 'parent', 2)) FROM generate_series(2001, 2010) AS i");
	$dbh->commit;
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 2010 FROM rows") }, 'a row: resumed, all others come');
	is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 2010)) FROM rows"), 1, 'a row: in order');
	$lock->commit;
	$lock->disconnect;
	$committed{postgres}{rows} = 2011;
	adds_up('postgres', 'a row');
	set_and_reload('batch_size', 10000);
}

# ---- what a parent that waits is, and what not

{
	my $dbh = session('postgres');
	my $dead = one_value($dbh, "SELECT count(*) FROM persist_dead_letters");
	my @kinds = (
		['a part of what is parked', 'whole', 'of_part', 'INTEGER REFERENCES part'],
		['of a partition', 'simple', 'divided', ''],
		['deferred', 'simple', 'deferred', 'INTEGER REFERENCES simple DEFERRABLE INITIALLY DEFERRED'],
		['a table that a trigger writes', 'simple', 'written_by', '']);

	$dbh->do("CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (1000)");
	$dbh->do("CREATE TABLE simple (id int PRIMARY KEY)");
	foreach my $kind (@kinds)
	{
		my ($name, $parent, $child, $type) = @$kind;
		my $id = ++$committed{postgres}{$parent};

		if ($child eq 'divided')
		{
			$dbh->do("CREATE TABLE divided (n int, parent int) PARTITION BY RANGE (n); CREATE TABLE division PARTITION OF divided FOR VALUES FROM (0) TO (10000)");
			$dbh->do("ALTER TABLE division ADD FOREIGN KEY (parent) REFERENCES simple");
		}
		elsif ($child eq 'written_by')
		{
			$dbh->do("CREATE TABLE written (parent int REFERENCES simple); CREATE TABLE written_by (n int, parent int)");
			$dbh->do("CREATE FUNCTION write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.written VALUES (NEW.parent); RETURN NEW; END'");
			$dbh->do("CREATE TRIGGER write BEFORE INSERT ON written_by FOR EACH ROW EXECUTE FUNCTION write()");
		}
		else
		{
			$dbh->do("CREATE TABLE $child (n int, parent $type)");
		}
		$dbh->do("SELECT persist_pause('$parent')");
		$dbh->do("SELECT persist_enqueue('$parent', jsonb_build_object('id', ?::int))", undef, $id);
		$dbh->do("SELECT persist_enqueue('$child', jsonb_build_object('n', ?::int, 'parent', ?::int))", undef, $_, $id) foreach 1 .. 300;
		$committed{postgres}{$child} = 300;
		is_parked('postgres', $child, 300, '23503', "parent, $name: its children wait");
		ok(eval { wait_for_sql($dbh, "SELECT pg_sleep(1) IS NOT NULL") }, "parent, $name: and are tried");
		is_parked('postgres', $child, 300, '23503', "parent, $name: and wait");
		$dbh->do("SELECT persist_resume('$parent')");
		ok(eval { wait_for_sql($dbh, "SELECT count(*) = 300 FROM $child") }, "parent, $name: they come");
		adds_up('postgres', "parent, $name");
	}

	# in one transaction, what comes after it
	$dbh->do("CREATE TABLE later (id int PRIMARY KEY); CREATE TABLE sooner (n int, parent int REFERENCES later DEFERRABLE INITIALLY DEFERRED)");
	$dbh->do("SELECT persist_pause('later')");
	$dbh->do("SELECT persist_enqueue('sooner', '{\"n\": 1, \"parent\": 1}'), persist_enqueue('later', '{\"id\": 1}')");
	$committed{postgres}{$_} = 1 foreach 'sooner', 'later';
	is_parked('postgres', 'sooner', 1, '23503', 'parent, after its child: the child waits');
	$dbh->do("SELECT persist_resume('later')");
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM sooner") }, 'parent, after its child: both come');
	adds_up('postgres', 'parent, after its child');

	# in the same table, another role's
	$dbh->do("GRANT EXECUTE ON FUNCTION persist_enqueue(text, text, boolean) TO other; CREATE TABLE node (id int PRIMARY KEY, parent int REFERENCES node)");
	$dbh->do("GRANT SELECT ON node TO other; GRANT INSERT ON node TO other");
	$dbh->begin_work;
	$dbh->do("SET LOCAL ROLE other");
	$dbh->do("SELECT persist_enqueue('node', '{\"id\": 1}')");
	$dbh->do("RESET ROLE");
	$dbh->do("REVOKE INSERT ON node FROM other");
	$dbh->commit;
	is_parked('postgres', 'node', 1, '42501', 'parent of another role: parked');
	$dbh->do("SELECT persist_enqueue('node', '{\"id\": 2, \"parent\": 1}')");
	is_parked('postgres', 'node', 2, '', 'parent of another role: so is the child');
	ok(eval { wait_for_sql($dbh, "SELECT pg_sleep(1) IS NOT NULL") }, 'parent of another role: the child is tried');
	$dbh->do("GRANT INSERT ON node TO other");
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 2 FROM node") }, 'parent of another role: both come');
	$committed{postgres}{node} = 2;
	adds_up('postgres', 'parent of another role');
	is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), $dead, 'parents that wait: no child is a dead letter');

	# each refers to the other, and to nothing: they don't wait for each other for ever
	$dbh->do("CREATE TABLE left_half (id int PRIMARY KEY, other int); CREATE TABLE right_half (id int PRIMARY KEY, other int REFERENCES left_half)");
	$dbh->do("ALTER TABLE left_half ADD FOREIGN KEY (other) REFERENCES right_half; SELECT persist_pause('left_half')");
	foreach my $half ('left', 'right')
	{
		$dbh->do("SELECT persist_enqueue('${half}_half', '{\"id\": 1, \"other\": 2}')");
		is_parked('postgres', "${half}_half", 1, '', "a circle: $half");
		$committed{postgres}{"${half}_half"} = 1;
	}
	$dbh->do("SELECT persist_resume('left_half')");
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 2 + $dead FROM persist_dead_letters") }, 'a circle: both die');
	adds_up('postgres', 'a circle');

	# the same in one transaction
	$dbh->do("SELECT persist_pause('left_half')");
	$dbh->do("SELECT persist_enqueue('left_half', '{\"id\": 3, \"other\": 4}'), persist_enqueue('right_half', '{\"id\": 3, \"other\": 4}')");
	$committed{postgres}{"${_}_half"}++ foreach 'left', 'right';
	is_parked('postgres', "${_}_half", 1, '', "a circle in one transaction: $_") foreach 'left', 'right';
	$dbh->do("SELECT persist_resume('left_half')");
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 4 + $dead FROM persist_dead_letters") }, 'a circle in one transaction: both die');
	adds_up('postgres', 'a circle in one transaction');
}

# ---- a target that goes, with what is parked of it

foreach my $why ('shut', 'paused')
{
	my $dead = one_value(session('postgres'), "SELECT count(*) FROM persist_dead_letters");

	create_target('postgres', 'dropped');
	shut_gate('postgres') if $why eq 'shut';
	session('postgres')->do("SELECT persist_pause('dropped')") if $why eq 'paused';
	enqueue('postgres', 'dropped', 1, 40);
	is_parked('postgres', 'dropped', 40, '', "dropped while $why: parked");
	session('postgres')->do("DROP TABLE dropped");
	open_gate('postgres');
	ok(eval { wait_for_sql(session('postgres'), "SELECT count(*) = 40 + $dead FROM persist_dead_letters") },
		"dropped while $why: its items are dead letters");
	$committed{postgres}{gone} += delete $committed{postgres}{dropped};
	adds_up('postgres', "dropped while $why");
}

# ---- a copy of the database

{
	session('postgres')->do("CREATE DATABASE source");
	$node->safe_psql('source', "CREATE EXTENSION persist_pipeline; $parking_tools");
	create_target('source', $_) foreach 't', 'free';
	shut_gate('source');
	enqueue('source', 't', 1, 40);
	is_parked('source', 't', 40, '55006', 'copy: parked');
	forget_sessions();
	create_database(session('postgres'), 'copy', 'source');
	open_gate($_) foreach 'source', 'copy';
	lands('source', 't', 'copy: the source');
	adds_up('source', 'copy: the source');

	enqueue('copy', 'free', 1, 40);
	lands('copy', 'free', 'copy: its own');
	is(queue_value($node, 'worker_pid IS NULL', 'copy'), 'f', 'copy: it has a worker');
	is($node->safe_psql('copy', "SELECT sum(items_copied) FROM persist_queue"), '40', 'copy: what came with it is aside');
	flush_returns('copy', 1, 'copy: nothing to wait for');
	is($node->safe_psql('copy', "SELECT count(*) FROM t"), '0', 'copy: not written');
	session('copy')->do("SELECT persist_resume()");
	$committed{copy}{t} = 40;
	lands('copy', 't', 'copy: resumed');
	adds_up('copy', 'copy: resumed');
}

# ---- more databases than rings and workers

foreach my $rings (2, 1)
{
	my @databases = map { "turn${_}_of_$rings" } 1 .. 3;

	foreach my $database (@databases)
	{
		session('postgres')->do("CREATE DATABASE $database");
		$node->safe_psql($database, "CREATE EXTENSION persist_pipeline; $parking_tools");
	}
	restart_with(max_databases => $rings, max_workers => 1, worker_idle_timeout => "'50ms'");
	foreach my $database (@databases)
	{
		create_target($database, $_) foreach 'stuck', 'free';
		shut_gate($database);
		enqueue($database, 'stuck', 1, 20);
		is_parked($database, 'stuck', 20, '', "$database: parked");
	}
	foreach my $database (@databases)
	{
		session($database)->do("DROP TRIGGER gate ON free");
		enqueue($database, 'free', 1, 20);
		lands($database, 'free', "$database: other items");
		enqueue($database, 'stuck', 21, 40);
	}
	foreach my $database (reverse @databases)
	{
		open_gate($database);
		lands($database, 'stuck', $database);
		adds_up($database, $database);
	}
}

is_clean_log(qr/client backend 42501 ERROR/, qr/persist_pipeline (?:worker|retrier) 42804 WARNING:  .* "public.misfit"/, qr/persist_pipeline (?:worker|retrier) 23514 WARNING:  item \d+ for relation "public.nd"/, qr/persist_pipeline (?:worker|retrier) 23503 WARNING:  .* "public.(left|right)_half"/, qr/persist_pipeline (?:worker|retrier) 42P01 WARNING:  .* for relation with OID/);
forget_sessions();
$node->stop;
done_testing();
