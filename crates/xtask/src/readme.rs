//! The commands of the README are run, so that they are true.

use std::{env, fs, net::TcpListener, path::Path, time::Duration};

use crate::{
    players::{Player, Players},
    run::Failure,
    workspace::Workspace,
};

/// The language of the one block that is run.
const FENCE: &str = "```sh";
/// What stands between a command and the line that it prints.
const PRINTS: &str = "#>";
/// How long the whole block may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the block as it stands, on a free port, and compares what it prints.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let readme = workspace.root.join("README.md");
    let text = fs::read_to_string(&readme)
        .map_err(|error| Failure::new(format!("{}: {error}", readme.display())))?;
    let block =
        block(&text).ok_or_else(|| Failure::new("README.md has no block of shell commands"))?;
    let program = workspace.release("majordomo");
    let players = Players::gather(&program)?;
    let printed = printed(&players, &block, &program)?;
    players.leave()?;
    let missing =
        block.lines().filter_map(expected).find(|line| !printed.lines().any(|got| got == *line));
    match missing {
        None => Ok(()),
        Some(line) => {
            Err(Failure::new(format!("README.md promises `{line}`; printed was:\n{printed}")))
        }
    }
}

fn printed(players: &Players, block: &str, program: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("the README's block: {error}"));
    let free = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(failed)?;
    let programs = program.parent().unwrap_or(program);
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [programs.to_path_buf()].into_iter().chain(env::split_paths(&path));
    let path = env::join_paths(paths).map_err(|error| Failure::new(error.to_string()))?;

    // What runs in the background shall not hold the pipe that is read to its end.
    let script = format!("set -eu\n{}\n", block.replace(" & ", " > log 2>&1 & "));
    let mut shell = players.shell("readme", &script);
    shell.env("PATH", path);
    shell.env("MAJORDOMO__BROKER__BIND", format!("tcp://{free}"));
    shell.env("MAJORDOMO_ENDPOINT", format!("tcp://{free}"));
    Player::start(shell)?.answer(PATIENCE)
}

/// The first block of shell commands.
fn block(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| *line != FENCE);
    lines.next()?;
    Some(lines.take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"))
}

/// What a line of the block promises to print.
fn expected(line: &str) -> Option<&str> {
    line.split_once(PRINTS).map(|(_, printed)| printed.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_and_its_promises_are_found() {
        let text = "# x\n```\nno\n```\n```sh\na &   # b\nc  #> d e\n```\nrest\n";
        let block = block(text).unwrap();
        assert_eq!(block, "a &   # b\nc  #> d e");
        assert_eq!(block.lines().filter_map(expected).collect::<Vec<_>>(), ["d e"]);
    }
}
