//! `token`: who may use the HTTP interface. The secret is shown once, here and nowhere else.

use super::{DONE, ERROR, ops};
use clap::Subcommand;
use ops_controller::config::parse_duration;
use ops_controller::runs::RunsError;
use ops_controller::runs::tokens::{self, NewToken, Scope};
use std::time::Duration;

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once: only its hash is kept
    Create {
        /// What people call it; no other that was not revoked is called so
        #[arg(long)]
        name: String,
        /// runs:read, runs:write, runner or admin; may be given several times
        #[arg(long = "scope", required = true, value_delimiter = ',', value_parser = scope)]
        scopes: Vec<Scope>,
        /// After this time it opens nothing, such as 90d or 12h; without it, it stays until it is revoked
        #[arg(long, value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// List the tokens that were not revoked; one whose time is over is marked "expired"
    List {
        /// Print JSON, a list
        #[arg(long)]
        json: bool,
    },
    /// Let a token open nothing any more (a running server may remember it for 5 seconds)
    Revoke { name: String },
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Scope::ALL.iter().map(|scope| scope.name()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let fits = |time: &Duration| (Duration::from_secs(1)..=Duration::from_secs(3650 * 86_400)).contains(time);
    parse_duration(text)
        .filter(fits)
        .ok_or_else(|| "must be a time with a unit, such as 90d or 12h, to 3650d".to_owned())
}

pub async fn run(command: TokenCommand) -> u8 {
    let done = match command {
        TokenCommand::Create { name, scopes, expires } => create(&name, &scopes, expires).await,
        TokenCommand::List { json } => list(json).await,
        TokenCommand::Revoke { name } => revoke(&name).await,
    };
    done.unwrap_or_else(|code| code)
}

async fn create(name: &str, scopes: &[Scope], expires_in: Option<Duration>) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let Some(secret) = tokens::generate() else {
        eprintln!("error: the system gives no random bytes");
        return Err(ERROR);
    };
    let mut scopes = scopes.to_vec();
    scopes.dedup();
    let token = NewToken { name, scopes: &scopes, expires_in };
    let made = tokens::create(&mut c, token, &tokens::digest(&secret), &ops::actor()).await;
    made.map_err(|error| ops::failed(&RunsError::from(error)))?;
    eprintln!("the token {}, shown this once:", ops::plain(name));
    println!("{secret}");
    Ok(DONE)
}

async fn list(json: bool) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let tokens = tokens::list(&mut c).await.map_err(|error| ops::failed(&error.into()))?;
    if json {
        return Ok(ops::json(&tokens));
    }
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|t| {
            let expires = ops::time(t.expires_at);
            let expires = if t.is_expired { format!("expired {expires}") } else { expires };
            let (name, by) = (ops::plain(&t.name), ops::plain(&t.created_by));
            vec![name, t.scopes.join(","), ops::time(Some(t.created_at)), by, expires, ops::time(t.last_used_at)]
        })
        .collect();
    print!("{}", ops::table(&["NAME", "SCOPES", "CREATED", "BY", "EXPIRES", "LAST USED"], &rows));
    Ok(DONE)
}

async fn revoke(name: &str) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    match tokens::revoke(&mut c, name, &ops::actor()).await.map_err(|error| ops::failed(&error.into()))? {
        true => {
            println!("revoked {}", ops::plain(name));
            Ok(DONE)
        }
        false => {
            eprintln!("error: there is no token named {}: see `ops-controller token list`", ops::plain(name));
            Err(ERROR)
        }
    }
}
