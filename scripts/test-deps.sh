#!/usr/bin/env bash
# Makes sure that the programs the tests talk to are there. As root it installs
# what is missing, without starting any service; otherwise it says what to
# install and stops. Nothing is done when nothing is missing.
set -eu
PATH=$PATH:/usr/sbin:/sbin
here=$(dirname "$(readlink -f "$0")")

# program           Debian package
needed='
initdb              postgresql
psql                postgresql-client
postfix             postfix
gpg                 gnupg
gpgsm               gpgsm
rnp                 rnp
sq                  sq
openssl             openssl
kzonecheck          knot-dnssecutils
cmsutil             libnss3-tools
slapd               slapd
ldapsearch          ldap-utils
chromium            chromium
node                nodejs
npm                 npm
tcpdump             tcpdump
strace              strace
swaks               swaks
knotd               knot
unbound             unbound
opendkim            opendkim
opendkim-genkey     opendkim-tools
rspamd              rspamd
pebble              pebble
clamd               clamav-daemon
git                 git
libidn.so.12        libidn12
libgnutls-dane.so.0 libgnutls-dane0
libnsl.so.2         libnsl2
'

there() {
  case $1 in
  initdb) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
  lib*) compgen -G "/usr/lib/*/$1" >/dev/null ;; # of Exim, see test-exim.sh
  *) command -v "$1" >/dev/null ;;
  esac
}

missing=()
while read -r program package; do
  [ -z "$program" ] || there "$program" || missing+=("$package")
done <<<"$needed"

if [ ${#missing[@]} -eq 0 ]; then
  exec "$here/test-exim.sh"
fi

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "Some programs that the tests talk to are missing. Install them with:" >&2
  echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

echo "Installing for the tests: ${missing[*]}"

# Debian asks this program before it starts a service; 101 means no. An
# existing one belongs to somebody else and stays.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
finish() {
  rm -f "$log"
  [ -z "${ours:-}" ] || rm -f "$policy"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ]; then
  ours=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical
apt() {
  apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null || {
    cat "$log" >&2
    return 1
  }
}

# Postfix would ask what kind of mail server this is to be: one for this
# machine alone.
case " ${missing[*]} " in
*' postfix '*)
  if command -v debconf-set-selections >/dev/null; then
    printf 'postfix postfix/main_mailer_type select Local only\npostfix postfix/mailname string localhost\n' | debconf-set-selections
  fi
  ;;
esac

apt update
apt install --no-install-recommends --no-remove "${missing[@]}"
"$here/test-exim.sh"
