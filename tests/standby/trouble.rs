//! What goes wrong on the way, and passes: it costs time, and neither the lease nor the daemon.

use crate::binary::Environment;
use crate::pair::{Home, Pair};
use std::path::Path;

/// Another machine takes over while the command waits for an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_loses_its_lease_on_the_way_writes_nothing_more_and_says_try_later() {
    for command in [&["once"][..], &["destroy", "--yes"]] {
        let mut pair = Pair::new(Home::Folder).await;
        let one = pair.start("one").await;
        one.until_healthy().await;
        let env = Environment::new(pair.world.pairs.clone());
        let (ocean, written) = (one.ocean.clone(), one.ocean.writes());
        let state_file = one.state_file.clone();
        one.ends_well().await;
        ocean.hold("GET", "/v2/droplets");
        let mut running = env.start(command);
        ocean.until_held().await;
        std::fs::write(format!("{}.lease-99", state_file.display()), "").expect("written");
        ocean.let_go();
        let ended = running.output().await.expect_code(75);
        assert!(ended.err.contains("another controller took over (epoch 99"), "{}", ended.err);
        assert_eq!(ocean.writes(), written, "{command:?}");
        pair.one_droplet().await;
        pair.stop().await;
    }
}

/// A folder that cannot be used for a while, as with no descriptors left: a loop of links, which stops
/// root as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_whose_folder_cannot_be_used_for_a_while_waits_for_it() {
    let mut pair = Pair::new(Home::Folder).await;
    let first = pair.start("first").await;
    first.until_healthy().await;
    let link = pair.world.beside("link");
    let lead_to = |target: &Path| {
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).expect("a link");
    };
    lead_to(&pair.world.folder());
    let second = pair.start_at("second", link.join("state.json")).await;
    second.until_behind(1).await;
    lead_to(&link);
    second.program.until_logged("the folder of the state file").await;
    second.assert_ready().await;
    lead_to(&pair.world.folder());
    second.until_behind(1).await;
    first.ends_well().await;
    second.until_healthy().await;
    pair.one_droplet().await;
    second.ends_well().await;
    pair.stop().await;
}
