//! A binary kept alive past the call that brought it, without a copy.
#![allow(unsafe_code)]

use bytes::Bytes;
use rustler::{Binary, Encoder, OwnedEnv};

/// Up to this size a copy costs less than an environment to hold the term in.
const COPY_UP_TO: usize = 64 * 1024;

/// The payload as bytes that outlive the call.
pub fn hold(payload: Binary<'_>) -> Bytes {
    if payload.len() <= COPY_UP_TO {
        return Bytes::copy_from_slice(payload.as_slice());
    }
    let env = OwnedEnv::new();
    let (data, len) = env.run(|env| {
        let own = payload.encode(env);
        let own: Binary<'_> = own.decode().expect("a copy of a binary is a binary");
        (own.as_slice().as_ptr(), own.len())
    });
    Bytes::from_owner(Held {
        data,
        len,
        _env: env,
    })
}

/// Bytes of a binary that lives in an environment of its own.
struct Held {
    data: *const u8,
    len: usize,
    _env: OwnedEnv,
}

// SAFETY: the bytes of a binary never change and belong to no thread; `OwnedEnv` is `Send`, and a
// shared `Held` does nothing with it.
// Tested by "a push larger than the kernel takes arrives whole".
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a term's memory in a process-independent environment is neither moved nor freed
        // before the environment is, which lives as long as `self`; see the test named above.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}
