//! Who may know whom: the sources are read and held against one table.
//!
//! One crate cannot have its compiler enforce this. What a module may name is what makes deciding
//! free of I/O, and the simulated clouds independent of the clients that they test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module, and what of the crate it may name. A path stands for all below it.
const TABLE: &[(&str, &[&str])] = &[
    ("plan", &["plan"]),
    (
        "clients",
        &[
            "clients",
            "config",
            "plan::observation",
            "plan::action",
            "plan::secret",
            "plan::logs",
            "plan::firewall",
            "plan::state::RailwayIds",
            "plan::replication::PUBLICATION",
            "plan::replication::SLOT",
            "plan::replication::identifier",
            // A provider's words are cleaned where they come in.
            "telemetry::redact_text",
        ],
    ),
    ("sandbox", &["sandbox"]),
    ("config", &["config", "plan", "spelling"]),
    ("telemetry", &["telemetry", "config", "plan"]),
    ("runs", &["runs", "spelling"]),
    ("spelling", &["spelling"]),
    (
        "runner",
        &[
            "runner",
            "runs",
            "clients",
            "config",
            "plan::secret",
            "plan::observation::DeploymentStatus",
            "telemetry::redact_text",
            "telemetry::redact_also",
        ],
    ),
    ("http", &["http", "runs", "controller", "plan", "telemetry", "config"]),
    ("controller", &["controller", "plan", "clients", "runs", "config", "telemetry"]),
    // The figures are a crate of their own: they see the library as its users do, and of their own crate
    // only each other and the tests' worlds.
    ("bench", &["Error", "compressed", "dice", "figure", "list", "log_file", "run", "support", "world"]),
];

/// Deciding is a function of its arguments: no clock, no chance, no world, no waiting.
const NOT_IN_PLAN: &[&str] = &[
    "tokio",
    "reqwest",
    "sqlx",
    "async fn",
    "async move",
    ".await",
    "Timestamp::now",
    "Zoned::now",
    "SystemTime",
    "Instant::now",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "std::process",
    "getrandom",
];

struct File {
    path: PathBuf,
    /// The first folder or file name below src.
    module: String,
    text: String,
}

fn sources() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let path = entry.strip_prefix(&root).expect("below src").to_owned();
                let first = path.components().next().expect("a name").as_os_str().to_string_lossy();
                let module = first.trim_end_matches(".rs").to_owned();
                files.push(File { module, text: fs::read_to_string(&entry).expect("UTF-8"), path });
            }
        }
    }
    assert!(files.len() > 20, "the sources are where they are looked for");
    files
}

/// Code without comments. A `//` inside a string (an address) ends that line too soon, which hides
/// no path in practice: `crate::` does not follow a URL on its line.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every `crate::a::b`, with groups `crate::{a::{b, c}, d}` taken apart.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$') {
            expand(&code[at + found.len()..], "", &mut paths);
        }
    }
    paths
}

/// Reads one path or group at the start of `text`; returns how much of it that was.
fn expand(text: &str, prefix: &str, paths: &mut BTreeSet<String>) -> usize {
    let name_end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let name = &text[..name_end];
    let path = format!("{prefix}{name}");
    if !text[name_end..].starts_with('{') {
        paths.insert(path.trim_end_matches(':').to_owned());
        return name_end;
    }
    let mut at = name_end + 1;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '}' => return at + 1,
            c if c.is_alphanumeric() || c == '_' || c == '{' => at += expand(&text[at..], &path, paths).max(1),
            c => at += c.len_utf8(),
        }
    }
    at
}

fn may_name(allowed: &[&str], path: &str) -> bool {
    let below = |path: &str, of: &str| path == of || path.strip_prefix(of).is_some_and(|rest| rest.starts_with("::"));
    allowed.iter().any(|of| below(path, of))
}

/// `super::` chains that climb out of their module would be invisible to the paths above.
fn climbs_out(file: &File) -> Option<String> {
    // A file directly below src is one level deep, `a/mod.rs` too, `a/b.rs` two, and so on.
    let depth = file.path.components().count() - usize::from(file.path.ends_with("mod.rs"));
    // Tests inside the file stand one level deeper and may climb one more.
    let inline = usize::from(file.text.contains("mod tests {"));
    let chain = "super::".repeat(depth + inline);
    code(&file.text).contains(&chain).then(|| format!("{} climbs out of {} by super", file.path.display(), file.module))
}

fn held(problems: Vec<String>) {
    let table: Vec<String> = TABLE.iter().map(|(m, allowed)| format!("  {m} -> {}", allowed.join(", "))).collect();
    assert!(problems.is_empty(), "{}\n\nWhat may name what:\n{}\n", problems.join("\n"), table.join("\n"));
}

#[test]
fn a_module_names_only_what_its_row_allows() {
    let mut problems = Vec::new();
    for file in sources() {
        let Some((_, allowed)) = TABLE.iter().find(|(module, _)| *module == file.module) else { continue };
        for path in crate_paths(&code(&file.text)).iter().filter(|path| !may_name(allowed, path)) {
            problems.push(format!("{} names crate::{path}", file.path.display()));
        }
        problems.extend(climbs_out(&file));
    }
    held(problems);
}

#[test]
fn deciding_does_not_wait_look_or_roll_dice() {
    let mut problems = Vec::new();
    for file in sources().iter().filter(|f| f.module == "plan") {
        let code = code(&file.text);
        for word in NOT_IN_PLAN.iter().filter(|word| code.contains(**word)) {
            problems.push(format!("{} has {word}", file.path.display()));
        }
    }
    held(problems);
}

#[test]
fn only_one_file_knows_how_retries_are_made() {
    // The crate, not a module or a variable of that name.
    let names = |file: &File| {
        let code = code(&file.text);
        code.match_indices("backoff::").any(|(at, _)| !code[..at].ends_with([':', '_', '.']))
    };
    let knowing: Vec<String> = sources().iter().filter(|f| names(f)).map(|f| f.path.display().to_string()).collect();
    assert_eq!(knowing, ["clients/retry.rs"]);
}

#[test]
fn nothing_in_the_program_writes_without_a_lease() {
    // Its own file says what it is for.
    let uses = |file: &&File| code(&file.text).contains("unguarded") && file.path != Path::new("clients/fence.rs");
    held(sources().iter().filter(uses).map(|f| format!("{} has an unguarded fence", f.path.display())).collect());
}

#[test]
fn every_module_says_first_what_it_is() {
    // main.rs is no module: it is what calls them.
    let silent = |f: &&File| !f.text.starts_with("//!") && f.path != Path::new("main.rs");
    held(sources().iter().filter(silent).map(|f| format!("{} opens without //!", f.path.display())).collect());
}

#[test]
fn groups_and_single_paths_are_both_read() {
    let code = "use crate::{plan::{self, secret::Secret}, http};\nlet x = crate::config::Config::new(crate::runs::A);\n\
                use other_crate::never;";
    let paths: Vec<String> = crate_paths(code).into_iter().collect();
    assert_eq!(paths, ["config::Config::new", "http", "plan::secret::Secret", "plan::self", "runs::A"]);
    assert!(may_name(&["plan::state::RailwayIds"], "plan::state::RailwayIds::default"));
    assert!(!may_name(&["plan::state::RailwayIds"], "plan::state::State"));
    assert!(!may_name(&["plan"], "planner"));
}
