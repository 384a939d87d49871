//! What all TLS connections of a listener have in common.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SupportedProtocolVersion, version};

/// As ALPN names it (RFC9113§3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// A certificate with its key.
pub struct Identity {
    /// In DER, the server's own first.
    pub chain: Vec<Vec<u8>>,
    pub key: Key,
    /// The names that clients ask for (RFC6066§3), `*.example.com` for all of one level; none for those
    /// that ask for no name or for another one.
    pub hosts: Vec<String>,
}

/// In DER.
pub enum Key {
    Pkcs1(Vec<u8>),
    Pkcs8(Vec<u8>),
    Sec1(Vec<u8>),
}

/// Whose certificates clients may have.
pub struct ClientAuth {
    /// Certificates in DER.
    pub authorities: Vec<Vec<u8>>,
    /// Whether a client without a certificate is refused.
    pub is_required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

pub struct TlsOptions {
    /// Among those of a host, the first that the client can use.
    pub identities: Vec<Identity>,
    pub client_auth: Option<ClientAuth>,
    pub versions: Vec<Version>,
    /// Whether HTTP/2 is offered, too.
    pub http2: bool,
}

/// What is wrong, and with which one.
#[derive(Debug)]
pub enum TlsError {
    Identity(usize, String),
    Authority(usize, String),
    Other(String),
}

#[derive(Clone)]
pub struct TlsConfig(pub(crate) Arc<ServerConfig>);

impl TlsConfig {
    pub fn new(options: TlsOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let identities = Identities::new(options.identities, &provider)?;
        let versions: Vec<_> = options.versions.iter().map(|v| v.supported()).collect();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(TlsError::other)?;
        let builder = match options.client_auth {
            Some(client_auth) => builder.with_client_cert_verifier(client_auth.verifier(provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(identities));
        if options.http2 {
            config.alpn_protocols.push(HTTP_2.to_vec());
        }
        // Some clients offer nothing but the version that they are told to speak.
        let versions = [b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        config.alpn_protocols.extend(versions);
        // Sessions are resumed without memory of ours for each.
        config.ticketer = ring::Ticketer::new().map_err(TlsError::other)?;
        // A client that comes back gets a new one.
        config.send_tls13_tickets = 1;
        Ok(Self(Arc::new(config)))
    }
}

impl Version {
    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &version::TLS12,
            Self::Tls13 => &version::TLS13,
        }
    }
}

impl ClientAuth {
    fn verifier(
        self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
        let mut roots = RootCertStore::empty();
        for (index, authority) in self.authorities.into_iter().enumerate() {
            roots
                .add(authority.into())
                .map_err(|e| TlsError::Authority(index, e.to_string()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let builder = match self.is_required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        builder.build().map_err(TlsError::other)
    }
}

impl TlsError {
    fn other(error: impl fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}

/// Chooses by the name that the client asks for, and by the signatures that it knows.
#[derive(Debug, Default)]
struct Identities {
    /// For names in lower case.
    of_hosts: HashMap<String, Vec<Arc<CertifiedKey>>>,
    others: Vec<Arc<CertifiedKey>>,
}

impl Identities {
    fn new(identities: Vec<Identity>, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut this = Self::default();
        for (index, identity) in identities.into_iter().enumerate() {
            let hosts = identity.hosts.clone();
            let certified = identity
                .certified(provider)
                .map_err(|e| TlsError::Identity(index, e.to_string()))?;
            if hosts.is_empty() {
                this.others.push(certified.clone());
            }
            for host in hosts {
                let of_host = this.of_hosts.entry(host.to_ascii_lowercase());
                of_host.or_default().push(certified.clone());
            }
        }
        Ok(this)
    }

    fn of(&self, host: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let host = host.to_ascii_lowercase();
        let wildcard = || {
            let (_label, domain) = host.split_once('.')?;
            self.of_hosts.get(&format!("*.{domain}"))
        };
        self.of_hosts.get(&host).or_else(wildcard)
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_host = hello.server_name().and_then(|host| self.of(host));
        of_host
            .unwrap_or(&self.others)
            .iter()
            .find(|certified| {
                let known = hello.signature_schemes();
                certified.key.choose_scheme(known).is_some()
            })
            .cloned()
    }
}

impl Identity {
    fn certified(self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, rustls::Error> {
        let chain = self.chain.into_iter().map(CertificateDer::from).collect();
        let key = provider.key_provider.load_private_key(self.key.into())?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match()?;
        Ok(Arc::new(certified))
    }
}

impl From<Key> for PrivateKeyDer<'static> {
    fn from(key: Key) -> Self {
        match key {
            Key::Pkcs1(der) => PrivatePkcs1KeyDer::from(der).into(),
            Key::Pkcs8(der) => PrivatePkcs8KeyDer::from(der).into(),
            Key::Sec1(der) => PrivateSec1KeyDer::from(der).into(),
        }
    }
}
