//! Memory: the address space, its areas, and the code that the kernel lends to every process.

pub mod area;
pub(crate) mod heritage;
pub(crate) mod huge;
pub(crate) mod hull;
pub mod modes;
pub mod nodes;
pub mod ring;
pub(crate) mod segment;
pub(crate) mod shared;
pub mod space;
pub mod vdso;
