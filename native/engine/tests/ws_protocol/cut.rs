//! Input in pieces, for the tests and the fuzz targets.

use ferrosock_engine::buffer::{Buffer, ReadBuf};
use ferrosock_engine::owner::Sink;
use ferrosock_engine::ws::frame::Error;
use ferrosock_engine::ws::message::Reader;

/// Feeds as a socket would that has `sizes` bytes ready, in turn: into the reader's tail where it
/// has one, else from a buffer of its own.
pub fn feed_cut<B: Buffer>(
    reader: &mut Reader<B>,
    mut bytes: &[u8],
    sizes: &[usize],
    use_tail: bool,
    sink: &mut impl Sink<B>,
) -> Result<(), Error> {
    let mut sizes = sizes.iter().cycle();
    while let (false, Some(&size)) = (bytes.is_empty(), sizes.next()) {
        let ready = size.min(bytes.len());
        let tail = use_tail
            .then(|| fill_tail(reader, &bytes[..ready]))
            .flatten();
        let (used, result) = match tail {
            Some(used) => (used, reader.tail_filled(used, sink)),
            None => {
                let mut input = bytes[..ready].to_vec();
                (ready, reader.feed(&mut input, sink))
            }
        };
        result?;
        bytes = &bytes[used..];
    }
    Ok(())
}

/// Fills the reader's tail, if it has one, and says with how many of the bytes.
pub fn fill_tail<B: Buffer>(reader: &mut Reader<B>, bytes: &[u8]) -> Option<usize> {
    let fill = |tail: &mut ReadBuf<'_>| {
        let n = tail.remaining().min(bytes.len());
        tail.put_slice(&bytes[..n]);
    };
    reader.fill_tail(usize::MAX, fill).map(|(n, ())| n)
}
