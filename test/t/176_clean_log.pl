
# An hour's kind of load in a short time, with ten restarts in the midst of it: the log has no
# WARNING and no ERROR that was not provoked, and everything is accounted for.  PP_ROWS is how many
# rows are to be written: 40,000; 8,000,000 take about five minutes.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

use constant {
	CLIENTS => 4,
	RESTARTS => 10,
	ROWS => $ENV{PP_ROWS} // 40_000,
};

my $node = pp_node('clean_log', 'persist_pipeline.shutdown_timeout' => "'60s'");
my $everything_from = log_position($node);
my $dbh = connect_to($node);

$dbh->do($_) foreach (
	'CREATE ROLE scraper LOGIN',
	'CREATE TABLE parents (id bigint PRIMARY KEY, name text NOT NULL)',
	'CREATE TABLE children (id bigserial PRIMARY KEY, parent bigint REFERENCES parents, at timestamptz DEFAULT now(), note text CHECK (note IS NOT NULL))',
	'CREATE INDEX ON children (at); CREATE INDEX ON children (parent)',
	'CREATE TABLE parts (n bigint, kind text) PARTITION BY LIST (kind)',
	(map { "CREATE TABLE parts_$_ PARTITION OF parts FOR VALUES IN ('$_')" } qw(a b c)),
	'CREATE UNLOGGED TABLE fleeting (n bigint, payload jsonb)',
	'CREATE TABLE hits (page text PRIMARY KEY, n bigint)',
	'CREATE TABLE inserted (n bigint, at timestamptz DEFAULT now())',
	'CREATE TRIGGER enqueue BEFORE INSERT ON inserted FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger()',
	'CREATE TABLE audit (what text)',
	# in the worker, as whoever has enqueued the row
	q{CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM public.persist_enqueue('public.audit'::regclass, jsonb_build_object('what', NEW.name)); RETURN NEW; END$$},
	'CREATE TRIGGER note AFTER INSERT ON parents FOR EACH ROW EXECUTE FUNCTION note()',
	'GRANT INSERT ON parents, children, parts, fleeting, hits, inserted, audit TO scraper',
	'GRANT SELECT, UPDATE ON hits TO scraper; GRANT USAGE ON SEQUENCE children_id_seq TO scraper',
	"SELECT persist_grant('scraper')",
	q{SELECT persist_configure('hits', on_conflict => 'update', conflict_columns => '{page}', add_columns => '{n}')},
	q{SELECT persist_configure('parts', durability => 'journal')},
	'CREATE TABLE over ()', 'GRANT SELECT ON over TO scraper');
$dbh->disconnect;

# ---- the clients ----

my @works = (
	sub { # a kind of items and what belongs to it
		my ($dbh, $id) = @_;

		$dbh->begin_work;
		$dbh->do(qq(SELECT persist_enqueue('parents', '{"id": $id, "name": "parent $id"}')));
		$dbh->do(qq(SELECT count(persist_enqueue('children', jsonb_build_object('parent', $id, 'note', i::text))) FROM generate_series(1, 20) AS i));
		$dbh->commit;
	},
	sub { # single calls
		my ($dbh, $id) = @_;

		$dbh->do(qq(SELECT persist_enqueue('fleeting', '{"n": $id, "payload": {"a": [1, 2]}}'))) foreach 1 .. 10;
	},
	sub { # counters
		my ($dbh, $id) = @_;

		$dbh->do(qq(SELECT persist_enqueue('hits', '{"page": "/$_", "n": 1}'))) foreach 1 .. 5;
	},
	sub { # unchanged clients
		my ($dbh, $id) = @_;

		$dbh->do("INSERT INTO inserted (n) SELECT $id FROM generate_series(1, 20)");
	},
	sub { # savepoints, and what is rolled back
		my ($dbh, $id) = @_;

		$dbh->begin_work;
		$dbh->do(qq(SELECT persist_enqueue_many('parts', '[{"n": $id, "kind": "a"}, {"n": $id, "kind": "b"}]')));
		$dbh->do('SAVEPOINT s');
		$dbh->do(qq(SELECT persist_enqueue('parts', '{"n": $id, "kind": "c"}')));
		$dbh->do('ROLLBACK TO s') if $id % 2;
		$id % 5 ? $dbh->commit : $dbh->rollback;
	});

# Until it is over.  The server ends sessions at each restart; that is no fault of theirs.
sub client
{
	my ($number) = @_;
	my $dbh;
	my $id = $number * 1_000_000_000;

	srand $number;
	while (1)
	{
		my $done = eval {
			if (!$dbh || !$dbh->ping)
			{
				$dbh = connect_when_up($node, 'postgres', user => 'scraper');
				$dbh->do('SET client_min_messages = error');
			}
			$dbh->do('SET synchronous_commit = ' . (rand() < 0.3 ? 'on' : 'off'));
			$works[ rand @works ]->($dbh, ++$id);
			return one_value($dbh, "SELECT count(*) FROM pg_class WHERE relname = 'done'");
		};
		return if $done;
		die $@ if !defined $done && $dbh->state !~ /^(?:57P0[123]|08...|22000|S8006)$/;
		$dbh = undef if !defined $done;
	}
}

my $written_sql = 'SELECT coalesce(sum(persisted), 0) FROM persist_stats';
my @clients = in_children(CLIENTS, \&client);

foreach my $turn (1 .. RESTARTS)
{
	my $session = connect_when_up($node);

	wait_for_sql($session, "SELECT ($written_sql) >= " . $turn * ROWS / RESTARTS);
	$session->disconnect;
	$node->restart;
}
$dbh = connect_when_up($node);
$dbh->do('CREATE TABLE done ()');
children_succeeded('the clients bear it', @clients);

# ---- what is left ----

ok(drain($node), 'flushed');
cmp_ok(one_value($dbh, $written_sql), '>=', ROWS, 'so many rows are written');
is(one_value($dbh, 'SELECT count(*) FROM persist_stats WHERE enqueued <> persisted + skipped + dead + discarded + lost + pending OR pending + dead + lost + discarded > 0'), '0', 'all is accounted for');
is(one_value($dbh, 'SELECT count(*) FROM persist_shutdowns WHERE forced'), '0', 'no stop was forced');
is(one_value($dbh, 'SELECT count(*) FROM parents LEFT JOIN (SELECT parent, count(*) AS n FROM children GROUP BY parent) AS c ON c.parent = id WHERE n IS DISTINCT FROM 20'), '0', 'all that belongs to a row is there');
is(one_value($dbh, 'SELECT count(*) FROM audit'), one_value($dbh, 'SELECT count(*) FROM parents'), 'what a trigger has enqueued is there');
is_deeply([ complaints($node, $everything_from, qr/client backend 57P03 FATAL/) ], [], 'the log has no WARNING and no ERROR');
$dbh->disconnect;
$node->stop;
done_testing();
