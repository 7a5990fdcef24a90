//! Child processes that die with this process.
//!
//! Linux sends the parent-death signal when the *thread* that forked ends, and tokio's threads come
//! and go. So one thread, which lives as long as the process, does all the forking.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

struct Order {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

/// Starts `command`; the kernel sends it `death_signal` when this process ends, however it ends.
pub(in crate::sandbox) fn spawn(mut command: Command, death_signal: libc::c_int) -> io::Result<Owned> {
    let parent = std::process::id();
    let before_exec = move || {
        // SAFETY: both calls are async-signal-safe and touch only the forked child.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, death_signal) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above; then no signal would ever come.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock. It runs after the change of user,
    // which would otherwise clear the setting.
    unsafe { command.pre_exec(before_exec) };
    let (reply, answer) = channel();
    let gone = |_| io::Error::other("the thread that starts child processes has ended");
    spawner()?.send(Order { command, reply }).map_err(|_| gone(()))?;
    answer.recv().map_err(|_| gone(()))?.map(Owned)
}

fn spawner() -> io::Result<&'static Sender<Order>> {
    static SPAWNER: OnceLock<io::Result<Sender<Order>>> = OnceLock::new();
    let start = || {
        let (orders, inbox) = channel();
        let thread = std::thread::Builder::new().name("sandbox-spawner".into());
        thread.spawn(move || serve(&inbox))?;
        Ok(orders)
    };
    let started = SPAWNER.get_or_init(start).as_ref();
    started.map_err(|e| io::Error::new(e.kind(), e.to_string()))
}

fn serve(inbox: &Receiver<Order>) {
    while let Ok(mut order) = inbox.recv() {
        let _ = order.reply.send(order.command.spawn());
    }
}

/// A child that is ended when the value is dropped.
#[derive(Debug)]
pub(in crate::sandbox) struct Owned(Child);

impl Owned {
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    pub fn signal(&mut self, signal: libc::c_int) {
        // A process that was waited for may have given its id to a stranger.
        if self.is_running() {
            // SAFETY: sends a signal to our own child, which has not been reaped.
            unsafe { libc::kill(self.0.id() as libc::pid_t, signal) };
        }
    }

    /// Waits without blocking the runtime; `false` means the child outlived the deadline.
    pub async fn ended_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Ends the child at once and reaps it.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Asks with `signal`, waits a little, then insists.
    pub fn end(&mut self, signal: libc::c_int, patience: Duration) {
        self.signal(signal);
        let deadline = Instant::now() + patience;
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}
