
=pod

=head1 NAME

PersistPipeline - what the TAP tests share: a server with the library
preloaded, sessions whose SQLSTATEs can be seen, processes, and the log.

Tests wait for a condition (poll_query_until, persist_flush, wait_for_log),
never for a length of time, except where a stretch of time is what is tested.
How long something takes is tested with is_quick: a machine may be busy.

=cut

package PersistPipeline;

use strict;
use warnings;

use DBI;
use DBD::Pg qw(:async);
use Exporter 'import';
use FindBin;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(clock time usleep);

our @EXPORT = qw(
  $pending_sql $slow_target pp_node number_rows connect_to connect_if_up connect_when_up try_sql start_sql finish_sql is_running one_value rows_of
  enqueue_rows enqueue_range try_enqueue discard_all begin_with_lock lock_targets change_setting reload_with
  wait_until wait_for_sql seconds_of cpu_seconds own_memory is_quick create_model_database create_database
  worker_pid launcher_pid wait_for_launcher wait_for_new_worker wait_for_worker_state wait_until_worker_sleeps wait_until_told
  queue_value wait_for_queue rings
  flush drain hang_commits release_commits log_position log_since complaints
  in_children wait_for_children children_succeeded open_guards build_library);

# How many items wait in a database, counted without the extension: journalled ones, and parked.
our $pending_sql = join ' + ',
  map { "(SELECT coalesce(sum(get_byte(data, 2) + 256 * get_byte(data, 3)), 0) FROM persist_pipeline_internal.persist_$_)" }
  qw(journal_1 journal_2 journal_3 parked);

# From 19 on, where anything dies outside of an eval, the test is done.  In a DESTROY, which is
# where a session's handle finds that its server is gone, $^S is something else than 1.
INIT
{
	my $done = $SIG{__DIE__};

	$SIG{__DIE__} = sub { $done->(@_) if !$^S } if $done;
}

# A server with the library preloaded and the extension in database postgres.
# %settings go to postgresql.conf; init => [...] goes to Cluster::init;
# no_start => 1 leaves it stopped and empty; install_path: of another installation.
sub pp_node
{
	my ($name, %settings) = @_;
	my $init = delete $settings{init} || [];
	my $no_start = delete $settings{no_start};
	my $install_path = delete $settings{install_path};
	my $node = PostgreSQL::Test::Cluster->new($name, $install_path ? (install_path => $install_path) : ());

	$node->init(@$init);

	# %b and %e let a test say whose line it is, and why.  Statements would
	# repeat the values of the items.
	%settings = (
		log_line_prefix => "'%m [%p] %b %e '",
		log_statement => "'none'",
		max_connections => 50,
		shared_preload_libraries => "'persist_pipeline'",
		%settings);
	$node->append_conf('postgresql.conf',
		join("\n", map { "$_ = $settings{$_}" } sort keys %settings));
	return $node if $no_start;

	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION persist_pipeline');
	return $node;
}

# The SQL that has rows of these tables numbered: `ins` is given by the flush, and tells the order
# in which they were inserted.  A DEFAULT would be evaluated at the call.
sub number_rows
{
	return q{
		CREATE SEQUENCE ins;
		CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN NEW.ins := nextval('public.ins'); RETURN NEW; END $$;
	} . join '', map { "CREATE TRIGGER number BEFORE INSERT ON $_ FOR EACH ROW EXECUTE FUNCTION number();" } @_;
}

# A session.  Errors die, with their SQLSTATE in $dbh->state; see try_sql.
sub connect_to
{
	my ($node, $database, %option) = @_;
	my $host = $option{host} || $node->host;
	my $port = $option{port} || $node->port;

	return DBI->connect(
		'dbi:Pg:host=' . $host . ';port=' . $port . ';dbname=' . ($database || 'postgres'),
		$option{user} || scalar getpwuid($<),
		'',
		{
			AutoCommit => 1,
			AutoInactiveDestroy => 1,
			PrintError => 0,
			PrintWarn => 0,
			RaiseError => defined $option{raise} ? $option{raise} : 1,
			pg_server_prepare => 0,
		});
}

# A session whose errors don't die, if there can be one just now.
sub connect_if_up
{
	my ($node, $database, %option) = @_;

	return connect_to($node, $database, raise => 0, %option);
}

# A session, once the server is there.
sub connect_when_up
{
	my @where = @_;
	my $dbh = wait_until('the server is up', sub { connect_if_up(@where) });

	$dbh->{RaiseError} = 1;
	return $dbh;
}

# Run a statement; returns its SQLSTATE, '00000' if it went well.
sub try_sql
{
	my ($dbh, $sql, @values) = @_;
	local $dbh->{RaiseError} = 0;

	return defined $dbh->do($sql, undef, @values) ? '00000' : $dbh->state;
}

# Run a statement that is expected to hang: start it, ask whether it still
# runs, and wait for its end (returns the SQLSTATE).
sub start_sql
{
	my ($dbh, $sql) = @_;

	$dbh->do($sql, { pg_async => PG_ASYNC });
	return;
}

sub is_running
{
	my ($dbh) = @_;

	return !$dbh->pg_ready;
}

sub finish_sql
{
	my ($dbh) = @_;
	local $dbh->{RaiseError} = 0;

	return defined $dbh->pg_result ? '00000' : $dbh->state;
}

# The first value of the first row.
sub one_value
{
	my ($dbh, $sql, @values) = @_;

	return ($dbh->selectrow_array($sql, undef, @values))[0];
}

# A line for each row.
sub rows_of
{
	my ($dbh, $sql) = @_;

	return map { join ' ', map { $_ // 'NULL' } @$_ } @{ $dbh->selectall_arrayref($sql) };
}

# The first value of a query, asked in a session that we have, or of a node.
sub ask
{
	my ($whom, $sql, $database) = @_;

	return $whom->isa('DBI::db') ? one_value($whom, $sql) : $whom->safe_psql($database || 'postgres', $sql);
}

# ---- items ----

# Rows of these numbers, in one statement; their ids.
sub enqueue_rows
{
	my ($dbh, $target, @n) = @_;

	return @{
		$dbh->selectcol_arrayref("SELECT persist_enqueue(?::regclass, jsonb_build_object('n', n)) FROM unnest(?::int[]) AS n",
			undef, $target, \@n)
	};
}

# From here to there: half of them each in a transaction of its own.
sub enqueue_range
{
	my ($dbh, $target, $from, $to) = @_;
	my $middle = int(($from + $to) / 2);

	enqueue_rows($dbh, $target, $_) foreach $from .. $middle;
	enqueue_rows($dbh, $target, $middle + 1 .. $to);
	return;
}

# One that may be refused; returns the SQLSTATE.  Options: transactional; filler: so many bytes for
# a column of that name.
sub try_enqueue
{
	my ($dbh, $target, $n, %option) = @_;
	my $filler = defined $option{filler} ? ", 'filler', repeat('x', $option{filler})" : '';

	return try_sql($dbh, "SELECT persist_enqueue('$target'::regclass, jsonb_build_object('n', ?::int$filler), ?)",
		$n, $option{transactional} // 1);
}

# All dead letters; how many.
sub discard_all
{
	my ($dbh) = @_;

	return one_value($dbh, "SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))");
}

sub begin_with_lock
{
	my ($dbh, $tables, $mode) = @_;

	$dbh->begin_work;
	$dbh->do("LOCK TABLE $tables IN $mode MODE");
	return;
}

# What comes for these waits where it is: it can't be parked either.
sub lock_targets
{
	my ($dbh, $targets, $mode) = @_;

	begin_with_lock($dbh, "$targets, persist_pipeline_internal.persist_parked", $mode || 'SHARE');
	return;
}

# ---- waiting and measuring ----

# Wait until the code returns something true, and return that.
sub wait_until
{
	my ($what, $code) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	while (1)
	{
		my $value = $code->();

		return $value if $value;
		die "timed out: $what" if time > $deadline;
		usleep(5_000);
	}
}

# Change a setting of persist_pipeline for all, by a session that we have.  As soon as that
# has it, so has the postmaster, and whatever it starts.
sub change_setting
{
	my ($dbh, $name, $value) = @_;

	$dbh->do("ALTER SYSTEM SET persist_pipeline.$name = '$value'");
	$dbh->do('SELECT pg_reload_conf()');
	wait_for_sql($dbh, "SELECT current_setting('persist_pipeline.$name') = '$value'");
	return;
}

# Of a node.  Once a new session has it, so has the postmaster, and the others are called: what
# they do next is with that.
sub reload_with
{
	my ($node, $name, $value) = @_;
	my $read_at = sub { ($node->psql('postgres', 'SELECT pg_conf_load_time()'))[1] };
	my $before = $read_at->();

	$node->append_conf('postgresql.conf', "persist_pipeline.$name = $value");
	$node->reload;
	wait_until("$name is read", sub { $read_at->() ne $before });
	return;
}

# Wait until a query returns true, in a session that we have: faster than
# poll_query_until, which starts psql each time.
sub wait_for_sql
{
	my ($dbh, $sql, @values) = @_;

	return wait_until($sql, sub { one_value($dbh, $sql, @values) });
}

# How many seconds the code takes.
sub seconds_of
{
	my ($code) = @_;
	my $start = time;

	$code->();
	return time - $start;
}

# How many times as long as on a machine of its own a process takes: just now, as what some
# computing takes by the clock on the wall, and by its own, says; or in the last minute, as the
# processes that have waited for a processor or a disk say.
sub slowness
{
	my ($start, $own_start) = (time, clock);
	my ($load) = (eval { slurp_file('/proc/loadavg') } // '') =~ /^([\d.]+)/;
	my $processors = () = (eval { slurp_file('/proc/cpuinfo') } // '') =~ /^processor\b/mg;

	1 while clock() - $own_start < 0.2;
	return max((time - $start) / (clock() - $own_start), ($load || 0) / ($processors || 1));
}

# How long a process has computed, in seconds: what it takes by the clock on the wall depends on
# what else the machine does.
sub cpu_seconds
{
	my ($pid) = @_;
	my @fields = split ' ', slurp_file("/proc/$pid/stat") =~ s/^.*\) //r;

	return ($fields[11] + $fields[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# kB of a process's own memory: now, and at the most.
sub own_memory
{
	my ($pid) = @_;
	my %kb = slurp_file("/proc/$pid/status") =~ /^(\w+):\s+(\d+) kB/mg;

	return ($kb{VmRSS} - $kb{RssShmem}, $kb{VmHWM} - $kb{RssShmem});
}

# It took less than that, as it does on a machine that does nothing else.
sub is_quick
{
	my ($seconds, $limit, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return ok($seconds < $limit || $seconds < $limit * slowness(), $name)
	  || diag(sprintf 'it took %.3f s, and %g s are allowed on a machine that does nothing else', $seconds, $limit);
}

# ---- databases ----

# A table whose rows' trigger waits until `released` has a row.
our $slow_target = q{
	CREATE TABLE slow (n int);
	CREATE TABLE released (at timestamptz DEFAULT now());
	CREATE FUNCTION wait_for_release() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM released) LOOP
			PERFORM pg_sleep(0.02);
		END LOOP;
		RETURN NEW;
	END $$;
	CREATE TRIGGER wait_for_release BEFORE INSERT ON slow
		FOR EACH ROW EXECUTE FUNCTION wait_for_release();
};

# A database to copy others from: with the extension, a table t, and a table slow
# whose trigger waits until table released has a row.
sub create_model_database
{
	my ($node, $name) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql(
		$name, q{
		CREATE EXTENSION persist_pipeline;
		CREATE TABLE t (n int);
	} . $slow_target);
	return;
}

sub create_database
{
	my ($dbh, $name, $model) = @_;

	# file_copy, the other way, makes two checkpoints
	$dbh->do("CREATE DATABASE $name TEMPLATE $model"
		  . ($dbh->{pg_server_version} >= 150000 ? ' STRATEGY wal_log' : ''));
	return;
}

# The extension's own tables refuse every write by SQL; a test that damages rows is
# allowed to write to these.
sub open_guards
{
	my ($dbh, @tables) = @_;

	$dbh->do("ALTER TABLE persist_pipeline_internal.$_ DISABLE TRIGGER USER") foreach @tables;
	return;
}

# ---- processes ----

sub worker_pid
{
	my ($node, $database) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'"
		  . " AND datname = '" . ($database || 'postgres') . "'");
}

# Undefined if it isn't there, or nobody can ask just now.
sub launcher_pid
{
	my ($node) = @_;
	my ($failed, $pid) = $node->psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'persist_pipeline launcher'");

	return $failed || $pid eq '' ? undef : $pid;
}

# Wait until the launcher is another process than this one; its pid.
sub wait_for_launcher
{
	my ($node, $old) = @_;

	foreach my $try (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $pid = launcher_pid($node);

		return $pid if defined $pid && $pid != ($old || 0);
		usleep(100_000);
	}
	die "no launcher";
}

# Wait until the database's worker is another process than this one; its pid.
sub wait_for_new_worker
{
	my ($node, $old, $database) = @_;

	$database ||= 'postgres';
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM persist_queue WHERE datname = '$database'"
		  . " AND worker_pid <> $old AND NOT ring_closed")
	  or die "no new worker for database \"$database\"";
	return $node->safe_psql('postgres',
		"SELECT worker_pid FROM persist_queue WHERE datname = '$database'");
}

sub wait_for_worker_state
{
	my ($dbh, $state, $database) = @_;

	wait_for_sql($dbh, "SELECT worker_state = ? FROM persist_queue WHERE datname = ?", $state, $database || 'postgres');
	return;
}

# A flush returns at the commit, and what has died is told of in the log before its process sleeps:
# wait until all of it is there.
sub wait_until_told
{
	my ($whom, $database) = @_;

	wait_until('what has died is told of',
		sub { (queue_value($whom, "worker_state <> 'writing' AND retrier_state <> 'writing'", $database) // '') =~ /^[t1]$/ });
	return;
}

# In a trigger, say.
sub wait_until_worker_sleeps
{
	my ($node) = @_;

	return $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND wait_event = 'PgSleep'");
}

# A column of persist_queue for this database.
sub queue_value
{
	my ($whom, $column, $database) = @_;

	return ask($whom, "SELECT $column FROM persist_queue WHERE datname = '" . ($database || 'postgres') . "'");
}

# Wait until a condition on persist_queue holds for this database.
sub wait_for_queue
{
	my ($node, $condition, $database) = @_;

	return $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM persist_queue WHERE datname = '"
		  . ($database || 'postgres') . "' AND ($condition)");
}

# The databases that have a ring.
sub rings
{
	my ($dbh) = @_;

	return one_value($dbh, "SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM persist_queue WHERE ring_size IS NOT NULL");
}

# The database of a node, or of a session.
sub flush
{
	my ($whom, $database) = @_;

	return ask($whom, "SELECT persist_flush('300 s')", $database) =~ /^[t1]$/;
}

# Wait until nothing is pending, parked items neither: persist_flush doesn't wait for
# those.  Then it has to say so.
sub drain
{
	my ($node, $database) = @_;

	flush($node, $database);
	return wait_for_queue($node, 'items_pending = 0', $database) && flush($node, $database);
}

# Commits that write WAL wait for a standby that doesn't exist, from when this
# returns.  It returns the session of the one that has shown it, hanging.  The
# server needs wal_level and max_wal_senders for it.
sub hang_commits
{
	my ($node) = @_;

	$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
	$node->reload;
	while (1)
	{
		my $dbh = connect_to($node);

		start_sql($dbh, "SELECT pg_logical_emit_message(true, 'test', '')");
		while (is_running($dbh))
		{
			return $dbh if is_hanging_in_commit($node, $dbh);
			usleep(10_000);
		}
		finish_sql($dbh);
		$dbh->disconnect;
	}
}

sub is_hanging_in_commit
{
	my ($node, $dbh) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $dbh->{pg_pid}") eq '1';
}

# Let them go.
sub release_commits
{
	my ($node, @hanging) = @_;

	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->reload;
	foreach my $dbh (@hanging)
	{
		finish_sql($dbh);
		$dbh->disconnect;
	}
	return;
}

# ---- the log ----

sub log_position
{
	my ($node) = @_;

	return -s $node->logfile;
}

# Lines of the log from a position on that match.
sub log_since
{
	my ($node, $position, $pattern) = @_;

	return grep { /$pattern/ } split /\n/, slurp_file($node->logfile, $position);
}

# What is above LOG from a position on, except lines that match one of these.  A session
# that is not quite gone, or not quite there, when its server stops is told so, and autovacuum
# when its server stops, its database has gone or somebody wants its table for himself: that is
# nobody's complaint.
sub complaints
{
	my ($node, $position, @provoked) = @_;
	my $stopping = 0;
	my @found;

	foreach my $line (log_since($node, $position, qr/(?:WARNING|ERROR|FATAL|PANIC):  |LOG:  (?:received \w+ shutdown request|starting PostgreSQL)/))
	{
		if ($line =~ /LOG:  (received|starting)/)
		{
			$stopping = $1 eq 'received';
			next;
		}
		next if $line =~ /autovacuum worker (?:3D000 FATAL:  database \d+ does not exist|57P01 FATAL:  terminating autovacuum process|57014 ERROR:  canceling autovacuum task)/;
		next if $stopping && $line =~ /client backend (?:57P01 FATAL:  terminating connection|57014 FATAL:  canceling authentication)/;
		push @found, $line if !grep { $line =~ $_ } @provoked;
	}
	return @found;
}

# ---- clients ----

# Fork so many processes and run the code in each, with its number from 1 on.
# Returns their pids; a child that dies has said why on stderr.
sub in_children
{
	my ($n, $code) = @_;
	my @pids;

	foreach my $number (1 .. $n)
	{
		my $pid = fork;

		die "could not fork: $!" if !defined $pid;
		if ($pid == 0)
		{
			my $ok = eval { $code->($number); 1 };

			print STDERR "client $number: $@" if !$ok;

			# not exit: the END blocks belong to the parent
			POSIX::_exit($ok ? 0 : 1);
		}
		push @pids, $pid;
	}
	return @pids;
}

# Wait for them; how many failed.
sub wait_for_children
{
	my $failed = 0;

	foreach my $pid (@_)
	{
		waitpid($pid, 0);
		$failed++ if $? != 0;
	}
	return $failed;
}

sub children_succeeded
{
	my ($name, @pids) = @_;

	is(wait_for_children(@pids), 0, $name);
	return;
}

# A library for LANGUAGE C, from a source that lies beside the tests.
sub build_library
{
	my ($source, $library) = @_;
	my ($headers) = `pg_config --includedir-server` =~ /(.*)/;

	system_or_bail('cc', '-shared', '-fPIC', '-O0', "-I$headers", '-o', "$library.so", "$FindBin::RealBin/$source");
	return;
}

1;
