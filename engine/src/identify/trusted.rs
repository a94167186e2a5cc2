//! Gateways behind this one, whose word on the tenant is taken: by their network, or by their client certificate.

use std::net::IpAddr;

use crate::identify::peer::Peer;

/// Whose word is taken.
#[derive(Debug)]
pub(super) struct TrustedPeers {
    networks: Vec<Network>,
    /// Names of client certificates: a URI, a DNS name or the common name.
    certificates: Vec<String>,
}

impl TrustedPeers {
    /// The error names the network that is none.
    pub(super) fn compile(networks: &[String], certificates: &[String]) -> Result<TrustedPeers, String> {
        let networks = networks
            .iter()
            .map(|text| Network::parse(text).ok_or_else(|| format!("{text:?} is not a network such as 10.0.0.0/8")))
            .collect::<Result<_, _>>()?;
        Ok(TrustedPeers { networks, certificates: certificates.to_vec() })
    }

    pub(super) fn include(&self, peer: &Peer) -> bool {
        let named = peer.certificate.as_ref().is_some_and(|certificate| {
            let names = certificate.san_uris.iter().chain(&certificate.san_dns).chain(&certificate.common_name);
            names.into_iter().any(|name| self.certificates.contains(name))
        });
        named || self.networks.iter().any(|network| network.contains(peer.address))
    }
}

/// An IP network in CIDR notation (RFC 4632).
#[derive(Debug)]
struct Network {
    /// IPv4 stands in the lowest bits.
    address: u128,
    is_v4: bool,
    /// How many of the lowest bits a member is free in.
    host_bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let (address, is_v4) = bits(address.parse().ok()?);
        let width = if is_v4 { 32 } else { 128 };
        Some(Network { address, is_v4, host_bits: width - prefix.unwrap_or(width).min(width) })
            .filter(|_| prefix.is_none_or(|prefix| prefix <= width))
    }

    fn contains(&self, address: IpAddr) -> bool {
        let (address, is_v4) = bits(address);
        // A shift by all 128 bits is none in Rust; `::/0` has every address in it.
        let network = |bits: u128| bits.checked_shr(self.host_bits).unwrap_or(0);
        is_v4 == self.is_v4 && network(address) == network(self.address)
    }
}

fn bits(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), true),
        IpAddr::V6(address) => (address.to_bits(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::peer::PeerCertificate;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/96", "10.0.0.1", false),
        ] {
            let peers = TrustedPeers::compile(&[network.to_owned()], &[]).unwrap();
            assert_eq!(peers.include(&Peer::new(address.parse().unwrap(), None)), expected, "{network} {address}");
        }
    }

    #[test]
    fn a_name_of_the_client_certificate_is_enough() {
        let peers = TrustedPeers::compile(&[], &["spiffe://example.org/edge".to_owned()]).unwrap();
        let named = |uri: &str| PeerCertificate {
            san_uris: vec![uri.to_owned()],
            san_dns: Vec::new(),
            common_name: Some("edge".to_owned()),
            fingerprint: [0; 32],
            not_after: 0,
        };
        let address = "192.0.2.1".parse().unwrap();
        for (certificate, expected) in [
            (Some(named("spiffe://example.org/edge")), true),
            (Some(named("spiffe://example.org/edge/x")), false),
            (None, false),
        ] {
            assert_eq!(peers.include(&Peer::new(address, certificate)), expected);
        }
    }

    #[test]
    fn what_is_no_network_is_refused_by_name() {
        for text in ["10.0.0.0/33", "::/129", "10.0.0/8", "here", "10.0.0.0/x", ""] {
            let error = TrustedPeers::compile(&[text.to_owned()], &[]).unwrap_err();
            assert!(error.contains("is not a network") && error.contains(text), "{error}");
        }
    }
}
