//! Programs on this machine that phases may start: those of RUNNER_COMMANDS, and PostgreSQL's.
//!
//! No shell, no environment of ours, no input. A program has a process group of its own, and when its
//! phase ends, however it ends, nothing of that group is left.

use super::request::filled;
use super::shape::Shape;
use crate::runner::held::Stop;
use crate::runner::kind::{Context, PhaseError};
use crate::runs::record::Level;
use crate::telemetry::redact_text;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// The end of what a program prints, of each of its two outputs.
const KEPT: usize = 16 << 10;
/// Before it, so much is read and dropped afterwards: the end of a secret that begins there is known for
/// one only together with its beginning. No spelling of a secret is as long.
const MARGIN: usize = 8 << 10;
/// Between the wish that it ends and the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Where a program finds others; it has no other variable of ours.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As it is configured: a name of the list, and arguments in which `${name}` is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub program: String,
    pub arguments: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// `None`: an empty one that is gone afterwards.
    pub folder: Option<PathBuf>,
}

/// What a run may call its variables.
const OF_A_RUN: &str = "INPUT_";

impl Named {
    /// As whoever queues a run gives it: a folder or a variable such as `PATH`, `LD_PRELOAD` or `BASH_ENV`
    /// would make a listed program execute another one.
    pub fn of_run(shape: &mut Shape<'_>) -> Option<Named> {
        let program = shape.required("program");
        let arguments = shape.texts("arguments");
        let env = shape.pairs("env");
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_input = |name: &str| name.strip_prefix(OF_A_RUN).is_some_and(|rest| rest.chars().all(fits));
        for name in env.keys().filter(|name| !is_input(name)) {
            shape.fault("env", &format!("has {name:?}: a run's variables begin with {OF_A_RUN}"));
        }
        Some(Named { program: program?, arguments, env, folder: None })
    }

    /// Its arguments and variables with their names filled in.
    pub fn filled(
        &self,
        values: &BTreeMap<&str, String>,
    ) -> Result<(Vec<String>, BTreeMap<String, String>), PhaseError> {
        let arguments = self.arguments.iter().map(|argument| filled(argument, values)).collect::<Result<_, _>>()?;
        let env = self.env.iter().map(|(name, value)| Ok::<_, PhaseError>((name.clone(), filled(value, values)?)));
        Ok((arguments, env.collect::<Result<_, _>>()?))
    }

    /// As whoever configures an environment gives it.
    pub fn of_config(shape: &mut Shape<'_>) -> Option<Named> {
        let program = shape.required("program");
        let arguments = shape.texts("arguments");
        let env = shape.pairs("env");
        if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            shape.fault("env", &format!("has {name:?}, which no variable can be called"));
        }
        let folder = shape.text("folder").map(PathBuf::from);
        if folder.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            shape.fault("folder", "must be a whole path, beginning with /");
        }
        Some(Named { program: program?, arguments, env, folder })
    }
}

/// What is really started.
pub struct Start {
    pub path: PathBuf,
    pub arguments: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub folder: PathBuf,
}

/// What a program left.
pub struct Finished {
    pub is_good: bool,
    pub ended: String,
    pub took: Duration,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

impl Finished {
    pub fn out(&self) -> String {
        printable(&self.out)
    }

    pub fn err(&self) -> String {
        printable(&self.err)
    }

    /// The last line that says something.
    pub fn last_line(&self) -> String {
        let err = self.err();
        let line = err.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
        line.or_else(|| self.out().lines().rev().find(|l| !l.trim().is_empty()).map(str::to_owned)).unwrap_or_default()
    }
}

/// In this order: cut first, half a secret could be left.
fn printable(bytes: &[u8]) -> String {
    let mut text = redact_text(&String::from_utf8_lossy(bytes));
    if bytes.len() > KEPT {
        let margin = bytes.len() - KEPT;
        text.drain(..text.ceil_char_boundary(margin));
    }
    text
}

/// The program of this name; refused when the list does not have it.
pub fn listed(programs: &BTreeMap<String, PathBuf>, name: &str) -> Result<PathBuf, PhaseError> {
    programs.get(name).cloned().ok_or_else(|| {
        let known = programs.keys().cloned().collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "which is empty".to_owned() } else { format!("which has {known}") };
        PhaseError::failed(format!("the program {name} is not in this runner's RUNNER_COMMANDS, {known}"))
    })
}

/// Runs it to its end and notes what it printed; a bad end is a failure.
pub async fn perform(context: &Context, name: &str, start: Start) -> Result<Finished, PhaseError> {
    let finished = run(context, start).await?;
    let payload: Value = json!({
        "program": name, "ended": finished.ended, "duration_ms": finished.took.as_millis() as u64,
        "stdout": finished.out(), "stderr": finished.err(),
    });
    let level = if finished.is_good { Level::Info } else { Level::Error };
    let seconds = finished.took.as_secs_f64();
    context.note(level, &format!("{name} ended with {} after {seconds:.1} s", finished.ended), payload).await?;
    match finished.is_good {
        true => Ok(finished),
        false => Err(PhaseError::failed(format!("{name} ended with {}: {}", finished.ended, finished.last_line()))),
    }
}

/// Runs it to its end, or until the run is told to stop.
pub async fn run(context: &Context, start: Start) -> Result<Finished, PhaseError> {
    context.fence().check().map_err(|_| PhaseError::Lost)?;
    let began = Instant::now();
    let name = start.path.display().to_string();
    let (mut child, group) = spawn(start).map_err(|e| PhaseError::failed(format!("{name} cannot be started: {e}")))?;
    let (out, err) = (tail(child.stdout.take()), tail(child.stderr.take()));
    let ending = async {
        tokio::select! {
            status = child.wait() => Ok(status),
            why = context.told_to_stop() => Err(why),
        }
    };
    let reading = async { tokio::join!(out, err) };
    tokio::pin!(reading);
    let mut read = None;
    let ended = tokio::select! {
        ended = ending => ended,
        // Both outputs may be closed long before the end.
        never = async {
            read = Some((&mut reading).await);
            std::future::pending::<Infallible>().await
        } => match never {},
    };
    let status = match ended {
        Ok(status) => status.map_err(|e| PhaseError::transient(format!("{name} could not be waited for: {e}")))?,
        Err(why) => {
            if why != Stop::Lost {
                group.signal(libc::SIGTERM);
                let _ = tokio::time::timeout(LAST_WORDS, child.wait()).await;
            }
            drop(group);
            return Err(PhaseError::transient("stopped"));
        }
    };
    // What it left running would hold the outputs open.
    drop(group);
    let (out, err) = match read {
        Some(both) => both,
        None => reading.await,
    };
    let ended = match status.code() {
        Some(code) => format!("code {code}"),
        None => status.to_string(),
    };
    Ok(Finished { is_good: status.success(), ended, took: began.elapsed(), out, err })
}

fn spawn(start: Start) -> std::io::Result<(Child, Group)> {
    let mut command = Command::new(&start.path);
    command.args(&start.arguments).current_dir(&start.folder).env_clear();
    command.env("PATH", PATH).env("LANG", "C.UTF-8").env("HOME", &start.folder).envs(&start.env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let parent = std::process::id();
    let before_exec = move || {
        // SAFETY: both calls are async-signal-safe and touch only the forked child.
        unsafe {
            // The kernel ends it with the thread that started it: a worker thread of the runtime, which
            // lives as long as the runner does.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if libc::getppid().cast_unsigned() != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(before_exec) };
    let child = command.spawn()?;
    let id = child.id().and_then(|id| libc::pid_t::try_from(id).ok());
    Ok((child, Group(id)))
}

/// A program and all that it started; ends with this value.
struct Group(Option<libc::pid_t>);

impl Group {
    fn signal(&self, signal: libc::c_int) {
        if let Some(id) = self.0 {
            // SAFETY: a plain call. The group is ours: it was made by the start of the program.
            unsafe { libc::kill(-id, signal) };
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
    }
}

/// Reads all, keeps the end and what a secret across its beginning is known by.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = VecDeque::new();
    let mut buffer = vec![0; 8 << 10];
    let Some(mut from) = from else { return Vec::new() };
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        kept.extend(&buffer[..count]);
        let more = kept.len().saturating_sub(KEPT + MARGIN);
        kept.drain(..more);
    }
    kept.into()
}
