d=$PWD; pg=$(echo /usr/lib/postgresql/*/bin); as='setpriv --reuid=postgres --regid=postgres --clear-groups'
install -d -o postgres -g postgres data
$as $pg/initdb -D data -A trust --no-sync >init.log 2>&1
$as $pg/postgres -D data -k $d/data -c listen_addresses= -c fsync=off >log 2>&1 &
until $as $pg/pg_isready -h $d/data -q; do sleep 0.1; done
$as $pg/pgbench -h $d/data -i postgres >init.log 2>&1
$as $pg/pgbench -h $d/data -c 8 -T 4 -P 1 postgres >data/bench 2>&1 & b=$!
until grep -q tps data/bench; do sleep 0.1; done
echo rea''dy
wait $b
echo bench $?
kill -INT $(head -1 data/postmaster.pid)
wait
exit 5
