//! Windows of log lines: the newest of a window come back, oldest first, and one line too many.

use super::filter::Filter;
use super::graphql::failed;
use super::objects;
use super::world::{Service, World};
use crate::sandbox::webapp::deployments::{Deployment, LogLine};
use apollo_compiler::resolvers::FieldError;
use jiff::Timestamp;
use serde_json::Value;

/// When a query names no limit.
const DEFAULT_LIMIT: usize = 500;

pub(super) fn of_deployment(
    world: &World,
    service: &Service,
    deployment: &Deployment,
    lines: &[LogLine],
    arguments: &Value,
) -> Result<Value, FieldError> {
    let (from, to) = (time(arguments, "startDate")?, time(arguments, "endDate")?);
    let within = |line: &LogLine| from.is_none_or(|from| line.at >= from) && to.is_none_or(|to| line.at <= to);
    let filter = filter(arguments);
    let accepted =
        |line: &&LogLine| within(line) && filter.as_ref().is_none_or(|f| f.accepts(&service.id, &deployment.id, line));
    let lines: Vec<&LogLine> = lines.iter().filter(accepted).collect();
    // Known bug of the real API: with a limit, limit + 1 lines come.
    let limit = limit(arguments, "limit").unwrap_or(DEFAULT_LIMIT).saturating_add(1);
    let newest = &lines[lines.len().saturating_sub(limit)..];
    Ok(newest.iter().map(|line| objects::log(world, service, deployment, line)).collect())
}

/// The anchored form: up to `beforeLimit` lines until the anchor, up to `afterLimit` behind it,
/// across all services and deployments.
pub(super) fn of_environment(world: &World, arguments: &Value) -> Result<Value, FieldError> {
    let from = time(arguments, "beforeDate")?.unwrap_or(Timestamp::MIN);
    let anchor = time(arguments, "anchorDate")?.unwrap_or_else(Timestamp::now);
    let to = time(arguments, "afterDate")?.unwrap_or(Timestamp::MAX);
    let filter = filter(arguments);
    let services = world.services();
    let mut found = Vec::new();
    for service in &services {
        for deployment in &service.deployments {
            let accepted =
                |line: &&LogLine| filter.as_ref().is_none_or(|f| f.accepts(&service.id, &deployment.id, line));
            found.extend(deployment.lines.iter().filter(accepted).map(|line| (service, deployment, line)));
        }
    }
    found.sort_by_key(|(_, _, line)| line.at);
    let before: Vec<_> = found.iter().filter(|(.., line)| line.at >= from && line.at <= anchor).collect();
    let after = found.iter().filter(|(.., line)| line.at > anchor && line.at <= to);
    let skipped = before.len().saturating_sub(limit(arguments, "beforeLimit").unwrap_or(DEFAULT_LIMIT));
    let chosen = before.into_iter().skip(skipped);
    let chosen = chosen.chain(after.take(limit(arguments, "afterLimit").unwrap_or(0)));
    Ok(chosen.map(|(service, deployment, line)| objects::log(world, service, deployment, line)).collect())
}

fn filter(arguments: &Value) -> Option<Filter> {
    arguments["filter"].as_str().filter(|text| !text.trim().is_empty()).map(Filter::parse)
}

fn limit(arguments: &Value, name: &str) -> Option<usize> {
    arguments[name].as_u64().and_then(|n| usize::try_from(n).ok())
}

fn time(arguments: &Value, name: &str) -> Result<Option<Timestamp>, FieldError> {
    let Some(text) = arguments[name].as_str() else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| failed(format!("Invalid date in {name}")))
}
