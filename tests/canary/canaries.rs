//! A distinct value for every secret that the program can meet, told by its name.
//!
//! The list of variables is the program's own: a secret variable without a canary here fails every
//! test. The values look random and are the same in each process.

use ops_controller::config::VARIABLES;
use ops_controller::plan::desired::hex_sha256;
use std::fmt::Write;

/// Needs percent-encoding in a URL, escaping in JSON, and has what a careless parser stops at.
const ODD: &str = "p@ss/w%rd:+";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Canary {
    /// What it is the value of.
    pub name: String,
    pub value: String,
}

impl Canary {
    pub fn new(name: &str, value: impl Into<String>) -> Canary {
        Canary { name: name.to_owned(), value: value.into() }
    }
}

/// The same letters for the same name, and others for any other.
fn letters(name: &str, count: usize) -> String {
    let mut text = String::new();
    for round in 0.. {
        let hash = hex_sha256(format!("canary {round} of {name}").as_bytes());
        // Base 36 from pairs of digits: hexadecimal alone would look like the ids around it.
        let pairs = (0..hash.len()).step_by(2).filter_map(|at| u32::from_str_radix(&hash[at..at + 2], 16).ok());
        text.extend(pairs.filter_map(|n| char::from_digit(n % 36, 36)));
        if text.len() >= count {
            text.truncate(count);
            return text;
        }
    }
    unreachable!("it returned")
}

pub fn worker_token(name: &str) -> String {
    format!("tr_wgt_{}", letters(name, 40))
}

/// The value of a secret variable. For a database's URL it is the password in it.
pub fn value(name: &str) -> String {
    match name {
        "DIGITALOCEAN_TOKEN" => format!("dop_v1_{}", letters(name, 64)),
        "TRIGGER_WORKER_TOKEN" => worker_token(name),
        "DATABASE_URL" | "OPS_DATABASE_URL" | "TARGET_DATABASE_URL" => format!("{ODD}{}", letters(name, 24)),
        // Secrets of people's own making; single quotes and backslashes are refused in a droplet's set-up.
        "DOCKER_REGISTRY_PASSWORD" => format!("Reg\"istry%{}<&>", letters(name, 24)),
        "API_TOKEN" => format!("{}/+={}", letters(name, 20), letters("more of it", 12)),
        "RAILWAY_API_TOKEN" | "RAILWAY_TOKEN" | "MANAGED_WORKER_SECRET" => letters(name, 36),
        "GITHUB_TOKEN" => format!("ghp_{}", letters(name, 36)),
        "AWS_ACCESS_KEY_ID" => format!("AKIA{}", letters(name, 16).to_uppercase()),
        "AWS_SECRET_ACCESS_KEY" => format!("{}/+{}", letters(name, 20), letters("more of the key", 18)),
        other => panic!("{other} is a secret variable without a canary: give it one here"),
    }
}

/// One for each secret variable.
pub fn of_variables() -> Vec<Canary> {
    VARIABLES.iter().filter(|v| v.secret).map(|v| Canary::new(v.name, value(v.name))).collect()
}

/// A secret that no variable holds: users give it to a run, or a caller to the HTTP interface.
pub fn of_users(name: &str) -> Canary {
    Canary::new(name, letters(name, 40))
}

/// A bearer token that looks like one of ours, and was never made.
pub fn unknown_bearer() -> Canary {
    let name = "a bearer token that nobody made";
    Canary::new(name, format!("ops_{}", letters(name, 43)))
}

/// Variables of the webapp and the database at Railway that the program has no use for, and reads
/// together with those that it uses.
pub fn of_railway() -> Vec<Canary> {
    let names = ["SESSION_SECRET", "ENCRYPTION_KEY", "MAGIC_LINK_SECRET", "CLICKHOUSE_PASSWORD", "PGPASSWORD"];
    names.iter().map(|name| Canary::new(name, letters(name, 32))).collect()
}

/// An address with the variable's canary for a password, as a URL needs it.
pub fn database_url(variable: &str, role: &str, host: &str) -> String {
    let mut encoded = String::new();
    for byte in value(variable).bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() => encoded.push(char::from(b)),
            b => write!(encoded, "%{b:02X}").expect("memory"),
        }
    }
    format!("postgresql://{role}:{encoded}@{host}")
}
