//! By what name this process is told from all others: its machine's, and a word of its own.

/// The machine's name; containers have one each.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "somewhere".to_owned(),
        name => name.to_owned(),
    }
}

/// A word that no other start has: a restarted process must not be taken for the one before.
pub fn word() -> String {
    let mut word = [0u8; 4];
    // Without chance, the time and the process's number must do: names are told, tokens are compared.
    if getrandom::fill(&mut word).is_err() {
        let now = u32::try_from(jiff::Timestamp::now().as_nanosecond() & 0xffff_ffff).unwrap_or_default();
        word = (now ^ std::process::id()).to_be_bytes();
    }
    format!("{:08x}", u32::from_be_bytes(word))
}
