# Traps, a pipeline, and a subshell that reads what is typed.
trap 'echo by shell' USR1
(
    trap 'echo by subshell' USR1
    n=0
    while read -r word; do
        n=$((n + 1))
        echo "$word $n" | tr a-z A-Z | sed 's/$/!/'
        [ "$word" = trap ] && kill -USR1 $BASHPID
    done
    echo "end $n"
    kill -USR1 $$
    exit 7
) | while read -r line; do echo "<$line>"; done
echo "status ${PIPESTATUS[*]}"
