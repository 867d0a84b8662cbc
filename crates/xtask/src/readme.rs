//! The commands of the README and of other documents are run, so that they are true.

use std::{env, fs, path::Path, process::Command, time::Duration};

use crate::{
    commands::{Marking, blocks},
    players::{Player, Players},
    ports::Ports,
    run::Failure,
    workspace::Workspace,
};

/// Documents with blocks that are run as they stand; the others have none.
const PAGES: [&str; 2] = ["README.md", "docs/operating.md"];
/// What stands between a command and the line that it prints.
const PRINTS: &str = "#>";
/// The files that the blocks use.
const FILES: &str = "config/three-node";
/// A configuration file of the documents, and what is in it.
const FILE: &str = "/etc/majordomo.toml";
const FILE_IS: &str = "config/majordomo.toml";
/// Where a broker and its administration port are without any configuration.
const BUILT_IN: [&str; 2] = ["127.0.0.1:5555", "127.0.0.1:5580"];
/// How long one block may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs each block that says so as it stands, on free ports, and compares what it prints.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    PAGES.iter().try_for_each(|page| run_page(workspace, page))
}

fn run_page(workspace: &Workspace, page: &str) -> Result<(), Failure> {
    let text = read(&workspace.root.join(page))?;
    let blocks = blocks(&text);
    let mut marked =
        blocks.iter().filter(|block| block.marking == Some(Marking::AsItStands)).peekable();
    if marked.peek().is_none() {
        return Err(Failure::new(format!("{page} has no block that is marked `<!-- run -->`")));
    }
    marked.try_for_each(|block| {
        let place = format!("{page}:{}", block.line);
        run_block(workspace, &place, &block.text)
    })
}

fn run_block(workspace: &Workspace, place: &str, block: &str) -> Result<(), Failure> {
    let players = Players::gather(&workspace.release("majordomo"))?;
    let printed = printed(workspace, &players, block)
        .map_err(|failure| Failure::new(format!("{place}: {failure}")))?;
    players.leave()?;
    let missing =
        block.lines().filter_map(expected).find(|line| !printed.lines().any(|got| got == *line));
    match missing {
        None => Ok(()),
        Some(line) => {
            Err(Failure::new(format!("{place} promises `{line}`; printed was:\n{printed}")))
        }
    }
}

fn printed(workspace: &Workspace, players: &Players, block: &str) -> Result<String, Failure> {
    let mut ports = Ports::default();
    // What runs in the background shall not hold the pipe that is read to its end.
    let file = players.file("majordomo.toml");
    let block = block.replace(" & ", " > log 2>&1 & ").replace(FILE, &file.display().to_string());
    let block = ports.replace(&block)?;
    let text = ports.replace(&read(&workspace.root.join(FILE_IS))?)?;
    fs::write(&file, text).map_err(|error| Failure::new(format!("{FILE_IS}: {error}")))?;
    let mut shell = players.shell("readme", &format!("set -eu\n{block}\n"));
    with_programs(&mut shell, &workspace.release("majordomo"))?;
    if block.contains(FILES) {
        copy_files(workspace, players, &mut ports)?;
        shell.env_remove("MAJORDOMO__ADMIN__BIND");
    } else {
        let [broker, admin] = BUILT_IN.map(|address| ports.replace(address));
        let (broker, admin) = (broker?, admin?);
        shell.env("MAJORDOMO__BROKER__BIND", format!("tcp://{broker}"));
        shell.env("MAJORDOMO_ENDPOINT", format!("tcp://{broker}"));
        shell.env("MAJORDOMO__ADMIN__BIND", &admin);
        shell.env("MAJORDOMO_ADMIN", format!("http://{admin}"));
    }
    drop(ports);
    Player::start(shell)?.answer(PATIENCE)
}

fn with_programs(shell: &mut Command, program: &Path) -> Result<(), Failure> {
    let programs = program.parent().unwrap_or(program);
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [programs.to_path_buf()].into_iter().chain(env::split_paths(&path));
    let path = env::join_paths(paths).map_err(|error| Failure::new(error.to_string()))?;
    shell.env("PATH", path);
    Ok(())
}

/// The files that the block uses, with its free ports in them.
fn copy_files(workspace: &Workspace, players: &Players, ports: &mut Ports) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{FILES}: {error}"));
    let copies = players.file(FILES);
    fs::create_dir_all(&copies).map_err(failed)?;
    for entry in fs::read_dir(workspace.root.join(FILES)).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default();
        fs::write(copies.join(name), ports.replace(&read(&path)?)?).map_err(failed)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// What a line of the block promises to print.
fn expected(line: &str) -> Option<&str> {
    line.split_once(PRINTS).map(|(_, printed)| printed.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_of_a_block_are_found() {
        let block = "a &   # b\nc  #> d e\nf";
        assert_eq!(block.lines().filter_map(expected).collect::<Vec<_>>(), ["d e"]);
    }
}
