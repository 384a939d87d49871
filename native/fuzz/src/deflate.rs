//! Messages that the engine compresses, inflated by itself as another server would get them, and by a
//! reader of DEFLATE that is not zlib and that holds them to the window and the context that were
//! agreed on.

use ferrosock_engine::buffer::{Buffer, VecBuffer};
use ferrosock_engine::ws::deflate::{Deflater, Inflater};

use crate::agreement::Deflate;
use crate::puff;
use crate::source::Source;

pub fn check(data: &[u8]) {
    let mut source = Source::new(data);
    let Some(deflate) = Deflate::choose(&mut source) else {
        return;
    };
    let mut deflater = Deflater::new(&deflate.agreed());
    let mut inflater = Inflater::new(&deflate.agreed());
    let mut history = vec![];
    while !source.is_empty() && history.len() < 64 * 1024 {
        let piece = source.u8();
        let message = message(&mut source);
        let Some(payload) = compress(&mut deflater, piece, &message) else {
            assert!(!deflate.context_takeover, "the context lacks a message");
            continue;
        };
        let (inflated, _) = puff::inflate(&payload, &history, deflate.window_bits);
        assert!(inflated == message, "{deflate:?} changed a message");
        let mut inflated = VecBuffer::with_capacity(0);
        inflater
            .push(&payload, &mut inflated, message.len(), |_| Ok(()))
            .and_then(|()| inflater.finish(inflated.filled()))
            .expect("our own payload");
        assert!(inflated.filled() == message, "{deflate:?}: misread");
        if deflate.context_takeover {
            history.extend(message);
        }
    }
}

fn message(source: &mut Source) -> Vec<u8> {
    let len = usize::from(source.u8());
    source.bytes(len).repeat(usize::from(source.u8()))
}

/// As a whole, or in parts of the size that `piece` says; `None` when it would not get smaller.
fn compress(deflater: &mut Deflater, piece: u8, message: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![];
    if piece == 0 {
        return deflater.compress(message, &mut out).then_some(out);
    }
    let mut compressed = deflater.start();
    for part in message.chunks(usize::from(piece) * 16) {
        compressed.push(part, &mut out);
    }
    deflater.finish(compressed, &mut out);
    Some(out)
}
