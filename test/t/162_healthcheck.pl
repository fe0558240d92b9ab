
# persist_healthcheck, as it is installed: its exit status and its line, whatever state the server
# is in; and it ends, whatever hangs.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use IO::Socket::UNIX;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my ($bindir) = `pg_config --bindir` =~ /(.*)/;
our $script = "$bindir/persist_healthcheck";

my $node = pp_node(
	'healthcheck',
	init => [ allows_streaming => 1 ],
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.lock_timeout' => "'50ms'",
	autovacuum => 'off',
	fsync => 'on',
	full_page_writes => 'on',
	max_connections => 12,
	superuser_reserved_connections => 3);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int CHECK (n > 0));
	CREATE ROLE looker LOGIN PASSWORD 'right';
	GRANT pg_monitor TO looker;
	CREATE ROLE blind LOGIN;
	CREATE DATABASE bare;
});

# Run it with these options; its exit status and what it prints.  Settings of the environment come
# first, as NAME=value.
sub run_check
{
	my (@options) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');

	while (@options && $options[0] =~ /^(PG\w+|PATH)=(.*)$/)
	{
		$ENV{$1} = $2;
		shift @options;
	}
	my $pid = open my $output, '-|', $script, @options or die "$script: $!";
	my $said = eval {
		local $SIG{ALRM} = sub { die "it hangs\n" };
		local $/;
		alarm 60;
		my $all = <$output>;
		alarm 0;
		$all;
	};
	kill 'KILL', $pid if $@;
	close $output;
	return ($? >> 8, $said // $@);
}

my %word = (0 => 'OK', 1 => 'WARNING', 2 => 'CRITICAL', 3 => 'UNKNOWN');

# One line, with this exit status and a text that matches.
sub check
{
	my ($name, $status, $text, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($got, $said) = run_check(@options);

	return ok($got == $status && $said =~ /\APERSIST_PIPELINE $word{$status} - [^\n]*\n\z/ && $said =~ $text, $name)
	  || diag("exit status $got: $said");
}

# ---- what it says of itself

my ($status, $said) = run_check('--version');
my ($default) = slurp_file("$FindBin::RealBin/../../persist_pipeline.control") =~ /default_version = '(.*)'/;
is("$status $said", "0 persist_healthcheck $default\n", '--version');
($status, $said) = run_check('--help');
is($status, 0, '--help');
like($said, qr/$_/, "--help tells of $_") foreach '--readiness', '--liveness', '-d, ', '-h, ', '-p, ', '-U, ', '-t, ', 'Exit status';
check('an option that there isn\'t', 3, qr/no option -x/, '-x');
check('a long one', 3, qr/no option --nagios/, '--nagios');
check('an argument', 3, qr/no argument postgres/, 'postgres');
check('an option without its value', 3, qr/-p lacks its value/, '-p');
check('a timeout that is none', 3, qr/number of seconds/, '-t', $_) foreach '0', 'x', '1s', '';

# ---- ok, degraded, unhealthy

check('ok', 0, qr/OK - 0 waiting \| /);
check('ok, ready', 0, qr/OK - 0 waiting/, '--readiness');
check('ok, alive', 0, qr/OK - the server answers, and the launcher is there$/, '--liveness');

(undef, $said) = run_check();
my ($data) = $said =~ /\| (.*)$/;
is(join(' ', map { /^(\w+)=/ } split ' ', $data), 'oldest pending parked ring journal persisted failed worker_failures', 'performance data');
ok((!grep { !/^\w+=\d+(\.\d+)?(s|B|c)?(;\d*){0,4}$/ } split ' ', $data), 'each of a form that Nagios reads') || diag($data);
like($data, qr/^oldest=0\.000s;30;300;0 /, 'the limits are the settings');
like($data, qr/ journal=0B;858993459;1020054732;0;1073741824 /, 'those of the journal are bytes');

$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 0}')});
ok(flush($node), 'flushed');
check('degraded', 1, qr/WARNING - Items of public\.t have become dead letters; .*failed=1c/);
check('degraded, ready', 0, qr/OK - Items of public\.t have become/, '--readiness');
check('degraded, alive', 0, qr/OK - the server/, '--liveness');
$node->safe_psql('postgres', 'SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');
check('dropped: ok', 0, qr/OK - 0 waiting/);

# A name that would end the line, or the text, or command a terminal.
$node->safe_psql('postgres', qq{CREATE TABLE "a|b\nc\e[31m" (n int CHECK (n > 0)); SELECT persist_enqueue('"a|b\nc\e[31m"', '{"n": 0}')});
ok(flush($node), 'flushed');
($status, $said) = run_check();
is($status . ' ' . ($said =~ tr/|//) . ' ' . ($said =~ tr/\n//), '1 1 1', 'one line, and one bar');
unlike($said, qr/[^[:print:]\n]/, 'and nothing that a terminal obeys');
$node->safe_psql('postgres', 'SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');

my $locker = connect_to($node);
lock_targets($locker, 't');
$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 1}')});
my @strict = 'PGOPTIONS=-c persist_pipeline.health_unhealthy_age=1ms';
check('unhealthy', 2, qr/CRITICAL - The oldest item has waited for .*\| oldest=\d+\.\d\d\ds;30;0\.001;0 pending=1;/, @strict);
check('unhealthy, not ready', 2, qr/CRITICAL - The oldest item/, @strict, '--readiness');
check('unhealthy, alive', 0, qr/OK - the server/, @strict, '--liveness');
$locker->rollback;
ok(drain($node), 'flushed');
check('unlocked: ok', 0, qr/OK - 0 waiting/, @strict);

# ---- who asks, and what

check('no such database', 2, qr/database "nowhere" does not exist/, '-d', 'nowhere');
check('no such database, alive', 0, qr/OK - the server answers, though not to us: .*"nowhere"/, '-dnowhere', '--liveness');
check('no extension', 2, qr/extension persist_pipeline does not exist in database bare/, '--dbname=bare');
check('no extension, alive', 0, qr/launcher is there/, '--dbname=bare', '--liveness');

# a new library serves what an older version has created, so nobody restarts its container
$node->safe_psql('bare', q{CREATE EXTENSION persist_pipeline VERSION '1.0'});
check('not updated', 1, qr/ 1\.0 in database bare, and can't be asked before ALTER EXTENSION persist_pipeline UPDATE/, '--dbname=bare');
check('not updated, ready', 0, qr/ 1\.0 in database bare/, '--dbname=bare', '--readiness');
$node->safe_psql('bare', 'ALTER EXTENSION persist_pipeline UPDATE');
check('updated', 0, qr/ waiting /, '--dbname=bare');
$node->safe_psql('bare', 'DROP EXTENSION persist_pipeline');
check('a connection string', 0, qr/OK - 0/, '-d', 'dbname=postgres application_name=x');
check('no such role', 2, qr/role "nobody" does not exist/, '-U', 'nobody');
check('a role of pg_monitor', 0, qr/OK - 0/, '-U', 'looker');
check('a role of pg_monitor sees the launcher', 0, qr/launcher is there/, '-U', 'looker', '--liveness');
check('a role without rights', 2, qr/permission denied for function persist_health/, '--username=blind');
check('a role that can\'t see it', 3, qr/role blind may not see the launcher: .*pg_monitor/, '-U', 'blind', '--liveness');
check('no such server', 2, qr/port|socket/, '-p', '1');
check('no such server: not alive', 2, qr/port|socket/, '--port=1', '--liveness');
check('no such host', 2, qr/nowhere/, '--host=/nowhere');

# Somebody else's functions and operators come in nobody's way.
$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA hostile;
	CREATE FUNCTION hostile.count() RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint';
	CREATE FUNCTION hostile.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.trap);
	GRANT USAGE ON SCHEMA hostile TO looker;
	ALTER ROLE looker SET search_path = hostile, pg_catalog, public;
});
check('a hostile search_path', 0, qr/OK - 0/, '-U', 'looker');
check('a hostile search_path, alive', 0, qr/OK - the/, '-U', 'looker', '--liveness');

# A password.
my $hba = slurp_file($node->data_dir . '/pg_hba.conf');
unlink $node->data_dir . '/pg_hba.conf';
$node->append_conf('pg_hba.conf', "local all looker scram-sha-256\n$hba");
$node->reload;
wait_until('the password is asked for', sub { (run_check('-U', 'looker'))[0] == 2 });
check('no password', 2, qr/no password supplied/, '-U', 'looker');
check('a wrong one', 2, qr/password authentication failed for user "looker"/, 'PGPASSWORD=wrong', '-U', 'looker');
check('a wrong one, alive', 0, qr/answers, though not to us/, 'PGPASSWORD=wrong', '-U', 'looker', '--liveness');
check('the right one', 0, qr/OK - 0/, 'PGPASSWORD=right', '-U', 'looker');

# Too many connections.
my @sessions;
wait_until(
	'there are no more',
	sub {
		# one that is on its way out would make room later
		my $are_ours = one_value($locker, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") == 1 + @sessions;
		my $session = connect_if_up($node, 'postgres', user => 'blind') or return $are_ours;

		push @sessions, $session;
		return;
	});
check('too many connections', 2, qr/connection/, 'PGPASSWORD=right', '-U', 'looker');
check('too many connections, alive', 0, qr/answers, though not to us/, 'PGPASSWORD=right', '-U', 'looker', '--liveness');
$_->disconnect foreach @sessions;
@sessions = ();
ok(wait_until('there are connections again', sub { (run_check('PGPASSWORD=right', '-U', 'looker'))[0] == 0 }), 'fewer connections: ok');

# ---- what hangs

# Its own limit is 2 s, and psql gets one second more, and another one to end.
sub check_hang
{
	my ($name, $text, @options) = @_;

	is_quick(seconds_of(sub { check($name, 2, $text, '-t', 2, @options) }), 12, "$name: it ends");
	return;
}

begin_with_lock($locker, 'persist_pipeline_internal.persist_account', 'ACCESS EXCLUSIVE');
check_hang('a statement', qr/statement timeout/);
$locker->rollback;

my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
kill 'STOP', $postmaster;
check_hang('the postmaster', qr/timeout expired/);
check_hang('the postmaster: not alive', qr/timeout expired/, '--liveness');
kill 'CONT', $postmaster;
check('it goes on', 0, qr/OK - 0/);

# A server that accepts, and then says nothing; or lets us in first.
foreach my $greeting ('', pack('A N N A N A', 'R', 8, 0, 'Z', 5, 'I'))
{
	my $directory = PostgreSQL::Test::Utils::tempdir_short();
	my $server = IO::Socket::UNIX->new(Local => "$directory/.s.PGSQL.5432", Listen => 5) or die $!;
	my ($pid) = in_children(
		1,
		sub {
			my @clients;

			while (my $client = $server->accept)
			{
				$client->autoflush(1);
				print $client $greeting;
				push @clients, $client;
			}
		});

	check_hang($greeting eq '' ? 'a socket that is silent' : 'a session that is silent',
		$greeting eq '' ? qr/timeout expired/ : qr/no answer within 2 s/, '-h', $directory, '-p', 5432, @$_)
	  foreach [], ['--liveness'];
	kill 'KILL', $pid;
	waitpid $pid, 0;
}

# ---- which clients

my $tools = PostgreSQL::Test::Utils::tempdir();
foreach my $tool (qw(cat dirname sed sh timeout tr))
{
	my ($path) = grep { -x } map {"$_/$tool"} split /:/, $ENV{PATH};

	symlink $path, "$tools/$tool" or die $!;
}
check('the clients beside it do, if there are no others', 0, qr/OK - 0/, "PATH=$tools");
{
	my $elsewhere = PostgreSQL::Test::Utils::tempdir();

	system_or_bail('cp', $script, $elsewhere);
	local $script = "$elsewhere/persist_healthcheck";
	check('without any', 3, qr/no psql in PATH/, "PATH=$tools");
}

# ---- a standby, a server without the library, and none

$locker->disconnect;
$node->set_standby_mode;
$node->restart;
check('a standby', 0, qr/OK - 0 waiting/);
check('a standby, alive', 0, qr/OK - the server answers, and is a standby/, '--liveness');
$node->promote;
wait_for_launcher($node);
check('promoted', 0, qr/launcher is there/, '--liveness');

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
check('not preloaded', 2, qr/CRITICAL - The library isn't preloaded, so that calls fail\. \| oldest=0/);
check('not preloaded, not ready', 2, qr/isn't preloaded/, '--readiness');
check('not preloaded: no launcher', 2, qr/the launcher is not there/, '--liveness');

$node->stop;
check('no server', 2, qr/CRITICAL - connection to server/);
check('no server, not ready', 2, qr/CRITICAL - connection to server/, '--readiness');
check('no server: not alive', 2, qr/CRITICAL - connection to server/, '--liveness');
done_testing();
