//! Guests: threads of the process that make some calls beside each other, while one of them is the envoy.
//!
//! To move the envoy takes a dozen requests, each of which waits for the thread. A guest has its data block on its own stack, below
//! what a heal writes, so any number of them stand in the code at once; each makes its calls and waits until it is brought back.
//!
//! Who uses the arena is what one word in the code says, which only we write ([`Place::invite`]). A thread that was led into the code
//! and is not in that word leaves the arena alone; of those who are, and the owner, the last that leaves undoes it. So at our death:
//!
//! 1. Data block, registers, mask: it would go straight home.
//! 2. The word: now it is a guest, and the arena waits for it.
//! 3. It has come to its wait, and stands still there. Its registers lead out of it: it would not wait once more, but leave.
//! 4. The word once more: it would go straight home again.
//! 5. Mask and registers as they were. What was on the stack below is put back, too.

use super::*;
use std::ops::Range;

/// Guests that come and go together; while these make their calls, the next are led in.
const GROUP: usize = 31;
/// So often guests are looked after that do not get done: a signal may have stopped one.
const LOOK: Duration = Duration::from_millis(5);

/// A thread that is led into the code.
struct Guest {
    index: usize,
    /// Its bit, and what was below its stack.
    bit: u64,
    below: [u8; arch::DATA],
    batch: Batch,
    entry: u64,
}

/// Where a guest has its data block.
fn block(regs: &UserRegs) -> Range<u64> {
    const ALIGN: u64 = 16;
    let at = regs.rsp.wrapping_sub(arch::RED_ZONE + arch::HEAL_STACK + arch::DATA as u64) & !(ALIGN - 1);
    at..at.wrapping_add(arch::DATA as u64)
}

impl Process {
    /// Whether every thread may be a guest, and there are several: none has its calls filtered or sent back to it, each has the room
    /// below its stack, and no two of them have the same.
    pub fn takes_guests(&self) -> bool {
        if self.threads.len() < 2 || self.place.is_none_or(|place| place.tail == Tail::Page) {
            return false;
        }
        let is_plain = |(n, thread): (usize, &Stopped)| {
            let block = block(thread.regs());
            thread.flags().seccomp == 0
                && thread.dispatch().is_none()
                && block.start < block.end
                && self.areas.can_write(&self.memory, block)
                && self.fit(n, None).is_ok()
        };
        // Of each the stack, from its data block to where it is used.
        let used = |thread: &Stopped| block(thread.regs()).start..thread.regs().rsp;
        let mut stacks: Vec<_> = self.threads.iter().map(used).collect();
        abi::sort_by_key(&mut stacks, |stack| stack.start);
        let apart = |two: &[Range<u64>]| two[0].end <= two[1].start;
        stacks.windows(2).all(apart) && self.threads.iter().enumerate().all(is_plain)
    }
}

impl Envoy<'_> {
    /// The index of the thread that is it.
    pub fn index(&self) -> usize {
        self.post().index
    }

    /// Has these threads make the same calls, each for itself, and gives the answers of each. The process takes guests
    /// ([`Process::takes_guests`]), and none of them is the envoy. After an error all of them are let go, to go home by themselves.
    pub fn ask(&mut self, threads: &[usize], calls: &[Call]) -> Result<Vec<Vec<Answer>>, EnvoyError> {
        if let Some(call) = calls.iter().find(|call| FORBIDDEN.contains(&call.sys)) {
            return Err(EnvoyError::Forbidden(call.sys));
        }
        self.is_there()?;
        if calls.is_empty() {
            return Ok(vec![Vec::new(); threads.len()]);
        }
        assert!(self.is_ours() && !threads.contains(&self.index()), "others are led in, by who traces");
        // Nobody sends anything while guests are there: they would hear of it.
        self.hear_begun()?;
        let without_restart = self.without_restart(threads)?;
        let room = Arena::guests(calls) / 2;
        if room == 0 {
            return Err(EnvoyError::TooLarge(calls[0].sys));
        }
        let (mut inside, mut answers) = ([Vec::new(), Vec::new()], Vec::with_capacity(threads.len()));
        let asked = self.ask_groups((threads, GROUP.min(room)), calls, without_restart, &mut inside, &mut answers);
        asked.map(|()| answers).map_err(|e| self.turn_out(inside.iter().flatten(), e))
    }

    fn ask_groups(
        &mut self,
        (threads, size): (&[usize], usize),
        calls: &[Call],
        without_restart: u64,
        inside: &mut [Vec<Guest>; 2],
        answers: &mut Vec<Vec<Answer>>,
    ) -> Result<(), EnvoyError> {
        let mut which = 0;
        for group in threads.chunks(size) {
            for (n, index) in group.iter().enumerate() {
                let (batch, entry) = self.arena.put_for_guest(which * size + n, calls)?;
                let bit = 1 << (which * GROUP + n);
                inside[which].push(Guest { index: *index, bit, below: [0; _], batch, entry });
            }
            let post = self.post.as_mut().expect(STANDS);
            post.write_blocks(&mut inside[which], without_restart)?;
            let with = [self.arena.theirs(), self.number];
            inside[which].iter().try_for_each(|guest| post.lead_in(guest, with))?;
            self.invite(inside)?;
            inside[which].iter().try_for_each(|guest| self.post().begin(guest))?;
            which = 1 - which;
            self.see_off(which, inside, answers)?;
        }
        self.see_off(1 - which, inside, answers)
    }

    /// From here on these, and nobody else, are guests.
    fn invite(&self, guests: &[Vec<Guest>; 2]) -> Result<(), EnvoyError> {
        let bits = guests.iter().flatten().map(|guest| guest.bit).sum();
        Ok(self.post().place.invite(&self.post().process.memory, bits)?)
    }

    /// Those of a group have made their calls, and are brought back to where they were.
    fn see_off(
        &mut self,
        which: usize,
        inside: &mut [Vec<Guest>; 2],
        answers: &mut Vec<Vec<Answer>>,
    ) -> Result<(), EnvoyError> {
        self.await_guests(&inside[which])?;
        let post = self.post.as_mut().expect(STANDS);
        inside[which].iter().try_for_each(|guest| post.tell_to_stop(guest))?;
        for guest in &inside[which] {
            post.stands_still(guest)?;
        }
        self.arena.forget_done(inside[which].iter().map(|guest| guest.bit).sum());
        answers.extend(inside[which].iter().map(|guest| self.arena.answers(&guest.batch)));
        // None of the group is a guest any more, but none was let go either until it is as it was.
        let gone = std::mem::take(&mut inside[which]);
        let mut result = self.invite(inside);
        let post = self.post.as_mut().expect(STANDS);
        for guest in &gone {
            result = result.and_then(|()| Ok(post.guest(guest).put_back()?));
            if result.is_err() {
                post.give_up(guest.index);
            }
        }
        result.and_then(|()| post.write_below(&gone))
    }

    /// All of them have made their calls.
    fn await_guests(&self, guests: &[Guest]) -> Result<(), EnvoyError> {
        let (bits, begin) = (guests.iter().map(|guest| guest.bit).sum::<u64>(), Instant::now());
        let (mut eager, mut end, mut done) = (begin + EAGER, begin + PATIENCE, 0);
        while done != bits {
            let now = self.arena.done() & bits;
            if now != done {
                (done, end) = (now, Instant::now() + PATIENCE);
                continue;
            }
            if Instant::now() < eager {
                std::thread::yield_now();
                continue;
            }
            for guest in guests {
                let tid = self.post().process.threads[guest.index].tid();
                match ptrace::look(tid)? {
                    Some(Stop::Exited) => return Err(self.post().died()),
                    // While the process is stopped by somebody, that takes as long as it takes.
                    Some(stop) => {
                        ptrace::cont(tid, stop.signal_to_pass())?;
                        end = Instant::now() + PATIENCE;
                    }
                    None if Instant::now() > end => return Err(EnvoyError::Silent),
                    None => {}
                }
            }
            std::thread::sleep(LOOK.min(begin.elapsed()));
            eager = Instant::now() + EAGER;
        }
        Ok(())
    }

    /// They find home by themselves, and so does the envoy.
    fn turn_out<'g>(&mut self, guests: impl Iterator<Item = &'g Guest>, why: EnvoyError) -> EnvoyError {
        self.is_lost = true;
        hang_up(&self.socket);
        let post = self.post.as_mut().expect(STANDS);
        guests.for_each(|guest| post.give_up(guest.index));
        why
    }

    /// Of the signals that end a call of one of these threads: those whose handlers do so (no SA_RESTART).
    fn without_restart(&mut self, threads: &[usize]) -> Result<u64, EnvoyError> {
        let caught = |thread: &Stopped| {
            let is_due = arch::interrupted(thread.regs()) == arch::Interrupted::UnlessHandlerWithoutRestart;
            if is_due { caught(thread, &thread.flags()) } else { 0 }
        };
        let all = threads.iter().map(|n| caught(&self.post().process.threads[*n])).fold(0, |all, one| all | one);
        self.ends_calls(all)
    }
}

/// The reason in the case that there is none.
const STANDS: &str = "only leaving takes the post";

impl Post<'_> {
    fn guest(&self, guest: &Guest) -> &Stopped {
        &self.process.threads[guest.index]
    }

    /// What brings a guest home by itself.
    fn data_of(&self, guest: &Guest, without_restart: u64) -> arch::Data {
        let thread = self.guest(guest);
        let mut data = arch::Data { bit: guest.bit, ..self.process.data(guest.index, &thread.flags()) };
        if arch::interrupted(thread.regs()) == arch::Interrupted::UnlessHandlerWithoutRestart {
            data.interrupting = caught(thread, &thread.flags()) & without_restart;
        }
        data
    }

    /// Writes the data blocks, and notes what was there.
    fn write_blocks(&self, guests: &mut [Guest], without_restart: u64) -> Result<(), EnvoyError> {
        let memory = &self.process.memory;
        let at = |guest: &Guest| block(self.guest(guest).regs()).start;
        let places: Vec<u64> = guests.iter().map(at).collect();
        let data: Vec<_> = guests.iter().map(|guest| self.data_of(guest, without_restart).to_bytes()).collect();
        let below = guests.iter_mut().map(|guest| &mut guest.below[..]);
        memory.read_vectored(&mut places.iter().copied().zip(below).collect::<Vec<_>>())?;
        let blocks = data.iter().map(|data| &data[..]);
        Ok(memory.write_vectored(&places.iter().copied().zip(blocks).collect::<Vec<_>>())?)
    }

    /// Where their data blocks were is what was there before.
    fn write_below(&self, guests: &[Guest]) -> Result<(), EnvoyError> {
        let below = |guest: &'_ Guest| (block(self.guest(guest).regs()).start, guest.below);
        let below: Vec<_> = guests.iter().map(below).collect();
        let pieces: Vec<_> = below.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
        Ok(self.process.memory.write_vectored(&pieces)?)
    }

    /// Leads a thread into the code, where it stands still, with the arena and the number of the socket.
    fn lead_in(&self, guest: &Guest, [arena, socket]: [u64; 2]) -> Result<(), EnvoyError> {
        let thread = self.guest(guest);
        let (tid, regs, at) = (thread.tid(), thread.regs(), block(thread.regs()).start);
        if arch::may_note_mask(regs) {
            ptrace::setsigmask(tid, thread.sigmask())?;
        }
        ptrace::setregs(tid, &arch::visit(regs, self.place.code, at, [guest.entry, arena, socket]))?;
        Ok(ptrace::setsigmask(tid, u64::MAX)?)
    }

    /// Lets it make its calls.
    fn begin(&self, guest: &Guest) -> Result<(), EnvoyError> {
        let tid = self.guest(guest).tid();
        // It stands where it was seized, so there is no signal to pass. While its process is stopped by somebody, or let go on, it stands
        // anew a moment later.
        ptrace::cont(tid, 0).or_else(|_| ptrace::wait(tid, PATIENCE).and_then(|_| ptrace::cont(tid, 0)))?;
        Ok(())
    }

    fn tell_to_stop(&self, guest: &Guest) -> Result<(), EnvoyError> {
        Ok(ptrace::interrupt(self.guest(guest).tid())?)
    }

    /// It stands where it waits, and would leave from there. The call in which it waited must not be made once more when it is no guest:
    /// the number of the socket may be that of something else then.
    fn stands_still(&mut self, guest: &Guest) -> Result<(), EnvoyError> {
        let tid = self.guest(guest).tid();
        let event = await_event(tid).map_err(|lost| self.lost_of(tid, lost))?;
        let regs = ptrace::getregs(tid)?.filter(|regs| self.is_in_loop(regs)).ok_or(EnvoyError::Silent)?;
        ptrace::setregs(tid, &arch::undo(&regs, self.place.code))?;
        self.process.threads[guest.index].see_event(event);
        Ok(())
    }
}
