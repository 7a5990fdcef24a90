//! Takes one small file out of a ZIP archive. Pure.
//!
//! It reads the directory at the end, as writers that stream leave no sizes in front of a file. It
//! refuses encryption, more than one disk, 64-bit sizes, and files larger than the caller wants.

use flate2::{Crc, Decompress, FlushDecompress, Status};

const LOCAL: &[u8] = b"PK\x03\x04";
const ENTRY: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
const ENTRY_LENGTH: usize = 46;
const LOCAL_LENGTH: usize = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ENCRYPTED: u16 = 1;

pub fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(LOCAL) || bytes.starts_with(END)
}

/// The content of `name`; the error ends a sentence that begins with the archive.
pub fn file(bytes: &[u8], name: &str, largest: usize) -> Result<Vec<u8>, String> {
    let broken = || "is no whole ZIP archive".to_owned();
    let entry = entry(bytes, name).ok_or_else(broken)?.ok_or_else(|| format!("does not hold {name}"))?;
    if entry.flags & ENCRYPTED != 0 {
        return Err(format!("holds {name} encrypted"));
    }
    if entry.size > largest || entry.packed > bytes.len() {
        return Err(format!("holds a {name} of more than {largest} bytes"));
    }
    let packed = content(bytes, &entry).ok_or_else(broken)?;
    let unpacked = match entry.method {
        STORED => packed.to_vec(),
        DEFLATED => inflated(packed, entry.size).ok_or_else(broken)?,
        method => return Err(format!("holds {name} packed by method {method}, which is not known here")),
    };
    let mut crc = Crc::new();
    crc.update(&unpacked);
    match unpacked.len() == entry.size && crc.sum() == entry.crc {
        true => Ok(unpacked),
        false => Err(broken()),
    }
}

struct Entry {
    flags: u16,
    method: u16,
    crc: u32,
    packed: usize,
    size: usize,
    /// Where its local header stands.
    at: usize,
}

/// The outer `None` is a broken archive, the inner one an absent file.
fn entry(bytes: &[u8], name: &str) -> Option<Option<Entry>> {
    // A comment of up to 64 KiB may follow the directory's end.
    let last = bytes.len().checked_sub(END_LENGTH)?;
    let end = (last.saturating_sub(usize::from(u16::MAX))..=last).rev().find(|at| bytes[*at..].starts_with(END))?;
    let count = short(bytes, end + 10)?;
    let mut at = word(bytes, end + 16)?;
    for _ in 0..count {
        if !bytes.get(at..)?.starts_with(ENTRY) {
            return None;
        }
        let [name_length, extra, comment] = [short(bytes, at + 28)?, short(bytes, at + 30)?, short(bytes, at + 32)?];
        let first = at + ENTRY_LENGTH;
        if bytes.get(first..first + usize::from(name_length))? == name.as_bytes() {
            return Some(Some(Entry {
                flags: short(bytes, at + 8)?,
                method: short(bytes, at + 10)?,
                crc: u32::try_from(word(bytes, at + 16)?).ok()?,
                packed: word(bytes, at + 20)?,
                size: word(bytes, at + 24)?,
                at: word(bytes, at + 42)?,
            }));
        }
        at = first + usize::from(name_length) + usize::from(extra) + usize::from(comment);
    }
    Some(None)
}

/// The packed bytes, behind a local header whose name and extra field have lengths of their own.
fn content<'a>(bytes: &'a [u8], entry: &Entry) -> Option<&'a [u8]> {
    if !bytes.get(entry.at..)?.starts_with(LOCAL) {
        return None;
    }
    let [name, extra] = [short(bytes, entry.at + 26)?, short(bytes, entry.at + 28)?];
    let first = entry.at + LOCAL_LENGTH + usize::from(name) + usize::from(extra);
    bytes.get(first..first.checked_add(entry.packed)?)
}

/// Never more than `size` bytes, whatever the archive claims.
fn inflated(packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(size.max(1));
    let status = Decompress::new(false).decompress_vec(packed, &mut out, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd).then_some(out)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

/// 64-bit archives have all ones here, which is larger than anything that is taken.
fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)?;
    usize::try_from(word).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Info-ZIP's format description: one stored file `a` with the bytes `hi`.
    fn archive(name: &[u8], content: &[u8], method: u16, flags: u16) -> Vec<u8> {
        let (mut crc, length) = (Crc::new(), u32::try_from(content.len()).expect("small"));
        crc.update(content);
        let name_length = u16::try_from(name.len()).expect("small");
        let common = |out: &mut Vec<u8>| {
            for short in [20, flags, method, 0, 0] {
                out.extend(u16::to_le_bytes(short));
            }
            for word in [crc.sum(), length, length] {
                out.extend(word.to_le_bytes());
            }
            out.extend(name_length.to_le_bytes());
        };
        let mut bytes = LOCAL.to_vec();
        common(&mut bytes);
        bytes.extend([0; 2]);
        bytes.extend([name, content].concat());
        let directory = u32::try_from(bytes.len()).expect("small");
        bytes.extend([ENTRY, &[20, 0]].concat());
        common(&mut bytes);
        bytes.extend([0; 12]);
        bytes.extend(0u32.to_le_bytes());
        bytes.extend_from_slice(name);
        let length = u32::try_from(bytes.len()).expect("small") - directory;
        bytes.extend([END, &[0, 0, 0, 0, 1, 0, 1, 0]].concat());
        bytes.extend([length.to_le_bytes(), directory.to_le_bytes()].concat());
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn a_stored_file_comes_out_and_others_are_absent() {
        let bytes = archive(b"a", b"hi", STORED, 0);
        assert_eq!(file(&bytes, "a", 2), Ok(b"hi".to_vec()));
        assert_eq!(file(&bytes, "b", 2), Err("does not hold b".to_owned()));
        assert_eq!(file(&bytes, "a", 1), Err("holds a a of more than 1 bytes".to_owned()));
    }

    #[test]
    fn an_archive_cut_or_changed_anywhere_is_refused_and_never_read_past_its_end() {
        let bytes = archive(b"a", b"hi", STORED, 0);
        for end in 0..bytes.len() {
            assert!(file(&bytes[..end], "a", 100).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(content) = file(&changed, "a", 100) {
                    assert_eq!(content, b"hi", "byte {at} as {value}");
                }
            }
        }
    }

    #[test]
    fn what_is_encrypted_or_packed_in_another_way_is_named() {
        assert!(file(&archive(b"a", b"hi", STORED, ENCRYPTED), "a", 9).expect_err("refused").contains("encrypted"));
        assert!(file(&archive(b"a", b"hi", 12, 0), "a", 9).expect_err("refused").contains("method 12"));
    }
}
