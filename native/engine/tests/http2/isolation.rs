//! A malformed request ends its stream alone, and all others arrive as they were sent.

use proptest::prelude::*;

use crate::client::*;
use crate::judge::*;

const PROTOCOL_ERROR: u32 = 1;

#[derive(Debug, Clone)]
struct Sent {
    fields: Fields,
    is_good: bool,
    how: Vec<u8>,
    parts: usize,
    depends_on: Option<bool>,
    has_body: bool,
}

/// Few names and values, so that they are in the table when they come again, and so that what is wrong
/// shares names with what is right.
fn plain() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop::sample::select(vec!["x-a", "x-b", "x-c", "accept", "x-long"]);
    let value = prop::sample::select(vec!["", "a", "b", "c c", "\u{e9}"]);
    (name, value, any::<bool>()).prop_map(|(name, value, is_long)| {
        let value = if is_long {
            value.repeat(300)
        } else {
            value.into()
        };
        (name.as_bytes().to_vec(), value.into_bytes())
    })
}

/// What makes a request malformed whose name is first.
fn wrong() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let wrong: Vec<(&[u8], &[u8])> = vec![
        (b"X-A", b"a"),
        (b"", b"a"),
        (b"x a", b"a"),
        (b"x-a\0", b"a"),
        (b"x\xe9", b"a"),
        (b"x:a", b"a"),
        (b"x-a", b"a\nb"),
        (b"x-a", b"\0"),
        (b"x-a", b"a\r"),
        (b":foo", b"a"),
        (b":", b"a"),
        (b":status", b"200"),
        (b":status", b""),
        (b":method", b"GET"),
        (b":path", b"/"),
        (b":path", b"\xff"),
        (b"connection", b"close"),
        (b"te", b"gzip"),
        (b"upgrade", b"h2c"),
        (b"keep-alive", b""),
        (b"transfer-encoding", b"chunked"),
    ];
    prop::sample::select(wrong).prop_map(|(name, value)| (name.to_vec(), value.to_vec()))
}

fn request_of_any_kind() -> impl Strategy<Value = Sent> {
    let fields = prop::collection::vec(plain(), 0..5);
    let bad = prop::option::weighted(0.4, (wrong(), any::<prop::sample::Index>()));
    let how = prop::collection::vec(any::<u8>(), 1..10);
    (
        fields,
        bad,
        how,
        1..4_usize,
        prop::option::of(any::<bool>()),
        any::<bool>(),
    )
        .prop_map(|(fields, bad, how, parts, depends_on, has_body)| {
            let is_good = bad.is_none();
            let mut all = [request("/", &[]), fields].concat();
            if let Some((field, at)) = bad {
                let at = 4 + at.index(all.len() - 3);
                all.insert(at, field);
            }
            Sent {
                fields: all,
                is_good,
                how,
                parts,
                depends_on,
                has_body,
            }
        })
}

/// With the fields of one name together, as a map has them.
fn told(stream: u32, request: &Sent) -> Request {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    let fields = request.fields[4..].iter();
    sorted(Request {
        stream,
        line: "GET http://localhost/".into(),
        fields: fields
            .map(|(name, value)| (text(name), value.clone()))
            .collect(),
    })
}

fn sorted(mut request: Request) -> Request {
    request.fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn all_that_are_right_arrive_and_the_others_are_reset(
        requests in prop::collection::vec(request_of_any_kind(), 1..40),
    ) {
        let mut encoder = Encoder::default();
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let (mut right, mut refused) = (vec![], vec![]);
        for (n, request) in requests.iter().enumerate() {
            let id = 2 * n as u32 + 1;
            let block = encoder.encode(&request.fields, &request.how);
            let flags = if request.has_body { 0 } else { END_STREAM };
            let depends_on = request.depends_on.map(|on_itself| if on_itself { id } else { 0 });
            bytes.extend(headers(id, &block, flags, request.parts, depends_on));
            if request.has_body {
                bytes.extend(frame(DATA, 0, id, b"data"));
                let sum = vec![(b"x-sum".to_vec(), vec![b'0' + n as u8])];
                let block = encoder.encode(&sum, &request.how);
                bytes.extend(headers(id, &block, END_STREAM, 1, None));
            }
            match request.is_good {
                true => right.push(told(id, request)),
                false => refused.push((id, PROTOCOL_ERROR)),
            }
        }
        let (passed, fault) = filter(&bytes, &[8192], &[8192]);
        prop_assert_eq!(fault, None);
        let outcome = h2(&passed);
        prop_assert_eq!(outcome.goaway, None);
        let arrived: Vec<_> = outcome.requests.into_iter().map(sorted).collect();
        prop_assert_eq!(arrived, right);
        let mut resets = outcome.resets;
        resets.dedup();
        prop_assert_eq!(resets, refused);
    }
}

fn open(id: u32, fields: &[(&[u8], &[u8])], flags: u8) -> Vec<u8> {
    let block = Encoder::default().encode(&request("/", fields), &[1]);
    headers(id, &block, flags, 1, None)
}

fn outcome(frames: &[Vec<u8>]) -> Outcome {
    let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat();
    let (passed, fault) = filter(&bytes, &[100], &[100]);
    assert_eq!(fault, None);
    h2(&passed)
}

#[test]
fn trailers_have_no_pseudo_header_fields() {
    let trailers = |block| headers(1, block, END_STREAM, 1, None);
    let fine = outcome(&[open(1, &[], 0), trailers(b"\x00\x01x\x01y")]);
    assert_eq!((fine.resets, fine.goaway), (vec![], None));
    for block in [&b"\x84"[..], b"\x00\x01x\x01y\x84", b"\x00\x04:foo\x00"] {
        let wrong = outcome(&[open(1, &[], 0), trailers(block), open(3, &[], END_STREAM)]);
        assert_eq!(wrong.resets, [(1, PROTOCOL_ERROR)], "{block:?}");
        assert_eq!((wrong.requests.len(), wrong.goaway), (2, None), "{block:?}");
    }
}

#[test]
fn what_comes_after_the_end_of_a_stream_resets_it() {
    for late in [
        frame(DATA, 0, 1, b"x"),
        frame(DATA, END_STREAM, 1, b""),
        headers(1, b"\x00\x01x\x01y", END_STREAM, 1, None),
        open(1, &[], END_STREAM),
    ] {
        let frames = [open(1, &[], END_STREAM), late, open(3, &[], END_STREAM)];
        let outcome = outcome(&frames);
        // With which reason is the concern of whoever writes it.
        let streams: Vec<_> = outcome.resets.iter().map(|(stream, _)| *stream).collect();
        assert_eq!((streams, outcome.goaway), (vec![1], None));
        assert_eq!(outcome.requests.len(), 2);
    }
}

#[test]
fn a_frame_that_is_wrong_for_its_stream_resets_that() {
    for wrong in [
        frame(8, 0, 1, &[0; 4]),
        frame(8, 0, 1, &[0x80, 0, 0, 0]),
        frame(8, 0, 1, &[0x7f, 255, 255, 255]),
        frame(2, 0, 1, &[0; 4]),
        frame(2, 0, 1, &[0; 6]),
        frame(2, 0, 1, &[]),
    ] {
        for flags in [0, END_STREAM] {
            let frames = [
                open(1, &[], flags),
                wrong.clone(),
                // Again, when it is reset.
                wrong.clone(),
                open(3, &[], END_STREAM),
            ];
            let outcome = outcome(&frames);
            let streams: Vec<_> = outcome.resets.iter().map(|(stream, _)| *stream).collect();
            assert_eq!((streams, outcome.goaway), (vec![1], None), "{wrong:?}");
            assert_eq!(outcome.requests.len(), 2);
        }
    }
}

#[test]
fn a_priority_says_nothing() {
    let depends_on = |stream: u32, other: u32| {
        let payload = [&other.to_be_bytes()[..], &[16]].concat();
        frame(2, 0, stream, &payload)
    };
    let outcome = outcome(&[
        depends_on(101, 101),
        depends_on(3, 0),
        open(1, &[], 0),
        depends_on(1, 1),
        depends_on(1, 3),
        frame(DATA, END_STREAM, 1, b"data"),
        open(3, &[], END_STREAM),
    ]);
    assert_eq!((outcome.resets, outcome.goaway), (vec![], None));
    assert_eq!(outcome.requests.len(), 2);
}

#[test]
fn what_comes_after_a_reset_is_no_new_request() {
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    let outcome = outcome(&[
        open(1, &[], 0),
        reset,
        open(1, &[], END_STREAM),
        open(3, &[], END_STREAM),
    ]);
    assert_eq!(outcome.goaway, None);
    assert!(outcome.resets.iter().all(|(stream, _)| *stream == 1));
}

#[test]
fn a_head_that_is_too_large_is_answered_before_and_after_a_malformed_one() {
    let value = [b'v'; 1000];
    let fields: Vec<(&[u8], &[u8])> = vec![(b"x-long", &value); 12];
    let large = |id| open(id, &fields, END_STREAM);
    let outcome = outcome(&[
        large(1),
        open(3, &[(b"X", b"")], END_STREAM),
        large(5),
        open(7, &fields[..9], END_STREAM),
    ]);
    // By h2 itself, and then it resets the stream of an answer that nobody waits for.
    assert_eq!(outcome.goaway, None);
    assert_eq!(outcome.requests.len(), 1);
    assert_eq!(outcome.requests[0].fields.len(), 9);
}
