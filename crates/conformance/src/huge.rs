//! Huge pages, which a machine has only when somebody sets them apart (vm.nr_hugepages).

use crate::{Outcome, fine};
use std::sync::{Mutex, PoisonError};

const FILE: &str = "/proc/sys/vm/nr_hugepages";
/// Enough for all tests that run at once.
const ENOUGH: u64 = 160;

/// How many tests need them, and how many there were before.
static LENT: Mutex<(u32, u64)> = Mutex::new((0, 0));

/// As long as this lives there are some. The last one puts back what there was.
#[derive(Debug)]
pub struct Pages(());

fn count() -> Result<u64, String> {
    let text = fine(FILE, std::fs::read_to_string(FILE))?;
    text.trim().parse().map_err(|_| format!("{FILE}: {text:?}"))
}

fn set(count: u64) -> Outcome {
    fine(FILE, std::fs::write(FILE, count.to_string()))
}

/// Where specimens find a file system of huge pages: what is there is hidden meanwhile. Whoever needs it fails without.
const MOUNT: &str = "/dev/hugepages";

fn mount() {
    use rustix::mount::{MountFlags, mount};
    let _ = std::fs::create_dir(MOUNT);
    let _ = mount("cryopid", MOUNT, "hugetlbfs", MountFlags::empty(), Some(c"mode=1777"));
}

fn unmount() {
    let _ = rustix::mount::unmount(MOUNT, rustix::mount::UnmountFlags::DETACH);
}

impl Pages {
    /// Sets them apart, if nobody did yet.
    ///
    /// # Errors
    /// There is no such memory.
    pub fn new() -> Result<Pages, String> {
        let mut lent = LENT.lock().unwrap_or_else(PoisonError::into_inner);
        if lent.0 == 0 {
            lent.1 = count()?;
            set(lent.1 + ENOUGH)?;
            mount();
            if count()? < lent.1 + ENOUGH {
                set(lent.1)?;
                return Err(format!("there are no {ENOUGH} huge pages to be had"));
            }
        }
        lent.0 += 1;
        Ok(Pages(()))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let mut lent = LENT.lock().unwrap_or_else(PoisonError::into_inner);
        lent.0 -= 1;
        if lent.0 == 0 {
            unmount();
            let _ = set(lent.1);
        }
    }
}
