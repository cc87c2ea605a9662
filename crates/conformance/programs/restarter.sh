#!/bin/bash
# Stands in for cryopid when the harness itself is tried: "freeze" ends the program and writes a script that starts it anew.
# What is judged by its memory must fail with it; the harness's own machinery must not.
set -e
restart() { # PID FILE
	{
		echo '#!/bin/bash'
		echo "export SPECIMEN_READY=/dev/null"
		echo "cd '$(readlink "/proc/$1/cwd")'"
		printf 'exec'
		while IFS= read -r -d '' word; do printf ' %q' "$word"; done <"/proc/$1/cmdline"
		echo
	} >"$2"
	chmod 700 "$2"
}
command=$1
shift
case $command in
freeze | snapshot)
	restart "$1" "$3"
	if [ "$command" = freeze ]; then kill -KILL "$1"; fi
	echo "froze 1 process, 1 MiB -> $3 (1 MiB) in 0.01 s, paused 1 ms"
	;;
inspect) echo '{}' ;;
*) exit 1 ;;
esac
