//! `majordomo top`: nodes and services, again and again.

mod frame;
mod sample;
mod screen;

use std::{io::IsTerminal as _, time::Instant};

use serde_json::Value;

use self::{
    frame::{Frame, Size},
    sample::{Rates, Sample},
    screen::{Key, Screen},
};
use crate::{
    admin::{AdminClient, AdminError},
    args::{NodeArgs, TopArgs},
    exit::Exit,
    printer,
};

const CLUSTER: &str = "/api/v1/cluster";
const SERVICES: &str = "/api/v1/services";
const METRICS: &str = "/metrics";
/// The line about this program, and an empty one.
const HEAD_ROWS: usize = 2;

/// One node that is asked, and what it said last.
#[derive(Debug)]
struct Asked {
    client: AdminClient,
    last: Option<Sample>,
    rates: Option<Rates>,
    cluster: Option<Value>,
    services: Option<Value>,
    /// Why it said nothing.
    failure: Option<AdminError>,
}

impl Asked {
    fn new(client: AdminClient) -> Self {
        Self { client, last: None, rates: None, cluster: None, services: None, failure: None }
    }

    fn ask(&mut self) {
        self.failure = self.try_ask().err();
        if self.failure.is_some() {
            (self.last, self.rates, self.cluster, self.services) = (None, None, None, None);
        }
    }

    fn try_ask(&mut self) -> Result<(), AdminError> {
        let sample = Sample::read(&self.client.text(METRICS)?, Instant::now());
        self.rates = self.last.as_ref().map(|last| Rates::between(last, &sample));
        self.last = Some(sample);
        self.cluster = Some(self.client.view(CLUSTER)?);
        self.services = Some(self.client.view(SERVICES)?);
        Ok(())
    }
}

pub(super) fn run(args: &TopArgs) -> anyhow::Result<Exit> {
    let node = |admin| NodeArgs { admin, access: args.access.clone() };
    let nodes: Vec<_> = if args.admin.is_empty() {
        vec![node(None)]
    } else {
        args.admin.iter().cloned().map(Some).map(node).collect()
    };
    let mut asked = Vec::new();
    for node in nodes {
        asked.push(Asked::new(AdminClient::new(&node, args.interval)?));
    }
    if args.once || args.json || !std::io::stdout().is_terminal() {
        // Rates need two looks.
        asked.iter_mut().for_each(Asked::ask);
        if asked.iter().all(|asked| asked.failure.is_some())
            && let Some(failure) = asked.iter_mut().find_map(|asked| asked.failure.take())
        {
            return Err(failure.into());
        }
        std::thread::sleep(args.interval);
        asked.iter_mut().for_each(Asked::ask);
        let frame = Frame::of(&asked);
        if args.json {
            printer::json(&frame.json())?;
        } else {
            printer::text(&frame.text(Size::ENDLESS))?;
        }
        return Ok(Exit::Ok);
    }
    let screen = Screen::enter()?;
    loop {
        asked.iter_mut().for_each(Asked::ask);
        let head = format!(
            "majordomo top, every {}; q ends\n\n",
            humantime::format_duration(args.interval)
        );
        let size = screen.size()?;
        let below = Size { rows: size.rows.saturating_sub(HEAD_ROWS), ..size };
        screen.show(&(head + &Frame::of(&asked).text(below)))?;
        if screen.wait_for_key(args.interval)? == Some(Key::End) {
            return Ok(Exit::Ok);
        }
    }
}
