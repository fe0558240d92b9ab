#
# A target is replaced in one transaction: it is dropped, and another relation is renamed to its
# name.  What waits for it goes into that, by the names of columns, and its settings go with it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use PersistPipeline;

my $node = pp_node('replaced', 'persist_pipeline.misfit_timeout' => "'1h'", max_prepared_transactions => 2);
my $dbh = connect_to($node);

sub enqueue
{
	my ($session, $target, @items) = @_;

	$session->do("SELECT persist_enqueue('$target'::regclass, ?::jsonb)", undef, $_) foreach @items;
	return;
}

# In one transaction, or, the last one being ROLLBACK, in none.
sub in_transaction
{
	my ($session, @commands) = @_;

	$session->do(join ';', 'BEGIN', @commands, $commands[-1] eq 'ROLLBACK' ? () : 'COMMIT');
	return;
}

# Another table, made as `create` says, takes the place of t.
sub replace
{
	my ($create, @more) = @_;

	in_transaction($dbh, "CREATE TABLE t_new $create", 'INSERT INTO t_new (k, v) SELECT k, v FROM t', 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t', @more);
	return;
}

sub rows { return join ' ', rows_of($dbh, 'SELECT k || v FROM t ORDER BY k') }
sub letters { return join ' ', rows_of($dbh, q{SELECT concat_ws(' ', target_name, sqlstate, item) FROM persist_dead_letters ORDER BY id}) }

sub anew
{
	my ($create) = @_;

	$dbh->do('DROP TABLE IF EXISTS t');
	$dbh->do('CREATE TABLE t ' . ($create || '(k int, v text)'));
	return;
}

# ---- from each place; columns that have other numbers, one more, and one that was dropped

anew();
foreach my $place (qw(ring journal parked dead))
{
	anew();
	$dbh->do('ALTER TABLE t ADD CONSTRAINT never CHECK (false)') if $place eq 'dead';
	$dbh->do(q{SELECT persist_configure('t', durability => ?, unknown_keys => 'ignore')}, undef, $place eq 'ring' ? 'ring' : 'journal');
	$dbh->do($place eq 'parked' ? q{SELECT persist_pause('t')} : 'SELECT persist_pause()') if $place ne 'dead';
	enqueue($dbh, 't', '{"k": 1, "v": "a", "x": 0}', '{"v": "b", "k": 2}');
	wait_for_sql($dbh, 'SELECT count(*) = 2 FROM persist_parked') if $place eq 'parked';
	ok(flush($node), "$place: flushed") if $place eq 'dead';
	is(letters(), $place eq 'dead' ? 'public.t 23514 {"k": 1, "v": "a"} public.t 23514 {"k": 2, "v": "b"}' : '', "$place: before");

	in_transaction($dbh, 'CREATE TABLE t_new (gone int, v text, w int DEFAULT 5, k int)', 'ALTER TABLE t_new DROP gone', 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t');
	is(one_value($dbh, q{SELECT format('%s %s %s', target, unknown_keys, paused) FROM persist_settings}), 't ignore ' . ($place eq 'parked' ? 't' : 'f'), "$place: the new table has the settings");
	if ($place eq 'parked')
	{
		enqueue($dbh, 't', '{"k": 3, "v": "c"}');
		ok(!flush($node), "$place: still paused");
		is(one_value($dbh, 'SELECT count(*) FROM t'), 0, "$place: nothing is written");
		$dbh->do(q{SELECT persist_resume('t')});
		drain($node);
		$dbh->do('DELETE FROM t WHERE k = 3');
	}
	elsif ($place eq 'dead')
	{
		is(one_value($dbh, 'SELECT persist_requeue(ARRAY(SELECT id FROM persist_dead_letters))'), 2, "$place: sent again");
	}
	else
	{
		$dbh->do('SELECT persist_resume()');
	}
	ok(flush($node), "$place: flushed");
	is(join(' ', rows_of($dbh, q{SELECT format('%s%s%s', k, v, w) FROM t ORDER BY k})), '1a5 2b5', "$place: the rows are in the new table");
	is(letters(), '', "$place: no letter");
	is(one_value($dbh, 'SELECT count(*) FROM persist_settings'), 1, "$place: one row of settings");
}

# ---- a relation that is created under the name, or renamed to it later, is another target

foreach my $case (
	[ 'created', 'BEGIN; DROP TABLE t; CREATE TABLE t (k int, v text); ALTER TABLE t SET (fillfactor = 90); COMMIT' ],
	[ 'renamed later', 'CREATE TABLE t_new (k int, v text)', 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t' ],
	[ 'of another schema', 'CREATE SCHEMA s', 'BEGIN; CREATE TABLE s.t_new (k int, v text); DROP TABLE t; ALTER TABLE s.t_new RENAME TO t; CREATE TABLE t (k int, v text); COMMIT' ])
{
	my ($name, @commands) = @$case;

	anew();
	$dbh->do(q{SELECT persist_configure('t', bad_items => 'dead')});
	$dbh->do('SELECT persist_pause()');
	enqueue($dbh, 't', '{"k": 1, "v": "a"}');
	$dbh->do($_) foreach @commands;
	$dbh->do('SELECT persist_resume()');
	ok(flush($node), "$name: flushed");
	is(letters(), 'public.t 42P01 {"k": 1, "v": "a"}', "$name: another target");
	is(one_value($dbh, 'SELECT count(*) FROM persist_settings'), 0, "$name: which has no settings");
	is(discard_all($dbh), 1, "$name: discarded");
}

# ---- not all of it happens

anew();
$dbh->do(q{SELECT persist_configure('t', bad_items => 'dead')});
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 't', '{"k": 1, "v": "a"}');
$dbh->do('CREATE TABLE t_new (k int, v text)');
in_transaction($dbh, 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t', 'ROLLBACK');
in_transaction($dbh, 'SAVEPOINT s', 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t', 'ROLLBACK TO s');
in_transaction($dbh, 'SAVEPOINT s', 'DROP TABLE t', 'ROLLBACK TO s', 'ALTER TABLE t RENAME TO t_old', 'ALTER TABLE t_new RENAME TO t', 'ALTER TABLE t RENAME TO t_new', 'ALTER TABLE t_old RENAME TO t');
is(one_value($dbh, q{SELECT count(*) FROM persist_pipeline_internal.persist_layouts WHERE replaced_by IS NOT NULL AND target = 't'::regclass}), 0, 'rolled back: nothing is noted');
is(one_value($dbh, q{SELECT string_agg(target || ' ' || bad_items, ', ') FROM persist_settings}), 't dead', 'rolled back: the settings are where they were');
# a savepoint in the middle: it is renamed after all
in_transaction($dbh, 'DROP TABLE t', 'SAVEPOINT s', 'ALTER TABLE t_new RENAME TO t', 'ROLLBACK TO s', 'ALTER TABLE t_new RENAME TO t');
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'savepoints: flushed');
is(rows(), '1a', 'savepoints: the row is there');
is(one_value($dbh, q{SELECT string_agg(target || ' ' || bad_items, ', ') FROM persist_settings}), 't dead', 'savepoints: and so are the settings');

# ---- dropped more than once: the settings are those of the last one

sub settings { return join ', ', rows_of($dbh, q{SELECT concat_ws(' ', target, bad_items, unknown_keys) FROM persist_settings}) }

foreach my $case (
	[ 'rolled back once', 't dead error', 'SAVEPOINT s', 'DROP TABLE t', 'ROLLBACK TO s', q{SELECT persist_configure('t', bad_items => 'dead', unknown_keys => 'error')} ],
	[ 'rolled back, and unconfigured', '', 'SAVEPOINT s', 'DROP TABLE t', 'ROLLBACK TO s', q{SELECT persist_unconfigure('t')} ],
	[ 'replaced twice', 't dead ignore', 'CREATE TABLE t2 (k int, v text)', 'DROP TABLE t', 'ALTER TABLE t2 RENAME TO t', q{SELECT persist_configure('t', bad_items => 'dead')} ])
{
	my ($name, $settings, @before) = @$case;

	anew();
	$dbh->do(q{SELECT persist_configure('t', unknown_keys => 'ignore')});
	$dbh->do('SELECT persist_pause()');
	enqueue($dbh, 't', '{"k": 1, "v": "a"}');
	in_transaction($dbh, 'CREATE TABLE t_new (v text, k int)', @before, 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t');
	$dbh->do('SELECT persist_resume()');
	ok(flush($node), "$name: flushed");
	is(rows(), '1a', "$name: the row is there");
	is(settings(), $settings, "$name: the settings");
}

# a stale drop of another name
anew();
$dbh->do('SELECT persist_pause()');
$dbh->do('CREATE TABLE t_new (k int, v text)');
enqueue($dbh, 't_new', '{"k": 1, "v": "a"}');
in_transaction($dbh, 'SAVEPOINT s', 'ALTER TABLE t RENAME TO t_old', 'ALTER TABLE t_new RENAME TO t', 'DROP TABLE t', 'ROLLBACK TO s', 'DROP TABLE t_new', 'DROP TABLE t', 'CREATE TABLE t2 (k int, v text)', 'ALTER TABLE t2 RENAME TO t');
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'another name: flushed');
is(letters(), 'public.t_new 42P01 {"k": 1, "v": "a"}', 'another name: what was rolled back counts for nothing');
is(discard_all($dbh), 1, 'another name: discarded');

# ---- the extension is dropped, too

$dbh->do('CREATE DATABASE without');
my $other = connect_to($node, 'without');
$other->do('CREATE EXTENSION persist_pipeline');
$other->do('CREATE TABLE t (k int)');
$other->do(q{SELECT persist_configure('t', bad_items => 'dead')});
in_transaction($other, 'CREATE TABLE t_new (k int)', 'DROP TABLE t', 'DROP EXTENSION persist_pipeline', 'ALTER TABLE t_new RENAME TO t');
is(one_value($other, 'SELECT count(*) FROM t'), 0, 'extension dropped: the table is renamed');
$other->disconnect;

# ---- by its schema

anew();
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 't', '{"k": 1, "v": "a"}');
in_transaction($dbh, 'CREATE SCHEMA staging', 'CREATE TABLE staging.t (k int, v text)', 'DROP TABLE t', 'ALTER TABLE staging.t SET SCHEMA public');
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'schema: flushed');
is(rows(), '1a', 'schema: the row is there');

# ---- again and again, one transaction still to commit, over a crash

anew('(k int PRIMARY KEY, v text)');
my $earlier = one_value($dbh, q{SELECT format('{%s}', string_agg(target::text, ',')) FROM persist_pipeline_internal.persist_layouts});    # not yet forgotten
$dbh->do('CREATE ROLE scraper LOGIN');
$dbh->do("SELECT persist_grant('scraper')");
my $producer = connect_to($node);
$dbh->do(q{SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{k}', durability => 'journal')});
$dbh->do('SELECT persist_pause()');
$producer->begin_work;
enqueue($producer, 't', '{"k": 1, "v": "late"}');
enqueue($dbh, 't', '{"k": 1, "v": "a"}', '{"k": 2, "v": "b"}');
replace('(v text, k int PRIMARY KEY)');
enqueue($dbh, 't', '{"k": 2, "v": "c"}', '{"k": 3, "v": "c"}');
replace('(x int, k int PRIMARY KEY, v text)');
enqueue($dbh, 't', '{"k": 3, "v": "d"}');
$producer->commit;
$producer->disconnect;
$dbh->disconnect;
$node->stop('immediate');
$node->start;
$dbh = connect_to($node);
replace('(k bigint PRIMARY KEY, v varchar(10))');
is(one_value($dbh, q{SELECT count(*) FROM persist_pipeline_internal.persist_layouts WHERE replaced_by IS DISTINCT FROM 't'::regclass AND target_name = 'public.t' AND target NOT IN (SELECT target FROM persist_pipeline_internal.persist_layouts WHERE replaced_by IS NOT NULL) AND target <> ALL (?::oid[])}, $earlier),
	0, 'again: all that were replaced say by what');
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'again: flushed');
is(rows(), '1late 2c 3d', 'again: the last value of each key');
is(letters(), '', 'again: no letter');

# ---- while it is locked: the worker waits for it, and then parks it

# what finds no table is not to be taken for a mistake that somebody may mend
change_setting($dbh, 'misfit_timeout', 0);
foreach my $case ([ '1h', q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted} ], [ '10ms', 'SELECT sum(parked) = 1 FROM persist_stats' ])
{
	my ($timeout, $until) = @$case;
	my $locker = connect_to($node);

	anew();
	change_setting($dbh, 'lock_timeout', $timeout);
	$producer = connect_to($node);
	$producer->begin_work;
	enqueue($producer, 't', '{"k": 1, "v": "a"}');
	begin_with_lock($locker, 't', 'ACCESS EXCLUSIVE');
	$producer->commit;
	wait_for_sql($dbh, $until);
	$locker->do('CREATE TABLE t_new (v text, k int)');
	$locker->do('DROP TABLE t');
	$locker->do('ALTER TABLE t_new RENAME TO t');
	$locker->commit;
	drain($node);
	is(rows(), '1a', "locked, lock_timeout $timeout: the row is in the new table");
	is(letters(), '', "locked, lock_timeout $timeout: no letter");
	$_->disconnect foreach $locker, $producer;
}
change_setting($dbh, 'misfit_timeout', '1h');

# ---- what is parked for the old one comes before what comes for the new one

anew('(k int PRIMARY KEY, v text)');
$dbh->do(q{SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{k}')});
$dbh->do('CREATE TABLE gate ()');
$dbh->do('CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM gate) THEN RAISE object_in_use; END IF; RETURN NEW; END $$');
$dbh->do('CREATE TRIGGER gate BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION gate()');
$dbh->do('INSERT INTO gate DEFAULT VALUES');
enqueue($dbh, 't', '{"k": 1, "v": "old"}');
wait_for_sql($dbh, 'SELECT sum(parked) = 1 FROM persist_stats');
# the next item would come through
replace('(k int PRIMARY KEY, v text)', q{CREATE TRIGGER gate BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.v = 'old') EXECUTE FUNCTION gate()});
enqueue($dbh, 't', '{"k": 1, "v": "new"}');
wait_for_sql($dbh, 'SELECT count(*) = 2 FROM persist_parked');
is(one_value($dbh, q{SELECT persist_flush('1s', 't')}), 0, 'order: the flush of the new one is that of both');
$dbh->do('DELETE FROM gate');
drain($node);
is(rows(), '1new', 'order: the last value');

# ---- or in one batch: of a session whose transaction has begun before

foreach my $more ('', ', parent int REFERENCES ')
{
	anew('(k int PRIMARY KEY, v text' . ($more && "$more t") . ')');
	$dbh->do(q{SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{k}', durability => 'journal')});
	$dbh->do('SELECT persist_pause()');
	$producer = connect_to($node);
	$producer->begin_work;
	enqueue($producer, 't', '{"k": 1, "v": "old"}');
	replace('(k int PRIMARY KEY, v text' . ($more && "$more t_new") . ')');
	enqueue($dbh, 't', '{"k": 2, "v": "other"}');
	one_value($producer, 'SELECT count(*) FROM t');    # learns which table it is
	enqueue($producer, 't', '{"k": 1, "v": "new"}');
	$producer->commit;
	$producer->disconnect;
	$dbh->do('SELECT persist_resume()');
	ok(flush($node), "order in a batch$more: flushed");
	is(rows(), '1new 2other', "order in a batch$more: the last value");
}

# ---- replaced twice, while what waits is parked: what came first is written first

foreach my $i (1 .. 8)    # whichever the retrier would take first
{
	anew('(k int PRIMARY KEY, v text)');
	$dbh->do(q{SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{k}', durability => 'journal')});
	$dbh->do(q{SELECT persist_pause('t')});
	enqueue($dbh, 't', '{"k": 1, "v": "old"}');
	wait_for_sql($dbh, 'SELECT count(*) = 1 FROM persist_parked');
	replace('(k int PRIMARY KEY, v text)');
	enqueue($dbh, 't', '{"k": 1, "v": "new"}');
	wait_for_sql($dbh, 'SELECT count(*) = 2 FROM persist_parked');
	replace('(k int PRIMARY KEY, v text)');
	enqueue($dbh, 't', '{"k": 2, "v": "other"}');
	$dbh->do(q{SELECT persist_resume('t')});
	drain($node);
	is(rows(), '1new 2other', "twice $i: the last value");
}

# the one between has nothing that waits, and is not forgotten before the first one
anew();
$dbh->do('CREATE TABLE other (k int)');
$dbh->do(q{SELECT persist_pause('t')});
enqueue($dbh, 't', '{"k": 1, "v": "a"}');
wait_for_sql($dbh, 'SELECT count(*) = 1 FROM persist_parked');
replace('(k int, v text)');
replace('(k int, v text)');
$dbh->do('CREATE TABLE done (k int)');
enqueue($dbh, 'done', '{"k": 1}');
wait_for_sql($dbh, 'SELECT count(*) = 1 FROM done');
$dbh->do('DROP TABLE done');
$dbh->do('SELECT pg_terminate_backend(' . worker_pid($node) . ')');    # a new one looks at once
wait_until('what is not needed is forgotten', sub {
	enqueue($dbh, 'other', '{"k": 1}');
	return one_value($dbh, q{SELECT count(*) = 0 FROM persist_pipeline_internal.persist_layouts WHERE target_name = 'public.done'});
});
$dbh->do(q{SELECT persist_resume('t')});
drain($node);
is(rows(), '1a', 'twice, one between has no items: the row is there');
is(letters(), '', 'twice, one between has no items: no letter');

# ---- the tables that say what was replaced are locked when the worker looks again

anew();
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 't', '{"k": 1, "v": "a"}');
replace('(k int, v text)');
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'locked list: flushed');
foreach my $i (2 .. 4)
{
	my $locker = connect_to($node);

	begin_with_lock($locker, 'persist_pipeline_internal.persist_layouts', 'ACCESS EXCLUSIVE');
	$dbh->do(q{UPDATE pg_class SET relpages = relpages WHERE relname = 'persist_settings'});
	enqueue($dbh, 't', qq({"k": $i, "v": "a"}));
	wait_for_sql($dbh, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'persist_pipeline %' AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'persist_pipeline_internal.persist_layouts'::regclass AND NOT granted)});
	wait_for_sql($dbh, q{SELECT sum(parked) = 1 FROM persist_stats});
	$locker->rollback;
	$locker->disconnect;
	drain($node);
}
is(rows(), '1a 2a 3a 4a', 'locked list: the rows are there');

# ---- by a transaction that is prepared: nobody tells the worker at its commit

anew();
$dbh->do(q{SELECT persist_pause('t')});
enqueue($dbh, 't', '{"k": 1, "v": "a"}');
wait_for_sql($dbh, 'SELECT count(*) = 1 FROM persist_parked');
$dbh->do(q{BEGIN; DROP TABLE t});
is(try_sql($dbh, q{PREPARE TRANSACTION 'gone'}), '0A000', 'prepared: not where a paused one is dropped');
$dbh->do(q{CREATE TABLE t_new (k int, v text)});
$dbh->do(q{SELECT persist_configure('t_new', bad_items => 'dead')});
$dbh->do(q{BEGIN; DROP TABLE t; ALTER TABLE t_new RENAME TO t});
is(try_sql($dbh, q{PREPARE TRANSACTION 'unpaused'}), '0A000', 'prepared: nor where what replaces it has settings of its own, and is not paused');
$dbh->do('DROP TABLE t_new');
$dbh->do(q{BEGIN; CREATE TABLE t_new (v text, k int); DROP TABLE t; ALTER TABLE t_new RENAME TO t; PREPARE TRANSACTION 'replaced'});
is(one_value($dbh, 'SELECT count(*) FROM persist_settings'), 1, 'prepared: nothing has changed yet');
$dbh->do(q{COMMIT PREPARED 'replaced'});
enqueue($dbh, 't', '{"k": 2, "v": "b"}');
wait_for_sql($dbh, 'SELECT count(*) = 2 FROM persist_parked');
is(one_value($dbh, q{SELECT persist_flush('1s', 't')}), 0, 'prepared: paused');
is(rows(), '', 'prepared: nothing is written');
$dbh->do(q{SELECT persist_resume('t')});
drain($node);
is(rows(), '1a 2b', 'prepared: all is written, once it is resumed');

# ---- rights: of the enqueuer, at the insert

anew();
$dbh->do('GRANT INSERT ON t TO scraper');
my $scraper = connect_to($node, 'postgres', user => 'scraper');
$dbh->do('SELECT persist_pause()');
enqueue($scraper, 't', '{"k": 1, "v": "a"}');
in_transaction($dbh, 'CREATE TABLE t_new (k int, v text)', 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t');
$dbh->do('SELECT persist_resume()');
wait_for_sql($dbh, q{SELECT sum(parked) = 1 FROM persist_stats WHERE parked_reason = '42501'});
$dbh->do('GRANT INSERT ON t TO scraper');
drain($node);
is(rows(), '1a', 'rights: once it is granted');
$scraper->disconnect;

# ---- a value without a column: that may be a mistake

anew();
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 't', '{"k": 1, "v": "a"}', '{"k": 2}');
in_transaction($dbh, 'CREATE TABLE t_new (k int)', 'DROP TABLE t', 'ALTER TABLE t_new RENAME TO t');
$dbh->do('SELECT persist_resume()');
wait_for_sql($dbh, q{SELECT count(*) = 2 FROM persist_parked WHERE sqlstate = '42804'});
$dbh->do('ALTER TABLE t ADD v text');
drain($node);
is(join(' ', rows_of($dbh, q{SELECT concat(k, v) FROM t ORDER BY k})), '1a 2', 'without a column: until there is one');

# ---- children and parents

$dbh->do('CREATE TABLE parent (id int PRIMARY KEY, name text)');
$dbh->do('CREATE TABLE child (id int, parent int REFERENCES parent)');
$dbh->do('SELECT persist_pause()');
enqueue($dbh, 'child', '{"id": 9}');
$dbh->do(q{SELECT persist_enqueue('child', '{"id": 1, "parent": 1}'), persist_enqueue('parent', '{"id": 1, "name": "p"}')});
in_transaction($dbh, 'CREATE TABLE parent_new (name text, id int PRIMARY KEY)', 'CREATE TABLE child_new (parent int REFERENCES parent_new, id int)', 'DROP TABLE child', 'DROP TABLE parent',
	'ALTER TABLE parent_new RENAME TO parent', 'ALTER TABLE child_new RENAME TO child');
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'both replaced: flushed');
is(join(' ', rows_of($dbh, q{SELECT concat_ws('-', c.id, p.name) FROM child AS c LEFT JOIN parent AS p ON p.id = c.parent ORDER BY 1})), '1-p 9', 'both replaced: parents first');
is(letters(), '', 'both replaced: no letter');

# ---- what was noted goes, in the end

my $old_worker = worker_pid($node);
$dbh->do('SELECT pg_terminate_backend(?)', undef, $old_worker);
wait_for_new_worker($node, $old_worker);
wait_until(
	'nothing is noted',
	sub {
		enqueue($dbh, 't', '{"k": 0}');
		return one_value($dbh, 'SELECT count(*) = 0 FROM persist_pipeline_internal.persist_layouts');
	});
ok(flush($node), 'flushed, in the end');
is(letters(), '', 'and no letter');
$dbh->disconnect;

is_deeply([ complaints($node, 0, qr{42501 ERROR}, qr{0A000 ERROR}, qr/persist_pipeline (?:worker|retrier) \w{5} WARNING/) ], [], 'a clean log');
$node->stop;
done_testing();
