
# Rows that wait in the extension's own tables and are not as they were written: as a
# superuser, with the guards off, bits and bytes are changed, data is cut or made longer,
# columns get other values, rows swap theirs, go, or come twice.  Whatever it is, the server
# stands, nothing hangs, a target gets no row that nobody enqueued, in nobody's name but the
# enqueuer's, and none twice; and what was not touched lands.
#
# PP_MUTATIONS: so many (60; a full run is 2,000).  PP_SEED: of what happens.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use DBD::Pg qw(:pg_types);
use Digest::MD5 qw(md5_hex);
use List::Util qw(max shuffle sum0);
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use constant {
	AT_ONCE => 6,            # mutations in a round
	MAX_SECONDS => 60,       # until all that waits is seen to
	MAX_LINES => 100,        # of the log, in a round
	ABSURD => 1_000_000,     # more than all items of this test
	LARGEST => '9223372036854775807',
};

my $mutations = $ENV{PP_MUTATIONS} || 60;
my $seed = $ENV{PP_SEED} || time % 100_000;

srand $seed;
note("PP_SEED=$seed PP_MUTATIONS=$mutations");

my $internal = 'persist_pipeline_internal';
my @journals = map {"persist_journal_$_"} 1 .. 3;
my @targets = qw(small other called);
my $node = pp_node(
	'mutations',
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.lock_timeout' => "'50ms'",
	'persist_pipeline.misfit_timeout' => 0,
	autovacuum => 'off',
	restart_after_crash => 'on');

# What `gate` says happens to rows: 'park' and 'die' where they are inserted, 'call' where
# they are enqueued.  `who` is given by the insert.
my $columns = 'key text, role text, n numeric, a int[], pad text, who text';

$node->safe_psql(
	'postgres', qq{
	CREATE ROLE anna LOGIN;
	CREATE ROLE ben LOGIN;
	SELECT persist_grant(r) FROM unnest('{anna,ben}'::regrole[]) AS r;
	CREATE TABLE gate (how text);
	GRANT SELECT ON gate TO PUBLIC;
	CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		CASE (SELECT how FROM public.gate)
			WHEN 'park' THEN RAISE object_in_use;
			WHEN 'die' THEN RAISE check_violation;
			ELSE NEW.who := current_user;
		END CASE;
		RETURN NEW;
	END \$\$;
	CREATE FUNCTION may_be_called() RETURNS boolean LANGUAGE plpgsql AS \$\$
	BEGIN RETURN NOT EXISTS (SELECT FROM public.gate WHERE how = 'call'); END \$\$;
	CREATE DOMAIN callable AS text CHECK (may_be_called());
	CREATE TABLE small ($columns);
	CREATE TABLE other ($columns);
	CREATE TABLE called ($columns);
	ALTER TABLE called ALTER pad TYPE callable;
	SELECT persist_configure('called', bad_items => 'dead');
	CREATE TABLE wake ();
	CREATE TABLE nobodys ($columns);
	CREATE INDEX nobodys_key ON nobodys (key);

	CREATE TABLE sent (target text, key text, role text, n numeric, a int[], pad text);
	CREATE VIEW landed AS
} . join(' UNION ALL ', map {"SELECT '$_' AS target, key, role, n, a, pad::text, who FROM $_"} @targets, 'nobodys')
	  . ';' . join '', map {
	"GRANT INSERT ON $_ TO anna, ben;
	CREATE TRIGGER gate BEFORE INSERT ON $_ FOR EACH ROW EXECUTE FUNCTION gate();"
} @targets);

my $library = $node->basedir . '/damage';
my ($headers) = `pg_config --includedir-server` =~ /(.*)/;

system_or_bail('cc', '-shared', '-fPIC', '-O1', "-I$headers", '-o', "$library.so", "$FindBin::RealBin/damage.c");
$node->safe_psql('postgres',
	"CREATE FUNCTION damage(oid, tid, int, bytea) RETURNS boolean LANGUAGE C STRICT AS '$library', 'damage'");

my $dbh = connect_to($node);
my $locker = connect_to($node);
my %session = map { $_ => connect_to($node, 'postgres', user => $_) } qw(anna ben);
my $superuser = one_value($dbh, 'SELECT current_user');
my @oids = map { one_value($dbh, "SELECT '$_'::regclass::oid") } @targets, 'nobodys', 'nobodys_key', 'pg_class';
my @roles = map { one_value($dbh, "SELECT '$_'::regrole::oid") } qw(anna ben), $superuser;
my $started = one_value($dbh, 'SELECT pg_postmaster_start_time()');
my $key = 0;
my %count;

$session{$superuser} = connect_to($node);
open_guards($dbh, @journals, qw(persist_parked persist_dead_letters persist_copied));
$dbh->do("INSERT INTO gate VALUES ('open')");
enqueue(@targets);
ok(flush($node), 'flushed: there is a worker');
clean_up([]);

sub one_of
{
	return $_[ rand @_ ];
}

# ---- what is enqueued

# An item; most are small, some need rows of their own, or several.
sub make_item
{
	my ($role, $size) = @_;
	my $pad = md5_hex(++$key) x ($size / 32);

	return {
		key => sprintf('key%08d', $key),
		role => $role,
		n => int(rand 1e9) / 1000,
		a => [ map { int rand 100 } 1 .. rand 4 ],
		pad => $pad,
	};
}

sub json_of
{
	my ($item) = @_;

	return sprintf '{"key": "%s", "role": "%s", "n": %s, "a": [%s], "pad": "%s"}',
	  @$item{qw(key role n)}, join(',', @{ $item->{a} }), $item->{pad};
}

# Transactions of several shapes and roles.  Returns the items' keys.
sub enqueue
{
	my @into = @_;
	my @keys;

	foreach my $n (shuffle(1, 1, 3, 3, 40, 5))
	{
		my $role = one_of(keys %session);
		my $session = $session{$role};

		$session->begin_work;
		foreach my $call (1 .. int(1 + rand 2))
		{
			my $target = one_of(@into);
			my @sizes = $n == 5 ? (9_000, 40_000) : $n == 3 ? (0, 2_500) : (0, 100);
			my @items = map { make_item($role, one_of(@sizes)) } 1 .. $n;
			my $json = '[' . join(', ', map { json_of($_) } @items) . ']';

			$dbh->do(
				'INSERT INTO sent SELECT ?, i.* FROM jsonb_to_recordset(?)'
				  . ' AS i (key text, role text, n numeric, a int[], pad text)',
				undef, $target, $json);
			$session->do('SELECT persist_enqueue_many(?::regclass, ?::jsonb)', undef, $target, $json);
			push @keys, map { $_->{key} } @items;
		}
		$session->commit;
	}
	return @keys;
}

# ---- the rows that are there

# Rows of these tables.  Those of one record belong together: what happens to one of them
# may happen to all items that are in it.
sub read_rows
{
	my ($order, @tables) = @_;
	my @rows;
	my $group = 0;

	foreach my $table (@tables)
	{
		my $found = $dbh->selectall_arrayref("SELECT *, ctid FROM $internal.$table ORDER BY $order", { Slice => {} });

		foreach my $columns (@$found)
		{
			my $row = { table => $table, ctid => delete $columns->{ctid}, columns => $columns, group => $group };

			$row->{keys} = [ ($columns->{data} // $columns->{item} // '') =~ /key\d{8}/g ];
			push @rows, $row;
			# the second byte of its header: the record goes on in the next row
			$group++ if $table eq 'persist_dead_letters' || substr($columns->{data}, 1, 1) eq "\0";
		}
	}
	return @rows;
}

sub keys_of
{
	my ($row) = @_;
	my $name = join ' ', grep { defined } @$row{qw(table ctid)}, @{ $row->{columns} }{qw(pos part)};

	return map { { key => $_, row => $name } } @{ $row->{keys} };
}

# ---- mutations; each returns what it has done, or nothing

sub update
{
	my ($row, %values) = @_;
	my @names = sort keys %values;
	my $update = $dbh->prepare("UPDATE $internal.$row->{table} SET "
		  . join(', ', map {"$_ = ?"} @names)
		  . ' WHERE ctid = ? RETURNING ctid');

	foreach my $i (0 .. $#names)
	{
		$update->bind_param($i + 1, $values{ $names[$i] }, $names[$i] eq 'data' ? { pg_type => PG_BYTEA } : ());
	}
	$update->bind_param(@names + 1, $row->{ctid});
	$update->execute;
	($row->{ctid}) = $update->fetchrow_array;
	@{ $row->{columns} }{@names} = @values{@names};
	$row->{changed} = 1;
	return;
}

sub change_data
{
	my ($row) = @_;
	my $data = $row->{columns}{data};
	my $length = length($data // '');
	my $at = $length > 0 ? int rand one_of($length, $length, 12, 80) : 0;

	return if !$length;
	$at = $length - 1 if $at >= $length;
	my $what = one_of(
		"bit $at",
		"byte $at",
		"zeros at $at",
		"cut at $at",
		"longer",
		"16 bytes at $at",
		"without the first $at");

	substr($data, $at, 1) ^= chr(1 << rand 8) if $what =~ /^bit/;
	substr($data, $at, 1) = chr rand 256 if $what =~ /^byte/;
	substr($data, $at, 8) = "\0" x 8 if $what =~ /^zeros/;
	substr($data, $at) = '' if $what =~ /^cut/;
	$data .= join '', map { chr rand 256 } 1 .. one_of(1, 8, 64) if $what eq 'longer';
	substr($data, $at, 16) = join '', map { chr rand 256 } 1 .. 16 if $what =~ /^16/;
	substr($data, 0, $at) = '' if $what =~ /^without/;
	update($row, data => $data);
	return "data: $what";
}

# Values that a column may be given; of all of these tables.
sub values_of
{
	my ($column) = @_;
	my @numbers = (0, 1, -1, 42);

	return (@numbers, LARGEST, '-' . LARGEST) if $column =~ /^(?:pos|id|.*checksum)$/;
	return (@numbers, 2_147_483_647, -2_147_483_648, 65_535) if $column =~ /^(?:part|attempts)$/;
	return (0, 1, 4_294_967_295, @roles) if $column eq 'role';
	return (0, 1, 5, 4_294_967_295) if $column eq 'database';
	return (0, 1, 4_294_967_295, @oids) if $column eq 'target';
	return ('infinity', '-infinity', '2000-01-01', '1970-01-01', '294276-01-01') if $column =~ /_at$|_since$/;
	return ('', 'anna', 'ben', $superuser, undef) if $column eq 'role_name';
	return (undef, '{}', '[]', '1', '{"key": "key00000000", "nothing": 1}') if $column eq 'item';
	return ('', 'public.nobodys', '23514');
}

# One that is there, in a row with so many columns.
sub column_of
{
	my ($row) = @_;

	return one_of(sort keys %{ $row->{columns} });
}

sub change_column
{
	my ($row) = @_;
	my $column = column_of($row);
	my $value;

	return change_data($row) if $column eq 'data';
	$value = one_of(values_of($column));
	update($row, $column => $value);
	return "$column: " . ($value // 'NULL');
}

# Some values of a row belong to each other, also in the eyes of who checks them.
sub swap
{
	my ($row, $with) = @_;
	my @columns = (column_of($row));

	return if $row == $with;
	push @columns, column_of($row) if rand > 0.5;
	@columns = qw(data data_checksum) if exists $row->{columns}{checksum} && rand > 0.7;
	@columns = qw(item item_checksum) if exists $row->{columns}{checksum} && rand > 0.7;
	my %ours = map { $_ => $row->{columns}{$_} } @columns;
	my %theirs = map { $_ => $with->{columns}{$_} } @columns;

	update($row, %theirs);
	update($with, %ours);
	return 'swapped: ' . join ' and ', sort keys %ours;
}

sub delete_row
{
	my ($row) = @_;

	$dbh->do("DELETE FROM $internal.$row->{table} WHERE ctid = ?", undef, $row->{ctid});
	$row->{ctid} = undef;
	return 'deleted';
}

sub duplicate
{
	my ($row) = @_;
	my $to = $row->{table} =~ /journal/ ? one_of(@journals) : $row->{table};

	# what is damaged, and repaired later, comes as well, when nobody knows its copy any more
	return if $row->{changed};
	$dbh->do("INSERT INTO $internal.$to SELECT * FROM $internal.$row->{table} WHERE ctid = ?", undef, $row->{ctid});
	$row->{ctid} = undef;
	return "doubled in $to";
}

# Bytes of a row change where it is, in its columns or in its data: its place in the ring's
# entry is still right.
sub damage
{
	my ($row) = @_;
	my $size = 8 + 4 + 4 + 8;
	my $length = length $row->{columns}{data};
	my $at = one_of(0, 1) ? int rand $size : $size + 4 + int rand one_of($length, 12, 80);
	my $bytes = join '', map { chr rand 256 } 1 .. one_of(1, 1, 4, 16);
	my $call = $dbh->prepare("SELECT damage('$internal.$row->{table}'::regclass, ?::tid, $at, ?)");

	$bytes = one_of("\0" x 8, "\0" x 4) if rand > 0.8;
	# not what says how long the data is: that would be a broken page
	return if $at < $size && $at + length($bytes) > $size;
	$call->bind_param(1, $row->{ctid});
	$call->bind_param(2, $bytes, { pg_type => PG_BYTEA });
	$call->execute;
	return ($call->fetchrow_array)[0] ? sprintf('%d bytes at %d, where it is', length $bytes, $at) : undef;
}

my @kinds = (\&change_data, \&change_data, \&change_column, \&change_column, \&swap, \&delete_row, \&duplicate);

# Do so much to the rows.  Returns what, in words, and which rows of records are touched.
sub mutate
{
	my ($n, $rows, %option) = @_;
	my (@done, %touched);

	for (my $tries = 0; @done < $n && $tries < 10 * $n; $tries++)
	{
		my @left = grep { defined $_->{ctid} } @$rows;
		my ($row, $with) = (one_of(@left), one_of(@left));
		my $kind = one_of($option{kinds} ? @{ $option{kinds} } : @kinds);
		my $what;

		last if !@left;
		# what a column can't take is no mutation
		my @before = map { { %$_, columns => { %{ $_->{columns} } } } } $row, $with;
		$dbh->begin_work;
		$what = eval { $kind->($row, $with) };
		if (!defined $what)
		{
			$dbh->rollback;
			%$row = %{ $before[0] };
			%$with = %{ $before[1] };
			next;
		}
		$dbh->commit;
		$touched{ $row->{group} } = 1;
		$touched{ $with->{group} } = 1 if $kind == \&swap;
		push @done, sprintf '%s (pos %s, part %s): %s', @$row{qw(table)}, @{ $row->{columns} }{qw(pos part)}, $what;
	}
	return (\@done, \%touched);
}

# ---- what has to hold

# Of numbers that are shown, none is absurd.
sub absurd
{
	my $sql = join ' UNION ALL ',
	  (map {"SELECT '$_', $_ FROM persist_queue WHERE datname = 'postgres'"}
		  qw(items_pending items_parked items_persisted items_failed journal_bytes ring_used items_copied)),
	  (map {"SELECT '$_ of ' || target, $_ FROM persist_stats"}
		  qw(enqueued persisted skipped dead discarded lost pending parked batches errors));

	return map {"$_->[0] is $_->[1]"}
	  grep { defined $_->[1] && ($_->[1] < 0 || $_->[1] > ($_->[0] =~ /bytes|ring/ ? 1_000 : 1) * ABSURD) } @{ $dbh->selectall_arrayref($sql) };
}

# Has everything been seen to?  What is paused, or in a table and isn't looked for, comes
# with a pass.
sub becomes_quiet
{
	my ($problems) = @_;
	my $deadline = time + MAX_SECONDS;
	my $waits = '';

	foreach my $pass (1 .. 2)
	{
		$dbh->do('SELECT persist_pause()');
		if ($pass == 2
			&& ($waits =~ / [1-9]\d* in the tables/ || one_value($dbh, "SELECT count(*) FROM $internal.persist_copied") > 0))
		{
			# what is parked for others now is found by the next worker; and rows in which no
			# item begins, which persist_resume() may have put back, by the next pass, which the
			# entry of an item makes necessary that isn't where it was
			$dbh->do("SELECT pg_terminate_backend(worker_pid) FROM persist_queue WHERE datname = 'postgres'");
			$dbh->do("SELECT persist_enqueue('wake'::regclass, '{}')");
			$dbh->do("VACUUM FULL $internal.$_") foreach @journals;
		}
		$dbh->do('SELECT persist_resume()');
		while (1)
		{
			my $flushed = one_value($dbh, "SELECT persist_flush('5 s')");
			my @absurd = absurd();

			push @$problems, @absurd if @absurd;
			($waits) = $dbh->selectrow_array(
				"SELECT format('%s pending, %s in the account, %s in the tables', items_pending,
				               (SELECT sum(pending) FROM persist_stats),"
				  . join(' + ', map {"(SELECT count(*) FROM $internal.$_)"} @journals, 'persist_parked')
				  . ") FROM persist_queue WHERE datname = 'postgres'");
			last if $flushed && $waits =~ /^0 .* 0 .* 0 /;
			last if $pass == 1 && $flushed && $waits =~ /^0 pending/;
			last if @absurd || time > $deadline;
			usleep(20_000);
		}
	}
	push @$problems, "not quiet after ${\MAX_SECONDS} s: $waits" if $waits !~ /^0 .* 0 .* 0 /;
	return;
}

# The items of the round: what landed is what was sent, and what had to is there.
sub check_rows
{
	my ($problems, @safe) = @_;
	my %landed = map { $_ => 1 } map { $_->[0] } @{ $dbh->selectall_arrayref('SELECT key FROM landed') };

	push @$problems, map {"nobody enqueued: $_"} rows_of($dbh, 'SELECT target, key, role FROM landed EXCEPT SELECT target, key, role FROM sent');
	push @$problems, map {"not as it was: $_"} rows_of(
		$dbh,
		'SELECT l.target, key, l.role = s.role, l.n = s.n, l.a = s.a, length(l.pad), length(s.pad) FROM landed AS l JOIN sent AS s USING (target, key)'
		  . ' WHERE (l.role, l.n, l.a, l.pad) IS DISTINCT FROM (s.role, s.n, s.a, s.pad)');
	push @$problems, map {"twice: $_"} rows_of($dbh, 'SELECT target, key, count(*) FROM landed GROUP BY 1, 2 HAVING count(*) > 1');
	push @$problems, map {"in another's name: $_"} rows_of($dbh, 'SELECT target, key, role, who FROM landed WHERE who IS DISTINCT FROM role');
	push @$problems, map {"not touched, and not there: $_->{key}, in row $_->{row}"} grep { !$landed{ $_->{key} } } @safe;
	return;
}

# ---- where rows wait

sub gate_is
{
	$dbh->do('UPDATE gate SET how = ?', undef, @_);
	return;
}

sub wait_for_waiting
{
	my ($condition) = @_;

	wait_for_sql($dbh, "SELECT $condition FROM persist_queue WHERE datname = 'postgres'");
	return;
}

# They are all in the journal, and a pass will find them.
sub in_paused_database
{
	my ($n) = @_;

	$dbh->do('SELECT persist_pause()');
	enqueue(qw(small other));
	wait_for_waiting("worker_state = 'paused'");    # and nobody has read them
	my @rows = read_rows('pos, part', @journals);
	my @mutated = mutate($n, \@rows);

	return (\@rows, @mutated);
}

# Entries of the ring say where they are.  What an UPDATE has moved is found by a later pass;
# so is a copy, when the other one has been applied: it is an item that waits, then, and that
# is not tried.
sub in_ring
{
	my ($n) = @_;

	$locker->begin_work;
	$locker->do("LOCK TABLE small, other, $internal.persist_parked IN SHARE MODE");
	enqueue(qw(small other));
	my @rows = read_rows('pos, part', @journals);
	my @mutated = mutate($n, \@rows, kinds => rand > 0.3 ? [ \&damage ] : [ grep { $_ != \&duplicate } @kinds ]);

	$locker->commit;
	return (\@rows, @mutated);
}

# A worker knows what is parked, or a new one looks for it.
sub in_parked_table
{
	my ($n) = @_;
	my $new_worker = rand > 0.5;

	gate_is('park');
	enqueue(qw(small other));
	wait_for_waiting('items_parked = items_pending AND items_parked > 0');
	my @rows = read_rows('target, role, pos, part', 'persist_parked');
	my @mutated = mutate($n, \@rows);

	if ($new_worker)
	{
		my $pid = worker_pid($node);

		$dbh->do("SELECT pg_terminate_backend($pid)");
		wait_for_new_worker($node, $pid);
	}
	gate_is('open');
	return (\@rows, @mutated);
}

# They are sent again, all of them, and then by name those that are left.
sub in_dead_letters
{
	my ($n) = @_;

	gate_is('call');
	enqueue('called');
	gate_is('die');
	enqueue(qw(small other));
	wait_for_waiting('items_pending = 0');
	my @rows = read_rows('pos, part, id', 'persist_dead_letters');
	my @mutated = mutate($n, \@rows);

	gate_is('open');
	my $state = try_sql($dbh, 'SELECT persist_requeue()');
	push @{ $mutated[2] }, "persist_requeue(): SQLSTATE $state" if $state ne '00000';
	foreach my $id (@{ $dbh->selectcol_arrayref('SELECT id FROM persist_dead_letters') })
	{
		my $state = try_sql($dbh, 'SELECT persist_requeue(ARRAY[?::bigint])', $id);

		push @{ $mutated[2] }, "persist_requeue($id): SQLSTATE $state" if $state !~ /^(?:00000|XX001|42704|42P01|42809|22\w{3}|42703)$/;
	}
	return (\@rows, @mutated);
}

# What is damaged is put aside, or stays a letter: it comes back once more, and goes.
sub clean_up
{
	my ($problems) = @_;

	if (rand > 0.7)
	{
		$dbh->do('SELECT persist_resume()');
		becomes_quiet($problems);
	}
	$dbh->do('SELECT persist_discard()');
	discard_all($dbh);
	push @$problems, map {"left: $_"} rows_of($dbh, "SELECT 'copied', pos FROM $internal.persist_copied UNION ALL SELECT 'letter', id FROM persist_dead_letters");
	push @$problems, absurd();
	$dbh->do('SELECT persist_stats_reset()');
	$dbh->do('TRUNCATE sent, ' . join ', ', @targets, 'nobodys', 'wake');
	return;
}

# ---- the rounds

my @places = (\&in_paused_database, \&in_ring, \&in_parked_table, \&in_dead_letters);
my @names = ('the journal, paused', 'the journal, in the ring', 'the parked table', 'dead letters');
my ($left, $round, $failed) = ($mutations, int rand 4, 0);

sub play_round
{
	my ($place) = @_;
	my $from = log_position($node);
	my $began = time;
	my $persisted = one_value($dbh, 'SELECT coalesce(sum(persisted), 0) FROM persist_stats');
	my ($rows, $done, $touched, $problems) = $places[$place]->(List::Util::min($left, AT_ONCE));
	my @safe = map { keys_of($_) } grep { !$touched->{ $_->{group} } } @$rows;

	$problems //= [];
	becomes_quiet($problems);
	check_rows($problems, @safe);
	$persisted = one_value($dbh, 'SELECT sum(persisted) FROM persist_stats') - $persisted;
	push @$problems, "$persisted are counted as persisted" if $persisted != one_value($dbh, 'SELECT (SELECT count(*) FROM landed) + (SELECT count(*) FROM wake)');
	clean_up($problems);
	my @lines = log_since($node, $from, qr/ (?:LOG|WARNING|ERROR|FATAL|PANIC|DEBUG):  |TRAP/);

	push @$problems, scalar(@lines) . ' lines in the log, the last is ' . $lines[-1] if @lines > MAX_LINES;
	push @$problems, grep {/terminated by signal|PANIC:|TRAP:/} log_since($node, $from, qr/./);
	$count{'lines of the log'} = max($count{'lines of the log'} // 0, scalar @lines);
	$count{untouched} += @safe;
	$count{landed} += $persisted;
	$count{"seconds in $names[$place]"} += time - $began;
	return ($done, $problems);
}

while ($left > 0)
{
	my $place = $round++ % @places;
	my ($done, $problems) = eval { play_round($place) };

	if (!defined $done)
	{
		fail("$names[$place]: the round broke off");
		diag("PP_SEED=$seed: $@", join "\n", rows_of($dbh, 'SELECT * FROM persist_queue'));
		last;
	}
	$left -= max(1, scalar @$done);
	next if !@$problems;
	$failed++;
	fail("$names[$place]: mutations, and what came of them");
	diag(join "\n", "PP_SEED=$seed, $left mutations to go:", @$done, '--', grep { defined } @$problems[ 0 .. 9 ]);
	last if $failed >= 5;
}
is($failed, 0, "$mutations mutations: nothing that nobody enqueued, nothing twice, what was not touched lands");
note(join ', ', map {sprintf '%s: %.6g', $_, $count{$_}} sort keys %count);

# ---- the middle of an item that looks like another one

# What follows the header in rows of the journal that are there now, in their order.
sub waiting_bytes
{
	my ($sql, @values) = @_;

	$dbh->do($sql, undef, @values);
	return map { substr $_->[0], 12 } @{ $dbh->selectall_arrayref('SELECT data FROM ('
			  . join(' UNION ALL ', map {"SELECT * FROM $internal.$_"} @journals) . ') AS j ORDER BY pos, part') };
}

sub forget_waiting
{
	$dbh->do("DELETE FROM $internal.$_") foreach @journals;
	return;
}

gate_is('open');
$dbh->do('CREATE TABLE holder (data bytea)');
$dbh->do('SELECT persist_pause()');
{
	my ($item) = waiting_bytes(q{SELECT persist_enqueue('nobodys'::regclass, '{"key": "nobody_sent"}')});

	forget_waiting();
	$item =~ s/nobody_sent/forged_this/;
	my $holder = q{SELECT persist_enqueue('holder'::regclass, jsonb_build_object('data', '\x' || ?))};
	my ($first) = waiting_bytes($holder, unpack 'H*', 'begin' . 'x' x 12_000);
	my $begin = index $first, 'begin';

	forget_waiting();
	my @rows = waiting_bytes($holder, unpack 'H*', 'x' x (length($first) - $begin) . $item);
	is(substr($rows[1], 0, length $item), $item, 'forged: the second row of an item begins like another item');
	$dbh->do("DELETE FROM $internal.$_ WHERE part = 0") foreach @journals;
}
becomes_quiet(my $problems = []);
is_deeply($problems, [], 'forged: nothing waits any more');
is(one_value($dbh, 'SELECT count(*) FROM landed'), 0, 'forged: and it is none');
clean_up($problems);

# ---- and then

gate_is('open');
is(one_value($dbh, 'SELECT pg_postmaster_start_time()'), $started, 'the server has not been started anew');
is_deeply([ log_since($node, 0, qr/terminated by signal|PANIC:|TRAP:/) ], [], 'nor a process ended by a signal');
enqueue(@targets);
ok(flush($node), 'what is enqueued afterwards is flushed');
is(one_value($dbh, 'SELECT count(*) FROM sent LEFT JOIN landed USING (target, key, role, n, a, pad) WHERE who IS NULL'), 0, 'and lands');

$_->disconnect foreach values %session, $dbh, $locker;
$node->stop;
done_testing();
