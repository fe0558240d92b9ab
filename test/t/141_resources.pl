
# What is for a user's statements doesn't stop the worker: temp_file_limit, where a pass over
# the journal and a batch need more.  And where there is too little for a batch, there may be
# enough for a part of it.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node('resources', synchronous_commit => 'off', temp_file_limit => "'256kB'");
my $from = log_position($node);
my $dbh = connect_to($node);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice;
	CREATE TABLE t (n int, s text);
	GRANT INSERT ON t TO alice;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO alice;
	SELECT persist_configure('t', durability => 'journal');
});

# a pass over more rows than are sorted in memory
$dbh->do("SELECT persist_pause()");
$dbh->do("DO \$\$ BEGIN FOR i IN 1 .. 20000 LOOP"
	  . " PERFORM persist_enqueue('t'::regclass, jsonb_build_object('n', i)); COMMIT; END LOOP; END \$\$");
$dbh->do("SELECT persist_resume()");
ok(flush($node), 'flushed');
is(one_value($dbh, "SELECT count(*) FROM t"), 20_000, 'a pass needs more than temp_file_limit');

# a batch that doesn't fit into memory
$dbh->do("ALTER ROLE alice SET temp_file_limit = '64kB'");
$dbh->do("SELECT persist_pause()");
$dbh->do("SET ROLE alice");
$dbh->do("SELECT count(persist_enqueue('t'::regclass, jsonb_build_object('n', n, 's', repeat('x', 9000)))) FROM generate_series(1, 300) AS n")
  foreach 1 .. 4;
$dbh->do("RESET ROLE");
$dbh->do("SELECT persist_resume()");
ok(flush($node), 'flushed');
is(one_value($dbh, "SELECT count(*) FROM t WHERE s IS NOT NULL"), 1200, 'a batch needs more than the role may have');
is(scalar(log_since($node, $from, qr/53400/)), 0, 'nothing has had to wait');

# code that may use too little for a whole batch
$node->safe_psql(
	'postgres', q{
	CREATE TABLE sorted (n int, s text);
	CREATE FUNCTION sort() RETURNS trigger LANGUAGE plpgsql
	SET temp_file_limit = '1MB' SET work_mem = '64kB' AS $$
	BEGIN
		PERFORM * FROM (SELECT n, s FROM new_rows ORDER BY s OFFSET 0) AS o;
		RETURN NULL;
	END $$;
	CREATE TRIGGER sort AFTER INSERT ON sorted REFERENCING NEW TABLE AS new_rows
		FOR EACH STATEMENT EXECUTE FUNCTION sort();
	SELECT count(persist_enqueue('sorted', jsonb_build_object('n', n, 's', repeat('x', 1900) || n)))
	FROM generate_series(1, 1500) AS n;
});
ok(drain($node), 'drained');
is(one_value($dbh, "SELECT count(*) FROM sorted"), 1500, 'a batch that is too large is written in parts');
is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), 0, 'and nothing has died');
$dbh->disconnect;
$node->stop;

# More locks than there are for the rows of one transaction, each in a partition of its own:
# then it takes several.
$node = pp_node('locks', max_locks_per_transaction => 10, max_connections => 20, autovacuum => 'off');
$node->safe_psql('postgres', "CREATE TABLE p (d int) PARTITION BY LIST (d)");
foreach my $fifty (0 .. 11)
{
	$node->safe_psql('postgres',
		    "DO \$\$ BEGIN FOR i IN $fifty * 50 .. $fifty * 50 + 49 LOOP"
		  . " EXECUTE format('CREATE TABLE p%s PARTITION OF p FOR VALUES IN (%s)', i, i); END LOOP; END \$\$");
}
$dbh = connect_to($node);
$dbh->do("SELECT count(persist_enqueue('p'::regclass, jsonb_build_object('d', g % 600))) FROM generate_series(1, 1800) AS g");
# the worker may hold all the locks that there are, so that nobody else can do anything
ok(eval { wait_until('flushed', sub { eval { one_value($dbh, "SELECT persist_flush('300 s')") } }) }, 'locks: flushed');
is(one_value($dbh, "SELECT format('%s %s %s', persisted, dead, parked) FROM persist_stats"), '1800 0 0', 'locks: all have landed');
like($node->safe_psql('postgres', join('; ', map { "SELECT count(*) FROM p$_" } 0, 299, 599)), qr/^3\n3\n3$/, 'locks: where they belong');
$dbh->disconnect;
$node->stop;

done_testing();
