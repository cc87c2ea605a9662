//! A tree whose memory has a history: everybody writes, splits, gives back and maps anew what it has by birth, at random, and
//! others are born in between. Afterwards everybody has what the same history makes of a simple model.

use crate::kin::{self, Answer, Kin};
use crate::life::Living;
use crate::mem::{ANONYMOUS, Area, READ_WRITE};
use crate::sys::{self, same};

const PAGE: usize = 4096;
const PAGES: usize = 48;
/// How many generations there are, and how many children anybody has.
const DEEP: usize = 4;
const MANY: usize = 3;

/// A page as its process knows it: what may be done with it, if it is there, and what was written to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Page {
    protection: Option<i32>,
    mark: u64,
}

/// A process, its memory, and whom it can ask.
struct Member {
    room: Area,
    pages: [Page; PAGES],
    chance: u64,
    kin: Vec<Kin>,
}

impl Member {
    /// A number below this one.
    fn next(&mut self, below: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 20) as usize % below
    }

    fn area(&self, page: usize) -> Area {
        self.room.part((page + 1) * PAGE, PAGE)
    }

    /// What happens to one page.
    fn touch(&mut self, page: usize, deed: usize) -> Result<(), String> {
        let (area, is_there) = (self.area(page), self.pages[page].protection.is_some());
        match deed {
            0..4 if self.pages[page].protection == Some(READ_WRITE) => {
                let mark = self.next(usize::MAX) as u64;
                area.bytes()[..8].copy_from_slice(&mark.to_ne_bytes());
                self.pages[page].mark = mark;
            }
            4 if is_there => {
                area.forget()?;
                self.pages[page] = Page::default();
            }
            5 | 6 if is_there => {
                let protection = [libc::PROT_NONE, libc::PROT_READ, READ_WRITE, READ_WRITE][self.next(4)];
                area.protect(protection)?;
                self.pages[page].protection = Some(protection);
            }
            7 if !is_there => {
                area.put(READ_WRITE, ANONYMOUS)?;
                self.pages[page].protection = Some(READ_WRITE);
            }
            8 if is_there => {
                area.empty()?;
                self.pages[page].mark = 0;
            }
            _ => {}
        }
        Ok(())
    }

    /// Lives through its youth, and has children meanwhile.
    fn grow_up(&mut self, generation: usize) -> Result<(), String> {
        for _ in 0..12 {
            let (first, deed) = (self.next(PAGES), self.next(9));
            let end = PAGES.min(first + 1 + self.next(12));
            (first..end).try_for_each(|page| self.touch(page, deed))?;
            if generation < DEEP && self.kin.len() < MANY && self.next(4) == 0 {
                let chance = self.chance ^ (self.kin.len() as u64 + 1) << 40;
                let mut child = Member { chance, kin: Vec::new(), room: self.room, pages: self.pages };
                self.kin.push(kin::child(|| {
                    child.grow_up(generation + 1)?;
                    Ok(move |question: &str| if question == "look" { child.look() } else { kin::obey(question) })
                })?);
            }
        }
        Ok(())
    }

    /// Nothing has changed for it and all below it: how many they are.
    fn look(&self) -> Answer {
        let maps = sys::proc_text("maps")?;
        let found = |at: usize| -> Result<Page, String> {
            let area = self.area(at);
            let Some(line) = maps.lines().find(|line| area.is_within(line)) else { return Ok(Page::default()) };
            let words = line.split(' ').nth(1).unwrap_or_default().as_bytes();
            let bit = |n: usize, letter: u8, bit: i32| if words.get(n) == Some(&letter) { bit } else { 0 };
            let protection = bit(0, b'r', libc::PROT_READ) | bit(1, b'w', libc::PROT_WRITE);
            // What may not be read is made readable for as long as it takes.
            let is_closed = protection == libc::PROT_NONE;
            if is_closed {
                area.protect(libc::PROT_READ)?;
            }
            let mark = u64::from_ne_bytes(area.bytes_read()[..8].try_into().expect("eight bytes"));
            if is_closed {
                area.protect(libc::PROT_NONE)?;
            }
            Ok(Page { protection: Some(protection), mark })
        };
        for page in 0..PAGES {
            same(&format!("page {page}"), &self.pages[page], &found(page)?)?;
        }
        let mut count = 1;
        for kin in &self.kin {
            count += kin.ask("look")?.parse::<usize>().map_err(|e| e.to_string())?;
        }
        Ok(count.to_string())
    }
}

pub(crate) fn memory(arguments: &[String]) -> Result<Living, String> {
    let seed: u64 = arguments.first().and_then(|s| s.parse().ok()).ok_or("which history?")?;
    // Pages that nobody may use are around it: what else is mapped later becomes no part of it.
    let room = Area::map((PAGES + 2) * PAGE, libc::PROT_NONE, ANONYMOUS, -1)?;
    let chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut first = Member { room, pages: [Page::default(); PAGES], chance, kin: Vec::new() };
    for page in 0..PAGES {
        first.area(page).protect(READ_WRITE)?;
        first.pages[page].protection = Some(READ_WRITE);
        if first.next(5) > 0 {
            first.touch(page, 0)?;
        }
    }
    first.grow_up(0)?;
    let expected = first.look()?;
    Living::reads(move |_| same("the tree", &Ok(expected.clone()), &first.look()))
}
