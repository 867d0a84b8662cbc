//! `majordomo connections`: which clients and workers are connected to a node, and from where.

use serde_json::{Value, json};

use crate::{
    admin::AdminClient,
    args::ConnectionsArgs,
    commands::view::{cell, items},
    exit::Exit,
    printer,
    table::{Align, Table},
};

const CONNECTIONS: &str = "/api/v1/connections";
/// How wide the table may be.
const COLUMNS_MAX: usize = 80;
/// What is left out first where it is wider.
const DISPENSABLE: [&str; 4] = ["ZMTP", "SOCKET", "ROUTING ID", "UNSENT"];

pub(super) fn run(args: ConnectionsArgs) -> anyhow::Result<Exit> {
    let ConnectionsArgs { kick, change } = args;
    let client = AdminClient::new(&change.node, change.timeout)?;
    if let Some(id) = kick {
        let answer = client.change(CONNECTIONS, &json!({ "kick": id }))?;
        if change.json {
            printer::json(&answer)?;
        } else {
            printer::text(&format!("connection {id} is closed"))?;
        }
        return Ok(Exit::Ok);
    }
    let page = client.view(CONNECTIONS)?;
    if change.json {
        printer::json(&page)?;
        return Ok(Exit::Ok);
    }
    let is_truncated = page.get("truncated").and_then(Value::as_bool).unwrap_or_default();
    let more = if is_truncated { "there are more; only some are listed\n" } else { "" };
    printer::text(&format!("{}{more}", table(items(&page, "connections"))))?;
    Ok(Exit::Ok)
}

fn table(connections: &[Value]) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("ADDRESS", Align::Left),
        ("ROLE", Align::Left),
        ("SERVICE", Align::Left),
        ("ROUTING ID", Align::Left),
        ("SOCKET", Align::Left),
        ("ZMTP", Align::Left),
        ("FOR", Align::Right),
        ("IN", Align::Right),
        ("OUT", Align::Right),
        ("WAITING", Align::Right),
        ("UNSENT", Align::Right),
    ]);
    for connection in connections {
        let [id, address, role, service, routing_id, socket, zmtp] =
            ["id", "address", "role", "service", "routing_id", "socket_type", "zmtp"]
                .map(|key| cell(connection, key));
        let [messages_in, messages_out, waiting, unsent] =
            ["messages_in", "messages_out", "waiting_requests", "outgoing_bytes"]
                .map(|key| cell(connection, key));
        let connected = connection.get("connected_ms").and_then(Value::as_u64).unwrap_or_default();
        let since = age(connected / 1_000);
        table.row([
            id,
            address,
            role,
            service,
            routing_id,
            socket,
            zmtp,
            since,
            messages_in,
            messages_out,
            waiting,
            unsent,
        ]);
    }
    table.fit(COLUMNS_MAX, &DISPENSABLE);
    table
}

/// Seconds in the largest unit of which there are two.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_fits_80_columns_with_long_names() {
        let connection = json!({
            "id": 1_099_511_627_776_u64, "address": "[fd00:1234:5678:9abc:def0:1234:5678:9abc]:51234",
            "role": "worker", "service": "a.service.with.a.rather.long.name", "routing_id": "E961-3292",
            "socket_type": "DEALER", "zmtp": "3.1", "connected_ms": 7_200_000,
            "messages_in": 123_456_789, "messages_out": 123_456_789, "waiting_requests": 12_345,
            "outgoing_bytes": 16_777_216,
        });

        let text = table(&[connection]).to_string();

        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS_MAX), "{text}");
        assert!(text.contains("1099511627776") && text.contains("2 h"), "{text}");
    }

    #[test]
    fn ages_are_in_the_largest_unit_of_which_there_are_two() {
        let ages = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(age);
        assert_eq!(ages, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
    }
}
