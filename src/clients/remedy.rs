//! What a provider's refusal means for the person who set the variables: which one, and what to do.
//!
//! One line each, the same for `doctor`, `plan`, `why` and the log. Names and addresses only: nothing
//! secret is held here.

use super::error::ClientError;
use crate::config::Config;
use crate::plan::replication::identifier;
use std::fmt;

/// Names and addresses out of the configuration that an explanation may show.
#[derive(Debug, Clone)]
pub struct Remedies {
    railway_token: &'static str,
    database: Database,
}

#[derive(Debug, Clone, Default)]
struct Database {
    host: String,
    port: u16,
    role: String,
}

/// A variable or a provider, and what is wrong with it; ends with the fix and the provider's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    pub what: String,
    pub text: String,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.text)
    }
}

impl Remedies {
    pub fn new(config: &Config) -> Remedies {
        let railway_token = if config.railway_project_token.is_some() { "RAILWAY_TOKEN" } else { "RAILWAY_API_TOKEN" };
        let url = config.database_url.as_ref().and_then(|url| url::Url::parse(url.expose()).ok());
        let database = url.map_or_else(Database::default, |url| Database {
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port().unwrap_or(5432),
            role: crate::config::percent_decode(url.username()),
        });
        Remedies { railway_token, database }
    }

    /// The variable that holds the Railway token in use.
    pub fn railway_token(&self) -> &'static str {
        self.railway_token
    }

    pub fn explain(&self, error: &ClientError) -> Explained {
        let provider = match error {
            ClientError::Fenced(_) => "lease",
            ClientError::Unauthorized { provider, .. }
            | ClientError::NotFound { provider, .. }
            | ClientError::Forbidden { provider, .. }
            | ClientError::RateLimited { provider, .. }
            | ClientError::Refused { provider, .. }
            | ClientError::NotSent { provider, .. }
            | ClientError::NoAnswer { provider, .. } => provider,
        };
        let (what, text) = match (provider, error) {
            // Nobody's mistake: it passes.
            (_, ClientError::RateLimited { .. } | ClientError::Fenced(_)) => (provider, error.to_string()),
            ("PostgreSQL", error) => ("DATABASE_URL", self.database(error)),
            ("DigitalOcean", error) => digitalocean(error),
            ("GitHub", error) => github(error),
            (_, error) => self.railway(error),
        };
        Explained { what: what.to_owned(), text }
    }

    fn railway(&self, error: &ClientError) -> (&'static str, String) {
        match error {
            ClientError::Unauthorized { message, .. } | ClientError::Forbidden { message, .. } => {
                let fix = match self.railway_token {
                    "RAILWAY_TOKEN" => {
                        "must be a project token of this project: make one in the project's Settings > Tokens (an \
                         account or workspace token goes into RAILWAY_API_TOKEN)"
                    }
                    _ => "wrong, expired, or of another workspace: make one at railway.com/account/tokens",
                };
                (self.railway_token, format!("{fix} ({})", own_words(message)))
            }
            ClientError::NotFound { what, .. } if what.to_ascii_lowercase().contains("project not found") => {
                let fix = "this token sees no project with this id: copy the id from the project's settings, or from \
                           its address railway.com/project/<id>";
                ("RAILWAY_PROJECT_ID", format!("{fix} ({})", own_words(what)))
            }
            ClientError::NotFound { what, .. } if what.to_ascii_lowercase().contains("environment not found") => {
                let fix = "no environment with this id in the project: `ops-controller doctor` lists those there are";
                ("RAILWAY_ENVIRONMENT_ID", format!("{fix} ({})", own_words(what)))
            }
            ClientError::NotSent { .. } => {
                ("Railway", format!("{error}; check the network, and RAILWAY_API_URL if it is set"))
            }
            error => ("Railway", error.to_string()),
        }
    }

    fn database(&self, error: &ClientError) -> String {
        let Database { host, port, role } = &self.database;
        match error {
            ClientError::Unauthorized { message, .. } => format!(
                "PostgreSQL at {host}:{port} refused the {message}: correct both (percent-encode special characters in \
                 the password)"
            ),
            ClientError::Forbidden { message, .. } => format!(
                "role {role} lacks a right ({message}): take the DATABASE_PUBLIC_URL of the Postgres service (its role \
                 postgres is a superuser), or run as a superuser: alter role {} superuser",
                identifier(role)
            ),
            ClientError::NotSent { message, .. } if message.contains("database") && message.contains("not exist") => {
                format!("{message}: correct the database's name at the end of it")
            }
            ClientError::NotSent { message, .. }
            | ClientError::Refused { message, .. }
            | ClientError::NoAnswer { message, .. }
                if tells_of_a_pooler(message) =>
            {
                format!(
                    "{host}:{port} is a connection pooler ({message}): use the direct address, such as \
                     DATABASE_PUBLIC_URL of the Postgres service; a pooler hides sessions and settings"
                )
            }
            _ if host.ends_with(".railway.internal") => {
                format!("{error}; {host} resolves inside Railway only: use DATABASE_PUBLIC_URL of the Postgres service")
            }
            ClientError::NotSent { .. } => format!(
                "{error}; check host and port ({host}:{port}), and that the database accepts connections from here"
            ),
            error => error.to_string(),
        }
    }
}

fn digitalocean(error: &ClientError) -> (&'static str, String) {
    match error {
        ClientError::Unauthorized { message, .. } => {
            let fix = "wrong, expired or revoked: make one at cloud.digitalocean.com under API > Tokens, with the \
                       scopes listed in .env.example";
            ("DIGITALOCEAN_TOKEN", format!("{fix} ({})", own_words(message)))
        }
        ClientError::Forbidden { message, .. } => {
            let call = message.split(':').next().unwrap_or_default();
            let fix = format!("lacks the scope {}: make a token with all scopes listed in .env.example", scopes(call));
            ("DIGITALOCEAN_TOKEN", format!("{fix} ({message})"))
        }
        ClientError::Refused { message, .. } if message.contains("droplet limit") => {
            let fix = "every droplet of the account counts: delete one that is not needed, or request a higher limit \
                       in the DigitalOcean account's settings";
            ("DigitalOcean droplet limit", format!("reached; {fix} ({message})"))
        }
        ClientError::NotSent { .. } => {
            ("DigitalOcean", format!("{error}; check the network, and DIGITALOCEAN_API_URL if it is set"))
        }
        error => ("DigitalOcean", error.to_string()),
    }
}

fn github(error: &ClientError) -> (&'static str, String) {
    match error {
        ClientError::Unauthorized { message, .. } => {
            let fix = "missing, wrong, expired or revoked: make a fine-grained one at github.com/settings/tokens";
            ("GITHUB_TOKEN", format!("{fix} ({})", own_words(message)))
        }
        ClientError::Forbidden { message, .. } => {
            let fix = "lacks a right: give it Actions (read and write) on this repository";
            ("GITHUB_TOKEN", format!("{fix} ({})", own_words(message)))
        }
        ClientError::NotSent { .. } => {
            ("GitHub", format!("{error}; check the network, and GITHUB_API_URL if it is set"))
        }
        error => ("GitHub", error.to_string()),
    }
}

/// The same without a controller's configuration.
pub fn of_github(error: &ClientError) -> Explained {
    let (what, text) = github(error);
    Explained { what: what.to_owned(), text }
}

/// The scopes that a call needs, by its name; DigitalOcean does not say which one it missed.
fn scopes(call: &str) -> &'static str {
    match call {
        "read account" => "account:read",
        "list droplets by tag" => "droplet:read or tag:read",
        "count droplets" | "list droplets by name" | "read droplet" => "droplet:read",
        "list firewalls" => "firewall:read",
        "list sizes" => "sizes:read",
        "create droplet" => "droplet:create, tag:create or ssh_key:read",
        "delete droplet" => "droplet:delete",
        "droplet action" => "droplet:update",
        "create firewall" => "firewall:create",
        "update firewall" => "firewall:update",
        "delete firewall" => "firewall:delete",
        "create tag" => "tag:create",
        "delete tag" => "tag:delete",
        _ => "that it needs",
    }
}

/// What was answered, without the call's name and id: about credentials every call is told the same,
/// and the same line must not be told once for each.
fn own_words(message: &str) -> &str {
    let words = message.split_once(": ").map_or(message, |(_, words)| words);
    words.split(" (request ").next().unwrap_or(words)
}

/// Sentences of PgBouncer, and of servers whose sessions it hands from one client to the next.
fn tells_of_a_pooler(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let mixed_up = message.contains("prepared statement")
        && (message.contains("already exists") || message.contains("does not exist"));
    mixed_up || message.contains("unsupported startup parameter") || message.contains("pgbouncer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedies() -> Remedies {
        let database = Database { host: "db.example.com".into(), port: 6432, role: "Plain".into() };
        Remedies { railway_token: "RAILWAY_API_TOKEN", database }
    }

    #[test]
    fn a_sentence_of_a_pooler_is_told_from_a_database_that_is_down() {
        let refused = |message: &str| {
            let error = ClientError::Refused { provider: "PostgreSQL", status: 0, message: message.into() };
            remedies().explain(&error).to_string()
        };
        for message in [
            "look at the database: prepared statement \"sqlx_s_1\" already exists",
            "unsupported startup parameter: extra_float_digits",
        ] {
            let text = refused(message);
            assert!(text.starts_with("DATABASE_URL: db.example.com:6432 is a connection pooler ("), "{text}");
            assert!(text.contains(message) && text.contains("DATABASE_PUBLIC_URL"), "{text}");
        }
        assert!(!refused("the database system is shutting down").contains("pooler"));
    }

    #[test]
    fn a_role_is_quoted_where_sql_needs_it() {
        let error = ClientError::Forbidden { provider: "PostgreSQL", message: "permission denied".into() };
        let text = remedies().explain(&error).to_string();
        assert!(
            text.contains("role Plain lacks a right") && text.ends_with("alter role \"Plain\" superuser"),
            "{text}"
        );
    }

    #[test]
    fn a_token_of_github_is_not_taken_for_one_of_railway() {
        let message = "read workflow run: 401 Bad credentials".to_owned();
        let text = remedies().explain(&ClientError::Unauthorized { provider: "GitHub", message }).to_string();
        assert!(text.starts_with("GITHUB_TOKEN: ") && text.ends_with("(401 Bad credentials)"), "{text}");
    }

    #[test]
    fn every_call_is_told_the_same_about_credentials() {
        let told = |call: &str| {
            let message = format!("{call}: 401 Unable to authenticate you (request {call})");
            remedies().explain(&ClientError::Unauthorized { provider: "DigitalOcean", message }).to_string()
        };
        assert_eq!(told("list firewalls"), told("read account"));
    }
}
