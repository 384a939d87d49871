//! An exchange, for its owner and whom that asks to help.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ferrosock_engine::config::SocketConfig;
use ferrosock_engine::error::FileError;
use ferrosock_engine::http::exchange::Exchange;
use ferrosock_engine::net;
use rustler::{Atom, Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};

use crate::answer::{Answer, error_closed};
use crate::disconnect::{self, DisconnectRef};
use crate::options::Options;
use crate::owner::BeamOwner;
use crate::socket::SocketHandle;
use crate::term::{self, HeaderList, Limit, StatusTerm, atoms, posix};
use crate::timeslice::{pay_for, run_with};

pub struct ExchangeHandle(pub Arc<Exchange<BeamOwner>>);

#[rustler::resource_impl]
impl Resource for ExchangeHandle {}

impl Drop for ExchangeHandle {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[rustler::nif]
fn exchange_respond<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    status: StatusTerm,
    headers: HeaderList,
    body: Term<'a>,
) -> NifResult<Term<'a>> {
    let body = pay_for(env, || {
        term::iodata(body).map(|body| Bytes::copy_from_slice(&body))
    })?;
    Ok(headers.send(env, |headers| {
        run_with(env, exchange.0.reactor(), || {
            exchange.0.respond(status.0, headers, body)
        })
    }))
}

#[rustler::nif]
fn exchange_start<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    status: StatusTerm,
    headers: HeaderList,
) -> Term<'a> {
    headers.send(env, |headers| exchange.0.start(status.0, headers))
}

#[rustler::nif]
fn exchange_chunk<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    data: Term<'a>,
) -> NifResult<Term<'a>> {
    let data = pay_for(env, || {
        term::iodata(data).map(|data| Bytes::copy_from_slice(&data))
    })?;
    let chunk = || exchange.0.chunk(data);
    Ok(match run_with(env, exchange.0.reactor(), chunk) {
        Ok(false) => atoms::ok().encode(env),
        Ok(true) => atoms::full().encode(env),
        Err(e) => term::sent(env, Err(e)),
    })
}

#[rustler::nif]
fn exchange_await(
    env: Env,
    exchange: ResourceArc<ExchangeHandle>,
    reference: Term,
) -> NifResult<Atom> {
    Answer::waiting(env, reference, |waiter| exchange.0.wait(waiter))
}

#[rustler::nif]
fn exchange_finish(env: Env, exchange: ResourceArc<ExchangeHandle>) -> Atom {
    run_with(env, exchange.0.reactor(), || exchange.0.finish());
    atoms::ok()
}

#[rustler::nif]
fn exchange_abort(exchange: ResourceArc<ExchangeHandle>) -> Atom {
    exchange.0.abort();
    atoms::ok()
}

#[rustler::nif]
fn exchange_read(
    env: Env,
    exchange: ResourceArc<ExchangeHandle>,
    length: usize,
    timeout: Limit,
    reference: Term,
) -> NifResult<Atom> {
    let answer = Answer::to(env, reference, error_closed)?;
    exchange.0.read(length, timeout.duration(), move |result| {
        answer.send(|env| match result {
            Ok(piece) => {
                let tag = if piece.more {
                    atoms::more()
                } else {
                    atoms::ok()
                };
                (tag, piece.data.into_binary(env)).encode(env)
            }
            Err(e) => env.error_tuple(term::read_error(e)),
        })
    });
    Ok(atoms::ok())
}

#[rustler::nif]
fn exchange_body_error(exchange: ResourceArc<ExchangeHandle>) -> Option<Atom> {
    exchange.0.body_error().map(term::read_error)
}

#[rustler::nif]
#[allow(clippy::too_many_arguments)]
fn exchange_send_file<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    status: StatusTerm,
    headers: HeaderList,
    path: Binary,
    offset: u64,
    length: u64,
    reference: Term,
) -> NifResult<Term<'a>> {
    let path = PathBuf::from(OsStr::from_bytes(path.as_slice()));
    let headers = match headers.0 {
        Ok(headers) => headers,
        Err(e) => return Ok(term::sent(env, Err(e))),
    };
    let answer = Answer::to(env, reference, error_closed)?;
    exchange
        .0
        .send_file(status.0, headers, path, (offset, length), move |result| {
            answer.send(|env| match result {
                Ok(()) => atoms::ok().encode(env),
                Err(FileError::Send(e)) => term::sent(env, Err(e)),
                Err(FileError::Io(e)) => env.error_tuple(posix(env, &e)),
            })
        });
    Ok(atoms::ok().encode(env))
}

#[rustler::nif]
fn exchange_inform<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    status: StatusTerm,
    headers: HeaderList,
) -> Term<'a> {
    headers.send(env, |headers| exchange.0.inform(status.0, &headers))
}

#[rustler::nif]
fn exchange_notify_disconnect(
    env: Env,
    exchange: ResourceArc<ExchangeHandle>,
) -> ResourceArc<DisconnectRef> {
    let (reference, notice) = disconnect::notice(env);
    run_with(env, exchange.0.reactor(), || {
        exchange.0.notify_disconnect(notice);
    });
    reference
}

#[rustler::nif]
fn exchange_is_disconnected(exchange: ResourceArc<ExchangeHandle>) -> bool {
    exchange.0.is_disconnected()
}

#[rustler::nif]
fn exchange_tls(env: Env, exchange: ResourceArc<ExchangeHandle>) -> Term {
    let Some(info) = exchange.0.tls() else {
        return atoms::nil().encode(env);
    };
    let version = if info.is_tls13 {
        atoms::tls13()
    } else {
        atoms::tls12()
    };
    let certificate = info.peer_certificate.map(|der| term::binary(env, &der));
    (version, info.cipher_suite, certificate).encode(env)
}

#[rustler::nif]
fn exchange_sock(exchange: ResourceArc<ExchangeHandle>) -> NifResult<term::Address<net::Address>> {
    exchange
        .0
        .local_addr()
        .map(term::Address)
        .map_err(|_| rustler::Error::BadArg)
}

#[rustler::nif]
fn exchange_upgrade<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    headers: HeaderList,
    options: Options<SocketConfig>,
) -> NifResult<Term<'a>> {
    let config = options.0;
    if config
        .deflate
        .as_ref()
        .is_some_and(|config| !config.is_valid())
    {
        return Err(rustler::Error::BadArg);
    }
    let upgrade = |headers| {
        run_with(env, exchange.0.reactor(), || {
            exchange.0.upgrade(headers, config)
        })
    };
    Ok(match headers.0.and_then(upgrade) {
        Ok(socket) => (atoms::ok(), ResourceArc::new(SocketHandle(socket))).encode(env),
        Err(e) => term::sent(env, Err(e)),
    })
}
