//! The payloads of permessage-deflate (RFC7692§7.2), without context takeover.

use anyhow::{Context, Result, ensure};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

/// What a flush ends with, and a message leaves out (RFC7692§7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// As browsers have it.
const LEVEL: i32 = 6;
const WINDOW_BITS: u8 = 15;

pub fn deflate(payload: &[u8]) -> Vec<u8> {
    // Text that does not get smaller grows by less than a thousandth.
    let mut output = vec![0; payload.len() + payload.len() / 1000 + 64];
    let mut deflate = Deflate::new(LEVEL, false, WINDOW_BITS);
    deflate
        .compress(payload, &mut output, DeflateFlush::SyncFlush)
        .expect("there is room for all of it");
    output.truncate(deflate.total_out() as usize);
    assert!(output.ends_with(&TAIL), "all of it was flushed");
    output.truncate(output.len() - TAIL.len());
    output
}

/// What is longer than `max_len` is an error.
pub fn inflate(deflated: &[u8], max_len: usize) -> Result<Vec<u8>> {
    let input = [deflated, &TAIL].concat();
    // A byte more than is allowed shows that there is more.
    let mut output = vec![0; max_len + 1];
    let mut inflate = Inflate::new(false, WINDOW_BITS);
    inflate
        .decompress(&input, &mut output, InflateFlush::SyncFlush)
        .ok()
        .context("the answer does not inflate")?;
    let len = inflate.total_out() as usize;
    ensure!(len <= max_len, "the answer inflates to too much");
    output.truncate(len);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hello_of_the_rfc() {
        // RFC7692§7.2.3.1
        let deflated = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(deflate(b"Hello"), deflated);
        assert_eq!(inflate(&deflated, 5).unwrap(), b"Hello");
        inflate(&deflated, 4).unwrap_err();
        inflate(b"\xff\xff", 4).unwrap_err();
    }

    #[test]
    fn what_does_not_get_smaller_comes_back_too() {
        let mut state = 1_u32;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        assert_eq!(inflate(&deflate(&noise), noise.len()).unwrap(), noise);
    }
}
