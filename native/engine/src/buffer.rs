//! Where the bytes of a message end up when they do not arrive in one piece.

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

    /// From what is filled to the capacity. What it holds means nothing.
    fn spare(&mut self) -> &mut [u8];

    /// Counts the first `n` spare bytes as filled. Panics when there are fewer.
    fn advance(&mut self, n: usize);
}

/// A `Vec` that is zeroed to its capacity, as spare bytes can be lent out safely only when they are
/// initialized.
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

    pub fn into_vec(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
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

    fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len..]
    }

    fn advance(&mut self, n: usize) {
        assert!(n <= self.bytes.len() - self.len, "advanced past the end");
        self.len += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_grows() {
        let mut buffer = VecBuffer::with_capacity(2);
        buffer.spare().copy_from_slice(b"ab");
        buffer.advance(2);
        buffer.reserve(5);
        assert_eq!((buffer.len(), buffer.capacity()), (2, 5));
        buffer.reserve(3);
        assert_eq!(buffer.capacity(), 5);
        buffer.spare()[0] = b'c';
        buffer.advance(1);
        assert_eq!(buffer.filled(), b"abc");
        assert_eq!(buffer.spare().len(), 2);
        assert_eq!(buffer.into_vec(), b"abc");
    }

    #[test]
    #[should_panic(expected = "advanced past the end")]
    fn does_not_advance_past_its_end() {
        VecBuffer::with_capacity(1).advance(2);
    }
}
