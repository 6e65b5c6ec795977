//! `raftsman completions` and `raftsman man`: what shells and `man` need, made from the command line's own
//! declaration, so that it is never older than the program.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::output::{CliError, Output};

/// Arguments of `raftsman completions`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  source <(raftsman completions bash)
  raftsman completions zsh > ~/.zfunc/_raftsman
  raftsman completions fish > ~/.config/fish/completions/raftsman.fish"
)]
pub struct CompletionsArguments {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `raftsman man`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman man | man -l -
  raftsman man --folder ~/.local/share/man/man1"
)]
pub struct ManArguments {
    /// Write raftsman.1, raftsman-topics.1 and so on into this folder
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

pub fn completions(
    arguments: &CompletionsArguments,
    mut root: Command,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut root, "raftsman", &mut script);
    Ok(std::io::Write::write_all(out, &script)?)
}

pub fn man(arguments: &ManArguments, root: Command, out: &mut Output) -> Result<(), CliError> {
    match &arguments.folder {
        None => Ok(clap_mangen::Man::new(root).render(out)?),
        Some(folder) => {
            let written =
                std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(root, folder));
            written.map_err(|error| CliError::while_doing(format!("write into {}", folder.display()), error))
        }
    }
}
