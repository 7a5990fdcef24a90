//! `ReplicationSlotHealthy`: the slot is watched, never dropped; only a lost one is unhealthy.

use super::SLOT;
use crate::plan::condition::{ConditionType, Finding, Reason};
use crate::plan::desired::Desired;
use crate::plan::observation::{DatabaseView, Slot};
use crate::plan::state::{SlotSample, State};
use crate::plan::{readable_bytes, readable_duration};
use jiff::{SignedDuration, Timestamp};

/// The growth is measured from the oldest sample to the newest, so those between may be few: the
/// state file is written in every cycle. Together they reach back six hours.
const SAMPLE_EVERY: SignedDuration = SignedDuration::from_secs(60);
const KEEP_EVERY: SignedDuration = SignedDuration::from_mins(15);
const SAMPLES: usize = 24;
/// A slot that retains more than this is worth a warning even without a known volume size.
const RETAINED_WARNING: i64 = 1 << 30;

/// Takes the slot's growth into the state.
pub(super) fn digest(state: &mut State, at: Timestamp, slot: Option<&Slot>) {
    if let Some(slot) = slot {
        let due = state.slot_samples.last().is_none_or(|s| at.duration_since(s.at) >= SAMPLE_EVERY);
        if due {
            // The newest one stays only when it is as far from the one before it as those that are kept.
            if let [.., before, newest] = state.slot_samples.as_slice()
                && newest.at.duration_since(before.at) < KEEP_EVERY
            {
                state.slot_samples.pop();
            }
            state.slot_samples.push(SlotSample { at, retained_bytes: slot.retained_bytes });
            let surplus = state.slot_samples.len().saturating_sub(SAMPLES);
            state.slot_samples.drain(..surplus);
        }
    } else {
        state.slot_samples.clear();
    }
}

/// Watches; only a lost slot makes the deployment unhealthy.
pub(super) fn finding(desired: &Desired, state: &State, db: &DatabaseView) -> Finding {
    const KIND: ConditionType = ConditionType::ReplicationSlotHealthy;
    let Some(slot) = &db.slot else {
        if db.replication_slots_used >= db.max_replication_slots || db.wal_senders_used >= db.max_wal_senders {
            let message = format!(
                "slot {SLOT} does not exist and there is no room: {} of {} slots and {} of {} WAL senders are used",
                db.replication_slots_used, db.max_replication_slots, db.wal_senders_used, db.max_wal_senders
            );
            return Finding::no(KIND, Reason::LimitTooLow, message).advisory();
        }
        let message = format!(
            "slot {SLOT} does not exist; the webapp makes it when RUN_REPLICATION_ENABLED=1 and wal_level is logical \
             (webapps up to 4.5.0 need a restart after that)"
        );
        return Finding::no(KIND, Reason::SlotMissing, message).advisory();
    };
    let retained = readable_bytes(slot.retained_bytes);
    if slot.wal_status == "lost" {
        let message = format!(
            "slot {SLOT} is lost: replication cannot resume; drop the slot, restart the webapp, backfill the gap"
        );
        return Finding::no(KIND, Reason::SlotLost, message);
    }
    let forecast = forecast(desired, &state.slot_samples, slot);
    if !slot.active {
        let message = format!(
            "nothing reads slot {SLOT}; it retains {retained} of WAL{forecast}: check that the webapp runs, restart it if it does"
        );
        return Finding::no(KIND, Reason::SlotInactive, message).advisory();
    }
    let over_volume =
        desired.pg_volume_gb.is_some_and(|gb| slot.retained_bytes > (gb as i64).saturating_mul(1 << 30) / 2);
    if over_volume || slot.retained_bytes > RETAINED_WARNING || slot.wal_status != "reserved" {
        let message = format!("slot {SLOT} is read, yet retains {retained} of WAL ({}){forecast}", slot.wal_status);
        return Finding::no(KIND, Reason::SlotRetainsWal, message).advisory();
    }
    Finding::yes(KIND, format!("slot {SLOT} is active and retains {retained}")).advisory()
}

/// Growth rate and when it fills the volume, as the end of a sentence.
fn forecast(desired: &Desired, samples: &[SlotSample], slot: &Slot) -> String {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return String::new() };
    let seconds = last.at.duration_since(first.at).as_secs_f64();
    let grown = (last.retained_bytes - first.retained_bytes) as f64;
    if seconds < SAMPLE_EVERY.as_secs_f64() || grown <= 0.0 {
        return ", not growing".to_owned();
    }
    let rate = grown / seconds;
    let mut text = format!(", growing by {} an hour", readable_bytes((rate * 3600.0) as i64));
    let room = match (slot.safe_bytes, desired.pg_volume_gb) {
        (Some(safe), _) => Some((safe, "the slot is invalidated")),
        (None, Some(gb)) => Some(((gb as i64).saturating_mul(1 << 30) - slot.retained_bytes, "the volume is full")),
        (None, None) => None,
    };
    if let Some((room, what)) = room {
        let left = SignedDuration::from_secs((room.max(0) as f64 / rate).min(1e9) as i64);
        text.push_str(&format!(", {what} in about {}", readable_duration(left)));
    }
    text
}
