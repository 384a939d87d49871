//! What rustler has no safe function for: a binary kept alive past the call that brought it, messages
//! from within a call that runs tasks, and a message when a descriptor is readable. The only unsafe code.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::ptr;

use bytes::Bytes;
use rustler::sys::{
    ERL_NIF_SELECT_READ, ERL_NIF_THR_UNDEFINED, ErlNifEnv, enif_select, enif_send, enif_thread_type,
};
use rustler::{Atom, Binary, Encoder, Env, LocalPid, OwnedEnv, Resource, ResourceArc, Term};

/// Up to this size a copy costs less memory than an environment to hold the term in, which has room for
/// 200 words, and hardly more time.
const COPY_UP_TO: usize = 4 * 1024;

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

thread_local! {
    /// The environment of the call that runs the engine's tasks on this thread.
    static CALLER: Cell<*mut ErlNifEnv> = const { Cell::new(ptr::null_mut()) };
}

/// Runs tasks of the engine within a call: what they send is sent in the name of the calling process, as
/// the VM wants it on its schedulers.
pub fn on_behalf_of<R>(env: Env<'_>, run: impl FnOnce() -> R) -> R {
    struct Forget;

    impl Drop for Forget {
        fn drop(&mut self) {
            CALLER.set(ptr::null_mut());
        }
    }

    let _forget = Forget;
    CALLER.set(env.as_c_arg());
    run()
}

/// Sends a message that is made in `own`, from a thread of the engine or within a call. `false`: the
/// process is gone.
///
/// Within a call the VM copies the message. An environment that is given away instead has room for 200
/// words, which are the receiver's until it collects garbage: as much again as its heap.
pub fn send(
    own: &mut OwnedEnv,
    to: &LocalPid,
    message: impl for<'a> FnOnce(Env<'a>) -> Term<'a>,
) -> bool {
    let caller = CALLER.get();
    if caller.is_null() {
        return own.send_and_clear(to, message).is_ok();
    }
    let sent = own.run(|env| {
        let message = message(env);
        // SAFETY: `caller` is the environment of the call that this thread is in, as it is null
        // outside of `on_behalf_of`. The message is alive in `env` and is copied, as no environment is
        // given away. Tested by all that a client is answered while the VM turns the reactors.
        unsafe { enif_send(caller, to.as_c_arg(), ptr::null_mut(), message.as_c_arg()) == 1 }
    });
    own.clear();
    sent
}

/// Whether [`send`] can be called here: not on the VM's own threads outside of a call, as where it
/// collects a handle.
pub fn may_send() -> bool {
    // SAFETY: it only looks at the calling thread. Tested by waits whose handle is collected.
    !CALLER.get().is_null() || unsafe { enif_thread_type() } == ERL_NIF_THR_UNDEFINED
}

/// Another descriptor for the same thing, which is never closed.
pub fn duplicate(fd: RawFd) -> io::Result<RawFd> {
    // SAFETY: the caller's descriptor is open for as long as the process lives (`Reactor::fd`).
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(borrowed.try_clone_to_owned()?.into_raw_fd())
}

/// Has the calling process sent `{:select, resource, reference, :ready_input}`, once, when the
/// descriptor is readable.
pub fn select_read<T: Resource>(
    env: Env<'_>,
    fd: RawFd,
    resource: &ResourceArc<T>,
    reference: Atom,
) -> bool {
    // SAFETY: the resource is alive, and the VM keeps it so while it watches; the descriptor is never
    // closed. Tested as above.
    let result = unsafe {
        enif_select(
            env.as_c_arg(),
            fd,
            ERL_NIF_SELECT_READ,
            resource.as_c_arg().cast_mut(),
            env.pid().as_c_arg(),
            reference.to_term(env).as_c_arg(),
        )
    };
    result >= 0
}
