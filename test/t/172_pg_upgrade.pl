
# pg_upgrade, with items that wait in the journal, in the ring alone at the stop before it, parked
# and as dead letters: they are there after it, and are written, or sent again.
#
# PP_UPGRADE_PG_CONFIG: pg_config of the server to upgrade to, which has the extension, too; the
# old one is that of PG_CONFIG, as in all tests.  Without it both are the same: pg_upgrade takes
# that, and moves the files into a new cluster all the same.

use strict;
use warnings;
use File::Basename 'dirname';
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Waiting;

my $old = waiting_node('old');
my ($new_bin) = $ENV{PP_UPGRADE_PG_CONFIG} ? `$ENV{PP_UPGRADE_PG_CONFIG} --bindir` =~ /(.*)/ : $old->config_data('--bindir');
my ($major) = `$new_bin/postgres --version` =~ /(\d+)/;
my $new = waiting_node(
	'new',
	no_start => 1,
	install_path => dirname($new_bin),
	# from 18 on there are checksums by default
	init => [ $major >= 18 && $old->pg_version < 18 ? (extra => ['--no-data-checksums']) : () ]);
my $dbh = connect_to($old);

note 'from ' . one_value($dbh, 'SHOW server_version') . ' to ' . `$new_bin/postgres --version`;
create_targets($dbh);
items_wait($dbh, 'before');
$dbh->do("SELECT persist_configure('life.journal', 'journal', 'dead')");

# its columns have to be known when it is gone
$dbh->do('CREATE TABLE dropped (n int)');
enqueue_rows($dbh, 'dropped', 1, 2);

# the stop leaves them: what is in the ring alone is journalled
$dbh->do('SELECT persist_pause()');
$dbh->do('DROP TABLE dropped');
wait_for_sql($dbh, "SELECT worker_pid IS NULL FROM persist_queue WHERE datname = current_database()");
my $waits_sql = "SELECT concat_ws(' ', $pending_sql, (SELECT count(*) FROM persist_parked), (SELECT count(*) FROM persist_dead_letters))";
my $all = '11 3 3';
is(one_value($dbh, $waits_sql), $all, 'before: they wait in tables');
my $settings_sql = "SELECT string_agg(concat_ws(' ', target, durability, bad_items, paused), ', ' ORDER BY target::text) FROM persist_settings";
my $letters_sql = q{SELECT string_agg(concat_ws(' ', id, target_name, role_name, item, sqlstate, message, enqueued_at, attempts), ', ' ORDER BY id) FROM persist_dead_letters};
my $account_sql = q{SELECT string_agg(concat_ws(' ', target_name, enqueued, persisted, dead, pending), ', ' ORDER BY target_name) FROM persist_stats WHERE target_name ~ '^life'};
my @before = map { one_value($dbh, $_) } $settings_sql, $letters_sql, $account_sql;
my ($id) = enqueue_rows($dbh, 'life.journal', 4);

# 15.20 and 17.12 keep an option with each column, of any table, that 18 doesn't know
$dbh->do(q{SET allow_system_table_mods = on; UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text ~ 'pg_attver'})
  if $old->pg_version < $major;
$dbh->disconnect;
$old->stop;

chdir $PostgreSQL::Test::Utils::tmp_check or die $!;    # it leaves files behind
command_ok(
	[
		"$new_bin/pg_upgrade", '--no-sync', '-b', $old->config_data('--bindir'), '-B', $new_bin, '-d', $old->data_dir, '-D', $new->data_dir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port
	],
	'pg_upgrade: it runs');
$new->start;
$dbh = connect_to($new);
like(one_value($dbh, 'SHOW server_version'), qr/^$major\D/, 'after: it is the new server');
is(one_value($dbh, $waits_sql), $all =~ s/^11/12/r, 'after: all of it is there');
is(one_value($dbh, $settings_sql), $before[0], 'after: and the settings');
is(one_value($dbh, $letters_sql), $before[1], 'after: and the letters, with what they say');
# a worker may have come to see whether it is
wait_for_sql($dbh, 'SELECT worker_pid IS NULL FROM persist_queue WHERE datname = current_database()');
is(one_value($dbh, $waits_sql), $all =~ s/^11/12/r, 'after: the database is still paused');

cmp_ok((enqueue_rows($dbh, 'life.journal', 5))[0], '>', $id, 'after: ids go on');
is(resume_parked($dbh), '00000', 'after: the target is resumed');
$dbh->do('SELECT persist_resume()');
all_settled($dbh, 'after');
is_deeply(became($dbh), { %{ lands() }, journal => '1 2 3 4 5' }, 'after: each lands once, as what waited anywhere');
is(one_value($dbh, "SELECT string_agg(concat_ws(' ', target_name, sqlstate, item->>'n'), ', ' ORDER BY id) FROM persist_dead_letters WHERE sqlstate = '42P01'"),
	'public.dropped 42P01 1, public.dropped 42P01 2', 'after: and letters where the table is gone, with their values');
is( one_value($dbh, q{SELECT count(persist_requeue(id, jsonb_build_object('n', - (item->>'n')::int))) FROM persist_dead_letters WHERE sqlstate = '23514'}),
	3, 'after: letters from before are repaired and sent again');
all_settled($dbh, 'sent again');
is(became($dbh)->{dead}, '1 2 3', 'after: and land');
is(one_value($dbh, q{SELECT count(*) FROM persist_queue WHERE items_copied > 0}), 0, 'after: nothing was taken for a copy');
is(one_value($dbh, 'SELECT status FROM persist_health()'), 'degraded', 'after: persist_health() works')
  or diag(one_value($dbh, 'SELECT reasons FROM persist_health()'));
is(one_value($dbh, q{SELECT string_agg(r->>'code', ' ') FROM persist_health(), jsonb_array_elements(reasons) AS r WHERE r->>'code' <> 'weak_setting'}),
	'dead_letters', 'after: and knows of nothing but letters');
$dbh->disconnect;

# as after a clean stop and a crash of any server
$new->restart;
$new->stop('immediate');
$new->start;
$dbh = connect_to($new);
enqueue_rows($dbh, 'life.ring', 4);
all_settled($dbh, 'after a crash');
is(became($dbh)->{ring}, '1 2 3 4', 'after a crash: it works');
$dbh->disconnect;
is_deeply([ complaints($new, 0, qr/persist_pipeline \w+ \w+ WARNING:  (?:item|\d+ items) .*/) ], [], 'a clean log');
$new->stop;
done_testing();
