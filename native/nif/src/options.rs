//! The engine's configuration, decoded from a map of options and told again for tests. Which options there
//! are is not written here, but in their table, of which [`list`] is made.

use std::time::Duration;

use ferrosock_engine::config::{ListenerConfig, SocketConfig};
use ferrosock_engine::net;
use rustler::types::map::MapIterator;
use rustler::{Atom, Decoder, Encoder, Env, Error, NifResult, NifUnitEnum, Term};

use crate::term::{Address, atoms};

/// All options of a configuration, none missing and none unknown.
pub struct Options<C>(pub C);

impl<'a, C: Config + 'a> Decoder<'a> for Options<C> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        C::from_term(term).map(Self)
    }
}

/// What is made of a map of options.
pub trait Config: Sized {
    fn from_term(options: Term<'_>) -> NifResult<Self>;
    fn to_term<'a>(&self, env: Env<'a>) -> Term<'a>;
}

/// What an option can have.
trait Value: Sized {
    fn from_term(term: Term<'_>) -> NifResult<Self>;
    fn to_term<'a>(&self, env: Env<'a>) -> Term<'a>;
}

macro_rules! config {
    ($config:ident { $($name:ident,)* }) => {
        const _: () = {
            mod names {
                rustler::atoms! { $($name,)* }
            }

            impl Config for ferrosock_engine::config::$config {
                fn from_term(options: Term<'_>) -> NifResult<Self> {
                    let config = Self { $($name: option(options, names::$name())?,)* };
                    none_but(options, &[$(names::$name(),)*])?;
                    Ok(config)
                }

                fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
                    let options = [$((names::$name(), self.$name.to_term(env)),)*];
                    Term::map_from_pairs(env, &options).expect("names differ")
                }
            }
        };
    };
}

macro_rules! choice {
    ($choice:ident { $($name:ident => $variant:ident,)* }) => {
        const _: () = {
            mod names {
                rustler::atoms! { $($name,)* }
            }

            impl Value for ferrosock_engine::config::$choice {
                fn from_term(term: Term<'_>) -> NifResult<Self> {
                    $(if names::$name() == term {
                        return Ok(Self::$variant);
                    })*
                    Err(Error::BadArg)
                }

                fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
                    match self {
                        $(Self::$variant => names::$name().encode(env),)*
                    }
                }
            }
        };
    };
}

mod list;

fn option<T: Value>(options: Term<'_>, name: Atom) -> NifResult<T> {
    let value = options
        .map_get(name)
        .map_err(|_| wrong(options, name, "missing"))?;
    T::from_term(value).map_err(|error| match error {
        Error::BadArg => wrong(options, name, "wrong"),
        of_a_group => of_a_group,
    })
}

fn none_but(options: Term<'_>, names: &[Atom]) -> NifResult<()> {
    if options.map_size()? == names.len() {
        return Ok(());
    }
    let mut given = MapIterator::new(options).ok_or(Error::BadArg)?;
    let unknown = given.find_map(|(name, _)| {
        let name: Atom = name.decode().ok()?;
        (!names.contains(&name)).then_some(name)
    });
    Err(unknown.map_or(Error::BadArg, |name| wrong(options, name, "unknown")))
}

fn wrong(options: Term<'_>, name: Atom, fault: &str) -> Error {
    let name = name.to_term(options.get_env()).atom_to_string();
    let message = format!("option :{} is {fault}", name.unwrap_or_default());
    Error::RaiseTerm(Box::new(ArgumentError(message)))
}

/// The exception of Elixir's.
struct ArgumentError(String);

impl Encoder for ArgumentError {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let module = Atom::from_str(env, "Elixir.ArgumentError").expect("a short name");
        let exception = [
            (atoms::__struct__().encode(env), module.encode(env)),
            (atoms::__exception__().encode(env), true.encode(env)),
            (atoms::message().encode(env), self.0.encode(env)),
        ];
        Term::map_from_pairs(env, &exception).expect("names differ")
    }
}

impl Value for bool {
    fn from_term(term: Term<'_>) -> NifResult<Self> {
        term.decode()
    }

    fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.encode(env)
    }
}

/// Numbers, of which rustler's own decoders cut off what does not fit.
macro_rules! number {
    ($($number:ty),*) => {
        $(impl Value for $number {
            fn from_term(term: Term<'_>) -> NifResult<Self> {
                let number: u64 = term.decode()?;
                Self::try_from(number).map_err(|_| Error::BadArg)
            }

            fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
                self.encode(env)
            }
        })*
    };
}

number!(u8, u32, i32);

/// Those that may be of no limit: `:infinity` is the largest.
macro_rules! limit {
    ($($limit:ty),*) => {
        $(impl Value for $limit {
            fn from_term(term: Term<'_>) -> NifResult<Self> {
                if atoms::infinity() == term {
                    return Ok(Self::MAX);
                }
                let number: u64 = term.decode()?;
                Self::try_from(number).map_err(|_| Error::BadArg)
            }

            fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
                if *self == Self::MAX {
                    return atoms::infinity().encode(env);
                }
                self.encode(env)
            }
        })*
    };
}

limit!(u64, usize);

/// Milliseconds.
impl Value for Duration {
    fn from_term(term: Term<'_>) -> NifResult<Self> {
        term.decode().map(Self::from_millis)
    }

    fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
        (self.as_millis() as u64).encode(env)
    }
}

/// Milliseconds, or `:infinity`.
impl Value for Option<Duration> {
    fn from_term(term: Term<'_>) -> NifResult<Self> {
        if atoms::infinity() == term {
            return Ok(None);
        }
        <Duration as Value>::from_term(term).map(Some)
    }

    fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Some(duration) => duration.to_term(env),
            None => atoms::infinity().encode(env),
        }
    }
}

impl Value for net::Address {
    fn from_term(term: Term<'_>) -> NifResult<Self> {
        term.decode().map(|Address(address)| address)
    }

    fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
        Address(self).encode(env)
    }
}

/// A group of options, or `nil`.
impl<C: Config> Value for Option<C> {
    fn from_term(term: Term<'_>) -> NifResult<Self> {
        if atoms::nil() == term {
            return Ok(None);
        }
        if !term.is_map() {
            return Err(Error::BadArg);
        }
        C::from_term(term).map(Some)
    }

    fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Some(config) => config.to_term(env),
            None => atoms::nil().encode(env),
        }
    }
}

#[derive(NifUnitEnum)]
enum Kind {
    Listener,
    Socket,
}

#[rustler::nif]
fn config<'a>(env: Env<'a>, kind: Kind, options: Term<'a>) -> NifResult<Term<'a>> {
    Ok(match kind {
        Kind::Listener => ListenerConfig::from_term(options)?.to_term(env),
        Kind::Socket => SocketConfig::from_term(options)?.to_term(env),
    })
}
