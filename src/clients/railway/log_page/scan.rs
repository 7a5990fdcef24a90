//! Counts one text and looks for another in a single pass over bytes.
//!
//! Nearly every byte that is ever searched is somebody's log line. One search after the other would
//! read each twice, and a search that stops at every line spends its time on starting again. Where the
//! processor has AVX2, 32 places are tried at once for both texts, and a place that looks right is
//! compared in full; elsewhere, and for the last bytes, memchr searches for one after the other.

use memchr::memmem;

/// A text, and the offsets of two of its bytes that seldom stand so in other text.
#[derive(Clone, Copy)]
pub struct Needle {
    pub text: &'static [u8],
    pub rare: [usize; 2],
}

/// How often `counted` stands in the bytes, and whether `wanted` does. Neither may overlap itself.
pub fn scan(bytes: &[u8], counted: Needle, wanted: Needle) -> (usize, bool) {
    let (mut count, mut found, mut done) = (0, false, 0);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        (count, found, done) = unsafe { wide(bytes, counted, wanted) };
    }
    let rest = bytes.get(done..).unwrap_or_default();
    count += memmem::find_iter(rest, counted.text).count();
    found = found || memmem::find(rest, wanted.text).is_some();
    (count, found)
}

/// The same for all places before the third value of the answer.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn wide(bytes: &[u8], counted: Needle, wanted: Needle) -> (usize, bool, usize) {
    use std::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256,
        _mm256_set1_epi8,
    };
    const WIDTH: usize = 32;

    let splat = |needle: Needle, which: usize| _mm256_set1_epi8(needle.text[needle.rare[which]] as i8);
    let (counted_0, counted_1) = (splat(counted, 0), splat(counted, 1));
    let (wanted_0, wanted_1) = (splat(wanted, 0), splat(wanted, 1));
    let ([c0, c1], [w0, w1]) = (counted.rare, wanted.rare);
    let reach = WIDTH + c0.max(c1).max(w0).max(w1);
    let (mut count, mut found, mut at) = (0, false, 0);
    while bytes.len() - at >= reach {
        let here = bytes[at..].as_ptr();
        // A closure would be compiled without the feature, and be called for every load.
        macro_rules! is_at {
            ($offset:expr, $byte:expr) => {
                // SAFETY: 32 bytes at an offset below `reach - 32`, and `reach` bytes are left.
                _mm256_cmpeq_epi8(unsafe { _mm256_loadu_si256(here.add($offset).cast::<__m256i>()) }, $byte)
            };
        }
        let may_count = _mm256_and_si256(is_at!(c0, counted_0), is_at!(c1, counted_1));
        let may_want = _mm256_and_si256(is_at!(w0, wanted_0), is_at!(w1, wanted_1));
        if _mm256_movemask_epi8(_mm256_or_si256(may_count, may_want)) != 0 {
            count += places(_mm256_movemask_epi8(may_count))
                .filter(|place| bytes[at + place..].starts_with(counted.text))
                .count();
            found = found
                || places(_mm256_movemask_epi8(may_want)).any(|place| bytes[at + place..].starts_with(wanted.text));
        }
        at += WIDTH;
    }
    (count, found, at)
}

/// The bits that are set, lowest first.
#[cfg(target_arch = "x86_64")]
fn places(mask: i32) -> impl Iterator<Item = usize> {
    let mut bits = mask.cast_unsigned();
    std::iter::from_fn(move || {
        let place = (bits != 0).then_some(bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::railway::log_page::{KEY, PREFIX};

    fn by_memchr(bytes: &[u8]) -> (usize, bool) {
        (memmem::find_iter(bytes, KEY.text).count(), memmem::find(bytes, PREFIX.text).is_some())
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        for length in 0..200 {
            assert_eq!(scan(&vec![b'_'; length], KEY, PREFIX), (0, false));
        }
    }

    #[test]
    fn both_are_found_at_every_place_of_every_length() {
        for text in [KEY.text, PREFIX.text] {
            for length in text.len()..150 {
                for place in 0..=length - text.len() {
                    let mut bytes = vec![b':'; length];
                    bytes[place..place + text.len()].copy_from_slice(text);
                    assert_eq!(scan(&bytes, KEY, PREFIX), by_memchr(&bytes), "at {place} of {length}");
                    bytes.pop();
                    assert_eq!(scan(&bytes, KEY, PREFIX), by_memchr(&bytes), "cut, at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn heaps_of_near_misses_are_told_apart_as_memchr_does() {
        // Every heap of pieces of both texts, in an order that a fixed generator throws.
        let pieces: [&[u8]; 9] =
            [KEY.text, PREFIX.text, b"\"timestamp\"", b"tr_wgt", b"_w", b"p\":", b"tr_", b"\"timestamp\\\":", b" "];
        let mut dice = 7_u64;
        for heap in 0..2000 {
            let mut bytes = Vec::new();
            for _ in 0..heap % 40 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.extend_from_slice(pieces[(dice >> 33) as usize % pieces.len()]);
            }
            assert_eq!(scan(&bytes, KEY, PREFIX), by_memchr(&bytes), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
