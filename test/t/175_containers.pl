
# examples/: no container is run here, but what can be said of those files without one.  They can be
# read, and what they refer to is there; the images get what is installed, and nothing that isn't;
# settings, scripts, SQL and health checks do, as they are written, what they are for.

use strict;
use warnings;
use Cwd 'abs_path';
use File::Basename 'dirname';
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use YAML::XS ();

my $tree = abs_path("$FindBin::RealBin/../..");
my %dockerfile = map { $_ => read_dockerfile("examples/$_/Dockerfile") } qw(docker cloudnative-pg);
my %yaml = map { $_ => YAML::XS::LoadFile("$tree/examples/$_") } qw(docker/compose.yaml docker/prometheus.yml cloudnative-pg/cluster.yaml);

# Its instructions: [name, arguments], lines put together.
sub read_dockerfile
{
	my ($file) = @_;
	my $text = slurp_file("$tree/$file");

	$text =~ s/^#.*\n//mg;
	$text =~ s/\\\n\s*/ /g;
	return [ map { [ /^(\S+)\s+(.*)/ ] } grep { /\S/ } split /\n/, $text ];
}

sub instructions
{
	my ($image, $name) = @_;

	return map { $_->[1] } grep { $_->[0] eq $name } @{ $dockerfile{$image} };
}

# ---- Dockerfiles

# What is installed, as make says it, with the image's directories for those of this server.
my ($directory) = `pg_config --bindir` =~ m{(.*)/bin};
my $installs = join '', map { s{\Q$directory\E}{/usr/lib/postgresql/15}gr } `cd $tree && make -n install DESTDIR=/out with_llvm=no PG_CONFIG=pg_config 2>&1`;
my %known = map { $_ => 1 } qw(ARG FROM RUN WORKDIR COPY HEALTHCHECK CMD);

foreach my $image (sort keys %dockerfile)
{
	my @found = @{ $dockerfile{$image} };
	my %stages;
	my @runs = instructions($image, 'RUN');

	is_deeply([ grep { !$known{ $_->[0] } } @found ], [], "$image: instructions that are known here");
	is($found[0][0], 'ARG', "$image: it begins with the major, which can be given");
	$stages{$_} = 1 foreach map { / AS (\w+)$/ } instructions($image, 'FROM');
	is(scalar(instructions($image, 'FROM')), 2, "$image: two stages");
	like($_, qr/^(?:scratch$|[\w.\/]+:\$\{PG_MAJOR\}-\w+)/, "$image: FROM $_: of that major") foreach instructions($image, 'FROM');
	foreach my $copy (instructions($image, 'COPY'))
	{
		my ($stage) = $copy =~ s/^--from=(\w+) // ? $1 : undef;
		my @paths = split / /, $copy;
		my $to = pop @paths;

		if ($stage)
		{
			ok($stages{$stage}, "$image: COPY --from=$stage: there is that stage");
			my $made = $paths[0] =~ s{/$}{}r;
			like(join(' ', @runs), qr/\Q$made\E\b/, "$image: COPY --from=$stage $paths[0]: which makes that");
			next;
		}
		ok(-e "$tree/$_", "$image: COPY $_: it is there") foreach @paths;
		like($to, qr{/$|^\w+$}, "$image: COPY to a directory, or under the same name: $to") if @paths > 1;
	}
	foreach my $run (grep { /apt-get install/ } @runs)
	{
		like($run, qr/^apt-get update .*--no-install-recommends .*rm -rf \/var\/lib\/apt\/lists/, "$image: RUN apt-get in one layer, and leaves nothing behind");
	}
	foreach my $cmd (map { s/.* CMD //r } instructions($image, 'CMD'))
	{
		like($cmd, qr/^\[".*"\]$/, "$image: CMD as a list, so that the server gets the signals");
	}

	# what make needs is copied: it says what it would install, and finds it
	my $copied = join ' ', grep { !/^--from/ } instructions($image, 'COPY');
	foreach my $needed ($installs =~ /install -c -m \d+ +(.*?) +'\/out/g)
	{
		foreach my $file (grep { !/\.so$/ } split ' ', $needed =~ s{\.//}{}gr)
		{
			my ($top) = $file =~ m{^([^/]+)};

			like($copied, qr/(?:^| )\Q$top\E /, "$image: $file is copied to be installed");
		}
	}
}
like($installs, qr{'/out/usr/lib/postgresql/15/bin/'}, 'persist_healthcheck is installed beside psql, which is in the image\'s PATH');

# ---- compose.yaml and what it refers to

my $compose = $yaml{'docker/compose.yaml'};
my $postgres = $compose->{services}{postgres};
my $base = "$tree/examples/docker";

is(abs_path("$base/$postgres->{build}{context}"), $tree, 'compose: the context is the tree');
ok(-e "$tree/$postgres->{build}{dockerfile}", 'compose: the Dockerfile is there');
foreach my $service (sort keys %{ $compose->{services} })
{
	my $definition = $compose->{services}{$service};

	ok($definition->{build} || $definition->{image} =~ /:v?\d/, "compose: $service: built here, or an image with a version");
	foreach my $volume (@{ $definition->{volumes} || [] })
	{
		my ($from) = split /:/, $volume;

		ok($from =~ /^\./ ? -f "$base/$from" : exists $compose->{volumes}{$from}, "compose: $service: $from is there");
	}
	ok($compose->{services}{$_}, "compose: $service: waits for $_, which there is") foreach keys %{ $definition->{depends_on} || {} };
}
my ($mounted) = map { (split /:/)[1] } grep { /postgres_exporter/ } @{ $compose->{services}{exporter}{volumes} };
is_deeply($compose->{services}{exporter}{command}, ["--extend.query-path=$mounted"], 'compose: the exporter gets the queries');
my $prometheus = $yaml{'docker/prometheus.yml'};
my %mounts = map { my ($from, $to) = split /:/; $to => $from } @{ $compose->{services}{prometheus}{volumes} };
ok($mounts{"/etc/prometheus/$_"}, "prometheus: $_ is mounted") foreach @{ $prometheus->{rule_files} };
is_deeply($prometheus->{scrape_configs}[0]{static_configs}[0]{targets}, ['exporter:9187'], 'prometheus: it asks the exporter');

# ---- the server that the images would run, with their settings

my %settings;
my @command = @{ $postgres->{command} };
is(shift @command, 'postgres', 'compose: the command is the server');
while (my ($option, $setting) = splice @command, 0, 2)
{
	my ($name, $value) = split /=/, $setting, 2;

	is($option, '-c', "compose: $setting is a setting");
	$settings{$name} = "'$value'";
}
my $cluster = $yaml{'cloudnative-pg/cluster.yaml'}{spec};
is($settings{shared_preload_libraries}, "'persist_pipeline'", 'compose: the library is preloaded');
is_deeply($cluster->{postgresql}{shared_preload_libraries}, ['persist_pipeline'], 'cluster: the library is preloaded');
like((instructions('docker', 'CMD'))[0], qr/"shared_preload_libraries=persist_pipeline"/, 'docker: the library is preloaded');

my $node = pp_node('container', no_start => 1, %settings, map { $_ => "'$cluster->{postgresql}{parameters}{$_}'" } keys %{ $cluster->{postgresql}{parameters} });
$node->start;
foreach my $name (keys %settings, keys %{ $cluster->{postgresql}{parameters} })
{
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_settings WHERE name = '$name' AND source = 'configuration file'"), 1, "there is a setting $name");
}

# the databases: of the one example, and of the other
my %environment = %{ $postgres->{environment} };
my $user = $node->safe_psql('postgres', 'SELECT current_user');

%environment = (%environment, POSTGRES_USER => $user, MONITORING_PASSWORD => "it's secret", PGHOST => $node->host, PGPORT => $node->port);
$node->safe_psql('postgres', "CREATE DATABASE $environment{POSTGRES_DB}");
local @ENV{ keys %environment } = values %environment;
command_ok([ 'sh', "$base/init.sh" ], 'init.sh runs');
ok(-x "$base/init.sh", 'and can be executed');
is($node->safe_psql('app', 'SELECT status IS NOT NULL FROM persist_health()'), 't', 'the extension is there, where search_path finds it');
my $monitoring = connect_to($node, 'app', user => $compose->{services}{exporter}{environment}{DATA_SOURCE_USER});
is(try_sql($monitoring, 'SELECT * FROM persist_metrics'), '00000', 'the exporter\'s role reads what there is');
my $queries = YAML::XS::LoadFile("$tree/monitoring/postgres_exporter.yml");
is(try_sql($monitoring, $queries->{$_}{query}), '00000', "the exporter's query $_ runs") foreach sort keys %$queries;
$monitoring->disconnect;
like($compose->{services}{exporter}{environment}{DATA_SOURCE_URI}, qr{^postgres:5432/$environment{POSTGRES_DB}\?}, 'the exporter asks that database');

my $init = $cluster->{bootstrap}{initdb};
$node->safe_psql('postgres', "CREATE ROLE $init->{owner} LOGIN; CREATE DATABASE cluster OWNER $init->{owner}");
is($init->{database}, 'app', 'cluster: the database is app');
foreach my $sql (@{ $init->{postInitApplicationSQL} })
{
	my ($failed, $out, $err) = $node->psql('cluster', $sql =~ s/\bDATABASE \Kapp\b/cluster/r);

	is($failed, 0, "cluster: $sql") or diag($err);
}
my $owner = connect_to($node, 'cluster', user => $init->{owner});
is(try_sql($owner, 'CREATE TABLE t (n int)'), '00000', 'cluster: the owner has a table');
is(try_sql($owner, q{SELECT persist_enqueue('t', '{"n": 1}')}), '00000', 'cluster: the owner enqueues');
is(one_value($owner, 'SELECT persist_flush()'), 1, 'cluster: and it is written');
$owner->disconnect;
my @maps = YAML::XS::LoadFile("$tree/monitoring/cloudnative-pg.yaml");
my ($map) = grep { $_->{kind} eq 'ConfigMap' } @maps;
is_deeply($cluster->{monitoring}{customQueriesConfigMap}, [ { name => $map->{metadata}{name}, key => (keys %{ $map->{data} })[0] } ], 'cluster: its queries are those of monitoring/');
like($cluster->{postgresql}{extensions}[0]{image}{reference}, qr/:1\.1-18-trixie$/, 'cluster: the extension\'s image is for the major and the distribution ...');
like($cluster->{imageName}, qr/:18-\w+-trixie$/, '... of the server\'s');

# ---- health checks, exactly as they are written

my ($dockerfile_check) = map { /CMD (.*)/ } instructions('docker', 'HEALTHCHECK');
my ($shell, $compose_check) = @{ $postgres->{healthcheck}{test} };
is($shell, 'CMD-SHELL', 'compose: the health check is for a shell');
is($compose_check =~ s/\$\$/\$/gr, $dockerfile_check, 'compose: it is the one of the Dockerfile');

# sh runs it, with the container's environment
sub check_exits
{
	my ($expected, $name) = @_;

	foreach my $check ($dockerfile_check, $compose_check =~ s/\$\$/\$/gr)
	{
		my $status = system('sh', '-c', "{ $check; } >/dev/null 2>&1") >> 8;

		is($status, $expected, "health check: $name");
	}
	return;
}

check_exits(0, 'healthy');
my $dbh = connect_to($node, 'app');
$dbh->do('CREATE TABLE t (n int CHECK (n > 0))');
enqueue_rows($dbh, 't', -1);
ok(flush($dbh), 'a row is refused');
is(one_value($dbh, 'SELECT status FROM persist_health()'), 'degraded', 'which degrades it');
check_exits(0, 'degraded is well enough');
$dbh->do("ALTER DATABASE app SET persist_pipeline.health_unhealthy_age = '1ms'");
lock_targets($dbh, 't');
my $other = connect_to($node, 'app');
enqueue_rows($other, 't', 1);
ok(eval { wait_for_sql($other, "SELECT status = 'unhealthy' FROM persist_health()") }, 'a row waits for longer than it may');
check_exits(1, 'unhealthy');
$dbh->rollback;
ok(flush($other), 'it lands');
check_exits(0, 'healthy again');
$_->disconnect foreach $dbh, $other;
$node->stop;
check_exits(1, 'the server is stopped');

# ---- what their READMEs link to

foreach my $example (keys %dockerfile)
{
	my $readme = slurp_file("$tree/examples/$example/README.md");

	ok(-e "$tree/examples/$example/$_", "$example: README: $_ is there") foreach $readme =~ /\]\(([^)#:]+)\)/g;
	ok(-e "$tree/$_", "$example: README: $_ is there") foreach $readme =~ m{\b((?:examples|monitoring|test)/[\w./-]+\w)}g;
}
done_testing();
