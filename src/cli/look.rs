//! The commands that only look: plan, status, why, doctor, config, healthcheck.

use super::{CHANGES_PENDING, DONE, ERROR, TRY_LATER, failed, local, quiet_configuration, silent_configuration};
use jiff::Timestamp;
use ops_controller::clients::check::Check;
use ops_controller::clients::{Readers, Seam};
use ops_controller::config::{Config, Origin, is_runner_alone};
use ops_controller::controller::observe::Memory;
use ops_controller::controller::why::why as explain;
use ops_controller::controller::{doctor as checks, propose};
use ops_controller::plan::Plan;
use ops_controller::plan::condition::{Condition, Status, settle};
use ops_controller::plan::mode::Shown as Mode;
use ops_controller::runner::check as runner_checks;
use ops_controller::telemetry::redact_text;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// What a fresh look brought.
struct Looked {
    plan: Plan,
    conditions: Vec<Condition>,
    /// What the desired supervisor costs a month, by live prices.
    supervisor_usd: Option<f64>,
}

/// A fresh look at everything. Holds only readers, so it cannot change anything.
async fn look(config: &Config) -> Result<Looked, Box<dyn std::error::Error>> {
    let now = Timestamp::now();
    let readers = Readers::new(config, &Seam::default())?;
    let (mut state, _) = local::store(config).load(&config.desired.identity_tag(), now)?;
    let before = state.conditions.clone();
    let (seen, plan) = propose(&readers, &config.desired, &mut state, &mut Memory::default(), now).await;
    let conditions = settle(plan.findings.clone(), &before, now);
    let sizes = seen.sizes.known().map(Vec::as_slice).unwrap_or_default();
    let supervisor_usd = sizes.iter().find(|s| s.slug == config.desired.size).map(|s| s.price_monthly);
    Ok(Looked { plan, conditions, supervisor_usd })
}

pub async fn plan(json: bool, detailed_exitcode: bool) -> u8 {
    let config = match quiet_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let looked = match look(&config).await {
        Ok(looked) => looked,
        Err(error) => return failed(error.as_ref()),
    };
    let text = if json { plan_json(&looked) } else { plan_text(&looked, &config.desired.size) };
    let Looked { plan, conditions, .. } = looked;
    print!("{}", redact_text(&text));
    let unseen: Vec<_> = conditions.iter().filter(|c| c.status == Status::Unknown && !c.advisory).collect();
    if !unseen.is_empty() {
        // Why stands in the plan itself.
        let names: Vec<_> = unseen.iter().map(|c| c.kind.to_string()).collect();
        eprintln!("the plan is incomplete: {} could not be looked at", names.join(", "));
        let later = unseen.iter().any(|c| c.message.contains("limits the rate"));
        return if later { TRY_LATER } else { ERROR };
    }
    match detailed_exitcode && !plan.actions.is_empty() {
        true => CHANGES_PENDING,
        false => DONE,
    }
}

fn plan_text(looked: &Looked, size: &str) -> String {
    let Looked { plan, conditions, supervisor_usd } = looked;
    let mut lines = Vec::new();
    for planned in &plan.actions {
        lines.push(format!("+ {}", planned.action));
        lines.push(format!("    because  {}", planned.reason));
        if let Some(usd) = planned.monthly_usd {
            lines.push(format!("    cost     {usd:+} USD a month"));
        }
        lines.push(format!("    downtime {}", planned.action.downtime()));
    }
    for held in &plan.held {
        lines.push(format!("- held: {}", held.action));
        lines.push(format!("    by       {}: {}", held.by, held.why));
    }
    if plan.is_settled() {
        lines.push("nothing to do".to_owned());
    } else {
        lines.push(format!("{} to do now, {} held; later cycles may add more", plan.actions.len(), plan.held.len()));
        lines.push(format!("change of the monthly bill: {:+} USD", monthly(plan)));
    }
    lines.push(match supervisor_usd {
        Some(usd) => format!("the supervisor ({size}) costs {usd} USD a month"),
        None => format!("the price of the supervisor ({size}) is not known"),
    });
    let open: Vec<_> = conditions.iter().filter(|c| c.status != Status::True).collect();
    if !open.is_empty() {
        lines.push(String::new());
        lines.push(explain(conditions, &[]).trim_end().to_owned());
    }
    lines.join("\n") + "\n"
}

fn monthly(plan: &Plan) -> f64 {
    // The sum of nothing is -0.0, which would be printed with its sign.
    plan.actions.iter().filter_map(|p| p.monthly_usd).sum::<f64>() + 0.0
}

fn plan_json(looked: &Looked) -> String {
    let Looked { plan, conditions, supervisor_usd } = looked;
    let actions: Vec<Value> = plan
        .actions
        .iter()
        .map(|p| {
            json!({
                "key": p.action.key(),
                "action": p.action.to_string(),
                "resource": p.action.resource(),
                "reason": p.reason,
                "monthly_usd": p.monthly_usd,
                "downtime": p.action.downtime(),
            })
        })
        .collect();
    let value = json!({
        "actions": actions,
        "held": plan.held,
        "conditions": conditions,
        "monthly_usd": monthly(plan),
        "supervisor_monthly_usd": supervisor_usd,
        "in_progress": plan.in_progress,
    });
    format!("{value:#}\n")
}

pub async fn status() -> u8 {
    let config = match quiet_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(body) = local::get(&config, "/status").await else { return no_daemon(&config) };
    match serde_json::from_slice::<Value>(&body) {
        Ok(value) => {
            println!("{value:#}");
            DONE
        }
        Err(_) => no_daemon(&config),
    }
}

fn no_daemon(config: &Config) -> u8 {
    let path = config.state_file.display();
    eprintln!("no daemon runs with STATE_FILE {path}; start one with `ops-controller run`");
    ERROR
}

/// From the daemon when one runs; else from a fresh look.
pub async fn why() -> u8 {
    let config = match quiet_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut troubles = Vec::new();
    let (conditions, held) = match local::get(&config, "/status").await.and_then(|b| serde_json::from_slice(&b).ok()) {
        Some(Shown { conditions, held, mode, mode_reason, runner_troubles }) => {
            runner_troubles.iter().for_each(|trouble| println!("{}", redact_text(trouble)));
            troubles = runner_troubles;
            if let Some(reason) = mode_reason {
                println!("{mode}: {reason}");
            }
            if conditions.is_empty() && mode == Mode::Standby.to_string() {
                // It does not look: who acts does.
                return ERROR;
            }
            (conditions, held)
        }
        None => match look(&config).await {
            Ok(Looked { plan, conditions, .. }) => (conditions, plan.held),
            Err(error) => return failed(error.as_ref()),
        },
    };
    print!("{}", redact_text(&explain(&conditions, &held)));
    let is_well = troubles.is_empty() && ops_controller::plan::condition::healthy(&conditions);
    if is_well { DONE } else { ERROR }
}

/// The part of a status that `why` needs.
#[derive(serde::Deserialize)]
struct Shown {
    mode: String,
    mode_reason: Option<String>,
    conditions: Vec<Condition>,
    held: Vec<ops_controller::plan::action::Held>,
    #[serde(default)]
    runner_troubles: Vec<String>,
}

pub async fn doctor() -> u8 {
    if is_runner_alone() {
        return match super::ops::configuration() {
            Ok(config) => {
                let mut found: Vec<_> = config.warnings.iter().map(|warning| Check::warning(warning)).collect();
                found.extend(runner_checks::run(&config).await);
                reported(&found)
            }
            Err(code) => code,
        };
    }
    // Warnings are lines of the report.
    let config = match silent_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let readers = match Readers::new(&config, &Seam::default()) {
        Ok(readers) => readers,
        Err(error) => return failed(&error as &(dyn std::error::Error + 'static)),
    };
    let state = match local::store(&config).load(&config.desired.identity_tag(), Timestamp::now()) {
        Ok((state, _)) => state,
        Err(error) => return failed(&error as &(dyn std::error::Error + 'static)),
    };
    let mut found = checks::run(&config, &readers, &state).await;
    if let Some(ops) = config.ops().filter(|ops| ops.runner.concurrency > 0) {
        // What is said of a name already is not said twice.
        let of_runner = runner_checks::run(&ops).await;
        let new: Vec<_> = of_runner.into_iter().filter(|c| !found.iter().any(|said| said.what == c.what)).collect();
        found.extend(new);
    }
    reported(&found)
}

fn reported(checks: &[Check]) -> u8 {
    for check in checks {
        let mark = if check.ok { "ok " } else { "BAD" };
        println!("{mark} {}: {}", check.what, redact_text(&check.detail));
    }
    let bad = checks.iter().filter(|c| !c.ok).count();
    match bad {
        0 => println!("all {} checks passed", checks.len()),
        n => println!("{n} of {} checks failed", checks.len()),
    }
    if bad == 0 { DONE } else { ERROR }
}

pub fn config() -> u8 {
    let config = match quiet_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let width = config.effective.iter().map(|e| e.name.len()).max().unwrap_or_default();
    for setting in &config.effective {
        match setting.origin {
            Origin::Unset => println!("{:width$}  unset", setting.name),
            _ => println!("{:width$}  {}  ({})", setting.name, setting.shown, setting.origin),
        }
    }
    DONE
}

pub async fn healthcheck() -> u8 {
    let Some(mut address) = ops_controller::config::listen_addr() else {
        eprintln!("LISTEN_ADDR must be an address and port such as 127.0.0.1:8080");
        return super::CONFIGURATION;
    };
    if address.ip().is_unspecified() {
        let local: IpAddr =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(local);
    }
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(4)).build();
    let answer = match client {
        Ok(client) => client.get(format!("http://{address}/readyz")).send().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) if answer.status().is_success() => DONE,
        Ok(answer) => {
            eprintln!("http://{address}/readyz answered {}", answer.status().as_u16());
            ERROR
        }
        Err(_) => {
            eprintln!("nothing answers on http://{address}/readyz");
            ERROR
        }
    }
}
