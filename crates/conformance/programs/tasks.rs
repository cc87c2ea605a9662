//! Tasks of tokio in a row: each hands on what it gets by a pipe once a timer of its own has gone off. What comes out is added.

use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, stdin};
use tokio::net::unix::pipe::{Receiver, Sender, pipe};
use tokio::time::{interval, sleep};

const ROW: u64 = 100;

async fn hand(mut from: Receiver, mut to: Sender, period: u64) -> std::io::Result<()> {
    let mut ticks = interval(Duration::from_millis(period));
    loop {
        let n = from.read_i64().await?;
        ticks.tick().await;
        to.write_i64(n).await?;
    }
}

#[tokio::main(worker_threads = 4)]
async fn main() -> std::io::Result<ExitCode> {
    let (mut first, mut last) = pipe()?;
    for n in 0..ROW {
        let (to, next) = pipe()?;
        tokio::spawn(hand(last, to, 1 + n % 3));
        last = next;
    }
    let (mut lines, mut sum) = (BufReader::new(stdin()).lines(), 0);
    while let Some(line) = lines.next_line().await? {
        first.write_i64(line.parse().unwrap_or(0)).await?;
        let slow = sleep(Duration::from_secs(60));
        tokio::select! {
            n = last.read_i64() => sum += n?,
            () = slow => return Ok(ExitCode::FAILURE),
        }
        println!("sum {sum}");
    }
    Ok(ExitCode::from(5))
}
