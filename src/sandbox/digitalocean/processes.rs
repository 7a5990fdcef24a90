//! Supervisors as real child processes, kept by one thread of their own.
//!
//! The kernel is asked to kill each child when the thread that started it ends. A worker thread of
//! the runtime may end while the sandbox lives on, so all children are started from one thread that
//! lives exactly as long as the simulator: neither a crash nor a kill of the parent leaves any.

use super::machines::Life;
use crate::sandbox::droplet::{EXIT_REFUSED, Machine};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How soon a dead child is noticed; there are only a few of them.
const REAP_INTERVAL: Duration = Duration::from_millis(20);
/// A killed child is gone within milliseconds.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

enum Order {
    PowerOn { id: u64, machine: Machine, life: Arc<Life> },
    Cut { id: u64, done: Sender<()> },
}

pub struct Nursery {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Nursery {
    pub fn start(exe: PathBuf, restart: Duration) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("sandbox-droplets".to_owned())
            .spawn(move || Keeper { exe, restart, kept: BTreeMap::new() }.run(&inbox))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    pub fn power_on(&self, id: u64, machine: Machine, life: Arc<Life>) {
        self.order(Order::PowerOn { id, machine, life });
    }

    /// Returns when the process is dead and reaped.
    pub fn cut(&self, id: u64) {
        let (done, is_done) = mpsc::channel();
        self.order(Order::Cut { id, done });
        // A keeper that has gone has killed everything before it went.
        let _ = is_done.recv_timeout(KILL_TIMEOUT);
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Kept {
    machine: Machine,
    life: Arc<Life>,
    process: Process,
}

enum Process {
    Running(Child),
    /// Died; Docker waits a little before it starts it again.
    RestartAt(Instant),
    /// Its user-data starts no supervisor.
    Refused,
}

struct Keeper {
    exe: PathBuf,
    restart: Duration,
    kept: BTreeMap<u64, Kept>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            match inbox.recv_timeout(REAP_INTERVAL) {
                Ok(Order::PowerOn { id, machine, life }) => {
                    let process = Process::RestartAt(Instant::now());
                    self.kept.insert(id, Kept { machine, life, process });
                }
                Ok(Order::Cut { id, done }) => {
                    if let Some(kept) = self.kept.remove(&id) {
                        end(kept);
                    }
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for (id, kept) in &mut self.kept {
                look_after(*id, kept, &self.exe, self.restart);
            }
        }
        for (_, kept) in self.kept {
            end(kept);
        }
    }
}

fn look_after(id: u64, kept: &mut Kept, exe: &Path, restart: Duration) {
    match &mut kept.process {
        Process::Refused => {}
        Process::Running(child) => {
            if let Ok(Some(status)) = child.try_wait() {
                kept.life.ended();
                kept.process = match status.code() {
                    Some(EXIT_REFUSED) => Process::Refused,
                    _ => Process::RestartAt(Instant::now() + restart),
                };
            }
        }
        Process::RestartAt(at) if *at <= Instant::now() => match spawn(exe, &kept.machine, &kept.life) {
            Ok(child) => {
                kept.life.began(child.id());
                kept.process = Process::Running(child);
            }
            Err(error) => {
                kept.life.say(&format!("failed to start the machine of droplet {id}: {error}"));
                *at = Instant::now() + restart;
            }
        },
        Process::RestartAt(_) => {}
    }
}

fn end(kept: Kept) {
    if let Process::Running(mut child) = kept.process {
        // Fails only when it is dead already; waiting reaps it in both cases.
        let _ = child.kill();
        let _ = child.wait();
    }
    kept.life.ended();
}

fn spawn(exe: &Path, machine: &Machine, life: &Arc<Life>) -> io::Result<Child> {
    let mut command = Command::new(exe);
    command
        .arg("sandbox-droplet")
        .arg(machine.ip.to_string())
        .arg(machine.heartbeat_interval.as_millis().to_string())
        .arg(machine.connect_retry.as_millis().to_string())
        // A droplet does not know the secrets of the host it is simulated on.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    die_with_parent(&mut command);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that died without reading is noticed by its exit.
        let _ = stdin.write_all(machine.user_data.as_bytes());
    }
    if let Some(stdout) = child.stdout.take() {
        let life = Arc::clone(life);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                life.say(&line);
            }
        });
    }
    Ok(child)
}

fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let before_exec = move || {
        // SAFETY: both calls are async-signal-safe and touch no memory.
        let (set, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the request was made; then no signal would ever come.
        if u32::try_from(now) != Ok(parent) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(before_exec);
    }
}
