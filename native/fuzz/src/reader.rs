//! A client's bytes through [`Reader`], as a whole and cut to pieces, compressed or not.

use ferrosock_engine::buffer::VecBuffer;
use ferrosock_engine::ws::frame::{Error, MAX_CONTROL_LEN};
use ferrosock_engine::ws::message::{Limits, Reader};

use crate::agreement::Deflate;
use crate::cut::feed_cut;
use crate::event::{Event, Events};
use crate::source::Source;
use crate::stream::stream;

pub type Outcome = (Vec<Event>, Option<Error>);

pub fn check(data: &[u8]) {
    let mut source = Source::new(data);
    let limits = limits(&mut source);
    let deflate = Deflate::choose(&mut source);
    let sizes = sizes(&mut source);
    let bytes = stream(&mut source, deflate.as_ref().map(Deflate::client));

    let reader = || {
        let reader = Reader::new(limits);
        match &deflate {
            Some(deflate) => reader.with_deflate(&deflate.agreed()),
            None => reader,
        }
    };
    let whole = read(reader(), &bytes, &[bytes.len()], false);
    check_events(limits, &whole.0);
    for use_tail in [false, true] {
        assert_eq!(
            read(reader(), &bytes, &sizes, use_tail),
            whole,
            "cut to {sizes:?}, use_tail: {use_tail}"
        );
    }
}

pub fn read(
    mut reader: Reader<VecBuffer>,
    bytes: &[u8],
    sizes: &[usize],
    use_tail: bool,
) -> Outcome {
    let mut events = Events::default();
    let error = feed_cut(&mut reader, bytes, sizes, use_tail, &mut events).err();
    (events.0, error)
}

fn limits(source: &mut Source) -> Limits {
    let choice = source.u8();
    Limits {
        max_frame_size: [u64::MAX, 20_000, 200, 0][usize::from(choice & 3)],
        max_fragments: [u32::MAX, 5, 2, 1][usize::from(choice >> 2 & 3)],
        validate_utf8: choice & 0x10 == 0,
    }
}

/// One to four sizes from one byte to a few thousand; at least one, or nothing would be read.
fn sizes(source: &mut Source) -> Vec<usize> {
    let count = source.u8() % 4 + 1;
    (0..count)
        .map(|_| usize::from(source.u16() % 9000) + 1)
        .collect()
}

fn check_events(limits: Limits, events: &[Event]) {
    for (i, event) in events.iter().enumerate() {
        let (payload, is_text) = match event {
            Event::Text(payload) => (payload, true),
            Event::Binary(payload) => (payload, false),
            Event::Ping(payload) | Event::Pong(payload) => {
                assert!(payload.len() <= MAX_CONTROL_LEN);
                (payload, false)
            }
            Event::Close(code, reason) => {
                assert_eq!(i + 1, events.len(), "an event after the close");
                assert!(code.is_none_or(may_be_sent), "close code {code:?}");
                assert!(code.is_some() || reason.is_empty());
                (reason, true)
            }
        };
        assert!(payload.len() as u64 <= limits.max_frame_size);
        if is_text && limits.validate_utf8 {
            assert!(std::str::from_utf8(payload).is_ok());
        }
    }
}

/// RFC6455§7.4, and 1012 to 1014 of IANA's registry.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
