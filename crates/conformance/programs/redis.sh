p=$((20000 + $$ % 10000))
serve() { redis-server --bind 127.0.0.1 --port $p --save '' >/dev/null & s=$!; }
serve
until timeout 1 redis-cli -p $p ping >/dev/null 2>&1; do kill -0 $s || { p=$((p + 1)); serve; }; sleep 0.1; done
redis-benchmark -p $p -c 20 -n 100000000 -t set -q >log 2>&1 & b=$!
until grep -q 'overall: [1-9]' log; do sleep 0.1; done
echo rea''dy
read
sleep 0.5
kill $b
wait $b
[ $? = 143 ] && ! grep -qi error log
echo bench $?
redis-cli -p $p shutdown nosave
wait
exit 5
