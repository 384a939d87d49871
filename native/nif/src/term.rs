//! Conversions between terms and what the engine knows.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use ferrosock_engine::error::{ReadError, SendError};
use ferrosock_engine::http::handler::Request;
use ferrosock_engine::http::status::Status;
use ferrosock_engine::net;
use ferrosock_engine::ws::Message;
use ferrosock_engine::ws::frame::Opcode;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use rustler::types::tuple::{get_tuple, make_tuple};
use rustler::{Atom, Binary, Decoder, Encoder, Env, Error, NewBinary, NifResult, Term};

pub mod atoms {
    rustler::atoms! {
        __exception__, __struct__, accept_error, authority, already_reading, already_sent, binary, close,
        closed, connection, disconnected, drained, ended, error, ferrosock, full, gone, http_error, http_1_0 = "HTTP/1.0",
        http_1_1 = "HTTP/1.1", http_2 = "HTTP/2", identity, idle, infinity, invalid_header, invalid_status,
        local, malformed, max_lifetime, message, more, nil, none, not_supported, ok, other, paused, ping,
        pong, request, soon, text, timeout, tls12 = "tlsv1.2", tls13 = "tlsv1.3", undefined, wait
    }
}

/// Only for names from our own source: atoms are never freed.
pub fn atom(env: Env, name: &'static str) -> Atom {
    Atom::from_str(env, name).expect("names in our source are short")
}

pub fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut new = NewBinary::new(env, bytes.len());
    new.as_mut_slice().copy_from_slice(bytes);
    Binary::from(new).to_term(env)
}

/// Bytes of iodata, copied only where they are not one binary already. rustler's own function makes a
/// second binary of that, too.
pub fn iodata(term: Term<'_>) -> NifResult<Binary<'_>> {
    term.decode().or_else(|_| Binary::from_iolist(term))
}

/// A number that fits: rustler's own decoders of small types cut off what does not.
pub struct Fits<T>(pub T);

impl<'a, T: TryFrom<u32> + 'a> Decoder<'a> for Fits<T> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let number: u32 = term.decode()?;
        T::try_from(number).map(Self).map_err(|_| Error::BadArg)
    }
}

impl<T: Encoder> Encoder for Fits<T> {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.0.encode(env)
    }
}

/// A status, alone or with its phrase.
pub struct StatusTerm(pub Status);

impl<'a> Decoder<'a> for StatusTerm {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Ok(Fits(code)) = term.decode::<Fits<u16>>() {
            return Ok(Self(code.into()));
        }
        let (Fits(code), phrase): (Fits<u16>, Binary) = term.decode()?;
        Ok(Self(Status::with_phrase(code, phrase.as_slice())))
    }
}

/// The elements of a proper list. rustler's own iterator panics at the end of an improper one.
fn elements(list: Term<'_>) -> impl Iterator<Item = NifResult<Term<'_>>> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest.take()?;
        match list.list_get_cell() {
            Ok((head, tail)) => {
                rest = Some(tail);
                Some(Ok(head))
            }
            Err(_) if list.is_empty_list() => None,
            Err(_) => Some(Err(Error::BadArg)),
        }
    })
}

/// A number, or `:infinity`.
pub struct Limit(pub Option<u64>);

impl Limit {
    /// Of milliseconds.
    pub fn duration(&self) -> Option<Duration> {
        self.0.map(Duration::from_millis)
    }
}

impl<'a> Decoder<'a> for Limit {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term.is_atom() {
            return (atoms::infinity() == term)
                .then_some(Self(None))
                .ok_or(Error::BadArg);
        }
        term.decode().map(|limit| Self(Some(limit)))
    }
}

impl Encoder for Limit {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self.0 {
            Some(limit) => limit.encode(env),
            None => atoms::infinity().encode(env),
        }
    }
}

/// `t:inet.ip_address/0`
pub struct Ip(pub IpAddr);

impl<'a> Decoder<'a> for Ip {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let parts = get_tuple(term)?;
        match parts.len() {
            4 => Ok(Self(IpAddr::from(decode_parts::<u8, 4>(&parts)?))),
            8 => Ok(Self(IpAddr::from(decode_parts::<u16, 8>(&parts)?))),
            _ => Err(Error::BadArg),
        }
    }
}

fn decode_parts<T, const N: usize>(parts: &[Term<'_>]) -> NifResult<[T; N]>
where
    T: TryFrom<u32> + Default + Copy + 'static,
{
    let mut ip = [T::default(); N];
    for (to, from) in ip.iter_mut().zip(parts) {
        *to = from.decode::<Fits<T>>()?.0;
    }
    Ok(ip)
}

impl Encoder for Ip {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self.0 {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                (a, b, c, d).encode(env)
            }
            IpAddr::V6(ip) => make_tuple(env, &ip.segments().map(|part| part.encode(env))),
        }
    }
}

/// `{ip, port}` or `{{:local, path}, 0}`
pub struct Address<T>(pub T);

impl<T: Borrow<net::Address>> Encoder for Address<T> {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self.0.borrow() {
            net::Address::Inet(addr) => (Ip(addr.ip()), addr.port()).encode(env),
            net::Address::Local(path) => {
                let path = binary(env, path.as_os_str().as_bytes());
                ((atoms::local(), path), 0).encode(env)
            }
        }
    }
}

impl<'a> Decoder<'a> for Address<net::Address> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (host, port): (Term, Fits<u16>) = term.decode()?;
        if let Ok(Ip(ip)) = host.decode() {
            return Ok(Self(net::Address::Inet((ip, port.0).into())));
        }
        let (local, path): (Atom, Binary) = host.decode()?;
        if local != atoms::local() {
            return Err(Error::BadArg);
        }
        let path = OsStr::from_bytes(path.as_slice()).into();
        Ok(Self(net::Address::Local(path)))
    }
}

/// `Plug.Conn.headers`; an error when HTTP forbids one of them.
pub struct HeaderList(pub Result<HeaderMap, SendError>);

impl HeaderList {
    /// Sends them, unless one of them cannot be sent. Returns what the caller hears of it.
    pub fn send(
        self,
        env: Env<'_>,
        send: impl FnOnce(HeaderMap) -> Result<(), SendError>,
    ) -> Term<'_> {
        sent(env, self.0.and_then(send))
    }
}

impl<'a> Decoder<'a> for HeaderList {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let mut headers = HeaderMap::with_capacity(8);
        for header in elements(term) {
            let (name, value): (Binary, Binary) = header?.decode()?;
            let parsed = HeaderName::from_bytes(name.as_slice())
                .ok()
                .zip(HeaderValue::from_bytes(value.as_slice()).ok());
            let Some((name, value)) = parsed else {
                let name = String::from_utf8_lossy(name.as_slice()).into_owned();
                return Ok(Self(Err(SendError::InvalidHeader(name))));
            };
            headers.append(name, value);
        }
        Ok(Self(Ok(headers)))
    }
}

pub fn sent<'a>(env: Env<'a>, result: Result<(), SendError>) -> Term<'a> {
    let reason = match result {
        Ok(()) => return atoms::ok().encode(env),
        Err(SendError::Closed) => atoms::closed().encode(env),
        Err(SendError::AlreadySent) => atoms::already_sent().encode(env),
        Err(SendError::InvalidStatus) => atoms::invalid_status().encode(env),
        Err(SendError::NotSupported) => atoms::not_supported().encode(env),
        Err(SendError::InvalidHeader(name)) => (atoms::invalid_header(), name).encode(env),
    };
    env.error_tuple(reason)
}

pub fn read_error(error: ReadError) -> Atom {
    match error {
        ReadError::Timeout => atoms::timeout(),
        ReadError::Closed => atoms::closed(),
        ReadError::Malformed => atoms::malformed(),
        ReadError::AlreadyReading => atoms::already_reading(),
    }
}

/// `t:Ferrosock.Native.request/0`
pub fn request<'a>(env: Env<'a>, request: &Request<'_>) -> Term<'a> {
    let version = match request.version {
        Version::HTTP_10 => atoms::http_1_0(),
        Version::HTTP_2 => atoms::http_2(),
        _ => atoms::http_1_1(),
    };
    let headers: Vec<Term> = request
        .headers
        .iter()
        .map(|(name, value)| {
            let name = binary(env, name.as_str().as_bytes());
            (name, binary(env, value.as_bytes())).encode(env)
        })
        .collect();
    make_tuple(
        env,
        &[
            binary(env, request.method.as_str().as_bytes()),
            binary(env, request.host.as_bytes()),
            request.port.encode(env),
            binary(env, request.path.as_bytes()),
            binary(env, request.query.as_bytes()),
            version.encode(env),
            headers.encode(env),
            Address(request.peer).encode(env),
        ],
    )
}

/// `[t:Ferrosock.Native.message/0]`
pub struct Messages<'a> {
    opcodes: Vec<Opcode>,
    payloads: Vec<Binary<'a>>,
}

impl<'a> Messages<'a> {
    pub fn split(self) -> (Vec<Message<'a>>, Vec<Binary<'a>>) {
        let messages = self
            .opcodes
            .iter()
            .zip(&self.payloads)
            .map(|(opcode, payload)| Message {
                opcode: *opcode,
                payload: payload.as_slice(),
            })
            .collect();
        (messages, self.payloads)
    }
}

impl<'a> Decoder<'a> for Messages<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let mut messages = Messages {
            opcodes: Vec::new(),
            payloads: Vec::new(),
        };
        for message in elements(term) {
            let (opcode, payload): (Term, Term) = message?.decode()?;
            messages.opcodes.push(decode_opcode(opcode)?);
            messages.payloads.push(if atoms::nil() == payload {
                Binary::from(NewBinary::new(term.get_env(), 0))
            } else {
                iodata(payload)?
            });
        }
        Ok(messages)
    }
}

fn decode_opcode(term: Term) -> NifResult<Opcode> {
    let opcodes = [
        (atoms::text(), Opcode::Text),
        (atoms::binary(), Opcode::Binary),
        (atoms::ping(), Opcode::Ping),
        (atoms::pong(), Opcode::Pong),
    ];
    let found = opcodes.into_iter().find(|(atom, _)| *atom == term);
    found.map(|(_, opcode)| opcode).ok_or(Error::BadArg)
}

/// A POSIX code where there is one, else `:closed`.
pub fn posix(env: Env, error: &io::Error) -> Atom {
    use io::ErrorKind::*;
    let name = match error.kind() {
        _ if error.raw_os_error() == Some(5) => "eio",
        _ if error.raw_os_error() == Some(24) => "emfile",
        _ if error.raw_os_error() == Some(23) => "enfile",
        AddrInUse => "eaddrinuse",
        AddrNotAvailable => "eaddrnotavail",
        PermissionDenied => "eacces",
        NotFound => "enoent",
        IsADirectory => "eisdir",
        NotADirectory => "enotdir",
        InvalidInput => "einval",
        ConnectionReset => "econnreset",
        BrokenPipe => "epipe",
        TimedOut => "etimedout",
        OutOfMemory => "enomem",
        HostUnreachable => "ehostunreach",
        NetworkUnreachable => "enetunreach",
        StorageFull => "enospc",
        _ => "closed",
    };
    atom(env, name)
}
