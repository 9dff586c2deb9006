//! Which addresses a worker may call: a template must not reach into the worker's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A range of addresses, `10.20.0.0/16`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: it must look like 10.20.0.0/16, fd00::/8 or 192.0.2.7")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let error = || InvalidNetwork(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| error())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(longest);
        if bits > longest {
            return Err(error());
        }
        Ok(Self { address, bits })
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                (network.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                (network.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// What may be called: all public addresses, and the networks that are named here.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Networks that are allowed although they are not public.
    pub networks: Vec<Network>,
}

/// The host may not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is no public address; allow its network in the worker's configuration if it is meant"
)]
pub struct Refused {
    /// The host, as the URL says it.
    pub host: String,
}

impl Reach {
    /// Public addresses and everything else.
    #[must_use]
    pub fn everywhere() -> Self {
        let all = |address| Network { address, bits: 0 };
        Self {
            networks: vec![all(Ipv4Addr::UNSPECIFIED.into()), all(Ipv6Addr::UNSPECIFIED.into())],
        }
    }

    /// Whether `address` may be called.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.networks.iter().any(|network| network.contains(address))
    }

    /// Looks at a host that is written as an address: no resolver is asked for those.
    ///
    /// # Errors
    /// If the address may not be called.
    pub fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal {
            Ok(address) if !self.allows(address) => Err(Refused { host: host.to_owned() }),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Whether the address belongs to the public internet. Special ranges (IANA registries, RFC 6890
/// and its updates) and every form that wraps an IPv4 address that is special are not.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0                                // this network
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()                      // cloud metadata among them
        || (a == 100 && (64..128).contains(&b))         // carrier-grade NAT
        || (a == 192 && b == 0 && c == 0)               // protocol assignments
        || (a == 192 && b == 88 && c == 99)             // 6to4 relays
        || (a == 198 && (18..20).contains(&b))          // benchmarks
        || address.is_documentation()
        || a >= 224; // multicast, reserved, broadcast
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // NAT64 and 6to4 lead to the IPv4 address that they carry.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(embedded(high, low)),
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        // Teredo, benchmarks, ORCHID and the other protocol assignments; documentation.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // Global unicast is 2000::/3; unique local, link local, site local, multicast, loopback,
        // mapped and compatible forms lie outside.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// A resolver that gives only addresses that may be called, so that a name is judged by the very
/// addresses that are connected to.
#[derive(Clone, Debug)]
pub(super) struct GuardedResolver {
    pub(super) reach: Arc<Reach>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|found| reach.allows(found.ip())).collect();
            if allowed.is_empty() {
                return Err(Refused { host: name.as_str().to_owned() }.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reach: &Reach, url: &str) -> bool {
        reach.check_literal(&url.parse().unwrap()).is_ok()
    }

    #[test]
    fn addresses_of_inside_are_refused_in_every_spelling() {
        let reach = Reach::default();

        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://2130706433/",
            "http://0/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://100.64.0.1/",
            "http://198.18.0.1/",
            "http://192.0.0.8/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:0:1:2::]/",
            "http://[fc00::1]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
            "http://[2001:db8::1]/",
        ] {
            assert!(!check(&reach, url), "{url} must be refused");
        }
        for url in ["http://1.1.1.1/", "http://[2606:4700::1111]/", "http://[64:ff9b::101:101]/"] {
            assert!(check(&reach, url), "{url} must be allowed");
        }
    }

    #[test]
    fn a_named_network_is_allowed_and_its_neighbours_are_not() {
        let reach = Reach { networks: vec!["10.20.0.0/16".parse().unwrap()] };

        assert!(check(&reach, "http://10.20.3.4/"));
        assert!(check(&reach, "http://[::ffff:10.20.3.4]/"));
        assert!(!check(&reach, "http://10.21.0.1/"));
        assert!(check(&Reach::everywhere(), "http://[::1]/"));
        assert!("10.0.0.0/33".parse::<Network>().is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_when_it_is_resolved() {
        let resolver = GuardedResolver { reach: Arc::new(Reach::default()) };

        let resolved = resolver.resolve("localhost".parse().unwrap()).await;

        assert!(resolved.is_err());
    }
}
