//! Where the bytes of messages and bodies end up.

use ferrosock_engine::buffer::Buffer;
use rustler::{Env, OwnedBinary, Term};

/// A binary that grows while a message arrives.
pub struct BinaryBuffer {
    binary: OwnedBinary,
    len: usize,
}

impl BinaryBuffer {
    pub fn into_binary<'a>(mut self, env: Env<'a>) -> Term<'a> {
        if self.len < self.binary.len() {
            self.binary.realloc_or_copy(self.len);
        }
        self.binary.release(env).to_term(env)
    }
}

impl Buffer for BinaryBuffer {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            binary: OwnedBinary::new(capacity),
            len: 0,
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.binary.len()
    }

    fn reserve(&mut self, capacity: usize) {
        if capacity > self.binary.len() {
            self.binary.realloc_or_copy(capacity);
        }
    }

    fn filled(&mut self) -> &mut [u8] {
        &mut self.binary.as_mut_slice()[..self.len]
    }

    fn spare(&mut self) -> &mut [u8] {
        &mut self.binary.as_mut_slice()[self.len..]
    }

    fn advance(&mut self, n: usize) {
        assert!(
            n <= self.capacity() - self.len,
            "advanced past the capacity"
        );
        self.len += n;
    }
}
