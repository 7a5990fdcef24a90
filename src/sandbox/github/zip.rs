//! Writes a ZIP archive of one file the way `upload-artifact` does: streamed, so that the sizes stand
//! behind the file and not in front of it.

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use std::io::Write;

/// Sizes and checksum follow the content; names are UTF-8.
const FLAGS: u16 = 0x0808;
const DEFLATED: u16 = 8;
const VERSION: u16 = 20;

pub(super) fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(content);
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail; an archive that lost its content would be refused by readers.
    let packed = encoder.write_all(content).and_then(|()| encoder.finish()).unwrap_or_default();
    let words = |list: [u32; 3]| list.map(u32::to_le_bytes).concat();
    let shorts = |list: &[u16]| list.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
    let sizes = words([crc.sum(), length(&packed), length(content)]);
    let name_length = u16::try_from(name.len()).unwrap_or(u16::MAX);

    let local = [b"PK\x03\x04".as_slice(), &shorts(&[VERSION, FLAGS, DEFLATED, 0, 0x21]), &[0; 12]].concat();
    let mut bytes = [local, shorts(&[name_length, 0]), name.as_bytes().to_vec(), packed].concat();
    bytes.extend([b"PK\x07\x08".as_slice(), &sizes].concat());
    let directory = length(&bytes);
    bytes.extend([b"PK\x01\x02".as_slice(), &shorts(&[VERSION, VERSION, FLAGS, DEFLATED, 0, 0x21]), &sizes].concat());
    bytes.extend([shorts(&[name_length, 0, 0, 0, 0, 0, 0, 0, 0]), name.as_bytes().to_vec()].concat());
    let directory_length = length(&bytes) - directory;
    bytes.extend([b"PK\x05\x06".as_slice(), &shorts(&[0, 0, 1, 1])].concat());
    bytes.extend([directory_length.to_le_bytes(), directory.to_le_bytes()].concat());
    bytes.extend(shorts(&[0]));
    bytes
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
