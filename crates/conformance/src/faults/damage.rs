//! Damaged images: a clear error, never a panic, never a process left behind.

use crate::kit::Kit;
use crate::play::random;
use crate::process::until;
use crate::runner::Test;
use crate::scene::{Scene, hear};
use crate::{Outcome, fine, same};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Exit statuses of `verify` and `thaw` for what is no whole image.
const VERIFY: [i32; 1] = [1];
const THAW: [i32; 1] = [125];

/// The two sorts of damage.
#[must_use]
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("damage/cut", |kit| damaged(kit, cut)),
        Test::new("damage/flip at the ends", |kit| damaged(kit, flip_ends)),
        Test::new("damage/flip anywhere", |kit| damaged(kit, flip_anywhere)),
        Test::new("damage/not an image", |kit| damaged(kit, no_image)),
        Test::new("damage/executed", |kit| {
            let mut scene = Scene::new(kit, 0)?;
            let outcome = super::image_of_sleep(&scene).and_then(|path| executed(&Image::of(&mut scene, &path)?));
            scene.close(outcome)
        }),
    ]
}

type Sort = fn(&Image) -> Outcome;

fn damaged(kit: &Kit, sort: Sort) -> Outcome {
    let mut scene = Scene::new(kit, 0)?;
    let outcome = Image::new(&mut scene).and_then(|image| sort(&image));
    scene.close(outcome)
}

/// A whole image, and a copy of it which is damaged.
struct Image<'a> {
    scene: &'a Scene<'a>,
    bytes: Vec<u8>,
    /// Where the stub ends.
    start: usize,
}

impl<'a> Image<'a> {
    fn new(scene: &'a mut Scene<'_>) -> Result<Image<'a>, String> {
        let path = super::image_of(scene, &["ids"])?;
        Image::of(scene, &path)
    }

    fn of(scene: &'a mut Scene<'_>, path: &Path) -> Result<Image<'a>, String> {
        let bytes = fine("image", std::fs::read(path))?;
        fine("copy", std::fs::copy(path, scene.path("d.cryo")))?;
        let start = fine("cryopid", std::fs::metadata(&scene.kit.cryopid))?.len() as usize;
        let begins = bytes.len() > start + 64;
        same("the image holds more than the stub", &true, &begins)?;
        Ok(Image { scene, bytes, start })
    }

    fn verify(&self, what: &str) -> Outcome {
        let said = self.scene.run(&["verify", "d.cryo"])?;
        said.ended_with(&format!("verify of an image {what}"), &VERIFY).and_then(|said| explained(&said.text, what))
    }

    fn thaw(&self, what: &str) -> Outcome {
        let said = self.scene.run(&["thaw", "d.cryo"])?;
        said.ended_with(&format!("thaw of an image {what}"), &THAW).and_then(|said| explained(&said.text, what))?;
        self.scene.only(&[])
    }

    /// The image itself is run.
    fn execute(&self, what: &str) -> Outcome {
        // Somebody who was born while it was written still has it open, until he executes another.
        let run = || match hear(self.scene.command(&self.scene.path("d.cryo"), &[]), Duration::from_secs(10)) {
            Err(reason) if reason.contains("os error 26") => None,
            other => Some(other),
        };
        let said = until(Duration::from_secs(5), run).ok_or("somebody writes the image")??;
        let said = said.ended_with(&format!("an executed image {what}"), &THAW)?;
        same(&format!("the damage is told; it says {:?}", said.error), &true, &said.error.contains("damaged"))?;
        self.scene.only(&[])
    }

    /// Flips one bit, asks, and puts it back.
    fn flip(&self, at: usize, ask: impl Fn(&str) -> Outcome) -> Outcome {
        let path = self.scene.path("d.cryo");
        let bit = 1 << random(0..8);
        poke(&path, at, self.bytes[at] ^ bit)?;
        let outcome = ask(&format!(
            "with bit {bit:#x} of byte {at} flipped (the stub ends at {}, the image at {})",
            self.start,
            self.bytes.len()
        ));
        poke(&path, at, self.bytes[at])?;
        outcome
    }
}

fn poke(path: &Path, at: usize, byte: u8) -> Outcome {
    let file = fine("open", File::options().write(true).open(path))?;
    fine("write", file.write_all_at(&[byte], at as u64))
}

fn explained(text: &str, what: &str) -> Outcome {
    (!text.trim().is_empty()).then_some(()).ok_or_else(|| format!("nothing is said of an image {what}"))
}

/// All complaints of many trials as one, so that a format can be mended in one go.
fn gather(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    let complaints: Vec<String> = outcomes.filter_map(Result::err).collect();
    let first = complaints.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    complaints.is_empty().then_some(()).ok_or_else(|| format!("{} times, such as: {first}", complaints.len()))
}

fn cut(image: &Image) -> Outcome {
    let whole = image.bytes.len();
    let near_end = (1..64).map(|less| whole - less);
    let near_start = (0..64).map(|more| image.start + more);
    let anywhere = (0..60).map(|_| random(image.start as u64..whole as u64) as usize);
    let lengths = near_end.chain(near_start).chain(anywhere).filter(|length| *length < whole);
    gather(lengths.enumerate().map(|(at, length)| {
        fine("write", std::fs::write(image.scene.path("d.cryo"), &image.bytes[..length]))?;
        let what = format!("cut to {length} of {whole} bytes (the stub ends at {})", image.start);
        if at % 4 == 0 { image.thaw(&what) } else { image.verify(&what) }
    }))
}

fn flip_ends(image: &Image) -> Outcome {
    let whole = image.bytes.len();
    let first = image.start..(image.start + 160).min(whole);
    let last = whole.saturating_sub(400)..whole;
    gather(
        first.chain(last).enumerate().map(|(round, at)| {
            image.flip(at, |what| if round % 4 == 0 { image.thaw(what) } else { image.verify(what) })
        }),
    )
}

fn flip_anywhere(image: &Image) -> Outcome {
    let places = (0..200).map(|_| random(image.start as u64..image.bytes.len() as u64) as usize);
    gather(places.map(|at| image.flip(at, |what| image.verify(what))))
}

/// Its own program looks at it, and says what is wrong.
fn executed(image: &Image) -> Outcome {
    let whole = image.bytes.len();
    let lengths = [image.start + 1, image.start + 100, image.start + 4096, (image.start + whole) / 2, whole - 1];
    let cuts = lengths.iter().map(|length| {
        let file = fine("open", File::options().write(true).open(image.scene.path("d.cryo")))?;
        fine("cut", file.set_len(*length as u64))?;
        drop(file);
        let outcome = image.execute(&format!("cut to {length} of {whole} bytes (the stub ends at {})", image.start));
        outcome.and_then(|()| fine("write", std::fs::write(image.scene.path("d.cryo"), &image.bytes)))
    });
    gather(cuts)?;
    // The records lie behind the pages.
    let anywhere = (0..6).map(|_| random(image.start as u64..whole as u64));
    let records = (0..6).map(|_| random(whole as u64 - 4096..whole as u64 - 64));
    gather(anywhere.chain(records).map(|at| image.flip(at as usize, |what| image.execute(what))))
}

fn no_image(image: &Image) -> Outcome {
    let texts: [&[u8]; 4] = [b"", b"hello\n", &[0; 70_000], b"\x7fELF\x02\x01\x01"];
    gather(texts.iter().map(|text| {
        fine("write", std::fs::write(image.scene.path("d.cryo"), text))?;
        let what = format!("of {} bytes that is none", text.len());
        image.verify(&what).and_then(|()| image.thaw(&what))
    }))
}
