//! Text to values. Every error is collected by variable name, says what is allowed, and never
//! repeats what was given.

use super::LogFormat;
use super::variables::required;
use crate::plan::desired::RegistryLogin;
use crate::plan::secret::Secret;
use crate::plan::token::is_token;
use sqlx::postgres::PgConnectOptions;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

type Text = Option<String>;

const PLACEHOLDER: &str = "still holds the placeholder of .env.example: put your own value there";

pub struct Parser {
    pub errors: Vec<String>,
}

impl Parser {
    pub fn new(errors: Vec<String>) -> Parser {
        Parser { errors }
    }

    /// One error for each variable: after "the file cannot be read", "is required" only confuses.
    pub fn error(&mut self, name: &str, what: &str) {
        let reported = |e: &String| e.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', ':']));
        if self.errors.iter().any(reported) {
            return;
        }
        self.errors.push(format!("{name} {what}"));
    }

    /// The parsed value, or a placeholder and an error.
    fn checked<T: Default>(&mut self, name: &str, text: &Text, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        match text.as_deref().map(str::trim) {
            None | Some("") => {
                self.error(name, &required(name));
                T::default()
            }
            Some(text) if is_placeholder(text) => {
                self.error(name, PLACEHOLDER);
                T::default()
            }
            Some(text) => parse(text).unwrap_or_else(|| {
                self.error(name, allowed);
                T::default()
            }),
        }
    }

    pub fn text(&mut self, name: &str, text: &Text) -> String {
        self.checked(name, text, "must not hold control characters", |t| {
            (!t.chars().any(char::is_control)).then(|| t.to_owned())
        })
    }

    pub fn optional_text(&mut self, name: &str, text: &Text) -> Option<String> {
        text.as_ref()?;
        Some(self.text(name, text))
    }

    /// Kinds of runs, as the database spells them.
    pub fn names(&mut self, name: &str, text: &Text) -> Vec<String> {
        let names = split(text);
        let fits = |n: &String| {
            n.starts_with(|c: char| c.is_ascii_lowercase())
                && n.len() <= 63
                && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !names.iter().all(fits) {
            self.error(name, "must be names in lower-case letters, digits and _, comma separated");
        }
        names
    }

    /// `name=/absolute/path`, comma separated.
    pub fn programs(&mut self, name: &str, text: &Text) -> BTreeMap<String, PathBuf> {
        let mut programs = BTreeMap::new();
        for part in split(text) {
            match part.split_once('=') {
                Some((short, path)) if !short.trim().is_empty() && path.trim().starts_with('/') => {
                    programs.insert(short.trim().to_owned(), PathBuf::from(path.trim()));
                }
                _ => self.error(name, "must be a list such as syft=/usr/bin/syft,make=/usr/bin/make, with whole paths"),
            }
        }
        programs
    }

    pub fn store(&mut self, name: &str, text: &Text) -> String {
        let allowed = "must be an absolute folder, or s3://bucket or s3://bucket/prefix";
        self.checked(name, text, allowed, |t| {
            let bucket = t.strip_prefix("s3://").map(|rest| rest.split('/').next().unwrap_or_default());
            let fits = t.starts_with('/') || bucket.is_some_and(|bucket| !bucket.is_empty());
            (fits && !t.chars().any(char::is_control)).then(|| t.to_owned())
        })
    }

    pub fn required_secret(&mut self, name: &str, text: &Text) -> Option<Secret> {
        if text.is_none() {
            self.error(name, &required(name));
        }
        self.secret(name, text)
    }

    /// A secret that travels in an HTTP header: anything else would fail there, at every request.
    pub fn secret(&mut self, name: &str, text: &Text) -> Option<Secret> {
        let text = text.as_deref()?;
        if is_placeholder(text) {
            self.error(name, PLACEHOLDER);
        } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
            self.error(name, "must be plain ASCII without spaces or line breaks");
        }
        Some(Secret::new(text))
    }

    pub fn database_url(&mut self, name: &str, text: &Text) -> Option<Secret> {
        let allowed = "must be a URL such as postgresql://user:password@host:port/database, with a user name \
                       (percent-encode special characters in the password); sslmode, if given, as PostgreSQL spells it";
        self.checked(name, text, allowed, |t| {
            let url = url::Url::parse(t).ok()?;
            let scheme = matches!(url.scheme(), "postgres" | "postgresql");
            // Behind a `/` in a password, the rest of it would be taken for host and path, and be shown.
            let host_is_last = !url[url::Position::BeforePath..].contains('@');
            let fits = scheme && url.host().is_some() && !url.username().is_empty() && host_is_last;
            // As the clients will read it: a wrong sslmode is to be refused with the configuration, not later.
            (fits && PgConnectOptions::from_str(t).is_ok()).then(|| t.to_owned())
        });
        text.clone().map(Secret::new)
    }

    pub fn optional_database_url(&mut self, name: &str, text: &Text) -> Option<Secret> {
        text.as_ref()?;
        self.database_url(name, text)
    }

    pub fn id(&mut self, name: &str, text: &Text) -> String {
        let allowed = "must be the id from Railway's dashboard (letters, digits and dashes; at most 64)";
        self.checked(name, text, allowed, |t| {
            let plain = t.len() <= 64 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            plain.then(|| t.to_owned())
        })
    }

    pub fn slug(&mut self, name: &str, text: &Text) -> String {
        self.checked(name, text, "must be a DigitalOcean slug (lower-case letters, digits and dashes)", |t| {
            let plain = t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
            plain.then(|| t.to_owned())
        })
    }

    pub fn image_tag(&mut self, name: &str, text: &Text) -> String {
        self.checked(name, text, "must be an exact version such as v4.0.0: a moving tag cannot be compared", |t| {
            let (numbers, suffix) = t.strip_prefix('v')?.split_once('-').unwrap_or((t.strip_prefix('v')?, "x"));
            let number = |n: &str| !n.is_empty() && n.len() <= 6 && n.bytes().all(|b| b.is_ascii_digit());
            let exact = numbers.split('.').count() == 3 && numbers.split('.').all(number);
            let plain = suffix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
            (exact && plain && !suffix.is_empty() && t.len() <= 64).then(|| t.to_owned())
        })
    }

    pub fn worker_token(&mut self, name: &str, text: &Text) -> Option<Secret> {
        let token = text.as_deref()?.trim();
        if is_placeholder(token) {
            self.error(name, PLACEHOLDER);
        } else if !is_token(token) {
            self.error(name, "must be tr_wgt_ followed by 40 letters or digits");
        }
        Some(Secret::new(token))
    }

    /// A user and a password, or neither: half a login is none.
    pub fn login(&mut self, user: &str, name: &Text, secret: &str, password: &Text) -> Option<RegistryLogin> {
        match (name, password) {
            (None, None) => None,
            (Some(_), Some(_)) => Some(RegistryLogin {
                username: self.text(user, name),
                password: self.required_secret(secret, password)?,
            }),
            (Some(_), None) => {
                self.error(secret, &format!("is required when {user} is set"));
                None
            }
            (None, Some(_)) => {
                self.error(user, &format!("is required when {secret} is set"));
                None
            }
        }
    }

    pub fn boolean(&mut self, name: &str, text: &Text) -> bool {
        self.checked(name, text, "must be true or false", |t| match t.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    pub fn number<T>(&mut self, name: &str, text: &Text, range: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + std::fmt::Display + Default,
    {
        let allowed = format!("must be a whole number from {} to {}", range.start(), range.end());
        self.checked(name, text, &allowed, |t| t.parse().ok().filter(|n| range.contains(n)))
    }

    pub fn optional_number<T>(&mut self, name: &str, text: &Text, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + std::fmt::Display + Default,
    {
        text.as_ref()?;
        Some(self.number(name, text, range))
    }

    /// Days for which something is kept; 0: for ever.
    pub fn days(&mut self, name: &str, text: &Text, least: i32) -> i32 {
        let most = 36_500;
        let allowed = format!("must be 0, for ever, or a whole number of days from {least} to {most}");
        self.checked(name, text, &allowed, |t| t.parse().ok().filter(|n| *n == 0 || (least..=most).contains(n)))
    }

    pub fn dollars(&mut self, name: &str, text: &Text) -> f64 {
        self.checked(name, text, "must be an amount in US dollars, such as 100", |t| {
            t.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)
        })
    }

    /// Minutes as documented, or with a unit.
    pub fn check_interval(&mut self, name: &str, text: &Text) -> Duration {
        let allowed = "must be minutes from 1 to 60, or a time with a unit from 1s to 60m";
        self.checked(name, text, allowed, |t| match t.parse::<u64>() {
            Ok(minutes) => (1..=60).contains(&minutes).then(|| Duration::from_secs(minutes * 60)),
            Err(_) => {
                let range = Duration::from_secs(1)..=Duration::from_secs(3600);
                parse_duration(t).filter(|d| range.contains(d))
            }
        })
    }

    pub fn duration(&mut self, name: &str, text: &Text, least: &str, most: &str) -> Duration {
        let allowed = format!("must be a time with a unit (ms, s, m, h, d) from {least} to {most}");
        let (Some(least), Some(most)) = (parse_duration(least), parse_duration(most)) else {
            return Duration::default();
        };
        self.checked(name, text, &allowed, |t| parse_duration(t).filter(|d| (least..=most).contains(d)))
    }

    pub fn optional_duration(&mut self, name: &str, text: &Text, least: &str, most: &str) -> Option<Duration> {
        match text.as_deref().map(str::trim) {
            Some("0") => None,
            _ => Some(self.duration(name, text, least, most)),
        }
    }

    pub fn ssh_keys(&mut self, name: &str, text: &Text) -> Vec<String> {
        let keys = split(text);
        let fits = |k: &String| {
            k.parse::<u64>().is_ok() || (k.len() >= 16 && k.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
        };
        if !keys.iter().all(fits) {
            self.error(
                name,
                "must be ids or MD5 fingerprints (aa:bb:…) of keys in your DigitalOcean account, comma separated",
            );
        }
        keys
    }

    pub fn addresses(&mut self, name: &str, text: &Text) -> Vec<String> {
        let addresses = split(text);
        let fits = |a: &String| {
            let (ip, prefix) = a.split_once('/').map_or((a.as_str(), None), |(ip, p)| (ip, Some(p)));
            let Ok(ip) = ip.parse::<IpAddr>() else { return false };
            let most = if ip.is_ipv4() { 32 } else { 128 };
            prefix.is_none_or(|p| p.parse::<u8>().is_ok_and(|p| p <= most))
        };
        if addresses.is_empty() || !addresses.iter().all(fits) {
            self.error(name, "must be IP addresses or ranges such as 203.0.113.7/32, comma separated");
        }
        addresses
    }

    pub fn url(&mut self, name: &str, text: &Text) -> String {
        let allowed = "must be an https URL without user and password (http only to this machine)";
        self.checked(name, text, allowed, |t| {
            let url = url::Url::parse(t).ok()?;
            // It is shown in logs and by `config`, so a password has no place in it.
            let bare = url.username().is_empty() && url.password().is_none();
            let fits = matches!(url.scheme(), "http" | "https") && url.host().is_some() && bare;
            // A token must not cross a network in clear.
            (fits && (url.scheme() == "https" || super::is_loopback_url(t))).then(|| t.to_owned())
        })
    }

    pub fn listen_addr(&mut self, name: &str, text: &Text) -> SocketAddr {
        let allowed = "must be an address and port such as 127.0.0.1:8080";
        let parsed: Option<SocketAddr> = self.checked(name, text, allowed, |t| t.parse().ok().map(Some));
        parsed.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)))
    }

    pub fn log_format(&mut self, name: &str, text: &Text) -> Option<LogFormat> {
        match text.as_deref().map(str::trim) {
            None | Some("") => None,
            Some("json") => Some(LogFormat::Json),
            Some("text") => Some(LogFormat::Text),
            Some(_) => {
                self.error(name, "must be json or text");
                None
            }
        }
    }

    pub fn log_level(&mut self, name: &str, text: &Text) -> String {
        self.checked(
            name,
            text,
            "must be error, warn, info, debug, trace, or a filter such as ops_controller=debug",
            |t| {
                // A bare word that is no level would be read as the name of a module, and silence the rest.
                let level = |part: &str| part.contains(['=', '[']) || part.trim().parse::<LevelFilter>().is_ok();
                let fits = t.split(',').all(level) && EnvFilter::try_new(t).is_ok();
                fits.then(|| t.to_owned())
            },
        )
    }
}

/// What `.env.example` says where a value is to be filled in. As a value it would be refused later,
/// by a provider, in words that send the reader looking for a wrong scope.
fn is_placeholder(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let bracketed = text.starts_with('<') && text.ends_with('>');
    bracketed || text.contains("your_") || text.contains("user:password@host:port") || text == "changeme"
}

fn split(text: &Text) -> Vec<String> {
    let parts = text.as_deref().unwrap_or_default().split(',').map(str::trim);
    parts.filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// `500ms`, `15s`, `10m`, `2h`, `1d`. A number alone is refused: its unit would be a guess.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" | "min" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        "d" => Some(Duration::from_secs(number.checked_mul(86_400)?)),
        _ => None,
    }
}

/// A password as the server sees it: the log must not show that spelling either.
pub fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
