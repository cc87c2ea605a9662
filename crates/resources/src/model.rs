//! The Model: the tree as an object graph. Each kernel object is there once and referred to by id.

use crate::fd::tty::Typed;
use crate::fd::{file::File, place};
use crate::list::encode;
use crate::tree::process::Process;
use crate::validate::validate;
use crate::{Description, Note, ProcessState, ThreadState};
use image::{Damage, Need, RawRecord, Tag};
use plan::Pid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The tag of [`Process`] records.
pub(crate) const PROCESS: Tag = Tag(0x0001);
/// The tag of [`File`] records.
pub(crate) const FILE: Tag = Tag(0x0002);
/// The tag of [`Note`] records.
const NOTE: Tag = Tag(0x0003);

/// A thread with all that is its own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ThreadModel {
    /// Its id in its own pid namespace.
    pub tid: u32,
    /// What it has.
    pub states: Vec<ThreadState>,
}

/// A process with its threads.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProcessModel {
    /// Who it is, and its descriptors.
    pub process: Process,
    /// What it has once.
    pub states: Vec<ProcessState>,
    /// Its threads, the first one first.
    pub threads: Vec<ThreadModel>,
}

/// A tree of processes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Model {
    /// The root first, parents before children.
    pub processes: Vec<ProcessModel>,
    /// Open file descriptions by id.
    pub descriptions: BTreeMap<u32, Description>,
    /// Files behind areas and descriptions, by id.
    pub files: BTreeMap<u32, File>,
    /// What is not kept.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// What was typed and not read yet. No record: it is known only when the tree has ended and its image stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typed: Option<Typed>,
}

impl Model {
    /// Hands every record to a writer.
    pub fn put(&self, put: &mut dyn FnMut(Tag, u32, Need, Vec<u8>)) {
        for p in &self.processes {
            put(PROCESS, p.process.pid, Need::Must, encode(&p.process));
            p.states.iter().for_each(|s| s.put(p.process.pid, put));
            p.threads.iter().for_each(|t| t.states.iter().for_each(|s| s.put(t.tid, put)));
        }
        self.descriptions.iter().for_each(|(id, d)| d.put(*id, put));
        self.files.iter().for_each(|(id, f)| put(FILE, *id, Need::Must, encode(f)));
        (1..).zip(&self.notes).for_each(|(id, n)| put(NOTE, id, Need::May, encode(n)));
    }

    /// The model in the records of an image. Records that may be unknown are passed over; others that are, and
    /// records of nobody, are damage.
    pub fn from_records(records: &[RawRecord]) -> Result<Model, Damage> {
        let mut model = Model::default();
        for record in records.iter().filter(|r| r.tag == PROCESS) {
            model.processes.push(Model::bare(record.decode()?));
        }
        for record in records.iter().filter(|r| r.tag != PROCESS) {
            model.take(record)?;
        }
        validate(&model)?;
        Ok(model)
    }

    fn bare(process: Process) -> ProcessModel {
        let threads = process.threads.iter().map(|tid| ThreadModel { tid: *tid, states: Vec::new() }).collect();
        ProcessModel { process, states: Vec::new(), threads }
    }

    fn take(&mut self, record: &RawRecord) -> Result<(), Damage> {
        if record.tag == FILE {
            self.files.insert(record.id, record.decode()?);
        } else if record.tag == NOTE {
            self.notes.push(record.decode()?);
        } else if let Some(state) = ProcessState::from_record(record) {
            let of = self.processes.iter_mut().find(|p| p.process.pid == record.id);
            of.ok_or_else(|| stray(record))?.states.push(state?);
        } else if let Some(state) = ThreadState::from_record(record) {
            let of = self.processes.iter_mut().flat_map(|p| &mut p.threads).find(|t| t.tid == record.id);
            of.ok_or_else(|| stray(record))?.states.push(state?);
        } else if let Some(description) = Description::from_record(record) {
            self.descriptions.insert(record.id, description?);
        } else if record.need == Need::Must {
            return Err(damage(record.tag, record.id, "it is of a later release of cryopid"));
        }
        Ok(())
    }

    /// The ids of every process and thread.
    pub fn ids(&self) -> Vec<u32> {
        self.processes.iter().flat_map(|p| p.threads.iter().map(|t| t.tid)).collect()
    }

    /// The ids that must be free besides those: of groups and sessions whose leaders have ended.
    pub fn leaders(&self) -> Vec<u32> {
        let own: BTreeSet<u32> = self.ids().into_iter().collect();
        let led = self.processes.iter().flat_map(|p| [p.process.group, p.process.session]);
        let all: BTreeSet<u32> = led.filter(|id| *id != 0 && !own.contains(id)).collect();
        all.into_iter().collect()
    }

    /// The process with this id.
    pub fn process(&self, pid: u32) -> Option<&ProcessModel> {
        // Most trees have few, and the root is asked for most.
        self.processes.iter().find(|p| p.process.pid == pid)
    }

    /// The processes that have the table of descriptors of this one, itself among them.
    pub(crate) fn users_of_files(&self, owner: u32) -> impl Iterator<Item = Pid> {
        let uses = move |p: &&ProcessModel| p.process.shares.files.unwrap_or(p.process.pid) == owner;
        self.processes.iter().filter(uses).map(|p| Pid(p.process.pid))
    }

    /// The address space of a process, its own or another's.
    pub fn space(&self, pid: u32) -> Option<&crate::mm::space::Space> {
        let p = self.process(pid)?;
        let owner = p.process.shares.space.map_or(Some(p), |owner| self.process(owner))?;
        owner.states.iter().find_map(|s| match s {
            ProcessState::Space(space) => Some(space),
            _ => None,
        })
    }

    /// The processes that have an address space of their own, with it.
    pub(crate) fn own_spaces(&self) -> impl Iterator<Item = (u32, &crate::mm::space::Space)> {
        let space = |p: &ProcessModel| p.states.iter().position(|s| matches!(s, ProcessState::Space(_)));
        self.processes.iter().filter_map(move |p| match &p.states[space(p)?] {
            ProcessState::Space(space) => Some((p.process.pid, space)),
            _ => None,
        })
    }

    pub(crate) fn spaces(&self) -> impl Iterator<Item = &crate::mm::space::Space> {
        self.processes.iter().flat_map(|p| &p.states).filter_map(|s| match s {
            ProcessState::Space(space) => Some(space),
            _ => None,
        })
    }

    /// Every path that a directory or name must have on the host, and what it stands in.
    pub fn places(&self) -> impl Iterator<Item = &[u8]> {
        let contexts = self.processes.iter().flat_map(|p| &p.states).filter_map(|s| match s {
            ProcessState::Fs(fs) => Some([&fs.cwd, &fs.root]),
            _ => None,
        });
        let open = self.descriptions.values().filter_map(Description::place);
        open.chain(contexts.flatten()).flat_map(|path| [&path.0[..], place::parent(&path.0)])
    }

    /// Every run of pages and contents that the image holds.
    pub fn extents(&self) -> impl Iterator<Item = &image::Extent> {
        let pages = self.spaces().flat_map(|s| &s.pages);
        pages.chain(self.files.values().filter_map(|f| f.contents.as_ref()).flatten())
    }

    /// Every range of addresses that some process uses.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let areas = self.spaces().flat_map(|s| s.areas.iter().map(|a| (a.start, a.end)));
        areas.chain(self.kernel_areas().into_iter().map(|a| (a.start, a.start + a.len))).collect()
    }

    /// The kernel's own areas in all processes.
    pub fn kernel_areas(&self) -> Vec<crate::mm::vdso::KernelArea> {
        self.spaces().flat_map(|s| s.kernel_areas.clone()).collect()
    }

    /// The command name of the root, for messages.
    pub fn name(&self) -> String {
        self.processes.first().map_or_else(String::new, |p| p.process.name.to_string())
    }
}

fn damage(tag: Tag, id: u32, why: &str) -> Damage {
    Damage::Record { tag, id, why: why.into() }
}

fn stray(record: &RawRecord) -> Damage {
    damage(record.tag, record.id, "whom it is of is not in the image")
}
