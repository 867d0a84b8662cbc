//! The terminal, taken over for a while: however this ends, it is as it was before.

use std::{
    io::{self, Write as _, stdout},
    time::{Duration, Instant},
};

use crossterm::{
    cursor, event,
    event::{Event, KeyCode, KeyEvent, KeyModifiers},
    execute, queue,
    style::Print,
    terminal::{self, ClearType},
};

use super::frame::Size;

/// What a person pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Enough.
    End,
    /// Look again now.
    Again,
}

/// The whole terminal.
#[derive(Debug)]
pub(super) struct Screen;

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// How much fits.
    pub(super) fn size(&self) -> io::Result<Size> {
        let (columns, rows) = terminal::size()?;
        Ok(Size { columns: usize::from(columns), rows: usize::from(rows) })
    }

    /// Shows as much of a text as fits.
    pub(super) fn show(&self, text: &str) -> io::Result<()> {
        let (columns, rows) = terminal::size()?;
        let mut out = stdout().lock();
        let mut lines = text.lines();
        for row in 0..rows {
            let line = lines.next().unwrap_or_default();
            let line: String = line.chars().take(usize::from(columns)).collect();
            queue!(out, cursor::MoveTo(0, row))?;
            queue!(out, terminal::Clear(ClearType::CurrentLine), Print(line))?;
        }
        out.flush()
    }

    /// Waits for a key that means something; `None`: time is up.
    pub(super) fn wait_for_key(&self, time: Duration) -> io::Result<Option<Key>> {
        let deadline = Instant::now() + time;
        while event::poll(deadline.saturating_duration_since(Instant::now()))? {
            let event = event::read()?;
            if matches!(event, Event::Resize(..)) {
                return Ok(Some(Key::Again));
            }
            if let Event::Key(key) = event
                && let Some(key) = meaning(key)
            {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

fn meaning(key: KeyEvent) -> Option<Key> {
    let is = |wanted: char| key.code == KeyCode::Char(wanted);
    let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && is('c');
    if is_interrupt || is('q') || key.code == KeyCode::Esc {
        return Some(Key::End);
    }
    is(' ').then_some(Key::Again)
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(execute!(stdout(), cursor::Show, terminal::LeaveAlternateScreen));
        drop(terminal::disable_raw_mode());
    }
}
