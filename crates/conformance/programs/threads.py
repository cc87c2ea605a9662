# Threads with a queue, locks, conditions and a timer.
import hashlib, queue, threading, time

asked, sums = queue.Queue(), {}
lock, done = threading.Lock(), threading.Condition()


def work():
    while (n := asked.get()) is not None:
        total = hashlib.sha256()
        for i in range(200):
            total.update(bytes((i * n + k) % 256 for k in range(300)))
            if i % 50 == 0:
                time.sleep(0.001)
        with lock:
            sums[n] = total.hexdigest()
        with done:
            done.notify_all()


threads = [threading.Thread(target=work) for _ in range(24)]
for thread in threads:
    thread.start()
threading.Timer(0.2, lambda: asked.put(200)).start()
for n in range(200):
    asked.put(n)
with done:
    while len(sums) < 201:
        done.wait(0.5)
for _ in threads:
    asked.put(None)
for thread in threads:
    thread.join()
for n in sorted(sums):
    print(n, sums[n])
