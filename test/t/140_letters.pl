
# A letter is written whatever its row is: one whose values can't be shown as JSON, one that is
# too large for that.  It has the row's own error, and harms nobody else.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node(
	'letters',
	'persist_pipeline.flush_interval' => "'5ms'",
	'persist_pipeline.statement_timeout' => "'1s'",
	'persist_pipeline.misfit_timeout' => '0');
my $dbh = connect_to($node);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE gone;
	CREATE TABLE j (v json);
	GRANT INSERT ON j TO gone;
	GRANT EXECUTE ON FUNCTION persist_enqueue(record) TO gone;
	CREATE TABLE slow (n int);
	CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_sleep(100); RETURN NEW; END $$;
	CREATE TRIGGER dawdle BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION dawdle();
});

# ---- an error that is caught while a letter is written that nobody is to cancel

$dbh->do("SELECT persist_pause()");
$dbh->do("SET ROLE gone");
$dbh->do(q{SELECT persist_enqueue(ROW('{"a": "\u0000"}'::json)::j)});
$dbh->do("RESET ROLE");
$dbh->do("DROP OWNED BY gone");
$dbh->do("DROP ROLE gone");
$dbh->do("SELECT persist_resume()");
wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_dead_letters");
is(one_value($dbh, "SELECT sqlstate || ' ' || (item->>'v') FROM persist_dead_letters"),
	'42704 {"a": "\u0000"}', 'json that jsonb cannot hold is shown as a string');
my $worker = worker_pid($node);

$dbh->do(q{SELECT persist_enqueue('slow', '{"n": 1}')});
wait_for_sql($dbh, "SELECT EXISTS (SELECT FROM persist_dead_letters WHERE target = 'slow'::regclass)"
	  . " OR EXISTS (SELECT FROM persist_stats WHERE target = 'slow'::regclass AND parked_reason IS NOT NULL)");
is(one_value($dbh, "SELECT coalesce((SELECT sqlstate FROM persist_dead_letters WHERE target = 'slow'::regclass),"
	  . " (SELECT parked_reason FROM persist_stats WHERE target = 'slow'::regclass))"),
	'57014', 'after that, what takes too long is still cancelled');
is(worker_pid($node), $worker, 'by the same worker');
$dbh->do("DROP TABLE slow, j");
$dbh->do("SELECT persist_discard(array_agg(id)) FROM persist_dead_letters");

done_testing();
