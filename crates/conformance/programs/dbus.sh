export DBUS_SESSION_BUS_ADDRESS=unix:path=$PWD/bus
setpriv --pdeathsig KILL dbus-daemon --session --nofork --nopidfile --nosyslog --address=$DBUS_SESSION_BUS_ADDRESS >log 2>&1 & d=$!
until dbus-send --dest=org.freedesktop.DBus / org.freedesktop.DBus.Peer.Ping 2>/dev/null; do sleep 0.1; done
cat >both.py <<'END'
import dbus, dbus.service, sys, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SessionBus()
class Adds(dbus.service.Object):
    @dbus.service.method('a.b', in_signature='xs', out_signature='xs')
    def add(self, number, text):
        return number + 1, text + '!'
def serve():
    name = dbus.service.BusName('a.b', bus, do_not_queue=True)
    adds = Adds(bus, '/')
    GLib.MainLoop().run()
def ask():
    adds = dbus.Interface(bus.get_object('a.b', '/'), 'a.b')
    n = 0
    while True:
        text = 'x' * (n % 5000)
        assert adds.add(n, text) == (n + 1, text + '!')
        n += 1
        if n % 100 == 0: print(n, flush=True)
globals()[sys.argv[1]]()
END
/usr/bin/python3 both.py serve & s=$!
until dbus-send --print-reply --dest=a.b / a.b.add int64:1 string:x >/dev/null 2>&1; do sleep 0.1; done
/usr/bin/python3 both.py ask >asked 2>&1 & a=$!
until [ -s asked ]; do sleep 0.1; done
echo rea''dy
read
n=$(wc -l <asked)
until (($(wc -l <asked) > n)); do sleep 0.1; kill -0 $a || break; done
kill $a; wait $a; [ $? = 143 ] && ! grep -v '^[0-9]*$' asked
echo calls $?
kill $s $d
wait
exit 5
