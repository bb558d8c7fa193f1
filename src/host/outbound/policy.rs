//! Which addresses of the network guests may reach. Pure: names are resolved elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Which addresses guests may reach (`--outbound`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Public,
    Any,
    Host(String),
    Network { address: IpAddr, prefix: u8 },
}

/// A word of `--outbound` that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no outbound rule: expected `public`, `any`, `none`, a host name, an address or a network such as `10.0.0.0/8`, separated by commas"
)]
pub struct PolicyError(String);

impl Policy {
    /// Any public address.
    #[must_use]
    pub fn public() -> Self {
        Self(vec![Rule::Public])
    }

    /// Private and loopback addresses as well.
    #[must_use]
    pub fn any() -> Self {
        Self(vec![Rule::Any])
    }

    /// Whether `address`, which `host` was resolved to, may be reached.
    pub(super) fn allows(&self, host: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|rule| match rule {
            Rule::Any => true,
            Rule::Public => is_public(address),
            Rule::Host(name) => name.eq_ignore_ascii_case(host),
            Rule::Network { address: network, prefix } => in_network(address, *network, *prefix),
        })
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut rules = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            rules.push(match word {
                "none" => continue,
                "public" => Rule::Public,
                "any" => Rule::Any,
                _ => parse_place(word).ok_or_else(|| PolicyError(word.to_owned()))?,
            });
        }
        Ok(Self(rules))
    }
}

fn parse_place(word: &str) -> Option<Rule> {
    if let Some((address, prefix)) = word.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return (prefix <= bits).then_some(Rule::Network { address, prefix });
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(Rule::Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } });
    }
    let is_name = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    is_name.then(|| Rule::Host(word.to_owned()))
}

fn in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let shared_bits = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    shared_bits >= u32::from(prefix)
}

/// Whether an address belongs to the public internet: in none of the special-purpose registries.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmarking = a == 198 && (b == 18 || b == 19);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || protocols
        || benchmarking)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // An IPv4 address inside another form is judged as itself.
    let segments = address.segments();
    let embedded = match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => address.to_ipv4(),
    };
    if let Some(embedded) = embedded {
        return is_public_v4(embedded);
    }
    // Only 2000::/3 is global unicast; 2001:db8::/32 is for documentation.
    segments[0] & 0xe000 == 0x2000 && !(segments[0] == 0x2001 && segments[1] == 0xdb8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &str, address: &str) -> bool {
        policy.parse::<Policy>().unwrap().allows("example.test", address.parse().unwrap())
    }

    #[test]
    fn public_means_no_private_loopback_link_local_or_disguised_address() {
        for good in ["1.1.1.1", "93.184.216.34", "2606:4700::1111"] {
            assert!(check("public", good), "{good}");
        }
        let bad = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
        ];
        for bad in bad {
            assert!(!check("public", bad), "{bad}");
        }
    }

    #[test]
    fn lists_take_networks_hosts_and_words() {
        assert!(check("any", "127.0.0.1"));
        assert!(!check("none", "1.1.1.1"));
        assert!(check("10.0.0.0/8,public", "10.9.9.9"));
        assert!(!check("10.0.0.0/8", "11.0.0.1"));
        assert!(check("example.test", "127.0.0.1"));
        assert!(check("fd00::/8", "fd12::1"));
        assert!("10.0.0.0/33".parse::<Policy>().is_err());
        assert!("http://x".parse::<Policy>().is_err());
    }
}
