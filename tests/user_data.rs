//! What a supervisor droplet is told: checked as the droplet's own tools would read it.
//!
//! Numbers such as "defect 33" name the faults of the program this one replaces. A check that
//! needs a tool which is not installed says so and passes.

#[path = "user_data/refusals.rs"]
mod refusals;
#[path = "user_data/rendered.rs"]
mod rendered;
#[path = "user_data/revision.rs"]
mod revision;
#[path = "user_data/scripts.rs"]
mod scripts;
#[path = "user_data/tools.rs"]
mod tools;

use ops_controller::plan::user_data::{COMPOSE_FILE, ENV_FILE, Registry, UserData, render};
use serde_json::Value;

/// Fixed inputs, so that the rendered text is the same everywhere.
fn example() -> UserData<'static> {
    UserData {
        instance_name: "trigger-supervisor-nyc1-0a1b2c3d",
        trigger_version: "v4.5.12",
        api_url: "https://trigger.example.com",
        otel_endpoint: "https://trigger.example.com/otel",
        worker_token: "tr_wgt_example",
        managed_secret: "example-managed-secret",
        registry: Some(Registry {
            url: "registry.example.com",
            username: Some("puller"),
            password: Some("example-password"),
        }),
        ssh: false,
    }
}

fn text(data: &UserData) -> String {
    render(data).expect("these values can be carried")
}

/// The document behind the first line.
fn document(text: &str) -> Value {
    let json = text.strip_prefix("#cloud-config\n").expect("the first line says what it is");
    serde_json::from_str(json).expect("the rest is JSON")
}

/// Every written file: path, permissions, content.
fn files(text: &str) -> Vec<(String, String, String)> {
    let field = |file: &Value, name: &str| file[name].as_str().expect("a text").to_owned();
    document(text)["write_files"]
        .as_array()
        .expect("a list of files")
        .iter()
        .map(|file| (field(file, "path"), field(file, "permissions"), field(file, "content")))
        .collect()
}

fn file(text: &str, path: &str) -> String {
    let found = files(text).into_iter().find(|(p, ..)| p == path);
    found.unwrap_or_else(|| panic!("{path} is written")).2
}

fn env(data: &UserData) -> String {
    file(&text(data), ENV_FILE)
}

/// One variable of the env file, without its quotes.
fn variable(env: &str, key: &str) -> Option<String> {
    let line = env.lines().find_map(|line| line.strip_prefix(&format!("{key}=")))?;
    let bare = line.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    Some(bare.expect("every value is single-quoted").to_owned())
}

fn compose(data: &UserData) -> Value {
    serde_json::from_str(&file(&text(data), COMPOSE_FILE)).expect("the compose file is JSON")
}
