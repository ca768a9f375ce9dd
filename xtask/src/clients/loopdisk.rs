//! A file system whose power can be cut: real processes on it lose what they have not synced.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::Tools;
use crate::shell;

/// A file system on a loop device, unmounted at the end.
pub struct Loop {
    python: PathBuf,
    program: PathBuf,
    mount: PathBuf,
    megabytes: u32,
}

impl Loop {
    /// Makes and mounts it; an error where loop devices are not permitted.
    pub fn up(tools: &Tools, mount: PathBuf, megabytes: u32) -> Result<Loop, String> {
        let (python, program) = (tools.python.clone(), tools.programs.join("powercut.py"));
        let disk = Loop { python, program, mount, megabytes };
        disk.power("up").map_err(|error| format!("no loop-mounted file system here: {error}"))?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power: what is not synced is gone, and every write fails from now on.
    pub fn cut(&self) -> Result<(), String> {
        self.power("cut")
    }

    /// Mounts what a disk would have kept, once the processes that used it are gone.
    pub fn back(&self) -> Result<(), String> {
        self.power("back")
    }

    fn power(&self, what: &str) -> Result<(), String> {
        let mut command = Command::new(&self.python);
        command.arg(&self.program).arg(what).arg(&self.mount);
        shell::output(command.arg(self.megabytes.to_string())).map(drop)
    }

    /// Takes every block that is left.
    pub fn fill(&self) -> Result<(), String> {
        let mut file =
            fs::File::create(self.mount.join("filler")).map_err(|error| error.to_string())?;
        for block in [1 << 20, 4096] {
            let zeros = vec![0; block];
            while file.write_all(&zeros).and_then(|()| file.sync_data()).is_ok() {}
        }
        Ok(())
    }

    /// Gives them back.
    pub fn free(&self) -> Result<(), String> {
        fs::remove_file(self.mount.join("filler")).map_err(|error| error.to_string())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = self.power("down") {
            println!("  {error}");
        }
    }
}
