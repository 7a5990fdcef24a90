//! Ids and tokens that look random and are the same in every run with the same seed.

use sha2::{Digest, Sha256};

const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The random part of a worker token, as the real webapp makes it.
const TOKEN_LENGTH: u32 = 40;

/// A version 4 UUID for the `n`th thing called `what`.
pub(in crate::sandbox) fn uuid(seed: u64, what: &str, n: u64) -> String {
    let bytes = digest(seed, what, n, 0);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    format!("{a}-{b}-4{c}-a{d}-{e}")
}

/// `length` hexadecimal digits, at most 64.
pub(in crate::sandbox) fn hex(seed: u64, what: &str, n: u64, length: usize) -> String {
    let bytes = digest(seed, what, n, 0);
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    text[..length.min(text.len())].to_string()
}

/// A worker token: `tr_wgt_` and 40 letters and digits.
pub(in crate::sandbox) fn worker_token(seed: u64, what: &str, n: u64) -> String {
    let letter = |i: u32| {
        let byte = digest(seed, what, n, i)[0];
        char::from(ALPHANUMERIC[usize::from(byte) % ALPHANUMERIC.len()])
    };
    format!("tr_wgt_{}", (0..TOKEN_LENGTH).map(letter).collect::<String>())
}

/// An id in the style of Prisma's cuid().
pub(in crate::sandbox) fn cuid(seed: u64, what: &str, n: u64) -> String {
    format!("c{}", hex(seed, what, n, 24))
}

pub(in crate::sandbox) fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

fn digest(seed: u64, what: &str, n: u64, part: u32) -> [u8; 32] {
    Sha256::digest(format!("{seed}/{what}/{n}/{part}").as_bytes()).into()
}
