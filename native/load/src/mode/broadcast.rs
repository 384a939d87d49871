//! `load broadcast`: a member of a Phoenix channel has messages broadcast to all members.

use anyhow::Result;
use serde_json::{Value, json};

use crate::args::Broadcast;
use crate::drive::{self, Load, Pace, Until};
use crate::message::{random, word};
use crate::phoenix::Room;
use crate::report::LoadReport;

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
    let mut random = random();
    if let Some(count) = args.objects {
        let list: Vec<Value> = (0..count)
            .map(|id| json!({"id": id, "name": word(random()), "online": random().is_multiple_of(2)}))
            .collect();
        return json!({ "list": list });
    }
    let size = args.size as usize;
    let mut text = String::new();
    while text.len() < size {
        text += word(random());
        text.push(' ');
    }
    text.truncate(size);
    json!({ "text": text })
}
