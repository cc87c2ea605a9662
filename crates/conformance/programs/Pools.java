import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** Pools of threads that compute, and leave much to collect, while others have timers. */
class Pools {
    static String digest(int seed) throws Exception {
        Random random = new Random(seed);
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int round = 0; round < 6; round++) {
            List<byte[]> all = new ArrayList<>();
            for (int n = 0; n < 300; n++) {
                byte[] bytes = new byte[1024];
                random.nextBytes(bytes);
                all.add(bytes);
            }
            Collections.shuffle(all, random);
            Map<Integer, String> texts = new HashMap<>();
            for (byte[] bytes : all) {
                digest.update(bytes);
                texts.put(Arrays.hashCode(bytes), new String(bytes));
            }
            digest.update((byte) texts.size());
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    public static void main(String[] words) throws Exception {
        var pool = Executors.newFixedThreadPool(40);
        var timers = Executors.newScheduledThreadPool(4);
        AtomicLong ticks = new AtomicLong();
        for (int n = 0; n < 4; n++) {
            timers.scheduleAtFixedRate(ticks::incrementAndGet, 1, 7, TimeUnit.MILLISECONDS);
        }
        List<Future<String>> all = new ArrayList<>();
        for (int n = 0; n < 40; n++) {
            int seed = n;
            all.add(pool.submit(() -> digest(seed)));
        }
        for (var one : all) {
            System.out.println(one.get());
        }
        pool.shutdown();
        timers.shutdown();
        System.out.println(timers.awaitTermination(5, TimeUnit.SECONDS) && ticks.get() > 20);
    }
}
