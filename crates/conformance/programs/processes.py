# Processes with a queue, locks, values and memory in common, beside a pool of others.
import hashlib, multiprocessing, sys, time
from multiprocessing.shared_memory import SharedMemory


def total(n):
    total = hashlib.sha256()
    for i in range(200):
        total.update(bytes((i * n + k) % 256 for k in range(300)))
    return n, total.hexdigest()


def count(name, n, lock, value, told):
    memory = SharedMemory(name=name)
    for i in range(1500):
        with lock:
            memory.buf[n] = (memory.buf[n] + 1) % 256
            value.value += 1
        if i % 100 == 0:
            told.put((n, i))
            time.sleep(0.05)
    memory.close()


if __name__ == '__main__':
    multiprocessing.set_start_method(sys.argv[1])
    memory, lock = SharedMemory(create=True, size=4096), multiprocessing.Lock()
    value, told = multiprocessing.Value('i', 0), multiprocessing.Queue()
    all = [multiprocessing.Process(target=count, args=(memory.name, n, lock, value, told)) for n in range(4)]
    for one in all:
        one.start()
    with multiprocessing.Pool(3) as pool:
        totals = pool.map(total, range(150), chunksize=3)
    heard = sorted(told.get() for _ in range(4 * 15))
    for one in all:
        one.join()
    print(value.value, list(memory.buf[:4]), heard, [one.exitcode for one in all])
    memory.close()
    memory.unlink()
    for one in totals:
        print(*one)
