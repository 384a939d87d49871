//! Where the records of TLS begin and end, as far as their headers tell.

/// Type, version and length of a record (RFC8446§5.1).
const RECORD_HEADER: usize = 5;
/// The most that a record may say of its length.
const MAX_RECORD: usize = 16 * 1024 + 2048;

/// Whether the front is a whole record, or what cannot become one.
pub(super) fn is_record(bytes: &[u8]) -> bool {
    // Of a handshake there are types from 20 to 22, and 23 with TLS 1.3; of all versions the first byte is 3.
    let is_odd = |at: usize, known: std::ops::RangeInclusive<u8>| {
        bytes.get(at).is_some_and(|byte| !known.contains(byte))
    };
    if is_odd(0, 20..=23) || is_odd(1, 3..=3) {
        return true;
    }
    let Some(header) = bytes.first_chunk::<RECORD_HEADER>() else {
        return false;
    };
    payload_length(header) > MAX_RECORD || record_length(bytes).is_some()
}

fn payload_length(header: &[u8; RECORD_HEADER]) -> usize {
    usize::from(u16::from_be_bytes([header[3], header[4]]))
}

/// Of the first record, where it is whole.
pub(super) fn record_length(bytes: &[u8]) -> Option<usize> {
    let length = RECORD_HEADER + payload_length(bytes.first_chunk()?);
    (bytes.len() >= length).then_some(length)
}
