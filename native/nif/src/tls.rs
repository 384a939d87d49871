//! Certificates and keys, checked and made a configuration of.

use ferrosock_engine::net::tls::config::{
    ClientAuth, Identity, Key, TlsConfig, TlsError, TlsOptions, Version,
};
use rustler::{Binary, Encoder, Env, NifMap, NifUnitEnum, Resource, ResourceArc, Term};

use crate::term::atoms;

pub struct TlsHandle(pub TlsConfig);

#[rustler::resource_impl]
impl Resource for TlsHandle {}

#[derive(NifMap)]
struct TlsTerms<'a> {
    identities: Vec<IdentityTerm<'a>>,
    client_auth: Option<ClientAuthTerm<'a>>,
    versions: Vec<VersionTerm>,
    http2: bool,
}

#[derive(NifMap)]
struct IdentityTerm<'a> {
    chain: Vec<Binary<'a>>,
    key: (KeyType, Binary<'a>),
    hosts: Vec<String>,
}

/// As `:public_key` names them.
#[derive(NifUnitEnum)]
enum KeyType {
    Rsa,
    Ec,
    Pkcs8,
}

#[derive(NifUnitEnum)]
enum VersionTerm {
    Tls12,
    Tls13,
}

#[derive(NifMap)]
struct ClientAuthTerm<'a> {
    authorities: Vec<Binary<'a>>,
    required: bool,
}

impl From<TlsTerms<'_>> for TlsOptions {
    fn from(terms: TlsTerms<'_>) -> Self {
        let owned = |ders: Vec<Binary<'_>>| ders.iter().map(|der| der.to_vec()).collect();
        let identity = |term: IdentityTerm<'_>| Identity {
            chain: owned(term.chain),
            key: match term.key {
                (KeyType::Rsa, der) => Key::Pkcs1(der.to_vec()),
                (KeyType::Ec, der) => Key::Sec1(der.to_vec()),
                (KeyType::Pkcs8, der) => Key::Pkcs8(der.to_vec()),
            },
            hosts: term.hosts,
        };
        let version = |term| match term {
            VersionTerm::Tls12 => Version::Tls12,
            VersionTerm::Tls13 => Version::Tls13,
        };
        Self {
            identities: terms.identities.into_iter().map(identity).collect(),
            client_auth: terms.client_auth.map(|term| ClientAuth {
                authorities: owned(term.authorities),
                is_required: term.required,
            }),
            versions: terms.versions.into_iter().map(version).collect(),
            http2: terms.http2,
        }
    }
}

// Keys are parsed and checked, which takes too long for a scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn tls_config<'a>(env: Env<'a>, terms: TlsTerms<'a>) -> Term<'a> {
    let error = match TlsConfig::new(terms.into()) {
        Ok(config) => return (atoms::ok(), ResourceArc::new(TlsHandle(config))).encode(env),
        Err(TlsError::Identity(index, text)) => (atoms::identity(), index, text).encode(env),
        Err(TlsError::Authority(index, text)) => (atoms::authority(), index, text).encode(env),
        Err(TlsError::Other(text)) => (atoms::other(), 0, text).encode(env),
    };
    env.error_tuple(error)
}
