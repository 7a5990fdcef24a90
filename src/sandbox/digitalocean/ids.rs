//! Ids and addresses: ids repeat for the same seed, addresses are free ones on this host.

use std::net::Ipv4Addr;
use tokio::net::TcpSocket;

/// SplitMix64: small, and the same on every platform.
#[derive(Debug)]
pub struct Ids {
    state: u64,
    last_number: u64,
}

impl Ids {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, last_number: 500_000_000 }
    }

    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Rises, with gaps as between other customers' resources.
    pub fn number(&mut self) -> u64 {
        self.last_number += 1 + self.random() % 97;
        self.last_number
    }

    pub fn uuid(&mut self) -> String {
        let (a, b) = (self.random(), self.random());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }
}

/// Held as long as the droplet exists. Bound but not listening, so nobody can connect to it, and
/// no other simulator on this host can take the same address.
#[derive(Debug)]
pub struct Reservation {
    pub ip: Ipv4Addr,
    _lock: TcpSocket,
}

/// The port that marks an address as taken; the supervisor's own is 8020.
const LOCK_PORT: u16 = 8021;
/// There are sixteen million addresses: this many taken ones in a row mean something else.
const ATTEMPTS: u32 = 64;

impl Reservation {
    /// An address in 127.0.0.0/8 outside 127.0.0.0/24, where nothing of the host listens.
    ///
    /// `salt` differs between accounts, so that two sandboxes with one seed rarely collide.
    pub fn new(ids: &mut Ids, salt: u64) -> std::io::Result<Self> {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        for _ in 0..ATTEMPTS {
            let bits = ids.random() ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let part = |shift: u32| u8::try_from(1 + (bits >> shift) % 254).unwrap_or(1);
            let ip = Ipv4Addr::new(127, part(8), part(24), part(40));
            match reserve(ip) {
                Ok(lock) => return Ok(Self { ip, _lock: lock }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn reserve(ip: Ipv4Addr) -> std::io::Result<TcpSocket> {
    let lock = TcpSocket::new_v4()?;
    lock.bind((ip, LOCK_PORT).into())?;
    // Closed again at once: it only shows that the supervisor will be able to listen there.
    std::net::TcpListener::bind((ip, crate::sandbox::droplet::PORT))?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (mut one, mut two) = (Ids::new(7), Ids::new(7));
        assert_eq!((one.number(), one.uuid()), (two.number(), two.uuid()));
        assert_ne!(Ids::new(8).uuid(), Ids::new(7).uuid());
    }

    #[test]
    fn two_simulators_with_one_seed_get_different_addresses() {
        let one = Reservation::new(&mut Ids::new(7), 1).expect("an address");
        let two = Reservation::new(&mut Ids::new(7), 1).expect("an address");
        assert_ne!(one.ip, two.ip);
        assert_ne!(one.ip.octets()[1..3], [0, 0]);
    }
}
