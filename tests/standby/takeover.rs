//! What holds wherever the lease is: on one folder, and through a database with two folders.

use crate::pair::{HOMES, Home, LEASE, One, Pair, SCHEDULING};
use crate::support::{DEADLINE, eventually};
use ops_controller::sandbox::faults::Break;
use serde_json::Value;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nobody_dies_one_of_two_acts_and_the_other_never_writes() {
    for home in HOMES {
        let mut pair = Pair::new(home).await;
        let (a, b) = (pair.start("a").await, pair.start("b").await);
        let healthy = async |one: &One| {
            one.until_healthy().await;
        };
        let a_acts = tokio::select! { () = healthy(&a) => true, () = healthy(&b) => false };
        let (acts, waits) = if a_acts { (&a, &b) } else { (&b, &a) };
        // More than two lease times.
        acts.some_cycles_later(6).await;
        assert_eq!(waits.program.status().await.expect("a status")["mode"], "standby", "{home:?}");
        assert_eq!(waits.writes(), Vec::<String>::new(), "{home:?}: the standby wrote");
        assert!(!waits.program.log().contains("lost") && !acts.program.log().contains("is lost"), "{home:?}");
        assert_eq!(pair.world.creates(), 1, "{home:?}");
        pair.one_droplet().await;
        a.ends_well().await;
        b.ends_well().await;
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_ready_and_names_the_holder_its_epoch_and_since_when() {
    for home in HOMES {
        let mut pair = Pair::new(home).await;
        let (first, second) = pair.settled().await;
        second.assert_ready().await;
        let status = second.program.status().await.expect("a status");
        let why = status["mode_reason"].as_str().expect("a reason");
        let place = if home == Home::Folder { "the folder" } else { "the database" };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host");
        assert!(why.contains(place) && why.contains(&format!("{}/daemon-", host.trim())), "{why}");
        assert_eq!((&status["healthy"], &status["cycle"]), (&Value::Bool(false), &Value::Null));
        let metrics = second.program.text("/metrics").await;
        assert!(metrics.contains("ops_controller_active 0") && metrics.contains("{mode=\"standby\"} 1"), "{metrics}");
        let metrics = first.program.text("/metrics").await;
        let label = if home == Home::Folder { "folder" } else { "database" };
        for line in ["ops_controller_active 1", &format!("ops_controller_lease_epoch{{home=\"{label}\"}} 1")] {
            assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
        }
        first.ends_well().await;
        second.ends_well().await;
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_is_killed_the_other_acts_within_two_lease_times() {
    for home in HOMES {
        let mut pair = Pair::new(home).await;
        let (first, second) = pair.settled().await;
        let at = Instant::now();
        first.program.signal(libc::SIGKILL);
        let took = second.acts_after(at).await;
        eprintln!("{home:?}: killed, replaced after {took:?} (LEASE_TIME {LEASE:?})");
        assert!(took < 2 * LEASE + SCHEDULING, "{home:?}: {took:?}");
        second.until_healthy().await;
        pair.one_droplet().await;
        assert_eq!(pair.world.creates(), 1, "{home:?}: the droplet that was there is taken on");
        second.ends_well().await;
        pair.stop().await;
    }
}

/// Frozen in the middle of a cycle that goes on to write: the answer that it needs for that is there
/// when it wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_one_is_replaced_within_two_lease_times_and_writes_nothing_when_it_wakes() {
    for home in HOMES {
        let mut pair = Pair::new(home).await;
        let (first, second) = pair.settled().await;
        first.ocean.hold("GET", "/v2/droplets");
        pair.world.sandbox.cause(Break::DropletDeleted).expect("caused");
        first.ocean.until_held().await;
        let at = Instant::now();
        first.program.signal(libc::SIGSTOP);
        first.ocean.let_go();
        let written = first.writes();
        let took = second.acts_after(at).await;
        eprintln!("{home:?}: frozen, replaced after {took:?} (LEASE_TIME {LEASE:?})");
        assert!(took < 2 * LEASE + SCHEDULING, "{home:?}: {took:?}");
        second.until_healthy().await;
        let ours = pair.world.our_only().id;
        let state = std::fs::read(&second.state_file).expect("a state file");

        first.program.signal(libc::SIGCONT);
        first.program.until_logged("nothing is written").await;
        first.until_behind(2).await;
        first.assert_ready().await;
        second.some_cycles_later(4).await;
        assert_eq!(first.writes(), written, "{home:?}: it wrote when it woke");
        assert_eq!(pair.world.creates(), 2, "{home:?}: one each");
        pair.one_droplet().await;
        assert_eq!(pair.world.our_only().id, ours, "{home:?}");
        let number = |state: &[u8]| -> Option<u64> {
            serde_json::from_slice::<Value>(state).ok().and_then(|s| s["cycle"].as_u64())
        };
        let now = std::fs::read(&second.state_file).expect("a state file");
        assert!(number(&now) > number(&state), "{home:?}: an old state lies over the new one");
        let metrics = first.program.text("/metrics").await;
        assert!(metrics.contains("ops_controller_leases_lost_total 1"), "{metrics}");

        // And it is a good standby again.
        second.program.signal(libc::SIGKILL);
        let again = first.until_healthy().await;
        assert_eq!(again["droplet"]["id"], ours, "{home:?}");
        first.ends_well().await;
        pair.stop().await;
    }
}

/// Frozen while its call is out: the call was carried out, and another controller acts by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_in_the_middle_of_a_create_there_is_one_droplet() {
    for home in HOMES {
        let mut pair = Pair::new(home).await;
        let first = pair.start("first").await;
        first.ocean.hold("POST", "/v2/droplets");
        first.until_mode("active").await;
        let second = pair.start("second").await;
        first.ocean.until_held().await;
        first.program.signal(libc::SIGSTOP);
        first.ocean.let_go();
        second.until_healthy().await;
        first.program.signal(libc::SIGCONT);
        first.program.until_logged("nothing is written").await;
        first.until_mode("standby").await;
        second.some_cycles_later(3).await;
        assert_eq!(pair.world.creates(), 1, "{home:?}");
        pair.one_droplet().await;
        first.ends_well().await;
        second.ends_well().await;
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_asked_to_stop_gives_its_lease_back_at_once() {
    for home in HOMES {
        let mut pair = Pair::new(home).await;
        // So long that nobody could have waited for it.
        pair.world.set("LEASE_TIME", "60s");
        let (first, second) = pair.settled().await;
        let at = Instant::now();
        first.ends_well().await;
        let took = second.acts_after(at).await;
        eprintln!("{home:?}: stopped, replaced after {took:?} (LEASE_TIME 60 s)");
        assert!(took < DEADLINE / 4, "{home:?}: {took:?}");
        second.until_healthy().await;
        eventually("one droplet", || pair.world.creates() == 1).await;
        second.ends_well().await;
        pair.stop().await;
    }
}
