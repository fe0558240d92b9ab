
# Through pgbouncer in transaction mode: clients share server sessions, and each
# transaction's items still arrive once, whole, in order.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

$ENV{PATH} .= ':/usr/sbin:/usr/local/sbin';
plan skip_all => 'pgbouncer is not installed' if system('pgbouncer --version >/dev/null 2>&1') != 0;

my $clients = 6;
my $transactions = 100;
my $node = pp_node('pooled', 'persist_pipeline.flush_interval' => "'10ms'");
my $everything_from = log_position($node);
my $dir = $node->basedir;
my $port = PostgreSQL::Test::Cluster::get_free_port();
my ($host, $server_port) = ($node->host, $node->port);
my $user = $node->safe_psql('postgres', "SELECT current_user");

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (client int, tx int, n int, ins bigint);
} . number_rows('t'));

append_to_file("$dir/users.txt", "\"$user\" \"\"\n");
append_to_file("$dir/pgbouncer.ini", <<"INI");
[databases]
postgres = host=$host port=$server_port dbname=postgres
[pgbouncer]
unix_socket_dir = $host
listen_addr =
listen_port = $port
auth_type = trust
auth_file = $dir/users.txt
pool_mode = transaction
default_pool_size = 2
logfile = $dir/pgbouncer.log
pidfile = $dir/pgbouncer.pid
INI

my $pooler = fork;
die "could not fork: $!" if !defined $pooler;
if ($pooler == 0)
{
	open STDIN, '<', '/dev/null';
	open STDOUT, '>', "$dir/pgbouncer.out";
	open STDERR, '>&', \*STDOUT;
	exec 'pgbouncer', "$dir/pgbouncer.ini" or POSIX::_exit(127);
}

# Whatever happens below, it must not outlive the test.
END
{
	my $status = $?;

	if ($pooler)
	{
		kill 'INT', $pooler;
		waitpid $pooler, 0;
	}
	$? = $status;
}

my $up = 0;
for (my $tries = 0; !$up && $tries < 600; $tries++)
{
	my $dbh = connect_to($node, 'postgres', port => $port, raise => 0);

	$up = $dbh && $dbh->ping;
	usleep(100_000) if !$up;
}
ok($up, 'pgbouncer is up') or die slurp_file("$dir/pgbouncer.out");

children_succeeded(
	'clients',
	in_children(
		$clients,
		sub {
			my ($client) = @_;
			my $dbh = connect_to($node, 'postgres', port => $port);
			my $enqueue =
			  "SELECT persist_enqueue('t'::regclass, jsonb_build_object('client', %s::int, 'tx', %s::int, 'n', %s::int))";

			srand($client);
			open my $expected, '>', "$dir/expected.$client" or die $!;
			foreach my $tx (1 .. $transactions)
			{
				my @rows;
				my $n = 0;

				# one item, prepared by the protocol, without a transaction block
				if ($tx % 5 == 0)
				{
					$dbh->do(sprintf($enqueue, '?', '?', '?'), { pg_server_prepare => 1, pg_switch_prepared => 0 },
						$client, $tx, ++$n);
					print $expected "$client|$tx|$n\n";
					next;
				}

				$dbh->begin_work;
				$dbh->do("PREPARE enqueue(int, int, int) AS " . sprintf($enqueue, '$1', '$2', '$3'));
				foreach my $part (1 .. 3)
				{
					my $kept = rand() < 0.5;

					$n++;
					$dbh->do("EXECUTE enqueue($client, $tx, $n)");
					push @rows, $n;

					$dbh->do("SAVEPOINT a");
					foreach my $i (1 .. int rand 4)
					{
						$n++;
						$dbh->do("EXECUTE enqueue($client, $tx, $n)");
						push @rows, $n if $kept;
					}
					$dbh->do(($kept ? 'RELEASE' : 'ROLLBACK TO') . ' a');
				}
				$dbh->do("DEALLOCATE enqueue");
				if (rand() < 0.2)
				{
					$dbh->rollback;
					next;
				}
				$dbh->commit;
				print $expected "$client|$tx|$_\n" foreach @rows;
			}
			close $expected or die $!;
		}));
ok(flush($node), 'flushed');

# in the order of insertion, client by client
foreach my $client (1 .. $clients)
{
	is( $node->safe_psql('postgres', "SELECT client, tx, n FROM t WHERE client = $client ORDER BY ins") . "\n",
		slurp_file("$dir/expected.$client"),
		"client $client: exactly what it committed, in order");
}
# the last one of ours may be on its way out; the pooler's stay
ok( $node->poll_query_until('postgres',
		"SELECT count(*) <= 2 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"),
	'they shared two sessions');

is_deeply([ complaints($node, $everything_from) ], [], 'nothing in the log above LOG');
kill 'INT', $pooler;
waitpid $pooler, 0;
$pooler = 0;

$node->stop;
done_testing();
