//! What is right passes as it is; what is wrong with a frame has its code.

use proptest::prelude::*;

use crate::client::*;
use crate::judge::*;

const PING: u8 = 6;

#[derive(Debug, Clone)]
struct Request {
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    how: Vec<u8>,
    parts: usize,
    depends_on: Option<u32>,
    body: Option<Vec<u8>>,
}

fn good_request() -> impl Strategy<Value = Request> {
    let value = prop_oneof!["[ -~]{0,20}", "[a-z]{500}"];
    let field = ("x[a-z0-9-]{0,10}", value);
    let fields = prop::collection::vec(
        field.prop_map(|(n, v)| (n.into_bytes(), v.into_bytes())),
        0..6,
    );
    let how = prop::collection::vec(any::<u8>(), 1..10);
    let body = prop::option::of(prop::collection::vec(any::<u8>(), 0..5000));
    (fields, how, 1..4_usize, prop::option::of(Just(0)), body).prop_map(
        |(fields, how, parts, depends_on, body)| Request {
            fields: [request("/", &[]), fields].concat(),
            how,
            parts,
            depends_on,
            body,
        },
    )
}

fn sent(requests: &[Request]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for (n, request) in requests.iter().enumerate() {
        let id = 2 * n as u32 + 1;
        let block = encoder.encode(&request.fields, &request.how);
        let flags = if request.body.is_none() {
            END_STREAM
        } else {
            0
        };
        bytes.extend(headers(
            id,
            &block,
            flags,
            request.parts,
            request.depends_on,
        ));
        if let Some(body) = &request.body {
            bytes.extend(frame(DATA, 0, id, body));
            let trailers = vec![(b"x-sum".to_vec(), b"1".to_vec())];
            let block = encoder.encode(&trailers, &request.how);
            bytes.extend(headers(id, &block, END_STREAM, 1, None));
        }
    }
    bytes
}

proptest! {
    #[test]
    fn requests_that_are_right_pass_as_they_are(
        requests in prop::collection::vec(good_request(), 1..20),
        size in 1..5000_usize,
    ) {
        let bytes = sent(&requests);
        let filtered = filter(&bytes, &[size], &[5000]);
        prop_assert_eq!(filtered, (bytes, None));
    }
}

/// The code that the connection ends with, when this is sent after a request for which more is to come.
fn fault(bytes: &[u8]) -> Option<u32> {
    let block = Encoder::default().encode(&request("/", &[]), &[1]);
    let before = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &headers(1, &block, 0, 1, None),
    ];
    filter(&[&before.concat(), bytes].concat(), &[7], &[100]).1
}

#[test]
fn a_frame_of_another_size_than_its_kind_has_is_frame_size_error() {
    const FRAME_SIZE_ERROR: Option<u32> = Some(6);
    let sized = |kind, stream, len| fault(&frame(kind, 0, stream, &vec![0; len]));
    for (kind, stream, right) in [(2, 3, 5), (3, 1, 4), (6, 0, 8), (8, 0, 4)] {
        assert_eq!(sized(kind, stream, right), None, "{kind}");
        for wrong in [0, right - 1, right + 1, 100] {
            assert_eq!(
                sized(kind, stream, wrong),
                FRAME_SIZE_ERROR,
                "{kind}: {wrong}"
            );
        }
    }
    for (len, code) in [
        (0, None),
        (6, None),
        (5, FRAME_SIZE_ERROR),
        (13, FRAME_SIZE_ERROR),
    ] {
        assert_eq!(sized(SETTINGS, 0, len), code, "{len}");
    }
    for (len, code) in [
        (8, None),
        (100, None),
        (7, FRAME_SIZE_ERROR),
        (0, FRAME_SIZE_ERROR),
    ] {
        assert_eq!(sized(GOAWAY, 0, len), code, "{len}");
    }
    for kind in [DATA, HEADERS, 0xbb] {
        assert_eq!(sized(kind, 1, 16_385), FRAME_SIZE_ERROR, "{kind}");
    }
    // An acknowledgement says nothing.
    assert_eq!(fault(&frame(SETTINGS, 1, 0, &[0; 6])), FRAME_SIZE_ERROR);
    // The head is enough.
    assert_eq!(fault(&frame(PING, 0, 0, &[0; 9])[..9]), FRAME_SIZE_ERROR);
}

#[test]
fn a_window_past_its_maximum_is_flow_control_error() {
    let window = |value: u32| {
        let setting = [&[0, 4][..], &value.to_be_bytes()].concat();
        fault(&frame(
            SETTINGS,
            0,
            0,
            &[&[0, 1, 255, 255, 255, 255], &setting[..]].concat(),
        ))
    };
    assert_eq!(window((1 << 31) - 1), None);
    assert_eq!(window(1 << 31), Some(3));
    assert_eq!(window(u32::MAX), Some(3));
}

#[test]
fn what_does_not_decode_is_compression_error() {
    for block in [
        &b"\x80"[..],
        b"\xbe",
        b"\xff",
        b"\x00\x05abc",
        b"\x82\x20",
        b"\x00\x84\xff\xff\xff\xff",
    ] {
        for parts in [1, 2] {
            let coded = headers(3, block, END_STREAM, parts, None);
            assert_eq!(fault(&coded), Some(9), "{block:x?}");
        }
    }
}

#[test]
fn other_frames_than_settings_do_not_come_first() {
    for (first, code) in [
        (frame(SETTINGS, 0, 0, &[]), None),
        (frame(SETTINGS, 1, 0, &[]), Some(1)),
        (frame(PING, 0, 0, &[0; 8]), Some(1)),
        (frame(0xbb, 0, 0, &[]), Some(1)),
        (headers(1, b"\x82", END_STREAM, 1, None), Some(1)),
    ] {
        let bytes = [PREFACE, &first].concat();
        let passed = if code.is_none() { &bytes[..] } else { PREFACE };
        assert_eq!(filter(&bytes, &[100], &[100]), (passed.to_vec(), code));
    }
}

#[test]
fn a_header_block_is_bounded_before_it_is_kept() {
    const ENHANCE_YOUR_CALM: Option<u32> = Some(11);
    // Continuations without an end, also empty ones.
    for part in [vec![], vec![b'a'; 16_384]] {
        let flood = frame(CONTINUATION, 0, 3, &part).repeat(6);
        let begun = frame(HEADERS, 0, 3, b"\x82");
        assert_eq!(fault(&[begun, flood].concat()), ENHANCE_YOUR_CALM);
    }
    // A small one that becomes a large one: an entry of 4 KB, named again and again.
    let entry = [&b"\x40\x01x\x7f\x81\x1e"[..], &[b'v'; 4000]].concat();
    let bomb = [entry, vec![0xbe; 1000]].concat();
    assert_eq!(
        fault(&headers(3, &bomb, END_STREAM, 1, None)),
        ENHANCE_YOUR_CALM
    );
}

#[test]
fn within_a_header_block_nothing_else_comes() {
    let begun = frame(HEADERS, 0, 3, b"\x82");
    for (other, code) in [
        (frame(PING, 0, 0, &[0; 8]), 1),
        (frame(0xbb, 0, 3, &[]), 1),
        (frame(CONTINUATION, END_HEADERS, 5, &[]), 1),
        (frame(HEADERS, END_HEADERS, 3, b"\x82"), 1),
        (frame(CONTINUATION, 0, 3, &[0; 16_385]), 6),
    ] {
        assert_eq!(
            fault(&[&begun[..], &other].concat()),
            Some(code),
            "{other:?}"
        );
    }
    assert_eq!(fault(&frame(CONTINUATION, END_HEADERS, 1, &[])), Some(1));
}

#[test]
fn streams_are_opened_in_order_and_by_clients_alone() {
    let open = |id| headers(id, b"\x82\x84\x86", END_STREAM, 1, None);
    assert_eq!(fault(&[open(7), open(9)].concat()), None);
    for id in [0, 2, 3, 5] {
        assert_eq!(fault(&[open(7), open(id)].concat()), Some(1), "{id}");
    }
}
