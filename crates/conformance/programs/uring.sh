cat >reads.c <<'END'
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
enum { ENTRIES = 16, PAGE = 4096 };
static char bytes[ENTRIES][PAGE], other[PAGE];
int main(void)
{
    struct io_uring ring;
    struct iovec all = { bytes, sizeof bytes };
    int file = open("file", O_RDONLY);
    if (file < 0 || io_uring_queue_init(ENTRIES, &ring, 0) || io_uring_register_buffers(&ring, &all, 1)) return 2;
    for (unsigned long round = 0;; round++) {
        unsigned long seen = 0, first = round * 7 % 200;
        for (unsigned n = 0; n < ENTRIES; n++) {
            struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
            if (!entry) return 3;
            if (n % 2) io_uring_prep_read(entry, file, bytes[n], PAGE, (first + n) * PAGE);
            else io_uring_prep_read_fixed(entry, file, bytes[n], PAGE, (first + n) * PAGE, 0);
            io_uring_sqe_set_data64(entry, round * ENTRIES + n);
        }
        if (io_uring_submit_and_wait(&ring, ENTRIES) != ENTRIES) return 4;
        for (unsigned n = 0; n < ENTRIES; n++) {
            struct io_uring_cqe *done;
            int error;
            while ((error = io_uring_wait_cqe(&ring, &done)) == -EINTR);
            if (error || done->res != PAGE || done->user_data / ENTRIES != round) return 5;
            seen |= 1ul << done->user_data % ENTRIES;
            io_uring_cqe_seen(&ring, done);
        }
        if (seen + 1 != 1ul << ENTRIES) return 6;
        for (unsigned n = 0; n < ENTRIES; n++)
            if (pread(file, other, PAGE, (first + n) * PAGE) != PAGE || memcmp(other, bytes[n], PAGE)) return 7;
        if (round % 100 == 0) printf("%lu\n", round), fflush(stdout);
        usleep(100);
    }
}
END
cc -O1 -o reads reads.c -luring && head -c 1000000 /dev/urandom >file || exit 1
./reads >rounds & r=$!
until [ -s rounds ]; do sleep 0.1; done
echo rea''dy
read
n=$(wc -l <rounds)
until (($(wc -l <rounds) > n)); do sleep 0.1; kill -0 $r || break; done
kill $r; wait $r; [ $? = 143 ]
echo reads $?
exit 5
