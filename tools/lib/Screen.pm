package Screen;

# What the demo and the bench show: headings, a line of progress, a table.

use strict;
use warnings;

use Exporter qw(import);
use List::Util qw(max);
use Time::HiRes qw(time);

our @EXPORT_OK = qw(heading line grouped seconds rate progress progress_end good bad table);

use constant PLAIN_PROGRESS_SECONDS => 5;

my $is_terminal = -t STDOUT;
my $last_progress = 0;

binmode STDOUT, ':encoding(UTF-8)';
$| = 1;

sub styled
{
	my ($code, $text) = @_;

	return $is_terminal ? "\e[${code}m$text\e[0m" : $text;
}

sub good { return styled('32', $_[0]) }
sub bad { return styled('31', $_[0]) }

sub heading
{
	print "\n", styled('1', $_[0]), "\n";
	return;
}

sub line
{
	print "  $_[0]\n";
	return;
}

# 1234567 as 1,234,567
sub grouped
{
	my ($number) = @_;

	my $text = sprintf '%.0f', $number;
	1 while $text =~ s/^(-?\d+)(\d{3})/$1,$2/;
	return $text;
}

sub seconds { return sprintf '%.1f s', $_[0] }

sub rate
{
	my ($rows, $seconds) = @_;

	return grouped($rows / max($seconds, 0.001));
}

# On a terminal one line that changes; else a line now and then.
sub progress
{
	my ($text) = @_;

	if ($is_terminal)
	{
		print "\r  $text\e[K";
	}
	elsif (time - $last_progress >= PLAIN_PROGRESS_SECONDS)
	{
		$last_progress = time;
		print "  $text\n";
	}
	return;
}

sub progress_end
{
	print "\r\e[K" if $is_terminal;
	return;
}

# Rows of cells; the first row is the head, the first column goes to the left.
sub table
{
	my @rows = @_;
	my @width;

	for my $row (@rows)
	{
		$width[$_] = max($width[$_] // 0, length $row->[$_]) for 0 .. $#$row;
	}
	for my $row (@rows)
	{
		my @cells = map { sprintf '%*s', $_ == 0 ? -$width[0] : $width[$_], $row->[$_] } 0 .. $#$row;
		my $text = join('   ', @cells) =~ s/ +$//r;

		$text = styled('1', $text) if $row == $rows[0];
		$text =~ s/\byes$/good('yes')/e;
		$text =~ s/\bNO$/bad('NO')/e;
		print "  $text\n";
	}
	return;
}

1;
