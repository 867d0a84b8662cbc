//! The program `majordomo`: a broker for ZeroMQ's Majordomo protocol, and tools around it.
//!
//! This file is the life of the process. What can be typed is in `args`, what can be configured in
//! `settings`, what is done in `commands`, and how it ends in `exit`.

mod admin;
mod args;
mod children;
mod commands;
mod exit;
mod files;
mod logging;
mod printer;
mod settings;
mod signals;
mod table;

use std::{env, process::ExitCode};

use crate::{args::Cli, exit::Exit};

fn main() -> ExitCode {
    signals::survive_file_size_limit();
    // Wrong usage ends here, with code 2, and so do --help and --version, with code 0.
    let cli = Cli::read(env::args_os().collect()).unwrap_or_else(|error| error.exit());
    let exit = commands::run(cli.command).unwrap_or_else(|error| {
        if exit::is_broken_pipe(&error) {
            return Exit::Ok;
        }
        printer::error(&error);
        Exit::after(&error)
    });
    exit.into()
}
