//! `ConfigurationReady`: what the supervisor must be told, read from Railway in every cycle.
//!
//! Nothing is cached: a partial read gives no configuration at all, and a changed value is drift,
//! because it changes the droplet's fingerprint.

use super::condition::{ConditionType, Finding, Reason};
use super::desired::Desired;
use super::observation::{Lookup, RailwayView, Seen};
use super::secret::Secret;
use url::{Host, Url};

/// A whole configuration; there is no partial one.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    pub managed_secret: Secret,
    /// Without a trailing slash.
    pub api_url: String,
    pub registry_domain: Option<String>,
}

const KIND: ConditionType = ConditionType::ConfigurationReady;

/// The configuration and its finding; `None` when any part is missing or could not be read.
pub fn read(desired: &Desired, railway: &Seen<RailwayView>) -> (Option<Configuration>, Finding) {
    let view = match railway {
        Seen::Known(view) => view,
        Seen::Unknown { reason } => return (None, Finding::unknown(KIND, reason)),
    };
    match assemble(desired, view) {
        Ok(configuration) => {
            let message = format!("supervisors connect to {}", configuration.api_url);
            (Some(configuration), Finding::yes(KIND, message))
        }
        Err(finding) => (None, finding),
    }
}

fn assemble(desired: &Desired, view: &RailwayView) -> Result<Configuration, Finding> {
    service_found(&view.webapp, "WEBAPP_SERVICE_NAME")?;
    // No registry is a choice; not knowing which one would take a droplet its registry away.
    if let Lookup::Ambiguous { .. } = &view.registry {
        service_found(&view.registry, "REGISTRY_SERVICE_NAME")?;
    }
    let managed_secret = desired
        .managed_secret
        .clone()
        .or_else(|| view.managed_secret.clone())
        .filter(|s| !s.is_empty())
        .ok_or_else(|| {
            Finding::no(
                KIND,
                Reason::VariableMissing,
                "MANAGED_WORKER_SECRET is not among the webapp's readable variables: set it on the webapp, or, if it is \
                 sealed (Railway never returns sealed variables), set MANAGED_WORKER_SECRET here to the same value",
            )
        })?;
    let (name, origin) = match (&view.api_origin, &view.app_origin) {
        (Some(origin), _) if !origin.is_empty() => ("API_ORIGIN", origin),
        (_, Some(origin)) if !origin.is_empty() => ("APP_ORIGIN", origin),
        _ => {
            return Err(Finding::no(
                KIND,
                Reason::VariableMissing,
                "neither API_ORIGIN nor APP_ORIGIN is set on the webapp: set one to its public https address",
            ));
        }
    };
    let api_url = reachable_origin(origin, desired.allow_local_origin).map_err(|why| {
        Finding::no(
            KIND,
            Reason::OriginUnreachable,
            format!("{name} of the webapp {why}: set it to the webapp's public https address"),
        )
    })?;
    Ok(Configuration { managed_secret, api_url, registry_domain: view.registry_domain.clone() })
}

/// The finding for a service that was not found, or was found twice.
pub fn service_found(lookup: &Lookup, variable: &str) -> Result<(), Finding> {
    match lookup {
        Lookup::Found(_) => Ok(()),
        Lookup::Missing { wanted, present } => Err(Finding::no(
            KIND,
            Reason::ServiceNotFound,
            format!("no service named {wanted} in this environment: set {variable} to one of: {}", list(present)),
        )),
        Lookup::Ambiguous { wanted, matches } => Err(Finding::no(
            KIND,
            Reason::ServiceAmbiguous,
            format!("several services could be {wanted}: {}; set {variable} to the right one", list(matches)),
        )),
    }
}

pub fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The origin as a droplet outside Railway could use it, or why it could not.
fn reachable_origin(origin: &str, allow_local: bool) -> Result<String, &'static str> {
    let url = Url::parse(origin.trim()).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is not an http address");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("carries credentials or a query, which an origin has not");
    }
    let host = url.host().ok_or("has no host")?;
    if !allow_local {
        if is_local(&host) {
            return Err("cannot be reached from a droplet (local or Railway-internal)");
        }
        if url.scheme() != "https" {
            return Err("is not https, so the worker token would cross the internet in clear");
        }
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            !name.contains('.')
                || name.ends_with(".localhost")
                || name.ends_with(".internal")
                || name.ends_with(".local")
        }
        Host::Ipv4(ip) => ip.is_loopback() || ip.is_private() || ip.is_unspecified() || ip.is_link_local(),
        Host::Ipv6(ip) => ip.is_loopback() || ip.is_unspecified() || (ip.segments()[0] & 0xfe00) == 0xfc00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_a_droplet_cannot_reach_are_refused() {
        for origin in [
            "http://localhost:3030",
            "https://localhost",
            "http://127.0.0.1:3030",
            "https://webapp.railway.internal",
            "https://10.0.0.1",
            "https://[::1]",
            "https://webapp",
            "http://trigger.example.com",
            "trigger.example.com",
            "ftp://trigger.example.com",
            "https://user:password@trigger.example.com",
        ] {
            assert!(reachable_origin(origin, false).is_err(), "{origin}");
        }
        assert_eq!(
            reachable_origin("https://trigger.example.com/", false).as_deref(),
            Ok("https://trigger.example.com")
        );
        assert_eq!(reachable_origin("http://127.0.0.1:3030", true).as_deref(), Ok("http://127.0.0.1:3030"));
    }
}
