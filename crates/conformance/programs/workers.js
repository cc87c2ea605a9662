// Workers with heaps of their own, while the main thread has others compress and write for it, and has timers.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');
const zlib = require('zlib');

if (!isMainThread) {
    const hash = createHash('sha256');
    let kept = [];
    for (let i = 0; i < 5000; i++) {
        kept.push({ i, text: 'x'.repeat(i % 300), all: Array.from({ length: 50 }, (_, k) => k * i * workerData) });
        if (kept.length > 500) kept = kept.slice(250);
        hash.update(JSON.stringify(kept.at(-1)));
    }
    parentPort.postMessage(hash.digest('hex'));
} else {
    let text = Buffer.from(Array.from({ length: 300000 }, (_, i) => (i * i) % 251)), rounds = 60, ticks = 0;
    const sums = [], timer = setInterval(() => ticks++, 5);
    const workers = Array.from({ length: 6 }, (_, n) => new Promise(done =>
        new Worker(__filename, { workerData: n }).on('message', sum => done(sum))));
    const compressed = new Promise(done => (function next() {
        if (rounds-- === 0) return done();
        zlib.deflate(text, (_, packed) => {
            sums.push(createHash('md5').update(packed).digest('hex'));
            setTimeout(next, 10);
        });
    })());
    Promise.all([...workers, compressed]).then(all => {
        clearInterval(timer);
        console.log(all.join('\n'), sums.join('\n'), ticks > 20);
    });
}
