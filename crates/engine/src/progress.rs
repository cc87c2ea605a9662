//! How far long work has come, for whoever shows it.

/// Told now and then; must be quick.
pub trait Progress: Send {
    /// A stage begins; `total` bytes will be worked on, 0 where nobody knows.
    fn stage(&mut self, name: &'static str, total: u64);
    /// So many bytes of it are done.
    fn done(&mut self, bytes: u64);
    /// Nothing but this hinders it, and it waits until that has passed.
    fn waits(&mut self, _: &[plan::Refusal]) {}
    /// This is what will be done.
    fn planned(&mut self, _: &plan::Plan) {}
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&mut self, _: &'static str, _: u64) {}
    fn done(&mut self, _: u64) {}
}
