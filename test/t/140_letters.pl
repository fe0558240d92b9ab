
# A letter is written whatever its row is: one whose values can't be shown as JSON, one that is
# too large for that.  It has the row's own error, and harms nobody else.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'letters',
	'persist_pipeline.flush_interval' => "'5ms'",
	'persist_pipeline.statement_timeout' => "'1s'",
	'persist_pipeline.misfit_timeout' => '0');
my $dbh = connect_to($node);
my $library = $node->basedir . '/slow_output';

build_library('slow_output.c', $library);
$node->safe_psql(
	'postgres', qq{
	CREATE TYPE endless;
	CREATE FUNCTION slow_in(cstring) RETURNS endless LANGUAGE C IMMUTABLE STRICT AS '$library', 'slow_in';
	CREATE FUNCTION slow_out(endless) RETURNS cstring LANGUAGE C IMMUTABLE STRICT AS '$library', 'slow_out';
	CREATE TYPE endless (INPUT = slow_in, OUTPUT = slow_out, LIKE = int4);
});
$node->safe_psql(
	'postgres', q{
	CREATE ROLE gone;
	CREATE TABLE j (v json);
	GRANT INSERT ON j TO gone;
	GRANT EXECUTE ON FUNCTION persist_enqueue(record) TO gone;
	CREATE TABLE slow (n int);
	CREATE TABLE unreadable (n int, v endless);
	GRANT INSERT ON unreadable TO gone;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE 'no' USING ERRCODE = 'PP001'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON unreadable FOR EACH ROW EXECUTE FUNCTION refuse();
	CREATE TABLE large (n int, s text CONSTRAINT short CHECK (length(s) < 10));
	CREATE TABLE compressed (s text);
	INSERT INTO compressed VALUES (repeat('x', 40000000));
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
is(one_value($dbh, "SELECT role > 0 AND role_name IS NULL FROM persist_dead_letters"), 1, 'of a role that is gone the OID is told');
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

# the same where a letter could not be written at first
$dbh->do("CREATE TABLE slow_too (n int)");
$dbh->do("CREATE TRIGGER dawdle BEFORE INSERT ON slow_too FOR EACH ROW EXECUTE FUNCTION dawdle()");
$dbh->do("CREATE ROLE gone");
$dbh->do("GRANT INSERT ON j TO gone");
$dbh->do("GRANT EXECUTE ON FUNCTION persist_enqueue(record) TO gone");
$dbh->do("SELECT persist_pause()");
$dbh->do("SET ROLE gone");
$dbh->do(q{SELECT persist_enqueue(ROW('{"a": 1}'::json)::j)});
$dbh->do("RESET ROLE");
$dbh->do("DROP OWNED BY gone");
$dbh->do("DROP ROLE gone");
{
	my $lock = connect_to($node);

	$lock->begin_work;
	$lock->do("LOCK TABLE persist_pipeline_internal.persist_dead_letters IN SHARE MODE");
	$dbh->do("SELECT persist_resume()");
	wait_for_sql($dbh, "SELECT worker_state = 'retrying' FROM persist_queue WHERE datname = current_database()");
	$worker = worker_pid($node);
	$lock->rollback;
	$lock->disconnect;
}
wait_for_sql($dbh, q{SELECT EXISTS (SELECT FROM persist_dead_letters WHERE item->'v' = '{"a": 1}')});
$dbh->do(q{SELECT persist_enqueue('slow_too', '{"n": 1}')});
wait_for_sql($dbh, "SELECT EXISTS (SELECT FROM persist_stats WHERE target_name = 'public.slow_too' AND parked_reason = '57014')"
	  . " OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
is(worker_pid($node), $worker, 'a letter that could not be written at first: what takes too long is still cancelled');
$dbh->do("DROP TABLE slow, slow_too, j");
wait_for_sql($dbh, "SELECT count(*) = 4 AND NOT EXISTS (SELECT FROM persist_parked) FROM persist_dead_letters");
$dbh->do("SELECT persist_discard(array_agg(id)) FROM persist_dead_letters");

# ---- to show values takes longer than a statement may

sub letters
{
	my ($target) = @_;

	return one_value($dbh, "SELECT string_agg(concat_ws(' ', item->>'n', sqlstate), ', ' ORDER BY id)"
		  . " FROM persist_dead_letters WHERE target = '$target'::regclass");
}

$dbh->do("SELECT persist_pause()");
$dbh->do("SELECT persist_enqueue(ROW(n, v::text::endless)::unreadable) FROM (VALUES (1, -1), (2, 2), (3, -1), (4, -1)) AS v (n, v)");
$dbh->do("SELECT persist_resume()");
wait_for_sql($dbh, "SELECT count(*) = 4 FROM persist_dead_letters");
is(letters('unreadable'), 'PP001, 2 PP001, PP001, PP001', 'they have letters without values, and with their own error');
$dbh->do("SELECT persist_discard(array_agg(id)) FROM persist_dead_letters");

# and nobody is to cancel the letter
$dbh->do("CREATE ROLE gone");
$dbh->do("GRANT INSERT ON unreadable TO gone");
$dbh->do("GRANT EXECUTE ON FUNCTION persist_enqueue(record) TO gone");
$dbh->do("SELECT persist_pause()");
$dbh->do("SET ROLE gone");
$dbh->do("SELECT persist_enqueue(ROW(5, '-1')::unreadable)");
$dbh->do("RESET ROLE");
$dbh->do("DROP OWNED BY gone");
$dbh->do("DROP ROLE gone");
$dbh->do("SELECT persist_resume()");
wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_dead_letters");
is(letters('unreadable'), '42704', 'without its role, too');
$dbh->do("SELECT persist_discard(array_agg(id)) FROM persist_dead_letters");

# ---- values that are too large to be shown

$node->append_conf('postgresql.conf', "persist_pipeline.statement_timeout = '10min'");
$node->reload;
$dbh->do("SELECT persist_enqueue('large'::regclass, jsonb_build_object('n', 1, 's', repeat('x', 20000000)))");
$dbh->do("SELECT persist_enqueue(ROW(2, s)::large) FROM compressed");
$dbh->do("SELECT persist_enqueue('large'::regclass, jsonb_build_object('n', 3, 's', repeat('x', 2000)))");
wait_for_sql($dbh, "SELECT count(*) = 3 FROM persist_dead_letters");
is(letters('large'), '23514, 23514, 3 23514', 'a letter without values has the error, too');
$dbh->do("ALTER TABLE large DROP CONSTRAINT short");
is(one_value($dbh, "SELECT persist_requeue()"), 3, 'sent again');
ok(flush($node), 'flushed');
is(one_value($dbh, "SELECT string_agg(n || ' ' || length(s), ', ' ORDER BY n) FROM large"), '1 20000000, 2 40000000, 3 2000', 'the values are there');

# ---- a letter that can't be written as it is

# A column that isn't to be stored elsewhere has a limit of a page, as all have one of 1 GB.
sub store
{
	my (%storage) = @_;

	$dbh->do("ALTER TABLE persist_pipeline_internal.persist_dead_letters ALTER $_ SET STORAGE $storage{$_}") foreach keys %storage;
	return;
}

sub what_is_left
{
	return one_value($dbh, "SELECT string_agg(concat_ws(' ', sqlstate, constraint_name, item->>'n', length(item->>'s'), octet_length(data) > 8192, left_out), ', ' ORDER BY id)"
		  . " FROM persist_dead_letters");
}

$dbh->do("TRUNCATE large");
$dbh->do("ALTER TABLE large ADD CONSTRAINT short CHECK (length(s) < 10)");
$dbh->do("INSERT INTO compressed VALUES ((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i))");
my @forms = (
	[ {}, '23514 short 1 32000 t f', 'whole' ],
	[ { item => 'PLAIN' }, '23514 short t f', 'without its values' ],
	[ { data => 'PLAIN' }, '23514 short 1 32000 t', 'without its bytes' ],
	[ { item => 'PLAIN', data => 'PLAIN' }, '23514 short t', 'without both' ]);
foreach my $form (@forms)
{
	my ($storage, $expected, $name) = @$form;

	store(item => 'EXTENDED', data => 'EXTENDED', %$storage);
	$dbh->do("SELECT persist_enqueue(ROW(1, s)::large) FROM compressed WHERE length(s) = 32000");
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_dead_letters"); 1 }, "$name: there is a letter");
	ok(drain($node), "$name: and nothing waits");
	is(what_is_left(), $expected, "$name: which tells the row's own error");
	store(item => 'EXTENDED', data => 'EXTENDED');
	if ($storage->{data})
	{
		is(one_value($dbh, "SELECT persist_requeue()"), 0, "$name: it isn't sent again with all the others");
		is(try_sql($dbh, "SELECT persist_requeue(ARRAY[id]) FROM persist_dead_letters"), '54000', "$name: nor by its id");
		like($dbh->errstr, qr/dead letter \d+ was too large to be kept whole.*HINT:  Call persist_requeue\(\) with its values/s, "$name: and why");
		is(what_is_left(), $expected, "$name: it stays as it is");
		is(one_value($dbh, "SELECT persist_requeue(id, '{\"n\": 2, \"s\": \"short\"}') FROM persist_dead_letters"), 1, "$name: with values it is");
		ok(drain($node), "$name: flushed");
		is(one_value($dbh, "SELECT string_agg(n || ' ' || s, ', ') FROM large"), '2 short', "$name: and lands");
	}
	else
	{
		is(one_value($dbh, "SELECT persist_requeue()"), 1, "$name: it is sent again");
		ok(drain($node), "$name: flushed");
		is(what_is_left(), $forms[0][1], "$name: with all that it had");
		is(one_value($dbh, "SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))"), 1, "$name: discarded");
	}
	$dbh->do("TRUNCATE large");
}
is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), 0, 'no letter is left');

is(scalar(log_since($node, 0, qr/a worker of persist_pipeline has ended/)), 0, 'no worker has ended over any of this');

done_testing();
