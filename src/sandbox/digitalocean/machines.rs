//! The machines under the droplets: who runs the supervisor, restarts it, and ends it.
//!
//! A supervisor that dies is started again, as Docker does with `restart: unless-stopped`; one that
//! was cut is not, until the droplet is powered on again.

use super::processes::Nursery;
use super::{DigitalOceanOptions, DropletBackend};
use crate::sandbox::droplet::{self, Exit, Machine};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;

/// A crash loop writes for ever; the end of the story is what is read.
const CONSOLE_LINES: usize = 500;

/// What is known about one machine from outside, shared with whoever runs it.
#[derive(Debug, Default)]
pub struct Life {
    alive: AtomicBool,
    pid: AtomicU32,
    console: Mutex<VecDeque<String>>,
}

impl Life {
    /// `pid` is 0 when the supervisor is no process of its own.
    pub fn began(&self, pid: u32) {
        self.pid.store(pid, Ordering::Release);
        self.alive.store(true, Ordering::Release);
    }

    pub fn ended(&self) {
        self.alive.store(false, Ordering::Release);
        self.pid.store(0, Ordering::Release);
    }

    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    pub fn say(&self, line: &str) {
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        if console.len() == CONSOLE_LINES {
            console.pop_front();
        }
        console.push_back(line.to_owned());
    }

    pub fn console(&self) -> Vec<String> {
        let console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        console.iter().cloned().collect()
    }
}

pub struct Machines {
    runner: Runner,
    restart: std::time::Duration,
    lives: BTreeMap<u64, Arc<Life>>,
}

enum Runner {
    Tasks(BTreeMap<u64, JoinHandle<()>>),
    Processes(Nursery),
    Nobody,
}

impl Machines {
    pub fn new(options: &DigitalOceanOptions) -> std::io::Result<Self> {
        let runner = match &options.backend {
            DropletBackend::Task => Runner::Tasks(BTreeMap::new()),
            DropletBackend::Process { exe } => {
                Runner::Processes(Nursery::start(exe.clone(), options.supervisor_restart)?)
            }
            DropletBackend::Nothing => Runner::Nobody,
        };
        Ok(Self { runner, restart: options.supervisor_restart, lives: BTreeMap::new() })
    }

    pub fn life(&self, id: u64) -> Option<&Life> {
        self.lives.get(&id).map(Arc::as_ref)
    }

    pub fn power_on(&mut self, id: u64, machine: Machine) {
        self.cut(id);
        let life = Arc::clone(self.lives.entry(id).or_default());
        match &mut self.runner {
            Runner::Tasks(tasks) => {
                tasks.insert(id, tokio::spawn(keep(machine, life, self.restart)));
            }
            Runner::Processes(nursery) => nursery.power_on(id, machine, life),
            Runner::Nobody => match droplet::user_data::supervisor_env(&machine.user_data) {
                Ok(_) => life.began(0),
                Err(reason) => life.say(&reason),
            },
        }
    }

    /// Returns when the supervisor is dead.
    pub fn cut(&mut self, id: u64) {
        match &mut self.runner {
            Runner::Tasks(tasks) => {
                if let Some(task) = tasks.remove(&id) {
                    task.abort();
                }
            }
            Runner::Processes(nursery) => nursery.cut(id),
            Runner::Nobody => {}
        }
        if let Some(life) = self.lives.get(&id) {
            life.ended();
        }
    }

    /// Ends every machine.
    pub fn cut_all(&mut self) {
        for id in self.lives.keys().copied().collect::<Vec<_>>() {
            self.cut(id);
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        self.cut_all();
    }
}

async fn keep(machine: Machine, life: Arc<Life>, restart: std::time::Duration) {
    loop {
        life.began(0);
        let exit = droplet::live(&machine, &|line| life.say(line)).await;
        life.ended();
        match exit {
            Exit::Refused(_) => return,
            Exit::Died(_) => tokio::time::sleep(restart).await,
        }
    }
}
