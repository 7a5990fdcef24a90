//! PostgreSQL's own `pg_dump` and `pg_restore`: found in OPS_PG_BIN, PATH, or where Debian keeps them.

use super::command::{self, Finished, Start};
use super::database::Target;
use crate::runner::kind::{Context, PhaseError};
use std::path::{Path, PathBuf};

/// The variable that names their folder.
const FOLDER: &str = "OPS_PG_BIN";
const DEBIAN: &str = "/usr/lib/postgresql";
/// Server messages that another attempt may not meet.
const PASSES: [&str; 6] = [
    "connection to server",
    "could not connect",
    "server closed the connection",
    "terminating connection",
    "the database system is",
    "deadlock detected",
];

/// Runs one of them on a database. `folder`: where its files are.
pub async fn run(
    context: &Context,
    tool: &str,
    target: &Target,
    arguments: &[&str],
    folder: &Path,
) -> Result<Finished, PhaseError> {
    let path = find(tool, target.major).ok_or_else(|| PhaseError::Failed(not_there(tool)))?;
    let start = Start {
        path,
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        env: target.variables.clone(),
        folder: folder.to_owned(),
    };
    let finished = command::run(context, start).await?;
    if finished.is_good {
        return Ok(finished);
    }
    let all = finished.err();
    let first = all.lines().find(|line| line.contains("error")).map_or_else(|| finished.last_line(), str::to_owned);
    let mut message = format!("{tool} ended with {}: {}", finished.ended, crate::clients::http::clip(&first));
    if all.contains("cannot drop") {
        message
            .push_str("; what was made since the dump stands in its way: drop it, or restore into an empty database");
    }
    if all.contains("No space left on device") {
        let folder = folder.display();
        message.push_str(&format!("; it writes to {folder}, in ARTIFACT_STORE or, with a bucket, in TMPDIR"));
    }
    match PASSES.iter().any(|words| all.contains(words)) && !all.contains("does not exist") {
        true => Err(PhaseError::Transient(message)),
        false => Err(PhaseError::Failed(message)),
    }
}

fn not_there(tool: &str) -> String {
    match std::env::var_os(FOLDER) {
        Some(folder) => format!("{FOLDER} names {}, which has no {tool}", Path::new(&folder).display()),
        None => format!(
            "{tool} is not installed on this runner: install the Debian package `postgresql-client`, or name the \
             folder of PostgreSQL's programs in {FOLDER}"
        ),
    }
}

/// Why a program is not there; `None`: it is.
pub fn missing(tool: &str) -> Option<String> {
    find(tool, None).is_none().then(|| not_there(tool))
}

/// OPS_PG_BIN without the programs that it is there for.
pub fn misplaced() -> Option<String> {
    std::env::var_os(FOLDER)?;
    ["pg_dump", "pg_restore"].into_iter().find_map(missing)
}

/// Where it is found, the one that suits a server of this major version best; `None`: that is not known.
pub fn find(tool: &str, server: Option<u32>) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(FOLDER) {
        return Some(PathBuf::from(named).join(tool)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has a folder for each major version.
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let versions = versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let debian = by_fitness(versions, server).into_iter().map(|major| Path::new(DEBIAN).join(format!("{major}/bin")));
    debian.chain(std::env::split_paths(&path)).map(|folder| folder.join(tool)).find(|path| path.is_file())
}

/// The server's own version first: an older program refuses the server, and of what a newer one writes the
/// server may not know every setting. Else the next newer one, and last the newest of those that are older.
fn by_fitness(mut versions: Vec<u32>, server: Option<u32>) -> Vec<u32> {
    let wanted = server.unwrap_or(u32::MAX);
    versions.sort_by_key(|&major| if major >= wanted { (0, major) } else { (1, u32::MAX - major) });
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_met_with_its_own_version_else_a_newer_one() {
        let installed = || vec![16, 18, 15, 17];
        assert_eq!(by_fitness(installed(), Some(16)), [16, 17, 18, 15]);
        assert_eq!(by_fitness(installed(), Some(14)), [15, 16, 17, 18]);
        assert_eq!(by_fitness(installed(), Some(19)), [18, 17, 16, 15]);
        assert_eq!(by_fitness(installed(), None), [18, 17, 16, 15]);
    }
}
