//! The part of an illegal history that a person has to look at.

use crate::{
    Operation,
    just_in_time::{Outcome, run},
    schedule::{Event, Moment, events},
    search::{Explanation, Search},
};

/// How many operations before the window are shown: what set the state at its start.
const CONTEXT_MAX: usize = 4;

/// In larger windows no lookups are left out: that would take too long.
const SHRUNK_MAX: usize = 500;

/// How many characters a time line has.
const LINE_CHARS: u64 = 40;

/// The shortest part of an illegal history that shows why it is: from the last time at which all
/// explanations agreed, to the answer that none explains, without the lookups that do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The registrations that count at its start.
    pub registered: Vec<u8>,
    /// The last registrations and removals that were complete at its start, sorted.
    pub before: Vec<Operation>,
    /// What was open at its start or called since, sorted.
    pub operations: Vec<Operation>,
}

impl Window {
    /// `failed`: the event at which the last explanation failed; `settled`: how many events there
    /// were when only one was left.
    pub(crate) fn find(
        history: &[Operation],
        events: &[Event],
        failed: usize,
        settled: usize,
    ) -> Self {
        let (past, rest) = events.split_at(settled.min(failed));
        let mut search = Search::new(0);
        for event in past {
            let Some(operation) = history.get(event.index) else { continue };
            if search.step(*event, operation).is_err() {
                break;
            }
        }
        let Some(known) = search.only_explanation() else { return Self::default() };
        let mut indices = open_at_end(history, past, &known);
        let later = rest.get(..=failed.saturating_sub(past.len())).unwrap_or(rest);
        indices.extend(later.iter().filter(|it| it.moment == Moment::Call).map(|it| it.index));
        let at = events.get(failed).map(|event| event.index);
        let lines: Vec<(bool, Operation)> = indices
            .into_iter()
            .filter_map(|index| Some((Some(index) == at, *history.get(index)?)))
            .collect();
        let registered = (0..64).filter(|bit| known.registered & (1 << bit) != 0).collect();
        let mut operations = shrink(lines, known.registered);
        operations.sort_by_key(|operation| (operation.called_at, operation.returned_at));
        Self { registered, before: before(history, past, &operations), operations }
    }

    /// As aligned text, one operation a line, with a time line; `at` is marked.
    #[must_use]
    pub fn render(&self, at: &Operation) -> String {
        let scale = Scale::of(&self.operations, at);
        let mut rows = vec![Row::head()];
        rows.extend(self.before.iter().map(|operation| Row::of(operation, &scale)));
        let split = rows.len();
        rows.extend(self.operations.iter().map(|operation| {
            let row = Row::of(operation, &scale);
            if operation == at { row.marked() } else { row }
        }));
        let width = |column: fn(&Row) -> &str| {
            rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0)
        };
        let widths = [width(|it| &it.called), width(|it| &it.returned), width(|it| &it.action)];
        let mut lines: Vec<String> = rows.iter().map(|row| row.line(widths)).collect();
        lines.insert(split, format!("-- registered from here on: {}", self.registered()));
        lines.join("\n")
    }

    fn registered(&self) -> String {
        match self.registered.as_slice() {
            [] => "nobody".to_owned(),
            some => some.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
        }
    }
}

/// Operations that are open behind the events, and not settled by what is known.
fn open_at_end(history: &[Operation], past: &[Event], known: &Explanation) -> Vec<usize> {
    let mut open = Vec::new();
    for event in past {
        match event.moment {
            Moment::Call => open.push((event.index, event.slot)),
            Moment::Return => open.retain(|(index, _)| *index != event.index),
        }
    }
    let is_settled = |index: usize, slot: Option<u8>| {
        let is_lookup = history.get(index).is_some_and(|it| it.action.is_lookup());
        let settled = if is_lookup { known.satisfied } else { known.done };
        slot.is_some_and(|slot| settled & (1 << slot) != 0)
    };
    let unsettled = open.into_iter().filter(|(index, slot)| !is_settled(*index, *slot));
    unsettled.map(|(index, _)| index).collect()
}

/// Leaves out one lookup after the other if it is illegal without. The marked one stays.
fn shrink(mut lines: Vec<(bool, Operation)>, registered: u64) -> Vec<Operation> {
    let operations =
        |lines: &[(bool, Operation)]| lines.iter().map(|(_, it)| *it).collect::<Vec<_>>();
    let mut index = 0;
    while lines.len() <= SHRUNK_MAX && index < lines.len() {
        let Some((is_marked, operation)) = lines.get(index).copied() else { break };
        let mut without = lines.clone();
        without.remove(index);
        let is_left_out = !is_marked && operation.action.is_lookup() && {
            let history = operations(&without);
            matches!(run(&history, &events(&history), registered), Outcome::Illegal { .. })
        };
        if is_left_out {
            lines = without;
        } else {
            index += 1;
        }
    }
    operations(&lines)
}

/// The last registrations and removals that were called in the past and are not in the window.
fn before(history: &[Operation], past: &[Event], window: &[Operation]) -> Vec<Operation> {
    let calls = past.iter().rev().filter(|event| event.moment == Moment::Call);
    let operations = calls.filter_map(|event| history.get(event.index));
    let changes = operations.filter(|it| !it.action.is_lookup() && !window.contains(it));
    let mut last: Vec<Operation> = changes.copied().take(CONTEXT_MAX).collect();
    last.reverse();
    last
}

/// What a time line shows.
struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    fn of(operations: &[Operation], at: &Operation) -> Self {
        let from = operations.iter().map(|it| it.called_at).min();
        let to = at.returned_at.unwrap_or(at.called_at);
        Self { from: from.unwrap_or(at.called_at), to }
    }

    /// The column of a time.
    fn column(&self, at: u64) -> usize {
        let length = u128::from(self.to.saturating_sub(self.from).max(1));
        let passed = u128::from(at.clamp(self.from, self.to.max(self.from)) - self.from);
        usize::try_from(passed * u128::from(LINE_CHARS - 1) / length).unwrap_or_default()
    }

    fn line(&self, operation: &Operation) -> String {
        let start = self.column(operation.called_at);
        let end = operation.returned_at.unwrap_or(u64::MAX);
        if end < self.from {
            return "<".to_owned();
        }
        let dashes = "-".repeat((self.column(end) - start).saturating_sub(1));
        let first = if operation.called_at < self.from { '<' } else { '|' };
        let last = if end > self.to { '>' } else { '|' };
        format!("{}{first}{dashes}{last}", " ".repeat(start))
    }
}

struct Row {
    called: String,
    returned: String,
    action: String,
    line: String,
}

impl Row {
    fn head() -> Self {
        let [called, returned, action] = ["called", "returned", "operation"].map(str::to_owned);
        Self { called, returned, action, line: String::new() }
    }

    fn of(operation: &Operation, scale: &Scale) -> Self {
        let note = if operation.is_optional { ", or never" } else { "" };
        Self {
            called: operation.called_at.to_string(),
            returned: operation.returned_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            action: format!("{}{note}", operation.action),
            line: scale.line(operation),
        }
    }

    fn marked(self) -> Self {
        Self { line: format!("{}  <== unexplained", self.line), ..self }
    }

    fn line(&self, [called, returned, action]: [usize; 3]) -> String {
        let line = format!(
            "{:>called$}  {:>returned$}  {:<action$}  {}",
            self.called, self.returned, self.action, self.line
        );
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests;
