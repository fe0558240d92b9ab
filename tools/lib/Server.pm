package Server;

# A throw-away PostgreSQL server with persist_pipeline preloaded: in a directory of
# its own, reached through a socket in it, gone when the object goes or the
# program ends.

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);

our @EXPORT_OK = qw(quoted);

# The port is only a part of the socket's name.
use constant PORT => 5432;
use constant USER => 'postgres';

# Only the process that made a server ends it, not those forked from it.
my %running;

# A signal has to end the program in good order, for END to run.
for my $signal (qw(HUP INT TERM))
{
	$SIG{$signal} = sub { exit 1 };
}

END
{
	local $?;
	$_->remove for grep { $_->{owner} == $$ } values %running;
}

# Make and start one.  Options: settings => { name => value }; under => [...]: a command that
# runs the server, such as valgrind.
sub new
{
	my ($class, %options) = @_;
	my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
	my $bin = `'$pg_config' --bindir`;
	chomp $bin;
	croak 'no pg_config' if $bin eq '';

	my $dir = tempdir('server.XXXXXX', TMPDIR => 1);
	my $self = bless {
		owner => $$,
		under => $options{under},
		bin => $bin,
		dir => $dir,
		data => "$dir/data",
		log => "$dir/server.log",
	}, $class;
	$running{$dir} = $self;

	$self->_quietly('initdb', '-D', $self->{data}, '-U', USER, '-A', 'trust', '-E', 'UTF8',
		'--no-locale', '--no-sync');
	$self->_configure($options{settings} // {});
	$self->start;
	return $self;
}

sub _configure
{
	my ($self, $settings) = @_;
	my %all = (
		shared_preload_libraries => 'persist_pipeline',
		listen_addresses => '',
		unix_socket_directories => $self->{dir},
		port => PORT,
		log_line_prefix => '%m [%p] ',
		%$settings);

	open my $file, '>>', "$self->{data}/postgresql.conf" or croak "postgresql.conf: $!";
	print {$file} "$_ = ", quoted($all{$_}), "\n" for sort keys %all;
	close $file or croak "postgresql.conf: $!";
	return;
}

sub start
{
	my ($self) = @_;

	$self->_quietly('pg_ctl', 'start', '-w', '-D', $self->{data}, '-l', $self->{log}, $self->_program);
	return;
}

# The option that names another program than the server's own.
sub _program
{
	my ($self) = @_;
	my $path = "$self->{dir}/postgres";

	return if !$self->{under};
	open my $file, '>', $path or croak "$path: $!";
	print {$file} "#!/bin/sh\nexec @{$self->{under}} '$self->{bin}/postgres' \"\$@\"\n";
	close $file or croak "$path: $!";
	chmod 0755, $path or croak "$path: $!";
	return ('-p', $path);
}

# Stop it: 'smart', 'fast' or 'immediate'.
sub stop
{
	my ($self, $mode) = @_;

	$self->_quietly('pg_ctl', 'stop', '-w', '-m', $mode, '-D', $self->{data});
	return;
}

sub remove
{
	my ($self) = @_;

	delete $running{$self->{dir}};
	if (-e "$self->{data}/postmaster.pid")
	{
		eval { $self->stop('immediate'); 1 } or warn $@;
	}
	remove_tree($self->{dir});
	return;
}

# Run one of the server's programs; what it prints is only of interest if it fails.
sub _quietly
{
	my ($self, $program, @arguments) = @_;
	my $output = "$self->{dir}/output";

	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		open STDOUT, '>', $output or die "$output: $!";
		open STDERR, '>&', \*STDOUT or die "$output: $!";
		exec "$self->{bin}/$program", @arguments or die "$program: $!";
	}
	waitpid $pid, 0;
	return if $? == 0;

	my $message = _contents($output, 0);
	$message .= $self->log_since(0) if -e $self->{log};
	croak "$program failed:\n$message";
}

# The environment that leads a client here.
sub environment
{
	my ($self) = @_;

	return (
		PGHOST => $self->{dir},
		PGPORT => PORT,
		PGUSER => USER,
		PGDATABASE => 'postgres');
}

# The postmaster's.
sub pid
{
	my ($self) = @_;

	return (_contents("$self->{data}/postmaster.pid", 0) =~ /^(\d+)/)[0];
}

# The path of one of the server's programs.
sub program
{
	my ($self, $name) = @_;

	return "$self->{bin}/$name";
}

# A DBI connection, which dies where there is an error; autocommit.
sub connect
{
	my ($self) = @_;

	require DBI;
	return DBI->connect(
		"dbi:Pg:host=$self->{dir};port=" . PORT . ';dbname=postgres', USER, '',
		{
			AutoCommit => 1,
			AutoInactiveDestroy => 1,
			PrintError => 0,
			PrintWarn => 0,
			RaiseError => 1,
			Warn => 0,
			pg_enable_utf8 => 1,
		});
}

# How far the log goes now, and what has been written since.
sub log_position
{
	my ($self) = @_;

	return -s $self->{log};
}

sub log_since
{
	my ($self, $position) = @_;

	return _contents($self->{log}, $position);
}

sub _contents
{
	my ($path, $position) = @_;

	open my $file, '<:encoding(UTF-8)', $path or croak "$path: $!";
	seek $file, $position, 0 or croak "$path: $!";
	local $/;
	return scalar(<$file>) // '';
}

# As a string of postgresql.conf, or of SQL without escapes.
sub quoted
{
	my ($value) = @_;

	return "'" . ($value =~ s/'/''/gr) . "'";
}

1;
