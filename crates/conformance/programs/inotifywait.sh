mkdir -p w/below; : >w/one
inotifywait -mrq -e modify,create --format '%w%f %e' w >events & i=$!
until grep -q ONE events; do mkdir w/ONE$((++n)); sleep 0.1; done
# One that was made while the watches were yet to be set may have none.
new=$(grep -o 'w/ONE[0-9]*' events | head -n1)
echo rea''dy
read
echo more >>w/one; : >w/below/two
until grep -q '^w/one MODIFY' events && grep -q '^w/below/two CREATE' events; do sleep 0.1; done
: >$new/three
until grep -q "^$new/three CREATE" events; do sleep 0.1; done
echo told $?
kill $i; wait
exit 5
