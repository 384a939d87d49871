//! A client's compressed messages: inflated the same however they were cut, never past the limit, and
//! to what another inflater makes of them.

use ferrosock_engine::buffer::{Buffer, VecBuffer};
use ferrosock_engine::ws::deflate::Inflater;
use ferrosock_engine::ws::frame::Error;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::agreement::Deflate;
use crate::source::Source;

/// What a message leaves out of its last block (RFC7692§7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

pub fn check(data: &[u8]) {
    let mut source = Source::new(data);
    let Some(deflate) = Deflate::choose(&mut source) else {
        return;
    };
    let limit = [100_000, 5_000, 255, 0][usize::from(source.u8() % 4)];
    let cut = usize::from(source.u8()) + 1;

    let agreed = deflate.agreed();
    let (mut whole, mut pieces) = (Inflater::new(&agreed), Inflater::new(&agreed));
    let mut is_first = true;
    while !source.is_empty() {
        let len = usize::from(source.u16() % 2048);
        let payload = source.bytes(len);
        let outcome = inflate(&mut whole, payload, payload.len().max(1), limit);
        assert_eq!(inflate(&mut pieces, payload, cut, limit), outcome);
        let (message, error) = outcome;
        assert!(message.len() <= limit);
        // Later ones may refer to earlier ones, which the other inflater is not shown.
        if is_first {
            check_by_another(payload, &message, error, limit);
        }
        if error.is_some() {
            return;
        }
        is_first = false;
    }
}

/// What was inflated, also before an error.
fn inflate(
    inflater: &mut Inflater,
    payload: &[u8],
    cut: usize,
    limit: usize,
) -> (Vec<u8>, Option<Error>) {
    let mut out = VecBuffer::with_capacity(0);
    let mut seen = vec![];
    let result = payload
        .chunks(cut)
        .try_for_each(|part| {
            inflater.push(part, &mut out, limit, |bytes| {
                seen.extend_from_slice(bytes);
                Ok(())
            })
        })
        .and_then(|()| inflater.finish(out.filled()));
    assert!(
        seen == out.filled(),
        "what was checked is not what came out"
    );
    (seen, result.err())
}

fn check_by_another(payload: &[u8], ours: &[u8], our_error: Option<Error>, limit: usize) {
    let input = [payload, &TAIL].concat();
    let mut out = vec![0; limit + 1];
    let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT
        | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) =
        decompress(&mut DecompressorOxide::new(), &input, &mut out, 0, flags);
    let theirs = &out[..written];

    match status {
        // All of the input, up to a boundary between blocks or to the middle of one.
        TINFLStatus::NeedsMoreInput if our_error.is_none() => assert_eq!(ours, theirs),
        // The end of a stream; we go on behind it.
        TINFLStatus::Done if our_error.is_none() => assert!(ours.starts_with(theirs)),
        TINFLStatus::HasMoreOutput => assert!(our_error.is_some(), "past the limit"),
        TINFLStatus::Failed => assert!(our_error.is_some(), "only they fail"),
        _ => (),
    }
}
