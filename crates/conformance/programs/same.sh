# Prepares, runs a command undisturbed, and again beside itself: what it writes must be the same, and is something.
eval "$1"
shift
written() { (set -o pipefail; "$@" | sha256sum) || echo "failed $BASHPID"; }
first=$(written "$@")
exec 3< <(written "$@")
echo rea''dy
read
read -r second <&3
[ "$first" = "$second" ] && [ "$first" != "$(sha256sum </dev/null)" ]
echo same $?
exit 5
