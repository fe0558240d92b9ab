package Examples;

# The examples of the documentation, as they stand in its Markdown: each block of SQL (```sql), of
# shell (```sh) and of settings (```conf).  What a page says, in a comment, of the block that follows:
#
#	<!-- as: scraper -->		the role that runs the SQL; else postgres
#	<!-- in: postgres -->		the database that it runs in; else app
#	<!-- not run: why -->		it is there to be read
#	<!-- varies: REGEX -->		what of its output, in a block of text that follows, isn't always the same
#
# A block of text (```text) right after an example is its output.  There the width of columns and the
# time of day may differ, and psql's command tags may be left out.  An example without one must give
# no error and no warning.
#
# Clients are let in as Debian has it: by the socket as the role that the operating system's user is
# called, by TCP with a password, which is "secret" on all pages.

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(pages_of read_page examples_node start_page run_example);

# ---- the pages ----

# All Markdown of the documentation, the README first.
sub pages_of
{
	my ($tree) = @_;

	return ('README.md', map { s{^\Q$tree\E/}{}r } sort glob "$tree/doc/*.md $tree/doc/*/*.md");
}

# A page's blocks in their order: language, text, line, what is said of each, and its output.
sub read_page
{
	my ($file) = @_;
	my ($number, $block, $last, @blocks, %said) = (0);

	foreach my $line (split /^/, slurp_file($file))
	{
		$number++;
		if ($block)
		{
			if ($line !~ /^\s*```\s*$/)
			{
				$block->{text} .= $line =~ s/^\Q$block->{indent}\E//r;
				next;
			}
			$last = $block->{language} eq 'text' ? undef : $block;
			undef $block;
		}
		elsif ($line =~ /^(\s*)```(.*)/)
		{
			$block = { %said, indent => $1, language => $2, line => $number, text => '' };
			%said = ();
			if ($block->{language} eq 'text' && $last)
			{
				$last->{output} = $block;
			}
			else
			{
				push @blocks, $block;
			}
		}
		elsif ($line =~ /^\s*<!-- (as|in|not run|varies): (.+?) -->$/)
		{
			$said{$1} = $2;
		}
		elsif ($line =~ /\S/)
		{
			%said = ();
			undef $last;
		}
	}
	return @blocks;
}

# ---- the server ----

# A program by another name, first on the PATH of the examples.
sub stand_in
{
	my ($dir, $name, $script) = @_;

	append_to_file("$dir/$name", "#!/bin/bash\n$script\n");
	chmod 0755, "$dir/$name" or die "$dir/$name: $!";
	return;
}

sub examples_node
{
	my $node = pp_node(
		'examples',
		no_start => 1,
		listen_addresses => "'127.0.0.1'",
		fsync => 'on',
		'persist_pipeline.flush_interval' => "'10ms'");
	my $dir = $node->{examples} = PostgreSQL::Test::Utils::tempdir();
	my $data = $node->data_dir;

	unlink "$data/pg_hba.conf";
	append_to_file("$data/pg_hba.conf", "local all postgres," . getpwuid($<) . " trust\n"
		  . "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n");
	append_to_file("$dir/pgpass", "*:*:*:*:secret\n");
	chmod 0600, "$dir/pgpass" or die "$dir/pgpass: $!";

	# what only root may do
	stand_in($dir, 'sudo', '[ "$1" != -u ] || { export PGUSER=$2; shift 2; }; exec "$@"');
	stand_in($dir, 'systemctl', "exec pg_ctl \$1 -s -w -m fast -D '$data' -l '" . $node->logfile . "'");

	$node->append_conf('postgresql.conf', "include_if_exists = 'example.conf'");
	$node->start;
	$node->safe_psql('postgres', 'CREATE ROLE postgres SUPERUSER LOGIN') if getpwuid($<) ne 'postgres';
	$node->{roles} = $node->safe_psql('postgres', 'SELECT array_agg(rolname) FROM pg_roles');
	return $node;
}

# Take away what the page before has left.  Preloaded is persist_pipeline, or what is said.
sub start_page
{
	my ($node, $libraries) = @_;

	$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
	$node->safe_psql('postgres', "ALTER SYSTEM SET shared_preload_libraries = $libraries") if $libraries;
	$node->restart;
	$node->safe_psql('postgres', $_)
	  foreach split /\n/, $node->safe_psql('postgres', qq{
		SELECT format('DROP DATABASE %I', datname) FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1');
		SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname <> ALL ('$node->{roles}');
	});
	return;
}

# ---- an example ----

# What an example prints; returns whether it has succeeded, too.
sub output_of
{
	my ($node, $example) = @_;
	my ($dir, $text, $output) = ($node->{examples}, $example->{text}, '');
	my @command = ('psql', '-X', '-U', $example->{as} || 'postgres', '-d', $example->{in} || 'app');
	my $host = $example->{as} ? 'localhost' : $node->host;

	if ($example->{language} eq 'sh')
	{
		# what it writes is not for the source tree, where only make has to be
		my $where = $text =~ /\bmake\b/ ? '' : "cd '$dir'\n";

		@command = ('bash', '-e', '-o', 'pipefail', '-c', "$where$text");
		$text = '';
	}

	# without bitcode, where the tree isn't built yet: that takes twice as long
	local %ENV = %ENV;
	delete @ENV{qw(MFLAGS MAKELEVEL PGUSER PGDATABASE)};
	@ENV{qw(PATH PGHOST PGPORT PGPASSFILE PGAPPNAME DESTDIR MAKEFLAGS)} =
	  ("$dir:$ENV{PATH}", $host, $node->port, "$dir/pgpass", 'example', "$dir/installed", '-sj2 with_llvm=no');
	my $succeeded = IPC::Run::run(\@command, '<', \$text, '>&', \$output);
	return ($succeeded, $output);
}

# What the server says against settings.  That some of them take a restart is no fault.
sub faults_of_settings
{
	my ($node, $settings) = @_;
	my $file = $node->data_dir . '/example.conf';

	append_to_file($file, $settings);
	my $faults = $node->safe_psql('postgres', q{
		SELECT format('%s: %s', name, error) FROM pg_file_settings
		WHERE sourcefile ~ 'example.conf$' AND error <> 'setting could not be applied'});
	unlink $file;
	return $faults;
}

# What may differ is left out.
sub comparable
{
	my ($text, $varies) = @_;

	$text =~ s/$varies/~/gm if defined $varies;
	$text =~ s/\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d(?::\d\d)?)?)?/~/g;
	$text =~ s/-{2,}/-/g;
	$text =~ s/[ \t]+/ /g;
	$text =~ s/ $//mg;
	return $text =~ s/\s+\z//r;
}

# The tags that psql prints after commands that return no rows.
my $tag = qr/^(?:(?:ALTER|CREATE|DROP)[ ][A-Z ]+|INSERT[ ]0[ ]\d+|(?:COPY|DELETE|MERGE|SELECT|UPDATE)[ ]\d+
	|BEGIN|COMMENT|COMMIT|DEALLOCATE|DO|GRANT|GRANT[ ]ROLE|LOCK[ ]TABLE|PREPARE|RELEASE|RESET|REVOKE
	|ROLLBACK|SAVEPOINT|SET|TRUNCATE[ ]TABLE)\n/mx;

# Run it as the page says; a test.
sub run_example
{
	my ($node, $page, $example) = @_;
	my $name = "$page:$example->{line}";

	return is(faults_of_settings($node, $example->{text}), '', $name) if $example->{language} eq 'conf';

	my ($succeeded, $output) = output_of($node, $example);
	my $expected = $example->{output};

	return ok($succeeded && $output !~ /^(?:psql: )?(?:error|ERROR|FATAL|PANIC|WARNING):/m, $name)
	  || diag($example->{text}, $output)
	  if !$expected;

	my ($is, $should) = map { comparable($_, $expected->{varies}) } $output, $expected->{text};

	$is = comparable($output =~ s/$tag//gr, $expected->{varies}) if $is ne $should;
	return is($is, $should, $name) || diag($output);
}

1;
