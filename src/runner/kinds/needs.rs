//! What each kind cannot do without, held against this runner's settings.
//!
//! A runner that took work which it cannot do would fail it for good, beside another that can. So
//! without RUNNER_KINDS it offers what its settings allow; a kind that is named there and cannot be
//! executed is an error.

use super::build::SYFT;
use super::{NAMES, pg_tools};
use crate::config::RunnerConfig;
use crate::runner::offer::{LeftOut, Offer};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Kinds whose runs leave something in the artifact store, or fetch it from there.
pub const STORING: [&str; 3] = ["backup", "build", "restore"];

/// What this runner can execute. `Err`: RUNNER_KINDS asks for something else.
pub fn offer(config: &RunnerConfig) -> Result<Offer, String> {
    offer_with(config, pg_tools::missing)
}

fn offer_with(config: &RunnerConfig, tool_missing: impl Fn(&str) -> Option<String>) -> Result<Offer, String> {
    let unknown = config.kinds.iter().find(|kind| !NAMES.contains(&kind.as_str()));
    if let Some(unknown) = unknown {
        // A runner that waits for a kind that nobody executes looks like one that has nothing to do.
        return Err(format!("RUNNER_KINDS names {unknown}; there are {}", NAMES.join(", ")));
    }
    let lack = |kind: &str| lack(kind, config, &tool_missing);
    let faults: Vec<String> = config
        .kinds
        .iter()
        .filter_map(|kind| Some(format!("RUNNER_KINDS names {kind}, but {}", lack(kind)?)))
        .collect();
    if !faults.is_empty() {
        return Err(faults.join("; "));
    }
    let why = |kind: &str| match config.kinds.is_empty() {
        true => lack(kind),
        false if config.kinds.iter().any(|named| named == kind) => None,
        false => Some("RUNNER_KINDS does not name it".to_owned()),
    };
    let left_out = NAMES.into_iter().filter_map(|kind| Some(LeftOut { kind: kind.to_owned(), why: why(kind)? }));
    Ok(Offer::without(left_out.collect()))
}

/// What keeps a kind from being executed at all; `None`: nothing. How an environment is built and
/// deployed stands in its own config, so only what no build can do without counts here.
fn lack(kind: &str, config: &RunnerConfig, tool_missing: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let target = || match config.target_database_url {
        Some(_) => None,
        None => Some("TARGET_DATABASE_URL is not set".to_owned()),
    };
    match kind {
        "build" => {
            // Alone it describes an image, and makes none.
            let makes = config.commands.keys().any(|name| name != SYFT);
            (config.github_token.is_none() && !makes)
                .then(|| "GITHUB_TOKEN is not set, and RUNNER_COMMANDS has no program to make an image".to_owned())
        }
        "backup" => target().or_else(|| tool_missing("pg_dump")),
        "restore" => target().or_else(|| tool_missing("pg_restore")),
        _ => None,
    }
}

/// What is set, and will not do what it is there for.
pub fn warnings(config: &RunnerConfig) -> Vec<String> {
    let programs = config.commands.iter().filter_map(|(name, path)| {
        Some(format!("RUNNER_COMMANDS has {name}={}, which {}: no phase can start it", path.display(), unusable(path)?))
    });
    programs.chain(pg_tools::misplaced()).collect()
}

/// Why a program cannot be started; `None`: it can, as far as its file tells.
pub fn unusable(path: &Path) -> Option<&'static str> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("does not exist"),
        Err(_) => Some("cannot be looked at"),
        Ok(about) if !about.is_file() => Some("is no file"),
        Ok(about) if about.permissions().mode() & 0o111 == 0 => Some("is not executable"),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OpsConfig;

    fn config(more: &[(&str, &str)]) -> RunnerConfig {
        let url = [("OPS_DATABASE_URL", "postgresql://ops:pass@127.0.0.1:1/ops")];
        let pairs = url.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        OpsConfig::from_pairs(pairs).expect("a configuration").runner
    }

    fn left_out(more: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let offer = offer_with(&config(more), |_| None).expect("an offer");
        NAMES.into_iter().filter_map(|kind| Some((kind, offer.left_out(kind)?.to_owned()))).collect()
    }

    const TARGET: (&str, &str) = ("TARGET_DATABASE_URL", "postgresql://ops:pass@127.0.0.1:1/postgres");

    #[test]
    fn a_runner_that_has_everything_leaves_nothing_out() {
        assert_eq!(left_out(&[("GITHUB_TOKEN", "token"), TARGET]), []);
        assert_eq!(left_out(&[("RUNNER_COMMANDS", "image=/bin/true"), TARGET]), []);
    }

    #[test]
    fn each_kind_that_lacks_a_setting_is_left_out_and_names_it() {
        let left = left_out(&[]);
        let names: Vec<_> = left.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(names, ["build", "backup", "restore"], "whatever else is missing, custom runs can be executed");
        assert!(left[0].1.starts_with("GITHUB_TOKEN is not set"), "{left:?}");
        assert!(left[1..].iter().all(|(_, why)| why == "TARGET_DATABASE_URL is not set"), "{left:?}");
    }

    #[test]
    fn what_describes_an_image_makes_none() {
        assert_eq!(left_out(&[("RUNNER_COMMANDS", "syft=/usr/bin/syft"), TARGET])[0].0, "build");
    }

    #[test]
    fn without_its_program_a_backup_is_left_out_even_where_a_target_is_configured() {
        let missing = |tool: &str| (tool == "pg_dump").then(|| "pg_dump is not installed".to_owned());
        let offer = offer_with(&config(&[TARGET]), missing).expect("an offer");
        assert_eq!((offer.left_out("backup"), offer.left_out("restore")), (Some("pg_dump is not installed"), None));
    }

    #[test]
    fn a_kind_that_is_asked_for_and_cannot_be_executed_is_an_error_that_names_both_variables() {
        let asked = config(&[("RUNNER_KINDS", "build,custom,backup")]);
        let told = offer_with(&asked, |_| None).expect_err("refused");
        for text in ["RUNNER_KINDS names build, but GITHUB_TOKEN", "RUNNER_KINDS names backup, but TARGET_DATABASE_URL"]
        {
            assert!(told.contains(text), "{told}");
        }
        let offer = offer_with(&config(&[("RUNNER_KINDS", "custom")]), |_| None).expect("an offer");
        assert_eq!(offer.left_out("build"), Some("RUNNER_KINDS does not name it"));
    }
}
