
# A trigger on a table of ours writes to another server, which commits first.  A crash after
# that must not take our commit back: the rows would be written there once more.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use Test::More;

use constant ROUNDS => 4;

my $far = PostgreSQL::Test::Cluster->new('far');

$far->init;
$far->start;
$far->safe_psql('postgres', 'CREATE TABLE r (n int)');

# The library that does it is loaded by the trigger, or was there before.
foreach my $preloaded ('', 'postgres_fdw,')
{
	my $name = $preloaded ? 'preloaded' : 'loaded later';

	# what isn't flushed by a commit stays in memory
	my $node = pp_node(
		$preloaded ? 'preloaded' : 'here',
		shared_preload_libraries => "'${preloaded}persist_pipeline'",
		synchronous_commit => 'off',
		wal_writer_delay => "'10s'",
		'persist_pipeline.flush_interval' => "'5ms'");

	plan skip_all => 'postgres_fdw is not installed'
	  if $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") eq '0';
	$far->safe_psql('postgres', 'TRUNCATE r');
	$node->safe_psql(
		'postgres', q{
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '} . $far->host . q{', port '} . $far->port . q{');
		CREATE USER MAPPING FOR CURRENT_USER SERVER far;
		CREATE FOREIGN TABLE r (n int) SERVER far;
		CREATE TABLE t (n int);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO public.r VALUES (NEW.n); RETURN NULL; END $$;
		CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION tell();
		CHECKPOINT;
	});

	for my $round (1 .. ROUNDS)
	{
		my $dbh = connect_to($node);

		$dbh->do("SET synchronous_commit = on");
		$dbh->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', $round))");
		wait_for_sql($dbh, "SELECT count(*) = $round FROM t");
		$dbh->disconnect;
		$node->stop('immediate');
		$node->start;
		$dbh = connect_to($node);
		wait_for_sql($dbh, "SELECT count(*) = $round FROM t");
		$dbh->disconnect;
	}
	ok(flush($node), "$name: flushed");
	is($node->safe_psql('postgres', "SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"), '1 2 3 4', "$name: here each row once");
	is($far->safe_psql('postgres', "SELECT string_agg(n::text, ' ' ORDER BY n) FROM r"), '1 2 3 4', "$name: and there");
	$node->stop;
}

done_testing();
