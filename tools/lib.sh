# Sourced by the scripts of tools/ and .ci/: what they share.
# shellcheck shell=bash

say() {
	printf '%s\n' "$*"
}

die() {
	printf '%s\n' "$*" >&2
	exit 1
}

may_become_root() {
	[ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; }
}

# Run a command as root: as we are, or through sudo.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "This needs root, and there is no sudo: run as root: $*"
	fi
}

# Can this pg_config's server be built against, and be run?
is_complete() {
	local pgxs bindir

	pgxs=$("$1" --pgxs 2>/dev/null) || return 1
	bindir=$("$1" --bindir 2>/dev/null) || return 1
	[ -f "$pgxs" ] && [ -x "$bindir/postgres" ]
}

# Print the pg_config to use: $PG_CONFIG, else the one on PATH, else the newest
# of Debian's.  False if there is none that is complete.
find_pg_config() {
	local candidate

	if [ -n "${PG_CONFIG:-}" ]; then
		is_complete "$PG_CONFIG" && command -v "$PG_CONFIG"
		return
	fi
	while read -r candidate; do
		if is_complete "$candidate"; then
			command -v "$candidate"
			return
		fi
	done < <(echo pg_config; ls -rv /usr/lib/postgresql/*/bin/pg_config 2>/dev/null)
	return 1
}

# The commit to make archives of: the last one, with what the checkout has changed since in
# files that git knows.
commit_of_checkout() {
	local commit

	commit=$(git -c user.name=checkout -c user.email=checkout@localhost stash create) ||
		die "There is no git repository to make an archive of."
	echo "${commit:-HEAD}"
}
