
# Chaos.  Clients of several roles write into targets of every kind, good rows and bad
# ones, with savepoints and rollbacks (Producer.pm), while others do to the pipeline
# whatever they can (Chaos.pm).  Then it becomes quiet, and each item is asked what has
# become of it: what was acknowledged is there once, as its role, in its order, or it is bad,
# and a dead letter; the account says so.  At last the targets take what they have refused,
# and all letters that are sent again come, in the order in which they were enqueued.
#
# PP_CHAOS_SECONDS: of load (15), in each of PP_CHAOS_ROUNDS (1; a full run is 3 of 60),
# which have seeds and settings of their own; PP_SEED: the seed of the first.  This one is
# about stretches of random time, so it does sleep.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Chaos;
use PersistPipeline;
use Producer;
use Test::More;
use Torture;

my $seconds = $ENV{PP_CHAOS_SECONDS} || 15;
my $rounds = $ENV{PP_CHAOS_ROUNDS} || 1;
my $first_seed = $ENV{PP_SEED} || time % 100_000;
my $producers = 4;

# `ins` and `who` are given by the flush: the order in which rows were inserted, and by
# whom.
my $columns = 'sess int, role text, n int, bad int, pad text, ins bigint, who text';
my $schema = qq{
	CREATE SEQUENCE ins;
	GRANT ALL ON SEQUENCE ins TO PUBLIC;
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
	\$\$ BEGIN NEW.ins := nextval('public.ins'); NEW.who := current_user; RETURN NEW; END \$\$;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	\$\$ BEGIN IF NEW.bad = 1 THEN RAISE 'bad'; END IF; RETURN NULL; END \$\$;
	CREATE TABLE checked ($columns, CONSTRAINT good CHECK (bad = 0));
	CREATE TABLE triggered ($columns);
	CREATE TRIGGER refuse AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION refuse();
	CREATE TABLE deferred ($columns);
	CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION refuse();
	CREATE TABLE parent ($columns, id text PRIMARY KEY, CONSTRAINT good CHECK (bad = 0));
	GRANT SELECT ON parent TO PUBLIC;
	CREATE TABLE child ($columns, parent text REFERENCES parent);
	CREATE TABLE divided ($columns) PARTITION BY LIST (bad);
	CREATE TABLE divided_0 PARTITION OF divided FOR VALUES IN (0);
	CREATE TABLE big ($columns, CONSTRAINT good CHECK (bad = 0));
	CREATE UNLOGGED TABLE unlogged ($columns, CONSTRAINT good CHECK (bad = 0));

	-- parents that were locked; letters that were sent again
	CREATE TABLE locked_parents (parent text);
	CREATE TABLE been_dead (dead_id bigint, cause text);

	-- what the clients saw.  outcome: a(cknowledged), r(olled back), d(oubtful: the
	-- session broke in the COMMIT)
	CREATE TABLE seen (sess int, tx int, began float8, target text, role text, n int, bad int, parent text, id bigint, outcome "char");
} . join('', map { "
	CREATE TRIGGER note BEFORE INSERT ON $_ FOR EACH ROW EXECUTE FUNCTION note();
	GRANT INSERT ON $_ TO anna, ben, cleo;"
} @targets) . q{
	CREATE VIEW landed AS } . join(' UNION ALL ', map { "SELECT '$_' AS target, sess, role, n, bad, ins, who FROM $_" } @targets) . q{;
	CREATE VIEW letters AS
	SELECT replace(target_name, 'public.', '') AS target, (item->>'sess')::int AS sess, item->>'role' AS role, (item->>'n')::int AS n, id, sqlstate, message
	FROM persist_dead_letters;
};

# What becomes of the items: rows and letters are how many there are.  A child is bad, too,
# if its parent is, or was not committed.
my $fate = q{
	CREATE TABLE fate AS
	WITH items AS (
		SELECT seen.*, coalesce(rows, 0) AS rows, ins, who, coalesce(letters, 0) AS letters, letter, why
		FROM seen
		LEFT JOIN (SELECT target, sess, role, n, count(*) AS rows, min(ins) AS ins, min(who) AS who
		           FROM landed GROUP BY 1, 2, 3, 4) AS r USING (target, sess, role, n)
		LEFT JOIN (SELECT target, sess, role, n, count(*) AS letters, min(id) AS letter, min(concat_ws(' ', sqlstate, message)) AS why
		           FROM letters GROUP BY 1, 2, 3, 4) AS l USING (target, sess, role, n))
	SELECT i.*, i.bad = 1 OR (i.target = 'child' AND (p.bad = 1 OR p.rows = 0)) AS is_bad
	FROM items AS i
	LEFT JOIN items AS p ON p.target = 'parent' AND i.parent = concat_ws('-', p.sess, p.role, p.n);
	ANALYZE fate;
};

my ($node, $name, $dbh);

# ---- checks

# A query that has to find nothing; what it finds is named.
sub none
{
	my ($what, $sql) = @_;

	finds_nothing($dbh, "$name: $what", $sql);
	return;
}

my $item = "target, 'of', sess, role, n, 'tx', tx, 'id', id";

# Of what is there and meets the condition nothing comes after what was enqueued later.
sub in_order
{
	my ($what, $condition) = @_;

	none($what,
		"SELECT $item, 'is', ins, 'after', later, 'parent', parent
		 FROM (SELECT *, min(ins) OVER (PARTITION BY target, sess, role ORDER BY n ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS later
		       FROM fate WHERE rows > 0 AND $condition) AS f
		 WHERE ins > later");
	return;
}

sub becomes_quiet
{
	my ($when) = @_;
	my $quiet = eval { wait_for_sql($dbh, "SELECT coalesce(bool_and(pending = 0 AND parked_reason IS NULL), true) FROM persist_stats") };

	ok($quiet, "$name: $when: nothing waits any more")
	  or diag(join "\n", rows_of($dbh, "SELECT target_name, pending, parked, parked_reason FROM persist_stats WHERE pending > 0"));
	is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, "$name: $when: flushed");
	is(one_value($dbh, "SELECT format('%s %s %s %s', items_pending, items_parked, journal_bytes, ring_used) FROM persist_queue"),
		'0 0 0 0', "$name: $when: nothing is held");
	none("$when: nothing is left in our tables",
		join ' UNION ALL ', map { "SELECT '$_', pos FROM persist_pipeline_internal.persist_$_" } qw(parked journal_1 journal_2 journal_3));
	return $quiet;
}

sub load_what_was_seen
{
	copy_seen($dbh, $node, $producers, 'seen');
	$dbh->do($fate);
	return;
}

sub check_items
{
	my ($last_crash) = @_;

	none('every acknowledged item is there, or dead',
		"SELECT $item FROM fate WHERE outcome = 'a' AND rows + letters = 0 AND (target <> 'unlogged' OR began > $last_crash)");
	none('none is there twice', "SELECT $item, rows, letters FROM fate WHERE rows + letters > 1");
	none('none is there that was rolled back', "SELECT $item FROM fate WHERE outcome = 'r' AND rows + letters > 0");
	none('nothing else is there',
		q{SELECT target, sess, role, n FROM landed EXCEPT SELECT target, sess, role, n FROM seen});
	none('nothing else is dead', q{SELECT target, sess, role, n FROM letters EXCEPT SELECT target, sess, role, n FROM seen});
	none('what was cut off in its COMMIT is there as a whole, or not at all',
		q{SELECT sess, tx, sum(rows + letters) FROM fate WHERE outcome = 'd' AND target <> 'unlogged' GROUP BY sess, tx
		  HAVING min(rows + letters) <> max(rows + letters)});
	none('each is of its role', "SELECT $item, 'by', who FROM fate WHERE who <> role");
	none('only bad ones are dead', "SELECT $item, parent, why FROM fate WHERE letters > 0 AND NOT is_bad");
	none('only bad ones have been dead', "SELECT DISTINCT $item, parent, cause FROM fate JOIN been_dead ON dead_id = id WHERE NOT is_bad");
	none('bad ones are not there', q{SELECT target, sess, role, n FROM landed WHERE bad <> 0});
	none('a letter has the id of its item', "SELECT $item, letter FROM fate WHERE letter <> id");

	# a bad one may have been a letter, and repaired; a child may have waited by itself, for
	# the row of its parent
	in_order('those of a session, role and target are in order', 'NOT is_bad AND NOT EXISTS (SELECT FROM locked_parents AS l WHERE l.parent = fate.parent)');
	return;
}

# Rows of "unlogged" go in a crash, and then nobody knows how many there were.  A target that
# nothing was committed for has no account.
sub check_account
{
	none('the account is that of what is there',
		q{SELECT s.* FROM
			(SELECT target, sum(rows) AS rows, sum(letters) AS letters, count(*) FILTER (WHERE outcome = 'a') AS certain,
			        count(*) FILTER (WHERE outcome IN ('a', 'd')) AS possible FROM fate GROUP BY target) AS f
		  FULL JOIN persist_stats AS s ON s.target_name = 'public.' || f.target
		  WHERE (CASE WHEN s.target IS NULL THEN f.target = 'unlogged' OR certain + rows + letters = 0
		         ELSE enqueued = persisted + dead AND skipped + discarded + lost + pending + parked = 0 AND dead = letters
		              AND (f.target = 'unlogged' OR persisted = rows AND enqueued BETWEEN certain AND possible) END) IS NOT TRUE});
	return;
}

# The targets take what they have refused, and the parents are there that were rolled back.
sub grant_amnesty
{
	$dbh->do($_) foreach (
		map({ "ALTER TABLE $_ DROP CONSTRAINT good" } qw(checked parent big unlogged)),
		map({ "DROP TRIGGER refuse ON $_" } qw(triggered deferred)),
		'CREATE TABLE divided_1 PARTITION OF divided FOR VALUES IN (1)',
		q{INSERT INTO parent (id) SELECT parent FROM fate WHERE letters > 0 AND parent IS NOT NULL
		  EXCEPT SELECT concat_ws('-', sess, role, n) FROM fate WHERE target = 'parent' AND rows + letters > 0},
		'ALTER TABLE fate RENAME TO fate_before',
		'SELECT persist_requeue()');
	return;
}

sub check_amnesty
{
	$dbh->do($fate);
	none('amnesty: no letters are left', q{SELECT * FROM letters});
	none('amnesty: all are there that were dead, once, as their roles',
		"SELECT $item, rows, who FROM fate WHERE id IN (SELECT id FROM fate_before WHERE letters > 0) AND (rows, who) IS DISTINCT FROM (1, role)");
	in_order('amnesty: those that were dead are in order',
		"id IN (SELECT id FROM fate_before WHERE letters > 0)");
	return;
}

# What clients are told depends on what was done to them.
sub is_clean_log
{
	is_deeply(
		[
			grep { /persist_pipeline/ } complaints(
				$node, 0,
				qr/persist_pipeline (?:worker|retrier) \w+ WARNING:  .* could not be inserted/,
				qr/persist_pipeline (?:worker|retrier) 01000 WARNING:  .* was forced to stop/,
				qr/persist_pipeline (?:worker|retrier) 57014 ERROR:  canceling statement due to user request/,
				qr/\[\d+\] client backend/)
		],
		[],
		"$name: the pipeline's processes say nothing above LOG that was not provoked");
	is_deeply([ log_since($node, 0, qr/TRAP:|terminated by signal (?!9:)/) ], [], "$name: nothing has crashed but what was killed");
	return;
}

sub pick { return $_[ rand @_ ]; }

sub play_round
{
	my ($seed) = @_;

	$name = "seed $seed";
	note "$name: PP_SEED=$seed PP_CHAOS_SECONDS=$seconds";
	srand($seed);
	$node = pp_node(
		"chaos_$seed",
		'persist_pipeline.batch_size' => pick(20, 100, 400),
		'persist_pipeline.flush_interval' => "'10ms'",
		'persist_pipeline.lock_timeout' => "'100ms'",
		'persist_pipeline.misfit_timeout' => "'1h'",
		'persist_pipeline.ring_size' => pick("'256kB'", "'1MB'"),
		'persist_pipeline.shutdown_timeout' => "'1s'",
		'persist_pipeline.transaction_buffer' => "'64kB'",
		deadlock_timeout => "'200ms'",
		restart_after_crash => 'on');
	$dbh = connect_when_up($node);
	$dbh->do("CREATE ROLE $_") foreach @roles;
	$dbh->do($schema);
	$dbh->do("GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO PUBLIC");
	$dbh->disconnect;

	my @pids = in_children($producers, sub { produce($node, $seconds, $seed, @_); });
	my $last_crash = chaos($node, $seconds);

	children_succeeded("$name: clients", @pids);
	$dbh = connect_when_up($node);
	my $quiet = becomes_quiet('peace');
	load_what_was_seen();
	check_items($last_crash);
	check_account();
	if ($quiet)
	{
		grant_amnesty();
		becomes_quiet('amnesty');
		check_amnesty();
	}
	$dbh->disconnect;
	is_clean_log();
	$node->stop;
	return;
}

foreach my $round (0 .. $rounds - 1)
{
	play_round($first_seed + $round);
}
done_testing();
