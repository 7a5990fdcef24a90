//! `runs prune`: removes now what the runners remove every hour, or says what that would be.

use crate::cli::{DONE, ERROR, TRY_LATER, ops};
use ops_controller::clients::Seam;
use ops_controller::config::OpsConfig;
use ops_controller::runner::prune::{self, Kept, Report};
use ops_controller::runner::store::Store;
use ops_controller::runs::retention;
use ops_controller::runs::schema::Address;

pub async fn prune(dry_run: bool, json: bool) -> Result<u8, u8> {
    let config = ops::configuration()?;
    let address = ops::address_of(&config)?;
    let store = Store::new(&config.runner, &Seam::default());
    match dry_run {
        true => look(&config, &address, &store, json).await,
        false => remove(&config, &address, &store, json).await,
    }
}

async fn look(config: &OpsConfig, address: &Address, store: &Store, json: bool) -> Result<u8, u8> {
    let mut c = address.connect().await.map_err(|error| ops::failed(&error))?;
    let looked = prune::look(&mut c, config.runner.retention, store.identity().as_deref()).await;
    let report = looked.map_err(|error| ops::failed(&error.into()))?;
    if json {
        return Ok(ops::json(&report));
    }
    print(&report, "WOULD GO");
    Ok(DONE)
}

async fn remove(config: &OpsConfig, address: &Address, store: &Store, json: bool) -> Result<u8, u8> {
    let mut report = Report::default();
    let done = prune::prune(address, config.runner.retention, Some(store), &mut report).await;
    if matches!(done, Ok(false)) {
        eprintln!("error: a runner, or somebody else, removes old things at this moment: try again later");
        return Err(TRY_LATER);
    }
    // What went before an error is told as well.
    if json {
        ops::json(&report);
    } else {
        print(&report, "GONE");
    }
    let recorded = match report.has_removed() {
        true => record(address, &report).await,
        false => Ok(()),
    };
    done.map_err(|error| ops::failed(&error))?;
    recorded?;
    match &report.trouble {
        Some(trouble) => {
            eprintln!("error: what has expired stays for now: {}", ops::plain(trouble));
            Err(ERROR)
        }
        None => Ok(DONE),
    }
}

async fn record(address: &Address, report: &Report) -> Result<(), u8> {
    let mut c = address.connect().await.map_err(|error| ops::failed(&error))?;
    let noted = retention::note(&mut c, &ops::actor(), &report.gone().collect()).await;
    noted.map_err(|error| ops::failed(&error.into()))
}

fn print(report: &Report, head: &str) {
    let gone: Vec<_> = report.gone().map(|(what, count)| vec![what, count.to_string()]).collect();
    print!("{}", ops::table(&["WHAT", head], &gone));
    if report.kept().is_empty() {
        return;
    }
    let row = |k: &Kept| vec![k.what.clone(), k.count.to_string(), ops::plain(&k.why), ops::plain(&k.example)];
    let kept: Vec<_> = report.kept().iter().map(row).collect();
    print!("\n{}", ops::table(&["WHAT", "KEPT", "BECAUSE", "FOR EXAMPLE"], &kept));
}
