//! What rustler has no safe function for: a binary kept alive past the call that brought it, one that is
//! filled while a message arrives, messages from within a call that runs tasks, and a message when a
//! descriptor is readable. The only unsafe code.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::{ptr, slice};

use bytes::Bytes;
use ferrosock_engine::buffer::{Buffer, ReadBuf};
use ferrosock_engine::rt::Reactor;
use rustler::sys::{
    ERL_NIF_SELECT_READ, ERL_NIF_THR_UNDEFINED, ErlNifEnv, enif_select, enif_send, enif_thread_type,
};
use rustler::{
    Atom, Binary, Encoder, Env, LocalPid, OwnedBinary, OwnedEnv, Resource, ResourceArc, Term,
};

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

/// A binary that grows while a message or a body arrives. What of it nothing was written to yet is
/// uninitialized, and never lent as anything else.
pub struct BinaryBuffer {
    binary: OwnedBinary,
    /// Bytes that are filled.
    len: usize,
    /// Bytes that something was written to. Not fewer.
    initialized: usize,
}

impl BinaryBuffer {
    pub fn into_binary<'a>(mut self, env: Env<'a>) -> Term<'a> {
        self.resize(self.len);
        self.binary.release(env).to_term(env)
    }

    fn resize(&mut self, capacity: usize) {
        let has_room = capacity == self.capacity() || self.binary.realloc(capacity);
        assert!(has_room, "no memory for {capacity} bytes");
    }

    /// Only the address is taken: nothing reads or writes through the slice, whose bytes may be uninitialized.
    fn start(&mut self) -> *mut u8 {
        self.binary.as_mut_slice().as_mut_ptr()
    }
}

impl Buffer for BinaryBuffer {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            binary: OwnedBinary::new(capacity),
            len: 0,
            initialized: 0,
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.binary.len()
    }

    fn reserve(&mut self, capacity: usize) {
        self.resize(capacity.max(self.capacity()));
    }

    fn filled(&mut self) -> &mut [u8] {
        // SAFETY: the first `len` bytes are the binary's, which is ours, and initialized, as `fill` counts
        // only what a `ReadBuf` calls filled. Tested by messages in fragments of any size.
        unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
    }

    fn fill<R>(&mut self, limit: usize, fill: impl FnOnce(&mut ReadBuf<'_>) -> R) -> R {
        let room = limit.min(self.capacity() - self.len);
        let start = self
            .start()
            .wrapping_add(self.len)
            .cast::<MaybeUninit<u8>>();
        // SAFETY: `room` bytes from there on are the binary's, which is ours, and may hold anything.
        let spare = unsafe { slice::from_raw_parts_mut(start, room) };
        let mut spare = ReadBuf::uninit(spare);
        // SAFETY: so many were written before. Tested by compressed messages in fragments.
        unsafe { spare.assume_init((self.initialized - self.len).min(room)) };
        let result = fill(&mut spare);
        let (filled, initialized) = (spare.filled(), spare.initialized().len());
        assert!(ptr::eq(filled.as_ptr(), start.cast()), "another buffer");
        self.initialized = self.initialized.max(self.len + initialized);
        self.len += filled.len();
        result
    }
}

thread_local! {
    /// The environment of the call that runs the engine's tasks on this thread.
    static CALLER: Cell<*mut ErlNifEnv> = const { Cell::new(ptr::null_mut()) };
}

/// Runs tasks of the engine within a call: what they send is sent in the name of the calling process, as
/// the VM wants it on its schedulers.
pub fn on_behalf_of<R>(env: Env<'_>, run: impl FnOnce() -> R) -> R {
    struct Restore(*mut ErlNifEnv);

    impl Drop for Restore {
        fn drop(&mut self) {
            CALLER.set(self.0);
        }
    }

    let _restore = Restore(CALLER.replace(env.as_c_arg()));
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

/// Another descriptor for what a reactor waits with. `None`: it waits by itself.
pub fn duplicate(reactor: &'static Reactor) -> Option<io::Result<OwnedFd>> {
    let fd = reactor.fd()?;
    // SAFETY: it is open for as long as the process lives, as `Reactor::fd` says.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Some(borrowed.try_clone_to_owned())
}

/// Has the calling process sent `{:select, resource, reference, :ready_input}`, once, when the
/// descriptor is readable. One that is never closed: the VM would have to be told first.
pub fn select_read<T: Resource>(
    env: Env<'_>,
    fd: BorrowedFd<'static>,
    resource: &ResourceArc<T>,
    reference: Atom,
) -> bool {
    let (call, fd, object) = (
        env.as_c_arg(),
        fd.as_raw_fd(),
        resource.as_c_arg().cast_mut(),
    );
    let (pid, reference) = (env.pid(), reference.to_term(env).as_c_arg());
    let pid = pid.as_c_arg();
    // SAFETY: the resource is alive, and the VM keeps it so while it watches; the descriptor is never
    // closed. Tested as above.
    unsafe { enif_select(call, fd, ERL_NIF_SELECT_READ, object, pid, reference) >= 0 }
}
