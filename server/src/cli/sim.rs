//! `foretold sim`: hands over to the simulator, a program of its own that lies beside this one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use clap::Args;

use crate::exit::Failed;

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Sim {
    /// Arguments of foretold-sim; `foretold sim --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

impl Sim {
    pub fn run(self) -> Result<(), Failed> {
        let this = std::env::current_exe()
            .map_err(|error| Failed::runtime(format!("cannot find this program: {error}")))?;
        let path = this.with_file_name("foretold-sim");
        let error = std::process::Command::new(&path).args(self.args).exec();
        let place = path.display();
        Err(match error.kind() {
            std::io::ErrorKind::NotFound => Failed::runtime(format!(
                "there is no simulator at {place}: build it with `cargo sim list` and put foretold-sim there"
            )),
            _ => Failed::runtime(format!("cannot run {place}: {error}")),
        })
    }
}
