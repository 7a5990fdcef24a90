//! The folder's lease in its delicate moments, in one process.

use ops_controller::clients::Seam;
use ops_controller::clients::seam::Point;
use ops_controller::controller::lease::LeaseError;
use ops_controller::controller::store::{Store, StoreError};
use ops_controller::plan::state::State;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn store(folder: &Path, seam: Seam) -> Store {
    Store::new(folder.join("state.json"), seam).with_predecessor(folder.join("none"))
}

fn state(cycle: u64) -> State {
    State { cycle, ..State::new("ours") }
}

fn saved(folder: &Path) -> u64 {
    let store = store(folder, Seam::default());
    store.load("ours", jiff::Timestamp::now()).expect("a state").0.cycle
}

#[tokio::test]
async fn one_has_it_and_the_next_epoch_begins_when_it_is_given_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), Seam::default());
    let first = store.lease_for("first", HOUR).expect("taken");
    match store.lease_for("second", HOUR) {
        Err(LeaseError::Held { holder, .. }) => assert!(holder.starts_with("first (epoch 1, since "), "{holder}"),
        other => panic!("{:?}", other.map(|t| t.epoch())),
    }
    let old = store.clone().fenced(first.fence());
    old.save(&state(1)).await.expect("saved");
    drop(first);
    let error = old.save(&state(2)).await.expect_err("given back");
    assert!(matches!(&error, StoreError::Fenced(_)), "{error}");
    let second = store.lease_for("second", HOUR).expect("taken");
    assert_eq!((second.epoch(), saved(folder.path())), (2, 1));
    let names = std::fs::read_dir(folder.path()).expect("a folder");
    let names: Vec<_> = names.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
    assert!(!names.iter().any(|n| n == "state.json.lease-1"), "old epochs are cleared away: {names:?}");
}

/// Many at once, again and again: never two of them.
#[test]
fn of_many_that_want_it_at_once_one_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let held = AtomicBool::new(false);
    let taken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = store(folder.path(), Seam::default());
                for _ in 0..200 {
                    let Ok(term) = store.lease_for("one", HOUR) else { continue };
                    assert!(!held.swap(true, Ordering::SeqCst), "two at once");
                    term.fence().check().expect("it is ours");
                    taken.lock().expect("the epochs").push(term.epoch());
                    held.store(false, Ordering::SeqCst);
                    drop(term);
                }
            });
        }
    });
    let taken = taken.into_inner().expect("the epochs");
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), taken.len(), "an epoch was taken twice");
    assert!(taken.len() > 8, "{} times", taken.len());
}

/// Frozen after the look at the fence and before the rename; the other one has taken over and saved
/// by the time it wakes.
#[tokio::test]
async fn a_save_that_was_frozen_at_its_last_step_never_lies_over_the_next_ones_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let first = Arc::new(Mutex::new(None));
    let hold = first.clone();
    let frozen = Arc::new(AtomicBool::new(false));
    let seam = Seam::new(move |point| {
        let (path, hold, frozen) = (path.clone(), hold.clone(), frozen.clone());
        async move {
            if point != Point::Written || frozen.swap(true, Ordering::SeqCst) {
                return;
            }
            // Its process is gone as far as the other one can see.
            drop(hold.lock().expect("the lease").take());
            let next = store(&path, Seam::default());
            let second = next.lease_for("second", HOUR).expect("taken");
            next.fenced(second.fence()).save(&state(100)).await.expect("saved");
        }
    });
    let store = store(folder.path(), seam);
    let term = store.lease_for("first", HOUR).expect("taken");
    let writes = store.fenced(term.fence());
    *first.lock().expect("the lease") = Some(term);
    let error = writes.save(&state(1)).await.expect_err("refused");
    assert!(matches!(&error, StoreError::Fenced(_)), "{error}");
    assert_eq!(saved(folder.path()), 100);
}

#[tokio::test]
async fn a_lease_whose_file_is_gone_or_another_one_is_no_lease() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), Seam::default());
    let term = store.lease_for("first", HOUR).expect("taken");
    let file = folder.path().join("state.json.lease-1");
    std::fs::rename(&file, folder.path().join("aside")).expect("renamed");
    std::fs::write(&file, "").expect("written");
    let error = term.fence().check().expect_err("another file");
    assert!(error.to_string().contains("(epoch 1) was removed"), "{error}");
    std::fs::write(folder.path().join("state.json.lease-9"), "").expect("written");
    let next = store.lease_for("second", HOUR).expect("nobody locks that one");
    assert_eq!(next.epoch(), 10);
}

/// As with no descriptors left, or a disk that fails for a moment: a loop of links, which stops root as
/// well. That refuses one write; a folder that is gone is lost.
#[tokio::test]
async fn a_folder_that_cannot_be_read_refuses_the_write_and_keeps_the_lease() {
    let folder = tempfile::tempdir().expect("a folder");
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    std::fs::create_dir(&real).expect("a folder");
    let lead_to = |target: &Path| {
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).expect("a link");
    };
    lead_to(&real);
    let mut term = store(&link, Seam::default()).lease_for("first", HOUR).expect("taken");
    lead_to(&link);
    let refused = term.fence().check().expect_err("nothing can be seen");
    assert!(refused.to_string().contains("cannot be read"), "{refused}");
    term.renew().expect_err("not this time");
    lead_to(&real);
    term.fence().check().expect("it was nobody else's in between");
    assert_eq!(term.renew().expect("renewed"), Ok(()));

    std::fs::remove_file(&link).expect("removed");
    term.fence().check().expect_err("gone");
    lead_to(&real);
    let lost = term.fence().check().expect_err("for ever").to_string();
    assert!(lost.contains("(epoch 1) was removed"), "{lost}");
}

/// Whatever lies in the folder under whatever name, the backup is whole at every moment.
#[test]
fn a_backup_is_never_written_through_a_second_name_of_the_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state_file, busy) = (folder.path().join("state.json"), AtomicBool::new(true));
    let store = store(folder.path(), Seam::default());
    let term = store.lease_for("first", HOUR).expect("taken");
    let writes = store.fenced(term.fence());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while busy.load(Ordering::SeqCst) {
                let _ = std::fs::hard_link(&state_file, folder.path().join("state.json.bak.new"));
            }
        });
        let torn = (1..300).find(|cycle| {
            runtime.block_on(writes.save(&state(*cycle))).expect("saved");
            let backup = std::fs::read(folder.path().join("state.json.bak"));
            backup.is_ok_and(|text| serde_json::from_slice::<State>(&text).is_err())
        });
        busy.store(false, Ordering::SeqCst);
        assert_eq!(torn, None, "a torn backup");
    });
}
