cat >daemon.py <<'END'
import os, select, socket, sys
def bound():
    new = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if os.path.exists('log'): os.remove('log')
    new.bind('log')
    return new
log, ends = bound(), [os.pidfd_open(int(sys.argv[1]))]
while ready := select.select([log] + ends, [], [], 60)[0]:
    if ends == ready:
        log, ends = bound(), []
        continue
    text = log.recv(9999).decode()
    if 'quit' in text: break
    print(text, file=open('heard', 'a'))
END
(setsid /usr/bin/python3 daemon.py $$ </dev/null >/dev/null 2>errors &)
until [ -S log ]; do sleep 0.1; done
sends='import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("log")
for line in sys.stdin: s.send(line.encode())'
exec 3> >(logger -u "$PWD/log") 4> >(/usr/bin/python3 -c "$sends")
say() { echo "by logger: $1" >&3; echo "by send: $1" >&4; until [ "$(grep -c ": $1" heard 2>/dev/null)" = 2 ]; do sleep 0.1; done; }
say one
echo rea''dy
read
say two
echo heard $?
echo quit >&4
exec 3>&- 4>&-
wait
exit 5
