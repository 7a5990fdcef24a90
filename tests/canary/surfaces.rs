//! Everything that is shown beside the log, rendered as the program renders it.

use crate::compressed::driver::Deployment;
use ops_controller::clients::{Readers, Seam};
use ops_controller::controller::observe::Memory;
use ops_controller::controller::status::Status;
use ops_controller::controller::why::why;
use ops_controller::controller::{doctor, propose};
use ops_controller::telemetry::metrics;
use std::fmt::Write;
use std::sync::Arc;

/// What the daemon tells: as HTTP serves it, as `why` words it.
pub fn told(status: &Status) -> String {
    let json = serde_json::to_string(status).expect("JSON");
    let metrics = metrics::install().render();
    let why = why(&status.conditions, &status.held);
    format!("{json}\n{metrics}\n{why}\n{status:?}\n")
}

/// What the commands tell that look for themselves: plan, doctor, config.
pub async fn looked(deployment: &Deployment) -> String {
    let (config, now) = (deployment.config(), deployment.world.now());
    let seam = Seam::default().with_outside(Arc::new(deployment.world.clone()));
    let readers = Readers::new(config, &seam).expect("readers");
    let mut state = deployment.state();
    let mut text = String::new();
    for check in doctor::run(config, &readers, &state).await {
        writeln!(text, "{} {}: {}", check.ok, check.what, check.detail).expect("memory");
    }
    let (seen, plan) = propose(&readers, &config.desired, &mut state, &mut Memory::default(), now).await;
    for planned in &plan.actions {
        let action = &planned.action;
        writeln!(text, "{action} {} {} {}", action.key(), action.resource(), planned.reason).expect("memory");
        writeln!(text, "{action:?} {}", action.downtime()).expect("memory");
    }
    writeln!(text, "{}", serde_json::to_string(&plan.held).expect("JSON")).expect("memory");
    for finding in &plan.findings {
        writeln!(text, "{finding:?}").expect("memory");
    }
    for setting in &config.effective {
        writeln!(text, "{} {} {}", setting.name, setting.shown, setting.origin).expect("memory");
    }
    // Nobody prints these; if somebody does one day, it must do no harm.
    writeln!(text, "{plan:?}\n{seen:?}\n{state:#?}\n{config:#?}").expect("memory");
    text
}
