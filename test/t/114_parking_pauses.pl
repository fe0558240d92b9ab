
# Targets that are paused or dropped with items that are parked, a copy of their
# database, and more databases with parked items than rings and workers.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use Test::More;

my $node = parking_node('pauses', 'persist_pipeline.worker_idle_timeout' => "'50ms'");

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
	all_workers_leave('paused: no worker has to stay');
	is_parked('postgres', 'paused', 80, '', 'paused: without a worker');
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
	restart_with(max_databases => $rings, max_workers => 1);
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

is_clean_log(qr/client backend 42501 ERROR/, qr/persist_pipeline worker 42P01 WARNING:  .* for relation with OID/);
forget_sessions();
$node->stop;
done_testing();
