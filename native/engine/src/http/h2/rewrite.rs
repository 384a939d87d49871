//! What h2 gets in the place of a header block: the same fields in a form that needs no table, because h2's
//! table may lack what the block refers to; or one small block of which h2 says what is to be said.

use super::field::{Judge, Kind};
use super::hpack::{self, Field};

/// `transfer-encoding`, by its place in the static table, with an empty value: no request has it
/// (RFC9113§8.2.2), which is all that h2 says to it.
pub(super) const MALFORMED: &[u8] = b"\x0f\x2a\x00";

/// `accept-encoding: gzip, deflate`, which is in the static table, and what it weighs.
const HEAVY: u8 = 0x90;
const HEAVY_SIZE: usize = 60;

/// The fields of one block, as they are told one after the other.
pub(super) struct Rewrite<'a> {
    out: &'a mut Vec<u8>,
    judge: Judge,
    /// All fields together weigh this much.
    size: usize,
    /// The fields of a request that is served weigh less than this.
    max: usize,
    /// Whether h2 needs `out`, and not the block itself.
    is_needed: bool,
    /// The `:authority`, if crate http has none like it.
    host: Option<Vec<u8>>,
}

impl<'a> Rewrite<'a> {
    /// `is_needed` says that h2's table is no longer that of the client.
    pub(super) fn new(out: &'a mut Vec<u8>, judge: Judge, max: usize, is_needed: bool) -> Self {
        out.clear();
        Self {
            out,
            judge,
            size: 0,
            max,
            is_needed,
            host: None,
        }
    }

    pub(super) fn field(&mut self, field: &Field<'_>) {
        self.judge.field(field.kind);
        self.size += field.size();
        // The last pseudo-header field decides whether h2 can take the block as it is: until then, fields are
        // copied in any case.
        let is_copied = self.is_needed || self.host.is_some() || !self.judge.is_past();
        if !is_copied || self.size >= self.max {
            return;
        }
        if is_host_alone(field) {
            self.host = Some(field.value.to_vec());
        } else if field.name != b"host" || self.host.as_deref() != Some(field.value) {
            encode(field, self.out);
        }
    }

    /// Ends the block. Returns whether it is malformed, and whether h2 needs what is in `out`.
    pub(super) fn finish(mut self) -> (bool, bool) {
        if let Some(host) = &self.host {
            hpack::encode(b"host", host, self.out);
            self.is_needed = true;
        }
        if !self.is_needed {
            self.out.clear();
        } else if self.size >= self.max {
            // The response is the one to a request that is too large, so h2 must find it so.
            self.out.clear();
            self.out.resize(self.max / HEAVY_SIZE + 1, HEAVY);
        }
        (self.judge.is_malformed, self.is_needed)
    }
}

/// An authority with percent codes, as RFC 3986 (§3.2.2) has it and clients of Unix sockets send it. Crate
/// http has none; as the `host` of a request without `:authority` it says the same (RFC9113§8.3.1).
fn is_host_alone(field: &Field<'_>) -> bool {
    field.kind == Kind::Authority && field.value.contains(&b'%')
}

fn encode(field: &Field<'_>, out: &mut Vec<u8>) {
    match field.index {
        Some(index) => out.push(0x80 | index),
        None => hpack::encode(field.name, field.value, out),
    }
}
