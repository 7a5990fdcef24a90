//! A changed text needs a new revision, or running droplets would keep the old one unnoticed.

use ops_controller::plan::user_data::REVISION;
use sha2::{Digest, Sha256};

use super::{example, text};

/// The SHA-256 of the example's text, by revision. Add a line, never change one that was released.
const TEXTS: &[(u32, &str)] = &[(1, "0404aa691fef94ac47a77f01dd8d7f5740a0a6e64eb23fb8ef920ce1b3d810dd")];

#[test]
fn the_text_changes_only_together_with_its_revision() {
    let (revision, expected) = *TEXTS.last().expect("at least one revision");
    assert_eq!(revision, REVISION, "add the new revision's text to TEXTS");
    let actual: String = Sha256::digest(text(&example())).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(actual, expected, "the rendered text changed: bump REVISION and add its line");
}
