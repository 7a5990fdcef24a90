//! The folder of the state file on this machine: who may work in it, and the socket by which the
//! daemon there is talked to. Refuses root in another user's folder.

use super::USAGE;
use ops_controller::config::Config;
use ops_controller::controller::store::Store;
use reqwest::StatusCode;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// A daemon answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);

pub fn store(config: &Config) -> Store {
    Store::new(&config.state_file, ops_controller::clients::Seam::default())
}

/// Refuses what would leave root's files among another user's: that user's daemon could not replace
/// them any more.
pub fn check_user(config: &Config) -> Result<(), u8> {
    let store = store(config);
    // What does not exist yet belongs to whoever makes it.
    let Ok(folder) = std::fs::metadata(store.folder()) else { return Ok(()) };
    // SAFETY: reads one number of this process.
    let user = unsafe { libc::geteuid() };
    if user != 0 || folder.uid() == 0 {
        return Ok(());
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let owner = name_of(folder.uid(), &users).map_or_else(|| format!("'#{}'", folder.uid()), str::to_owned);
    eprintln!(
        "the folder of the state file, {}, belongs to {owner}, whom files that root makes there would lock out: \
         run this as that user, with `sudo -u {owner}`",
        store.folder().display()
    );
    Err(USAGE)
}

/// The name that `/etc/passwd` gives this user.
pub fn name_of(user: u32, users: &str) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(user)).then_some(name)
    })
}

/// The body of a 2xx answer; `None` when no daemon runs on this state file.
pub async fn get(config: &Config, path: &str) -> Option<Vec<u8>> {
    let answer = client(store(config).socket())?.get(url(path)).send().await.ok()?;
    Some(answer.error_for_status().ok()?.bytes().await.ok()?.to_vec())
}

/// `None` when no daemon runs; else whether it accepted.
pub async fn post(config: &Config, path: &str) -> Option<Result<(), Refusal>> {
    let answer = client(store(config).socket())?.post(url(path)).send().await.ok()?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    Some(match status.is_success() {
        true => Ok(()),
        false => Err(Refusal { is_standby: status == StatusCode::CONFLICT, detail: detail(&text) }),
    })
}

/// A daemon runs, and does not do it.
pub struct Refusal {
    /// Another one acts, or nobody can.
    pub is_standby: bool,
    pub detail: String,
}

/// The sentence out of a problem; the whole text when it is none.
fn detail(text: &str) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_str(text).ok();
    problem.and_then(|p| p["detail"].as_str().map(str::to_owned)).unwrap_or_else(|| text.trim().to_owned())
}

fn url(path: &str) -> String {
    format!("http://localhost{path}")
}

fn client(socket: PathBuf) -> Option<reqwest::Client> {
    let exists = socket.exists();
    let client = reqwest::Client::builder().unix_socket(socket).no_proxy().timeout(TIMEOUT).build().ok()?;
    exists.then_some(client)
}
