//! Where the bytes of a message end up when they do not arrive in one piece.

pub use tokio::io::ReadBuf;

/// The final home of a message's bytes: on the BEAM its binary, elsewhere a `Vec`.
pub trait Buffer: Send + Sized + 'static {
    fn with_capacity(capacity: usize) -> Self;

    /// How many bytes are filled.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn capacity(&self) -> usize;

    /// Makes the capacity exactly this, unless it is as large already. The caller does the
    /// amortizing.
    fn reserve(&mut self, capacity: usize);

    fn filled(&mut self) -> &mut [u8];

    /// Lends what follows the filled bytes, up to the capacity and no more than `limit` bytes, and counts
    /// what is filled of it, also where `fill` returns an error: it fills nothing then. What is lent may be
    /// uninitialized. `ReadBuf` keeps account of that, so that nothing is zeroed before it is read to.
    fn fill<R>(&mut self, limit: usize, fill: impl FnOnce(&mut ReadBuf<'_>) -> R) -> R;

    /// Appends the bytes. Panics when the capacity does not suffice.
    fn extend(&mut self, bytes: &[u8]) {
        self.fill(bytes.len(), |spare| spare.put_slice(bytes));
    }
}

/// A `Vec` that is zeroed to its capacity, once: what is inflated to it time and again needs no other.
#[derive(Debug)]
pub struct VecBuffer {
    bytes: Vec<u8>,
    len: usize,
}

impl VecBuffer {
    /// Forgets what is filled and keeps the capacity.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl Buffer for VecBuffer {
    fn with_capacity(capacity: usize) -> VecBuffer {
        VecBuffer {
            bytes: vec![0; capacity],
            len: 0,
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    fn reserve(&mut self, capacity: usize) {
        if let Some(more) = capacity.checked_sub(self.bytes.len()) {
            self.bytes.reserve_exact(more);
            self.bytes.resize(capacity, 0);
        }
    }

    fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    fn fill<R>(&mut self, limit: usize, fill: impl FnOnce(&mut ReadBuf<'_>) -> R) -> R {
        let room = limit.min(self.bytes.len() - self.len);
        let mut spare = ReadBuf::new(&mut self.bytes[self.len..][..room]);
        let result = fill(&mut spare);
        self.len += spare.filled().len();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_grows() {
        let mut buffer = VecBuffer::with_capacity(2);
        buffer.extend(b"ab");
        buffer.reserve(5);
        assert_eq!((buffer.len(), buffer.capacity()), (2, 5));
        buffer.reserve(3);
        assert_eq!(buffer.capacity(), 5);
        let lent = buffer.fill(2, |spare| {
            spare.put_slice(b"c");
            spare.remaining()
        });
        assert_eq!(lent, 1);
        assert_eq!(buffer.filled(), b"abc");
        assert_eq!(buffer.fill(9, |spare| spare.remaining()), 2);
        assert_eq!(buffer.filled(), b"abc");
    }

    #[test]
    #[should_panic]
    fn does_not_fill_past_its_end() {
        VecBuffer::with_capacity(1).extend(b"ab");
    }
}
