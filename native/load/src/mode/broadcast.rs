//! `load broadcast`: a member of a Phoenix channel has messages broadcast to all members.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::args::Broadcast;
use crate::drive::{self, Load, Pace, Until};
use crate::message::{random, word, words};
use crate::phoenix::Room;
use crate::process::Process;
use crate::report::LoadReport;

/// At most. Members that leave are work for a server, which is not to count in the next run.
const LEAVE_TIME: Duration = Duration::from_secs(10);

pub fn run(args: &Broadcast) -> Result<LoadReport> {
    let payload = payload(args);
    let size = payload.to_string().len() as u32;
    let room = Room::new(payload, args.deflate);
    let load = Load {
        request: room.ask().into(),
        messages: 1,
        pace: Pace::Together(Until::Each),
    };

    let streams = room.open_all(&args.server, args.conns)?;
    let member = || room.joined();
    let figures = drive::run(streams, &load, member, args.server.pid, &args.timing)?;
    if let Some(pid) = args.server.pid {
        Process::new(pid).await_rest(LEAVE_TIME)?;
    }
    Ok(LoadReport {
        mode: "broadcast",
        unit: "deliveries",
        conns: args.conns,
        depth: 1,
        size,
        figures,
    })
}

fn payload(args: &Broadcast) -> Value {
    let Some(count) = args.objects else {
        return json!({"text": words(args.size as usize)});
    };
    let mut random = random();
    let list: Vec<Value> = (0..count)
        .map(|id| json!({"id": id, "name": word(random()), "online": random().is_multiple_of(2)}))
        .collect();
    json!({ "list": list })
}
