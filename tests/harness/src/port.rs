use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::Mutex;

/// Below Linux's range for outgoing connections, so that no client's socket sits on the port of a
/// server that is down for a moment.
const RANGE: Range<u16> = 12_000..32_000;

/// A TCP port of 127.0.0.1 that is free and is handed to nobody else while this value lives.
///
/// The reservation is the UDP socket of the same number: TCP does not see it, other tests, also of
/// other processes, do, and the kernel frees it whatever happens.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reservation: UdpSocket,
}

impl Port {
    /// Reserves a port.
    ///
    /// # Panics
    ///
    /// Where all are taken.
    pub fn reserve() -> Self {
        let offset = RandomState::new().hash_one(()) % u64::from(RANGE.end - RANGE.start);
        let first = RANGE.start + u16::try_from(offset).expect("less than the range's length");
        (first..RANGE.end)
            .chain(RANGE.start..first)
            .find_map(Self::try_reserve)
            .expect("no free port on 127.0.0.1")
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    fn try_reserve(number: u16) -> Option<Self> {
        let reservation = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _reservation: reservation })
    }
}

/// A port as of [`Port::reserve`], kept for as long as the process lives.
///
/// # Panics
///
/// Where all are taken.
pub fn free_port() -> u16 {
    static KEPT: Mutex<Vec<Port>> = Mutex::new(Vec::new());

    let port = Port::reserve();
    let number = port.number();
    KEPT.lock().expect("nothing panics under this lock").push(port);
    number
}
